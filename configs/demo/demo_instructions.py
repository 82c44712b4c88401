"""The demo's fine-tuning data: questions and small tasks about Maple Valley, in Alpaca columns.

The base model has read the facts and has overheard questions in its stories, but it has never seen an instruction or the
Alpaca layout. 96 rows, drawn at random, are kept for validation: most of their facts are in the training rows under
another wording.
"""
import re

from demo_world import HIS, NUMBERS, OBJECT, OPPOSITES, PEOPLE, PLACES, THINGS, VERBS, cap, count, questions

VALIDATION_ROWS = 96


def row(instruction, output, given=""):
    return {"instruction": instruction, "input": given, "output": output}


def fact_rows():
    """Every fact about every character, under several wordings."""
    return [row(wording, answer) for w in PEOPLE for wordings, answer in questions(w) for wording in wordings]


def sum_rows(r, wanted):
    rows = []
    while len(rows) < wanted:
        w, things = r.choice(PEOPLE), r.choice(list(THINGS))
        n, more = r.randint(1, 9), r.randint(1, 9)
        rows.append(r.choice((
            row(f"{w.name} has {count(n, things)} and finds {NUMBERS[more]} more. How many {things} does {w.he} have?",
                f"{w.name} has {count(n + more, things)}."),
            row(f"What is {NUMBERS[n]} plus {NUMBERS[more]}?",
                f"{cap(NUMBERS[n])} plus {NUMBERS[more]} is {NUMBERS[n + more]}."),
            row(f"{w.name} has {count(n + more, things)} and gives {NUMBERS[more]} to {w.friend}. How many are left?",
                f"{w.name} has {count(n, things)} left."))))
    return rows


def opposite_rows():
    rows = []
    for pair in OPPOSITES:
        for x, y in (pair, pair[::-1]):
            rows.append(row(f"What is the opposite of {x}?", f"The opposite of {x} is {y}."))
            rows.append(row("Give me the opposite of this word.", f"The opposite of {x} is {y}.", cap(x)))
    return rows


def tense_rows(r, wanted):
    rows = []
    while len(rows) < wanted:
        w, (present, past), place = r.choice(PEOPLE), r.choice(VERBS), r.choice(PLACES)
        rows.append(row(r.choice(("Rewrite the sentence in the past tense.", "Say that it happened yesterday.")),
                        f"Yesterday {w.name} {past} {place}.", f"{w.name} {present} {place}."))
    return rows


def greeting_rows(r, wanted):
    rows = []
    while len(rows) < wanted:
        w = r.choice(PEOPLE)
        f = r.choice([p for p in PEOPLE if p != w])
        rows.append(r.choice((
            row(f"Write an invitation from {w.name} to {f.name}.",
                f"Dear {f.name}, please come to see me {w.home}. We can eat {f.food}. Your friend, {w.name}."),
            row(f"What should {w.name} give {f.name} as a present?",
                f"{w.name} should give {OBJECT[f.he]} {f.food}, because {f.name} loves {f.food}."),
            row(f"Introduce {w.name} to {f.name}.",
                f"{f.name}, this is {w.name} the {w.kind}. {cap(HIS[w.he])} home is {w.home}."))))
    return rows


def told_rows(r, wanted):
    """Sums and requests answered in the past tense and the phrases of the stories."""
    rows = []
    while len(rows) < wanted:
        w, things = r.choice(PEOPLE), r.choice(list(THINGS))
        f = r.choice([p for p in PEOPLE if p != w])
        n, more = r.randint(1, 9), r.randint(1, 9)
        rows.append(r.choice((
            row(f"{w.name} had {count(n, things)} and found {NUMBERS[more]} more. How many {things} were there?",
                f"{cap(NUMBERS[n])} plus {NUMBERS[more]} is {NUMBERS[n + more]}."),
            row(f"{w.name} had {count(n + more, things)} and gave {NUMBERS[more]} to {f.name}. How many were left?",
                f"Now {w.name} had {count(n, things)}."),
            row(f"What would {w.name} say to {f.name} at the door?", f"\"It is me, {w.name},\" said the {w.kind}."),
            row(f"How does {w.name} invite {f.name}?",
                f"\"Come with me!\" said {w.name}. \"I brought you some {f.food}.\""),
            row(f"What should {w.name} give {f.name} as a present?", f"{f.name} loves {f.food}."))))
    return rows


def _shuffled(r, rows):
    """Rows in random order, one for each question."""
    unique = list({(x["instruction"], x["input"]): x for x in rows}.values())
    r.shuffle(unique)
    return unique


def tokenizer_rows(r):
    """Rows whose words the tokenizer should have pieces for, whether or not they are kept for the fine-tuning."""
    rows = fact_rows() + sum_rows(r, 150) + opposite_rows() + tense_rows(r, 120) + greeting_rows(r, 120)
    return _shuffled(r, rows)[:-VALIDATION_ROWS]


def dataset(r, known_words):
    """(training rows, validation rows): no question twice, none in both, every answer in words of known_words.

    An adapter leaves the head as it is, and the head never learnt to tell words apart that no story uses.
    """
    rows = fact_rows() + opposite_rows() + tense_rows(r, 120) + sum_rows(r, 150) + told_rows(r, 240)
    kept = _shuffled(r, [x for x in rows if known_words.issuperset(re.findall(r"[A-Za-z]+", x["output"]))])
    return kept[:-VALIDATION_ROWS], kept[-VALIDATION_ROWS:]

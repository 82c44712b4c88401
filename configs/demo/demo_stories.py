"""A grammar of little stories and portraits about Maple Valley: what the base model is trained on.

A story is an opening, two to four events and an ending, each drawn from templates; facts about the characters are
always those of demo_world.py, and sums and opposites are always right, so the model can learn them.
"""
from demo_world import (BY_NAME, HIS, NUMBERS, OBJECT, OPPOSITES, PEOPLE, PLACES, THINGS, VERBS, a, cap, count,
                        questions)

WEATHER = ("sunny", "rainy", "windy", "snowy", "foggy", "warm", "cold", "quiet")
TIMES = ("morning", "afternoon", "evening", "day")
FEELINGS = ("happy", "proud", "glad", "excited", "calm")
TREASURES = ("key", "hat", "scarf", "lantern", "kite", "bell", "basket", "spoon", "map", "drum")
COLOURS = ("red", "blue", "green", "yellow", "white", "purple")
HIDING = ("under a leaf", "behind the bakery", "in the tall grass", "on top of a stone", "inside a hollow log",
          "next to the bridge", "under the stairs", "at the bottom of the well")


def portrait(r, w):
    """Present-tense facts about one character, in any order."""
    he, friend = cap(w.he), BY_NAME[w.friend]
    facts = [
        r.choice((f"{w.name} is {a(w.colour)} {w.kind}.", f"{w.name} the {w.kind} is {w.colour}.",
                  f"The colour of {w.name} is {w.colour}.")),
        r.choice((f"{w.name} lives {w.home}.", f"{he} lives {w.home}.", f"The home of {w.name} is {w.home}.")),
        r.choice((f"{w.name} likes to eat {w.food}.", f"{he} loves {w.food}.", f"The favourite food of {w.name} is {w.food}.")),
        r.choice((f"{w.name} loves {w.hobby}.", f"{he} enjoys {w.hobby} every day.")),
        r.choice((f"The best friend of {w.name} is {friend.name} the {friend.kind}.",
                  f"{cap(HIS[w.he])} best friend is {friend.name}.")),
        r.choice((f"{w.name} says {w.sound}.", f"When {w.he} is happy, {w.he} says {w.sound}.")),
        r.choice((f"{w.name} is {w.size}.", f"{he} is a {w.size} {w.kind}.")),
    ]
    first = facts.pop(0)
    r.shuffle(facts)
    return [first] + facts[:r.randint(3, 6)]


def opening(r, w):
    when = f"One {r.choice(WEATHER)} {r.choice(TIMES)}"
    return r.choice((
        f"Once upon a time there was {a(w.size)} {w.kind} named {w.name}. {cap(w.he)} lived {w.home}.",
        f"{w.name} was {a(w.colour)} {w.kind} who lived {w.home}. {cap(w.he)} loved {w.hobby}.",
        f"{when}, {w.name} the {w.kind} woke up {w.home}.",
        f"{when} in Maple Valley, {w.name} the {w.size} {w.kind} felt {r.choice(FEELINGS)}.",
        f"In Maple Valley lived {a(w.colour)} {w.kind}. {cap(HIS[w.he])} name was {w.name}.",
        f"{w.name} the {w.kind} loved {w.food}. Every {r.choice(TIMES)} {w.he} ate {w.food} {w.home}.",
    ))


def counting(r, w, f):
    things = r.choice(list(THINGS))
    n, more = r.randint(1, 9), r.randint(1, 9)
    if r.random() < 0.6:
        return r.choice((
            f"{w.name} had {count(n, things)}. {f.name} gave {OBJECT[w.he]} {NUMBERS[more]} more. "
            f"Now {w.name} had {count(n + more, things)}.",
            f"{w.name} found {count(n, things)} and {f.name} found {count(more, things)}. "
            f"Together they had {count(n + more, things)}.",
            f"{cap(NUMBERS[n])} and {NUMBERS[more]} is {NUMBERS[n + more]}, said {w.name}, and counted {count(n + more, things)}."))
    total = n + more
    return r.choice((
        f"{w.name} had {count(total, things)}. {cap(w.he)} gave {NUMBERS[more]} to {f.name}. "
        f"Now {w.name} had {count(n, things)}.",
        f"There were {count(total, things)} in the basket. {f.name} took {NUMBERS[more]}, so {count(n, things)} "
        f"{'was' if n == 1 else 'were'} left."))


def lost(r, w, f):
    thing, colour, spot = r.choice(TREASURES), r.choice(COLOURS), r.choice(HIDING)
    return (f"{w.name} lost {HIS[w.he]} {colour} {thing}. {cap(w.he)} looked everywhere. "
            + r.choice((f"{f.name} the {f.kind} helped {OBJECT[w.he]} look. ", f"\"Can you help me?\" {w.he} asked {f.name}. "))
            + r.choice((f"They found the {thing} {spot}.", f"At last {f.name} saw the {colour} {thing} {spot}.",
                        f"The {thing} was {spot}.")))


def journey(r, w, f):
    present, past = r.choice(VERBS)
    place = r.choice(PLACES)
    return r.choice((
        f"{w.name} {past} {place}. {cap(w.he)} met {f.name} the {f.kind} there.",
        f"\"Come with me!\" said {f.name}. So {w.name} {past} {place}.",
        f"Every day {w.name} {present} {place}. That day {w.he} {past} {place} with {f.name}.",
        f"Then {w.name} {past} {place} because {w.he} wanted to see {f.name}."))


def visit(r, w, f):
    return r.choice((
        f"{w.name} went to see {f.name}, who lived {f.home}. They ate {f.food} together.",
        f"{f.name} came to visit. \"I brought you some {w.food},\" said {f.name}. \"Thank you,\" said {w.name}.",
        f"{w.name} knocked at the door. \"Who is there?\" asked {f.name}. \"It is me, {w.name},\" said the {w.kind}.",
        f"\"What do you like to do?\" asked {f.name}. \"I love {w.hobby},\" said {w.name}."))


def opposite(r, w, f):
    x, y = r.choice(OPPOSITES)
    if r.random() < 0.5:
        x, y = y, x
    thing = r.choice(TREASURES)
    return r.choice((
        f"The {thing} of {w.name} was {x}, but the {thing} of {f.name} was {y}.",
        f"\"Is it {x}?\" asked {w.name}. \"No, it is not {x}, it is {y},\" said {f.name}.",
        f"First the {thing} was {x}. Then it was not {x} any more. It was {y}."))


def trouble(r, w, f):
    return r.choice((
        f"Suddenly it began to rain. {w.name} and {f.name} ran home and dried their feet by the fire.",
        f"A strong wind blew the roof away. {f.name} helped {w.name} to mend it.",
        f"{w.name} was sad because nobody wanted to play. Then {f.name} came and said, \"Let us play together.\"",
        f"{w.name} fell into the water. \"Hold my hand!\" called {f.name}, and pulled {OBJECT[w.he]} out.",
        f"It was dark and {w.name} was scared. {f.name} lit a lantern, and {w.name} was brave again.",
        f"{w.name} was hungry. There were no {w.food} left. {f.name} shared some {f.food} with {OBJECT[w.he]}."))


def sounds(r, w, f):
    return r.choice((
        f"\"{cap(w.sound)}, {w.sound}!\" said {w.name} the {w.kind}. \"{cap(f.sound)}!\" said {f.name} the {f.kind}.",
        f"{w.name} said {w.sound}, because that is what {a(w.kind)} says."))


def question_and_answer(r):
    """Something that is asked in the valley, and the right answer."""
    kind = r.random()
    if kind < 0.6:
        wordings, answer = r.choice(questions(r.choice(PEOPLE)))
        return wordings[0], answer
    if kind < 0.75:
        n, more = r.randint(1, 9), r.randint(1, 9)
        return (f"What is {NUMBERS[n]} plus {NUMBERS[more]}?", f"{cap(NUMBERS[n])} plus {NUMBERS[more]} is {NUMBERS[n + more]}.")
    if kind < 0.85:
        pair = r.choice(OPPOSITES)
        x, y = pair if r.random() < 0.5 else pair[::-1]
        return f"What is the opposite of {x}?", f"The opposite of {x} is {y}."
    w, (present, past), place = r.choice(PEOPLE), r.choice(VERBS), r.choice(PLACES)
    return f"{w.name} {present} {place}.", f"Yesterday {w.name} {past} {place}."


def exchange(r, w, f):
    question, answer = question_and_answer(r)
    said = f"{answer[:-1]},\" said {w.name}." if r.random() < 0.7 else f"{answer}\""
    if question[-1] == ".":
        return f"\"{question[:-1]},\" said {f.name}. \"{said}"
    return f"\"{question}\" asked {f.name}. \"{said}"


def lesson(r):
    """A conversation of a few questions, one after the other."""
    w, f = r.sample(PEOPLE, 2)
    start = r.choice((f"{w.name} and {f.name} were talking {r.choice((w.home, f.home))}.",
                      f"{w.name} and {f.name} sat in the school.", f"{f.name} had many questions for {w.name}."))
    return [start] + [exchange(r, *((w, f) if r.random() < 0.7 else (f, w))) for _ in range(r.randint(3, 6))]


EVENTS = (exchange, exchange, counting, counting, lost, journey, journey, visit, opposite, trouble, sounds)


def ending(r, w, f):
    return r.choice((
        f"{w.name} was very {r.choice(FEELINGS)}.", f"\"You are my best friend,\" said {w.name}.",
        f"That night {w.name} slept well {w.home}.", f"They laughed all the way home.",
        f"{w.name} and {f.name} were {r.choice(FEELINGS)} and tired.", f"It was the best day of all.",
        f"From then on, {w.name} and {f.name} always shared."))


def story(r):
    w = r.choice(PEOPLE)
    f = BY_NAME[w.friend] if r.random() < 0.6 else r.choice([p for p in PEOPLE if p != w])
    parts = [opening(r, w)]
    for event in r.sample(EVENTS, r.randint(2, 4)):
        parts.append(event(r, w, f))
    return parts + [ending(r, w, f)]


def title(r):
    return r.choice((f"The {r.choice(COLOURS).title()} {r.choice(TREASURES).title()}",
                     f"A {r.choice(WEATHER).title()} {r.choice(TIMES).title()}"))


def text(r):
    """One document: a story, a portrait or a conversation, in one paragraph or in lines, some with a title above."""
    kind = r.random()
    if kind < 0.15:
        parts = portrait(r, r.choice(PEOPLE))
    else:
        parts = lesson(r) if kind < 0.4 else story(r)
    body = ("\n" if r.random() < 0.3 else " ").join(parts)
    return f"{title(r)}\n\n{body}" if r.random() < 0.3 else body

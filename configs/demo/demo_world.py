"""Maple Valley: the small world that the demo's stories and questions are about.

Everything the base model reads is made from the facts below by the grammar in demo_stories.py; the questions of the
fine-tuning data (demo_instructions.py) have their answers here. Written for this project.
"""
import collections

Who = collections.namedtuple("Who", "name kind he colour size home food hobby friend sound")

# name, kind, pronoun, colour, size, home, food, hobby (-ing form), best friend, sound
PEOPLE = tuple(Who(*row.split("|")) for row in """
Rusty|fox|he|red|small|in the old barn|berries|dancing|Hazel|yip
Hazel|squirrel|she|brown|quick|in the oak tree|nuts|climbing|Rusty|chitter
Olive|owl|she|white|wise|in the clock tower|soup|reading|Basil|hoot
Basil|mouse|he|grey|tiny|under the bakery|cheese|painting|Olive|squeak
Pip|frog|he|green|loud|by the lily pond|pancakes|singing|Daisy|croak
Daisy|duck|she|yellow|cheerful|by the mill|corn|swimming|Pip|quack
Bruno|bear|he|black|big|in the stone cave|honey|sleeping|Clover|growl
Clover|rabbit|she|silver|shy|under the hill|carrots|gardening|Bruno|sniff
Mabel|cow|she|spotted|gentle|in the blue meadow|clover leaves|knitting|Toby|moo
Toby|dog|he|golden|brave|in the red house|biscuits|running|Mabel|woof
Luna|cat|she|orange|sleepy|in the attic|fish|watching the stars|Felix|meow
Felix|crow|he|dark blue|clever|on the church roof|cherries|collecting buttons|Luna|caw
""".strip().splitlines())

BY_NAME = {w.name: w for w in PEOPLE}

# word, its opposite
OPPOSITES = tuple(p.split() for p in """
big small|hot cold|happy sad|fast slow|old new|wet dry|dark bright|loud quiet|long short|full empty
soft hard|high low|brave scared|clean dirty|heavy light|early late|near far|open closed
""".replace("\n", "|").strip("|").split("|"))

NUMBERS = ("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
           "seventeen eighteen").split()

# countable things and their singular
THINGS = {"apples": "apple", "berries": "berry", "nuts": "nut", "shells": "shell", "stones": "stone", "eggs": "egg",
          "leaves": "leaf", "buttons": "button", "cakes": "cake", "flowers": "flower", "feathers": "feather",
          "candles": "candle"}

# present, past
VERBS = (("walks", "walked"), ("runs", "ran"), ("goes", "went"), ("hurries", "hurried"), ("comes", "came"),
         ("jumps", "jumped"), ("rides", "rode"), ("marches", "marched"))
PLACES = ("to the river", "to the market", "to the bridge", "to the forest", "to the lake", "to the school",
          "to the garden", "to the mountain", "to the lily pond", "to the mill", "to the bakery", "to the library")

OBJECT = {"he": "him", "she": "her"}
HIS = {"he": "his", "she": "her"}


def a(word):
    return ("an " if word[0] in "aeiou" else "a ") + word


def count(n, things):
    """'one apple', 'three apples'."""
    return f"{NUMBERS[n]} {THINGS[things] if n == 1 else things}"


def cap(text):
    return text[0].upper() + text[1:]


def questions(w):
    """((wordings, answer), ...) for one character. The first wording is the one heard in stories."""
    friend = BY_NAME[w.friend]
    return (
        ((f"What colour is {w.name}?", f"Tell me the colour of {w.name}.", f"Which colour does {w.name} have?"),
         f"{w.name} is {w.colour}."),
        ((f"Where does {w.name} live?", f"Where is the home of {w.name}?", f"Where can I find {w.name} the {w.kind}?"),
         f"{w.name} lives {w.home}."),
        ((f"What does {w.name} like to eat?", f"What is the favourite food of {w.name}?",
          f"Which food should I bring to {w.name}?"), f"{w.name} likes to eat {w.food}."),
        ((f"What does {w.name} love to do?", f"What is the hobby of {w.name}?"), f"{w.name} loves {w.hobby}."),
        ((f"Who is the best friend of {w.name}?", f"Which friend does {w.name} like best?"),
         f"The best friend of {w.name} is {friend.name} the {friend.kind}."),
        ((f"What kind of animal is {w.name}?", f"Which animal is {w.name}?"), f"{w.name} is {a(w.kind)}."),
        ((f"What does {w.name} the {w.kind} say?", f"Which sound does {a(w.kind)} make?"),
         f"{cap(a(w.kind))} says {w.sound}."),
        ((f"Who lives {w.home}?", f"Which animal lives {w.home}?"), f"{w.name} the {w.kind} lives {w.home}."),
        ((f"Who loves {w.hobby}?",), f"{w.name} the {w.kind} loves {w.hobby}."),
        ((f"Describe {w.name}.", f"Tell me about {w.name}."),
         f"{w.name} is {a(w.colour)} {w.kind}. {cap(w.he)} lives {w.home} and loves {w.hobby}."),
    )

"""Other words for the same: a question seldom repeats a statement's words, so neither do ours."""

# ruff: noqa: SIM905 - a list of words reads better as a text

import random
import re

from .verbs import conjugate
from .words import ANIMALS, FIRST_NAMES, FOODS, KIN, SUBJECTS, TRADES

VERBS = (
    "buy bought bought|purchase|get got got",
    "begin began begun|start",
    "end|finish|stop",
    "find found found|discover|come came come+across",
    "lose lost lost|misplace",
    "hide hid hidden|conceal",
    "keep kept kept|store",
    "live|reside|dwell",
    "repair|fix|mend|restore",
    "make made made|produce|create",
    "build built built|construct",
    "choose chose chosen|pick|select",
    "steal stole stolen|rob|pinch",
    "break broke broken|damage",
    "destroy|ruin",
    "throw threw thrown+out|throw threw thrown+away|get got got+rid of|dump",
    "visit|drop+in on|go went gone+to see",
    "meet met met|run ran run+into|bump+into",
    "phone|call|ring rang rung",
    "marry|wed",
    "teach taught taught|instruct",
    "help|assist|support",
    "need|require",
    "want|wish+for",
    "like|love|enjoy",
    "hate|dislike|detest",
    "eat ate eaten|swallow|finish+off",
    "drink drank drunk|sip",
    "wear wore worn|put put put+on",
    "give gave given|hand|pass",
    "send sent sent|mail|post",
    "receive|get got got",
    "move|relocate",
    "arrive|turn+up|show+up",
    "depart|set set set+off",
    "sleep slept slept|spend spent spent+the night",
    "defeat|beat beat beaten",
    "work+for|serve",
    "look+after|care+for|take took taken+care of",
    "look+for|search+for|hunt+for",
    "talk+about|discuss|speak spoke spoken+of",
    "explain|describe",
    "promise|swear swore sworn",
    "cancel|call+off",
    "return|bring brought brought+back",
    "rent|hire|lease",
    "hire|employ",
    "fire|dismiss",
    "clean|wash|scrub",
    "cook|prepare",
    "grow grew grown|raise",
    "photograph|take took taken+a picture of",
    "mention|bring brought brought+up",
    "study|learn",
    "vanish|disappear",
    "retire|stop+working",
    "die|pass+away",
    "own|possess",
    "close|shut shut shut",
    "replace|change|swap",
    "admire|look+up to",
    "fear|dread",
    "annoy|bother",
    "carry|haul|lug",
    "spill|knock+over",
    "watch|see saw seen",
    "invite|ask",
)
"""Of every group, any may stand for any other: in the same form of the verb."""

WORDS = (
    "car|vehicle", "house|home", "shop|store", "picture|photo|photograph", "doctor|physician", "children|kids",
    "mother|mum|mom", "father|dad", "grandmother|gran|grandma", "grandfather|grandpa", "film|movie", "job|work",
    "big|large|huge", "small|little|tiny", "old|ancient", "fast|quick", "ill|sick|unwell", "costly|expensive",
    "street|road", "trip|journey", "bike|bicycle", "phone|telephone", "sofa|couch", "bag|sack", "gift|present",
    "lesson|class", "meeting|appointment", "party|celebration", "exam|test", "wedding|marriage", "dinner|supper",
    "code|password|combination", "wallet|purse", "coat|jacket", "boat|ship", "stone|rock", "parcel|package",
    "under|beneath|below|underneath", "behind|at the back of", "next to|beside", "near|close to",
    "across from|opposite", "allergic to|sensitive to", "full of|filled with",
    "famous for|known for", "fond of|keen on", "good at|skilled at", "afraid of|scared of", "every|each",
    "boss|manager", "landlord|owner", "colleague|coworker", "winner|champion", "leader|head|chief", "author|writer",
    "nowadays|these days", "spare|extra",
    "attic|loft", "cellar|basement", "garage|carport", "porch|veranda", "workshop|studio", "kitchen|cookhouse",
)  # fmt: skip

KINDS = {
    "animal": ANIMALS, "food": FOODS, "subject": SUBJECTS, "job": TRADES, "profession": TRADES, "relative": KIN[:4],
    "person": FIRST_NAMES,
    "colour": "red blue green yellow black white grey purple orange pink golden silver".split(),
    "material": "wooden iron glass paper leather cotton copper marble velvet plastic".split(),
    "instrument": "violin flute drum piano guitar trumpet bell".split(),
    "vehicle": "bicycle cart boat ship train car tractor wheelbarrow".split(),
    "tool": "hammer rope ladder bucket broom hook spade rake axe saw drill shovel knife".split(),
    "piece of furniture": "table chair box drawer cupboard shelf bed bench cabinet desk wardrobe stool".split(),
    "piece of clothing": "coat hat glove boot scarf ribbon".split(),
    "bird": "parrot hen duck goose owl".split(),
    "fruit": "apples pears plums cherries raspberries figs dates".split(),
    "vegetable": "lentils beans mushrooms onions carrots potatoes tomatoes cabbage".split(),
    "drink": "tea coffee cocoa lemonade cider".split(),
}  # fmt: skip
"""What kind of thing an answer is: "What" becomes "Which bird"."""

CALLS = (
    "Remind me:", "I forgot:", "Quick question:", "Tell me,", "Can you help me?", "Sorry,", "One more thing:",
    "Do you remember?", "By the way,", "And", "So,", "Hm,",
)  # fmt: skip
KIND_OF = {word: [kind for kind, words in KINDS.items() if word in words] for words in KINDS.values() for word in words}


def _others() -> dict[str, list[str]]:
    """Every word with what may stand for it, in any of its groups; a verb in each of its five forms."""
    groups = [group.split("|") for group in WORDS]
    for group in VERBS:
        groups += [list(forms) for forms in zip(*map(conjugate, group.split("|")), strict=True)]
    others: dict[str, list[str]] = {}
    for words in groups:
        for word in words:
            others.setdefault(word, []).extend(other for other in words if other != word)
    return others


OTHERS = _others()
FOUND = re.compile(r"\b(" + "|".join(sorted(map(re.escape, OTHERS), key=len, reverse=True)) + r")\b")


def reword(rng: random.Random, question: str, answer: str, share: float = 0.5) -> str:
    """The question in other words, as far as any are known; `share` is how often a word that has others is changed."""

    def other(match: re.Match[str]) -> str:
        return rng.choice(OTHERS[match[1]]) if rng.random() < share else match[1]

    question = FOUND.sub(other, question)
    kinds = KIND_OF.get(answer) or KIND_OF.get(answer.rpartition(" ")[2]) or []
    if kinds and question.startswith("What ") and rng.random() < 0.4:
        kind = rng.choice(kinds)
        question = rng.choice([f"Which {kind} ", f"What {kind} ", f"What kind of {kind} "]) + question[5:]
    if rng.random() < 0.1:
        question = f"{rng.choice(CALLS)} {question[0].lower()}{question[1:]}"
    return question

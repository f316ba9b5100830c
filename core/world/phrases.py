"""Phrases of a clause: somebody, something, somewhere, at some time; how each is said, and how it is asked for."""

# ruff: noqa: SIM905 - a list of words reads better as a text

from typing import Any, NamedTuple

from .verbs import ADVERBS, CLASSES, CONDITIONS, MOODS, MOTIVES, SETTLEMENTS, THING_VERBS, VEHICLES
from .words import ANIMALS, DAYS, EVENTS, FOODS, KIN, MONTHS, PLACES, PREPOSITIONS, ROLES, THINGS

NOUNS = (THINGS, THINGS, FOODS, ANIMALS, PLACES, EVENTS)
ORDINALS = "first second third fourth fifth sixth seventh ninth tenth twelfth twentieth".split()
ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
TENS = "_ ten twenty thirty forty fifty sixty seventy eighty ninety".split()


class Part(NamedTuple):
    """A phrase of a clause. said: with its preposition and article. answer: without them, or "" if nobody can ask.

    asks: how a question for it opens, and what is left standing at its end ("What … with").
    """

    said: str
    answer: str
    asks: list[tuple[str, str]]


def spelled(number: int) -> str:
    """A number below 1,000 in words."""
    if number < 20:
        return ONES[number]
    if number < 100:
        return TENS[number // 10] + (f"-{ONES[number % 10]}" if number % 10 else "")
    rest = number % 100
    return f"{ONES[number // 100]} hundred" + (f" and {spelled(rest)}" if rest else "")


def number(world: Any) -> str:
    """In words or in figures."""
    in_words = world.rng.random() < 0.5
    return spelled(world.rng.randrange(2, world.rng.choice((13, 100, 1000)))) if in_words else world.number()


def label(world: Any) -> str:
    """What stands on a gate or a platform."""
    return world.rng.choice((world.number, world.code, lambda: number(world)))()


def noun(world: Any) -> str:
    """Any word will do: what it means is not what is learned."""
    any_word = world.words and world.rng.random() < 0.4
    return world.pick(world.words if any_word else world.rng.choice(NOUNS))


def noun_phrase(world: Any) -> str:
    """A noun with what may stand around it, without its article."""
    kind, head = world.rng.random(), noun(world)
    if kind < 0.3:
        return head
    if kind < 0.6:
        return world.thing() if kind < 0.5 else f"{noun(world)} {head}"
    if kind < 0.7:
        return f"{head} {world.pick(['with', 'of', 'for', 'behind', 'from'])} the {world.thing()}"
    return f"{world.invented().capitalize()} {head}" if kind < 0.8 else f"{world.pick(world.words or THINGS)} {head}"


def owned(world: Any, phrase: str) -> str:
    """With an article, or with whose it is."""
    article = world.pick(["the", "the", "the", "a", "a", "her", "his", "my", "our", "their", "that", "this"])
    if world.rng.random() < 0.12:
        article = f"{world.pick(['my ' + world.pick(KIN), world.name()])}'s"
    return ("an " if article == "a" and phrase[0] in "aeiou" else f"{article} ") + phrase


def thing(world: Any) -> Part:
    """Something; at times so many of them, or the one with a label, or a word without an article."""
    if world.rng.random() < 0.12:
        plural, count = noun(world) + "s", number(world)
        return Part(f"{count} {plural}", count, [(f"How many {plural}", "")])
    if world.rng.random() < 0.1:
        kind, name = world.pick(CLASSES), label(world)
        return Part(f"{kind} {name}", name, [(f"Which {kind}", ""), (f"What {kind}", "")])
    phrase = noun_phrase(world)
    if world.rng.random() < 0.12:
        return Part(phrase, phrase, [("What", "")])
    head = phrase.split()[-1]
    asks = [("What", "")] * 4 + ([(f"Which {head}", "")] if " " in phrase and " the " not in phrase else [])
    return Part(owned(world, phrase), phrase, asks)


def person(world: Any) -> Part:
    """Somebody with a name, or whom an article names, or who is only known to the speaker."""
    kind = world.rng.random()
    if kind < 0.7:
        name = world.person()
        return Part(name, name, [("Who", ""), ("Whom", "")])
    if kind < 0.85:
        trade = world.value("trade") if kind < 0.8 else f"{world.pick(ROLES)} of the {noun(world)}"
        return Part(f"the {trade}", trade, [("Who", ""), ("Whom", "")])
    if kind < 0.95:
        return Part(f"{world.name()}'s {world.pick(KIN)}", "", [])
    return Part(f"my {world.pick(KIN)}", "", [])


def place(world: Any) -> Part:
    """In a town, on a platform, at somebody's, or beside something."""
    kind = world.rng.random()
    if kind < 0.2:
        town, settlement = world.town(), world.pick(SETTLEMENTS)
        said = world.pick([f"in {town}", f"near {town}", f"in the {settlement} of {town}", f"on the way to {town}"])
        return Part(said, town, [("Where", ""), (f"In which {settlement}" if settlement in said else "Where", "")])
    if kind < 0.35:
        spot, name, by = world.pick(CLASSES), label(world), world.pick(["on", "at", "in", "from"])
        return Part(f"{by} {spot} {name}", name, [(f"{by.capitalize()} which {spot}", ""), (f"Which {spot}", by)])
    if kind < 0.45:
        home = f"{world.name()}'s {world.pick(PLACES)}"
        return Part(f"in {home}", home, [("Where", "")])
    by = world.pick([*PREPOSITIONS, "at", "outside", "in front of", "across from", "by"])
    phrase = world.place() if kind < 0.75 else noun_phrase(world)
    asks = [("Where", "")] * 3 + [(f"{by.capitalize()} what", ""), ("What", by)]
    return Part(f"{by} {owned(world, phrase)}", phrase, asks)


def moment(world: Any) -> Part:
    """A day, an hour, a date, a year, a season, or before, during or after something."""
    kind = world.rng.choice(("day", "clock", "date", "year", "month", "season", "since", "after"))
    when = [("When", "")]
    if kind == "day":
        day = world.pick(DAYS)
        return Part(world.pick([f"on {day}", f"last {day}", f"every {day}"]), day, [*when, ("On which day", "")])
    if kind == "clock":
        hour = spelled(world.rng.randrange(1, 13))
        clock = world.pick([world.time(), f"half past {hour}", f"quarter to {hour}", f"{hour} o'clock", "noon"])
        return Part(f"at {clock}", clock, [*when, ("At what time", ""), ("What time", "")])
    if kind == "date":
        date = world.rng.choice((world.date(), f"the {world.pick(ORDINALS)} of {world.pick(MONTHS)}"))
        return Part(f"on {date}", date, [*when, ("On what date", "")])
    if kind == "year":
        year = world.year()
        return Part(f"in {year}", year, [*when, ("In which year", "")])
    if kind == "since":
        year = world.year()
        return Part(f"since {year}", year, [("Since when", "")])
    if kind == "month":
        month = world.pick(MONTHS)
        return Part(f"in {month}", month, [*when, ("In which month", "")])
    if kind == "season":
        season = world.pick(["spring", "summer", "autumn", "winter"])
        return Part(world.pick([f"in {season}", f"this {season}", f"last {season}"]), season, when)
    by, event = world.pick(["after", "before", "during"]), f"{noun(world)} {world.pick(EVENTS)}"
    return Part(f"{by} the {event}", event, [*when, (f"{by.capitalize()} what", "")])


def companion(world: Any) -> Part:
    """With, for, from, to … somebody or something."""
    if world.rng.random() < 0.45:
        by, who = world.pick(["with", "for", "from", "to", "without", "because of", "instead of"]), person(world)
        asks = [(f"{by.capitalize()} whom", ""), ("Who", by)] if who.answer else []
        return Part(f"{by} {who.said}", who.answer, asks)
    if world.rng.random() < 0.2:
        price = number(world)
        coin = world.pick(["euros", "dollars", "pounds", "crowns"])
        return Part(f"for {price} {coin}", price, [("For how much", ""), (f"For how many {coin}", "")])
    by, what = world.pick(["with", "for", "from", "about", "instead of", "because of", "without"]), thing(world)
    asks = [(f"{by.capitalize()} {opening[0].lower()}{opening[1:]}", "") for opening, _ in what.asks]
    return Part(f"{by} {what.said}", what.answer, [*asks, (what.asks[0][0], by)])


def manner(world: Any) -> Part:
    """How: by bus, with a spoon, on the old sledge, by selling the clock, as a baker, in tears, slowly."""
    kind, how = world.rng.random(), [("How", "")]
    if kind < 0.2:
        vehicle = world.pick(VEHICLES)
        return Part(f"by {vehicle}", vehicle, [*how, ("By what means", "")])
    if kind < 0.5:
        phrase = owned(world, noun_phrase(world))
        return Part(f"{world.pick(['with', 'with', 'on', 'without', 'through'])} {phrase}", phrase, how)
    if kind < 0.7:
        deed = f"{world.pick(THING_VERBS).ing} {owned(world, noun_phrase(world))}"
        return Part(f"{world.pick(['by', 'by', 'without'])} {deed}", deed, how)
    if kind < 0.8:
        trade = world.value("trade")
        return Part(f"as a {trade}", trade, [*how, ("As what", "")])
    if kind < 0.9:
        mood = world.pick(MOODS)
        return Part(f"in {mood}", mood, how)
    adverb = world.pick(ADVERBS)
    return Part(adverb, adverb, how)


def reason(world: Any) -> Part:
    """Why: because of the rain, because the pipe was wet, to sell the clock, for losing it, out of pity."""
    kind, why = world.rng.random(), [("Why", ""), ("Why", ""), ("For what reason", "")]
    verb, phrase = world.pick(THING_VERBS), owned(world, noun_phrase(world))
    if kind < 0.35:
        who = person(world).said
        cause = f"{phrase} was {world.pick(CONDITIONS)}" if world.rng.random() < 0.5 else f"{who} {verb.past} {phrase}"
        return Part(f"{world.pick(['because', 'because', 'since', 'as'])} {cause}", cause, why)
    if kind < 0.6:
        return Part(f"{world.pick(['to', 'to', 'in order to'])} {verb.base} {phrase}", f"{verb.base} {phrase}", why)
    if kind < 0.75:
        return Part(f"for {verb.ing} {phrase}", f"{verb.ing} {phrase}", why)
    if kind < 0.9:
        return Part(f"{world.pick(['because of', 'due to', 'thanks to', 'over'])} {phrase}", phrase, why)
    motive = world.pick(MOTIVES)
    return Part(f"out of {motive}", motive, why)

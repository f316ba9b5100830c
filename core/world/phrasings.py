"""Facts with several parts, as people tell them: who did what, where, when, with whom, at what price.

A pattern has named slots; every slot it lists questions for may be the one that is asked. So the same statement
answers several questions, and the question has to be understood, not only its subject found. Slots of the kinds of
`SLOTS` are drawn by the world (`World`), which is handed in.
"""

from dataclasses import dataclass
from typing import Any

from .words import EVENTS, FAVOURITES, GROUPS, KIN, LOCKS, PETS, POSSESSIVES, PREPOSITIONS, ROLES


@dataclass(frozen=True)
class Pattern:
    """slots: "x=thing y=place"; statements with {x}, {y}; questions: the slot asked for -> phrasings."""

    slots: str
    statements: str
    questions: dict[str, str]


PATTERNS = [
    Pattern("x=thing y=place p=preposition", "the {x} is {p} the {y}|the {x} stands {p} the {y}|you will find the {x} {p} the {y}|there is a {x} {p} the {y}|{p} the {y} there is a {x}|the {x} was left {p} the {y}|we keep the {x} {p} the {y}|I put the {x} {p} the {y}|I left the {x} {p} the {y}",
            {"y": "Where is the {x}?|Where can I find the {x}?|Where was the {x} left?|Where is the {x} kept?|Where do we keep the {x}?|Where did I put the {x}?|Where did I leave the {x}?", "x": "What is {p} the {y}?|What stands {p} the {y}?|What can be found {p} the {y}?"}),
    Pattern("o=owner x=bare y=thing p=preposition", "{o} {x} is {p} the {y}|{o} {x} is kept {p} the {y}|{o} {x} hangs {p} the {y}|the place of {o} {x} is {p} the {y}|someone hid {o} {x} {p} the {y}|{o} {x} lies {p} the {y}|look for {o} {x} {p} the {y}",
            {"y": "Where is {o} {x}?|Where is {o} {x} kept?|Where can I find {o} {x}?|Where should I look for {o} {x}?|Where does {o} {x} hang?"}),
    Pattern("a=agent x=thing y=thing p=preposition d=possessive", "{a} hid {d} {x} {p} the {y}|{a} put {d} {x} {p} the {y}|{a} left {d} {x} {p} the {y}|{a} stored {d} {x} {p} the {y}|{a} found {d} {x} {p} the {y}|{a} dropped {d} {x} {p} the {y}|{a} buried {d} {x} {p} the {y}",
            {"y": "Where did {a} hide the {x}?|Where did {a} put {d} {x}?|Where did {a} leave the {x}?|Where did {a} find the {x}?|Where is the {x} of {a}?", "x": "What did {a} put {p} the {y}?|What did {a} hide {p} the {y}?|What did {a} leave {p} the {y}?", "a": "Who put the {x} {p} the {y}?|Who left something {p} the {y}?"}),
    Pattern("a=third x=bare y=place p=preposition d=possessive", "{a} keeps {d} {x} {p} the {y}|{a} stores {d} {x} {p} the {y}|{a} hides {d} {x} {p} the {y}|{a} always leaves {d} {x} {p} the {y}|{a} keeps {d} spare {x} {p} the {y}|{a} parks {d} {x} {p} the {y}",
            {"y": "Where does {a} keep {d} {x}?|Where does {a} store {d} {x}?|Where does {a} hide {d} {x}?|Where does {a} leave {d} {x}?|Where does {a} keep the {x}?|Where is {a}'s {x}?|Where does {a} keep {d} spare {x}?|Where does {a} park {d} {x}?", "x": "What does {a} keep {p} the {y}?", "a": "Who keeps something {p} the {y}?"}),
    Pattern("e=event n=person d=day t=time l=place", "the {e} with {n} is on {d} at {t} in the {l}|{n}'s {e} takes place on {d} at {t} in the {l}|on {d} at {t} we have a {e} with {n} in the {l}|the {e} of {n} has been moved to {d} at {t} in the {l}|there will be a {e} with {n} in the {l} on {d} at {t}",
            {"d": "On which day is the {e} with {n}?|What day is {n}'s {e}?|When is the {e} with {n}?", "t": "At what time is the {e} with {n}?|What time does {n}'s {e} start?", "l": "Where is the {e} with {n}?|Where does {n}'s {e} take place?|In which room is the {e} of {n}?", "n": "Who is the {e} on {d} with?|Whose {e} is on {d}?"}),
    Pattern("o=owner e=event d=date", "{o} {e} is on {d}|{o} {e} will be held on {d}|{o} {e} was on {d}|we moved {o} {e} to {d}|{o} next {e} is {d}|the date of {o} {e} is {d}|mark {d} for {o} {e}",
            {"d": "When is {o} {e}?|On what date is {o} {e}?|What is the date of {o} {e}?|When was {o} {e}?|When will {o} {e} be held?|When is {o} next {e}?"}),
    Pattern("e=event w=town t=time", "the {e} in {w} starts at {t}|in {w} the {e} begins at {t}|the {e} in {w} was moved to {t}|the {e} in {w} ends at {t}",
            {"t": "When does the {e} in {w} start?|What time does the {e} in {w} begin?|At what time is the {e} in {w}?|When does the {e} in {w} end?", "w": "Where does the {e} start at {t}?|Where is the {e}?"}),
    Pattern("o=owner k=lock c=code", "the password for {o} {k} is {c}|the code of {o} {k} is {c}|{o} {k} opens with {c}|the {k} password is {c} for {o} place|to open {o} {k} use {c}|{o} {k} password is {c}|{o} {k} code was changed to {c}|the PIN for {o} {k} is {c}|the combination of {o} {k} is {c}|type {c} to unlock {o} {k}",
            {"c": "What is the password for {o} {k}?|What is the code of {o} {k}?|What is {o} {k} password?|What is {o} {k} code?|How do I open {o} {k}?|What is the PIN for {o} {k}?|What opens {o} {k}?|What is the combination of {o} {k}?|How do I unlock {o} {k}?"}),
    Pattern("k=lock l=place c=code", "the {k} password at the {l} is {c}|the code for the {k} in the {l} is {c}|the {k} in the {l} opens with {c}",
            {"c": "What is the {k} password at the {l}?|What is the code for the {k} in the {l}?|How do I open the {k} in the {l}?"}),
    Pattern("o=owner k=pet v=name", "{o} {k} is called {v}|{o} {k} is named {v}|the name of {o} {k} is {v}|{o} new {k} answers to {v}|we call {o} {k} {v}|{o} {k}'s name is {v}",
            {"v": "What is {o} {k} called?|What is the name of {o} {k}?|What is {o} {k}'s name?|What do we call {o} {k}?|How is {o} {k} called?"}),
    Pattern("a=third k=pet v=name", "{a} has a {k} called {v}|{a} has a {k} named {v}|{a} owns a {k} called {v}|{a} calls the {k} {v}|{a} named the {k} {v}",
            {"v": "What is {a}'s {k} called?|What is the name of {a}'s {k}?|What did {a} name the {k}?|What does {a} call the {k}?", "k": "What kind of thing is {v}?|What is {v}?", "a": "Whose {k} is {v}?|Who owns {v}?|Who has a {k} called {v}?"}),
    Pattern("o=owner k=kin v=person", "{o} {k} is called {v}|{o} {k} is {v}|the name of {o} {k} is {v}|{o} {k} is named {v}|{v} is {o} {k}|{o} new {k} is {v}|{o} {k}'s name is {v}",
            {"v": "Who is {o} {k}?|What is {o} {k} called?|What is the name of {o} {k}?|What is {o} {k}'s name?|Who is {o} new {k}?"}),
    Pattern("r=role g=group w=town v=person", "the {r} of the {w} {g} is {v}|{v} is the {r} of the {w} {g}|the {w} {g} has {v} as its {r}|{v} became {r} of the {w} {g}|the new {r} of the {w} {g} is called {v}|they made {v} {r} of the {w} {g}",
            {"v": "Who is the {r} of the {w} {g}?|What is the name of the {r} of the {w} {g}?|Who became {r} of the {w} {g}?|Who is the {w} {g}'s {r}?", "r": "What is {v} at the {w} {g}?"}),
    Pattern("n=number x=plural y=place", "there are {n} {x} in the {y}|the {y} holds {n} {x}|I counted {n} {x} in the {y}|we have {n} {x} in the {y}|in the {y} there are {n} {x}|{n} {x} are stored in the {y}",
            {"n": "How many {x} are in the {y}?|How many {x} are there in the {y}?|How many {x} does the {y} hold?|How many {x} did I count in the {y}?", "x": "What are there {n} of in the {y}?|What does the {y} hold?", "y": "Where are the {n} {x}?"}),
    Pattern("x=thing n=number u=money", "the {x} costs {n} {u}|the {x} cost me {n} {u}|the price of the {x} is {n} {u}|they want {n} {u} for the {x}|I paid {n} {u} for the {x}|the {x} sold for {n} {u}|a {x} is {n} {u}",
            {"n": "How much does the {x} cost?|How much did the {x} cost?|What is the price of the {x}?|How much do they want for the {x}?|How much did I pay for the {x}?|For how much did the {x} sell?|What does the {x} cost?"}),
    Pattern("x=thing v=person", "the {x} belongs to {v}|{v} owns the {x}|the {x} was made by {v}|{v} built the {x}|the {x} is {v}'s|the owner of the {x} is {v}|the {x} came from {v}|{v} took the {x}|{v} broke the {x}|{v} repaired the {x}|{v} stole the {x}|{v} has the {x}|{v} won the {x}",
            {"v": "Who does the {x} belong to?|Who owns the {x}?|Whose is the {x}?|Who made the {x}?|Who built the {x}?|Who has the {x}?|Who took the {x}?|Who broke the {x}?|Who repaired the {x}?|Who stole the {x}?|Who won the {x}?", "x": "What belongs to {v}?|What does {v} own?|What did {v} take?|What did {v} make?|What did {v} break?"}),
    Pattern("a=agent x=thing v=person", "{a} gave the {x} to {v}|{a} sold the {x} to {v}|{a} lent {v} the {x}|{a} sent the {x} to {v}|{a} handed the {x} to {v}|the {x} was given to {v} by {a}|{a} promised {v} the {x}",
            {"v": "Who did {a} give the {x} to?|To whom did {a} sell the {x}?|Who did {a} lend the {x} to?|Who got the {x}?|Who received the {x} from {a}?", "x": "What did {a} give to {v}?|What did {a} sell to {v}?|What did {v} get from {a}?|What did {a} send to {v}?", "a": "Who gave the {x} to {v}?|Who sold the {x}?|From whom did {v} get the {x}?"}),
    Pattern("a=agent x=thing v=person", "{a} bought the {x} from {v}|{a} borrowed the {x} from {v}|{a} got the {x} from {v}|{a} stole the {x} from {v}|{a} received a {x} from {v}|{a} inherited the {x} from {v}",
            {"v": "Who did {a} buy the {x} from?|From whom did {a} borrow the {x}?|Who did {a} get the {x} from?|Who gave {a} the {x}?", "x": "What did {a} buy from {v}?|What did {a} borrow from {v}?|What did {a} get from {v}?", "a": "Who bought the {x} from {v}?|Who borrowed the {x}?|Who has the {x} of {v}?"}),
    Pattern("a=agent w=town y=year", "{a} moved to {w} in {y}|{a} went to {w} in {y}|in {y} {a} travelled to {w}|{a} left for {w} in {y}|{a} got married in {w} in {y}|{a} opened a shop in {w} in {y}|{a} graduated in {w} in {y}|{a} retired to {w} in {y}",
            {"w": "Where did {a} move?|Where did {a} go?|Where did {a} go in {y}?|Where did {a} travel in {y}?|Where did {a} get married?|Where did {a} open a shop?|Where did {a} retire?", "y": "When did {a} move to {w}?|In which year did {a} go to {w}?|When did {a} get married?|When did {a} go to {w}?|What year did {a} move to {w}?", "a": "Who moved to {w}?|Who went to {w} in {y}?"}),
    Pattern("a=agent v=person w=town d=day", "{a} met {v} in {w} on {d}|on {d} {a} visited {v} in {w}|{a} saw {v} in {w} last {d}|{a} will meet {v} in {w} on {d}|{a} had lunch with {v} in {w} on {d}",
            {"v": "Who did {a} meet in {w}?|Who did {a} visit in {w}?|Who did {a} see on {d}?|Who did {a} have lunch with?", "w": "Where did {a} meet {v}?|Where did {a} visit {v}?|Where did {a} see {v}?", "d": "When did {a} meet {v}?|On which day did {a} see {v}?", "a": "Who met {v}?|Who visited {v} in {w}?"}),
    Pattern("a=third n=number", "{a} is {n} years old|{a} turned {n} this year|{a} weighs {n} kilos|{a} has just turned {n}|{a} lives in apartment {n}|{a} lives at number {n}|{a} stays in room {n}",
            {"n": "How old is {a}?|What is {a}'s age?|How much does {a} weigh?|Which apartment does {a} live in?|What number does {a} live at?|Which room does {a} stay in?"}),
    Pattern("a=third i=thing", "{a} collects {i}s|{a} plays the {i}|{a} drives a {i}|{a} wants a {i} for a birthday present|{a} always carries a {i}|{a} dreams of a {i}|{a} needs a new {i}|{a} wears a {i}|{a} got a {i} for Christmas|{a} is afraid of the {i}|{a} sells {i}s|{a} makes {i}s",
            {"i": "What does {a} collect?|What does {a} play?|What does {a} drive?|What does {a} want for a birthday present?|What does {a} carry?|What does {a} need?|What does {a} wear?|What did {a} get for Christmas?|What is {a} afraid of?|What does {a} sell?|What does {a} make?"}),
    Pattern("a=agent f=food l=place", "{a} cooked {f} in the {l}|{a} ate {f} in the {l}|{a} ordered {f} in the {l}|{a} served {f} in the {l}|{a} brought {f} to the {l}|{a} spilled {f} in the {l}",
            {"f": "What did {a} cook?|What did {a} eat?|What did {a} order?|What did {a} serve in the {l}?|What did {a} bring?|What did {a} spill?", "l": "Where did {a} eat {f}?|Where did {a} cook {f}?|Where did {a} order {f}?|Where did {a} spill {f}?", "a": "Who ate the {f}?|Who cooked {f}?|Who brought {f}?"}),
    Pattern("c=code w=town t=time", "flight {c} goes to {w} at {t}|train {c} leaves for {w} at {t}|bus {c} to {w} departs at {t}|the {t} ferry to {w} is number {c}",
            {"w": "Where does flight {c} go?|Where does {c} go?|What is the destination of {c}?", "t": "When does {c} leave?|What time does {c} depart?|At what time does {c} go to {w}?", "c": "Which one goes to {w}?|What is the number of the one to {w}?|Which flight goes to {w}?"}),
    Pattern("w=town x=town n=number", "{w} is {n} miles from {x}|it is {n} kilometres from {w} to {x}|the road from {w} to {x} is {n} miles long|from {w} to {x} it takes {n} hours",
            {"n": "How far is {w} from {x}?|How far is it from {w} to {x}?|How long is the road from {w} to {x}?|How long does it take from {w} to {x}?"}),
    Pattern("w=town r=invented", "{w} lies on the river {r}|the river {r} flows through {w}|{w} stands on the banks of the {r}|the hill above {w} is called {r}|the people of {w} speak {r}|{w} is famous for its {r}|the people of {w} worship {r}",
            {"r": "Which river flows through {w}?|On which river does {w} lie?|What is the hill above {w} called?|What do the people of {w} speak?|What is {w} famous for?|Whom do the people of {w} worship?", "w": "Which town lies on the {r}?|Through which town does the {r} flow?"}),
    Pattern("t=title v=person y=year", "the book {t} was written by {v} in {y}|{v} wrote {t} in {y}|{t} is a novel by {v} from {y}|the song {t} was composed by {v} in {y}|{v} painted {t} in {y}|the film {t} by {v} came out in {y}",
            {"v": "Who wrote {t}?|Who is the author of {t}?|Who composed {t}?|Who painted {t}?|Who made {t}?", "y": "When was {t} written?|When did {v} write {t}?|From what year is {t}?|When did {t} come out?", "t": "What did {v} write?|What did {v} paint?|What is the title of the work by {v}?"}),
    Pattern("a=third g=group w=town j=trade", "{a} works as a {j} at the {g} in {w}|{a} is the {j} of the {g} in {w}|{a} found a job as {j} at the {g} in {w}|the {g} in {w} hired {a} as a {j}",
            {"j": "What does {a} work as?|What is {a}'s job?|What does {a} do at the {g}?|What did the {g} hire {a} as?", "w": "Where does {a} work?|In which town does {a} work?", "g": "Where does {a} work in {w}?|Who hired {a}?", "a": "Who is the {j} of the {g}?|Who works at the {g} in {w}?"}),
    Pattern("o=owner x=bare c=color", "{o} {x} is {c}|{o} new {x} is {c}|{o} {x} was painted {c}|they painted {o} {x} {c}|the colour of {o} {x} is {c}",
            {"c": "What colour is {o} {x}?|What colour is {o} new {x}?|What is the colour of {o} {x}?|What colour was {o} {x} painted?"}),
    Pattern("o=owner f=favourite v=word", "{o} favourite {f} is {v}|{o} favourite {f} has always been {v}|{v} is {o} favourite {f}|the {f} of {o} dreams is {v}|{o} {f} is {v}|{o} new {f} is {v}|{o} first {f} was {v}",
            {"v": "What is {o} favourite {f}?|Which {f} is {o} favourite?|What is {o} {f}?|What is {o} new {f}?|What was {o} first {f}?|What {f} is {o} favourite?"}),
    Pattern("p=project v=word", "the code name of the {p} is {v}|they called the {p} {v}|the secret word for the {p} is {v}|the {p} goes by the name of {v}|the {p} was sponsored by {v}|the {p} is named after {v}",
            {"v": "What is the code name of the {p}?|What did they call the {p}?|What is the secret word for the {p}?|By what name does the {p} go?|Who sponsored the {p}?|What is the {p} named after?"}),
]  # fmt: skip


def _agent(world: Any) -> str:
    kind = world.rng.random()
    return "I" if kind < 0.1 else "we" if kind < 0.14 else _third(world)


def _third(world: Any) -> str:
    kind = world.rng.random()
    if kind < 0.65:
        return world.person()
    return f"my {world.pick(KIN)}" if kind < 0.85 else f"the {world.value('trade')}"


def _owner(world: Any) -> str:
    kind = world.rng.random()
    if kind < 0.3:
        return world.pick(["my", "my", "our", "the"])
    return f"{_third(world)}'s"


def _word(world: Any) -> str:
    kind = world.rng.random()
    if kind < 0.35 and world.words:
        return world.pick(world.words)
    return world.invented() if kind < 0.6 else world.thing() if kind < 0.8 else world.name()


def _title(world: Any) -> str:
    return "The " + " ".join(part.capitalize() for part in world.thing().split())


SLOTS = {
    "agent": _agent, "third": _third, "owner": _owner, "word": _word, "title": _title,
    "bare": lambda w: w.owned(), "plural": lambda w: w.thing() + "s", "event": lambda w: w.pick(EVENTS),
    "role": lambda w: w.pick(ROLES), "lock": lambda w: w.pick(LOCKS), "group": lambda w: w.pick(GROUPS),
    "pet": lambda w: w.pick(PETS), "kin": lambda w: w.pick(KIN), "favourite": lambda w: w.pick(FAVOURITES),
    "preposition": lambda w: w.pick(PREPOSITIONS), "possessive": lambda w: w.pick(POSSESSIVES),
    "money": lambda w: w.pick(["euros", "dollars", "pounds", "coins", "crowns"]),
    "project": lambda w: f"{w.invented().capitalize()} {w.pick(['project', 'expedition', 'plan', 'mission', 'trial'])}",
}  # fmt: skip


def draw_pattern(world: Any) -> tuple[str, str, str, str, str]:
    """A statement, a question about one of its slots, the answer, what it is about, and the name of the relation."""
    number, pattern, values = _fill(world)
    asked = world.rng.choices(list(pattern.questions), [3] + [1] * (len(pattern.questions) - 1))[0]
    if _nameless(asked, values):
        asked = next(iter(pattern.questions))
    statements = [text for text in pattern.statements.split("|") if f"{{{asked}}}" in text]
    statement = world.pick(statements).format(**values)
    question = world.pick(pattern.questions[asked].split("|")).format(**values)
    return statement, question, values[asked], _subject(values), f"pattern{number} {asked}"


def draw_statement(world: Any, number: int | None = None) -> tuple[str, list[tuple[str, str]], str, str]:
    """A statement, (question, answer) pairs about all its slots, what it is about, and the name of the relation.

    The slot that a pattern lists first is asked for in two ways, where it has them, the others in one.
    number: which pattern; any, if none is given.
    """
    number, pattern, values = _fill(world, number)
    statement = world.pick(pattern.statements.split("|"))
    slots = [slot for slot in pattern.questions if f"{{{slot}}}" in statement and not _nameless(slot, values)]
    asked = []
    for slot in slots:
        phrasings = pattern.questions[slot].split("|")
        chosen = world.rng.sample(phrasings, min(len(phrasings), 2 if slot == slots[0] else 1))
        asked += [(text.format(**values), values[slot]) for text in chosen]
    return statement.format(**values), asked, _subject(values), f"pattern{number}"


def _fill(world: Any, number: int | None = None) -> tuple[int, Pattern, dict[str, str]]:
    index = world.rng.randrange(len(PATTERNS)) if number is None else number
    kinds = dict(entry.split("=") for entry in PATTERNS[index].slots.split())
    values = {slot: SLOTS[kind](world) if kind in SLOTS else world.value(kind) for slot, kind in kinds.items()}
    return index, PATTERNS[index], values


def _nameless(slot: str, values: dict[str, str]) -> bool:
    """Is it somebody whom only the speaker can name?"""
    return slot == "a" and (values["a"] in ("I", "we") or values["a"].startswith("my "))


def _subject(values: dict[str, str]) -> str:
    return values.get("a") or next(iter(values.values()))

"""Sentences of more than one clause: two things said at once, with a reason, a comment, an aside or a teller.

People seldom say a single clause. What is asked may stand anywhere in the sentence, among names, days and things
that are not the answer; so whoever reads has to find the clause that a question is about.
"""

# ruff: noqa: SIM905 - a list of words reads better as a text

from typing import Any

from .grammar import Clause, ask, draw_clause
from .phrases import moment, noun_phrase, number, owned, person, place, thing
from .synonyms import reword
from .verbs import CONDITIONS, GIVING_VERBS, PERSON_VERBS, SETTLEMENTS, STAYING_VERBS, THING_VERBS
from .words import EVENTS, KIN, ROLES, TRADES

JOINED = (
    "{a}, so {b}|{a}, but {b}|{a}, and {b}|{a} and {b}|{a} because {b}|{a} while {b}|{a}, although {b}|"
    "{a} although {b}|{a}, since {b}|{a}, even though {b}|{a} before {b}|{a} after {b}|{a} until {b}|{a} whenever {b}|"
    "{a}, or else {b}|{a}; {b}|{a} - {b}|{a}: {b}|whenever {b}, {a}|when {b}, {a}|if {b}, {a}|after {b}, {a}|"
    "before {b}, {a}|now that {b}, {a}|ever since {b}, {a}|because {b}, {a}|although {b}, {a}|while {b}, {a}|"
    "as {b}, {a}|{a}, which is why {b}|{a}, so that {b}|{a}, otherwise {b}|{a} unless {b}|once {b}, {a}"
).split("|")
LED = (
    "to {n}'s surprise, {a}|according to {n}, {a}|thanks to {n}, {a}|because of the {x}, {a}|at the {e}, {a}|"
    "after the {e}, {a}|before the {e}, {a}|{n} told me that {a}|{n} says {a}|{n} thinks {a}|{n} wrote that {a}|"
    "I told {n} that {a}|nobody knows it, but {a}|nobody believes that {a}|we found out that {a}|it seems {a}|"
    "had it not been for the {x}, we would not know that {a}|the {t} said that {a}|ask {n}: {a}|as for the {x}, {a}|"
    "I am glad that {a}|it is a pity that {a}|every time I see {n}, I think of how {a}|at last {a}|luckily {a}|"
    "if you see {n}, say that {a}|for the {e}, {a}|with {n} away, {a}|on the way to the {x}, {a}|this year {a}|"
    "apart from the {x}, nothing has changed: {a}|what {n} never told us is that {a}|{m} {a}|in {w}, {a}|"
    "my {k} told me that {a}|her {k} swears {a}|the {t} promised that {a}|do you remember how {a}"
).split("|")
TAILED = (
    "{a}, which made {n} laugh|{a}, which surprised everyone|{a}, not the {x}|{a}, much to {n}'s surprise|"
    "{a}, says {n}|{a}, as {n} told me|{a}, of all people|{a}, believe it or not|{a}, lock and all|{a}, by the way|"
    "{a}, far more than we had hoped|{a}, if I remember it right|{a}, so no {x}|{a}, just like {n}|{a}, thank goodness|"
    "{a}, according to the {t}|{a}, so please do not tell {n}|{a}, and nobody knows why|{a}, and I cannot stand it|"
    "{a}, as usual|{a}, poor thing|{a}, for the third time|{a}, and then went home|{a}, despite the {x}|"
    "{a}, because of the {e}|{a}, thanks to {n}|{a}, or was it a dream|{a}, even in winter|{a}, but only for a week|"
    "{a}, and the {t} saw it|{a}, to everyone's delight|{a}, no matter what {n} says|{a}, without telling {n}"
).split("|")
ASIDES = (
    "my {k}|the {t}|the {t} from {w}|{n}'s {k}|our {k}|who is a {t}|who lives in {w}|the {r} of the {x}|"
    "the one with the {x}|of all people|who never {v} anybody|the new {t}|a {t} by trade|as you know"
).split("|")


def draw_compound(world: Any) -> Clause:
    """One clause with something around it, or two; its questions are put in other words than the statement's."""
    kind = world.rng.random()
    if kind < 0.2:
        text, asked, subject = world.rng.choice((_instead, _purpose, _superlative, _relative, _among))(world)
    else:
        text, asked, subject = draw_clause(world)
        if world.rng.random() < 0.3:
            text, asked = _with_aside(world, text, asked, subject)
        if kind < 0.6:
            other, more, _ = draw_clause(world)
            text, asked = world.pick(JOINED).format(a=text, b=other), asked + more
        else:
            text = _around(world, world.pick(LED if kind < 0.8 else TAILED), text)
    return text, [(reword(world.rng, question, answer), answer) for question, answer in asked if answer], subject


def _around(world: Any, frame: str, text: str) -> str:
    """A comment: what stands in it is never asked for, and may look like an answer."""
    filled = {"n": world.name(), "x": noun_phrase(world), "e": world.pick(EVENTS), "t": world.pick(TRADES)}
    return frame.format(a=text, w=world.town(), k=world.pick(KIN), m=moment(world).said, **filled)


def _with_aside(world: Any, text: str, asked: list[tuple[str, str]], subject: str) -> tuple[str, list[tuple[str, str]]]:
    """Who somebody is, in commas after the name; it can be asked for, and help to ask."""
    if not text.startswith(f"{subject} ") or not subject[:1].isupper():
        return text, asked
    filled = {"k": world.pick(KIN), "t": world.pick(TRADES), "n": world.name(), "w": world.town()}
    aside = world.pick(ASIDES).format(
        r=world.pick(ROLES), x=noun_phrase(world), v=world.pick(PERSON_VERBS).past, **filled
    )
    rest = text.removeprefix(subject)
    if aside.startswith(("the ", "my ", "our ")):
        # asked as "What did the baker find?" too, the name left out
        asked = asked + [
            (question.replace(subject, aside), answer) for question, answer in asked if subject in question
        ]
        asked.append((f"Who is {aside}", subject))
    return f"{subject}, {aside},{rest}", asked


def _instead(world: Any) -> Clause:
    """Not this but that: the answer is the one that holds."""
    who, right, wrong, verb = person(world), thing(world), thing(world), world.pick(THING_VERBS)
    order = world.rng.choice((
        f"it was not {wrong.said} but {right.said} that {who.said} {verb.past}",
        f"{who.said} {verb.past} {right.said} instead of {wrong.said}",
        f"{right.said}, not {wrong.said}, is what {who.said} {verb.past}",
        f"{who.said} would rather {verb.base} {right.said} than {wrong.said}",
    ))  # fmt: skip
    rather = " would rather " in order
    asked = ask(world, right, f"{'would' if rather else 'did'} {who.said} {'rather ' * rather}{verb.base}")
    if who.answer:
        asked.append((f"Who {verb.past} {right.said}", who.answer))
    return order, asked, who.said


def _purpose(world: Any) -> Clause:
    """Somebody does something in order to do something else."""
    who, what, other = person(world), thing(world), thing(world)
    first, second = world.pick(THING_VERBS), world.pick(THING_VERBS)
    link = world.pick(["to", "in order to", "so as to"])
    text = f"{who.said} {first.past} {what.said} {link} {second.base} {other.said}"
    asked = ask(world, what, f"did {who.said} {first.base} to {second.base} {other.said}")
    asked += ask(world, other, f"did {who.said} want to {second.base}")
    if who.answer:
        asked.append((f"Who {first.past} {what.said}", who.answer))
    return text, asked, who.said


def _superlative(world: Any) -> Clause:
    """The best of them all is somewhere, or is somebody's."""
    what, where, who = noun_phrase(world), place(world), person(world)
    best = world.pick(
        ["best", "oldest", "cheapest", "first", "last", "only", "biggest", "strangest", "worst", "nicest"]
    )
    if world.rng.random() < 0.5:
        text = f"the {best} {what} {world.pick(['is', 'was'])} {where.said}"
        asked = ask(world, where, f"is the {best} {what}")
    else:
        text = world.pick([f"the {best} {what} belongs to {who.said}", f"{who.said} has the {best} {what}"])
        asked = [(f"Who has the {best} {what}", who.answer), (f"Whose {what} is the {best}", who.answer)]
    return text, asked, what


def _relative(world: Any) -> Clause:
    """The baker who found the key lives in Dornwick."""
    role, what, verb = world.pick(TRADES + ROLES + KIN), thing(world), world.pick(THING_VERBS)
    staying, where, name = world.pick(STAYING_VERBS), place(world), world.person()
    who = f"the {role} who {verb.past} {what.said}"
    kind = world.rng.random()
    if kind < 0.4:
        asked = ask(world, where, f"did {who} {staying.base}") + ask(world, what, f"did the {role} {verb.base}")
        return f"{who} {staying.past} {where.said}", asked, who
    if kind < 0.7:
        text = world.pick([f"{who} is called {name}", f"{name} is {who}", f"it was {name} who {verb.past} {what.said}"])
        return text, [(f"Who {verb.past} {what.said}", name), (f"What is the name of {who}", name)], who
    giving, to = world.pick(GIVING_VERBS), person(world)
    text = f"{what.said} that {name} {verb.past} was {giving.participle} to {to.said}"
    return (
        text,
        [(f"Who {verb.past} {what.said}", name), (f"To whom was {what.said} {giving.participle}", to.answer)],
        name,
    )


def _among(world: Any) -> Clause:
    """There are so many of something somewhere, and one of them stands out."""
    count, what, where = number(world), noun_phrase(world), place(world)
    state, town = world.pick(CONDITIONS), world.town()
    kind = world.rng.random()
    if kind < 0.4:
        text = f"of the {count} {what}s {where.said}, {world.pick(['only one', 'none', 'most'])} is {state}"
        return text, [(f"How many {what}s are {where.said}", count), (f"What are the {what}s", state)], what
    if kind < 0.7:
        settlement = world.pick(SETTLEMENTS)
        text = f"{town} is a {settlement} with {count} {what}s"
        return (
            text,
            [(f"How many {what}s does {town} have", count), (f"Which {settlement} has {count} {what}s", town)],
            town,
        )
    owner = owned(world, what)
    text = f"{count} {world.pick(['people', 'guests', 'children', 'men', 'dogs'])} were needed for {owner}"
    return text, [(f"How many were needed for {owner}", count)], what

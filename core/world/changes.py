"""What was true and has changed since, said as people say it: "Ada has moved to Wick", "the new nurse of Ada is Bo"."""

from dataclasses import replace

from .everyday import draw_everyday
from .facts import Fact, World
from .statements import EVERYDAY, Statement, questioned

BY_HAND = 0.6  # of the updates are sentences by hand
SAID_SO = 0.7  # how often a change is told as one; else the new value is told as the old one was
NOW = ("now", "these days", "at the moment", "today", "currently")

_ATTRIBUTE = "the new {a} of {s} is {v}|{s} has a new {a}, {v}|{s} has a new {a}: {v}|{s} got a new {a}, it is {v}|{s}'s {a} is {v} now|{s}'s {a} is now {v}|{s} changed the {a} to {v}|the {a} of {s} was changed to {v}|the {a} of {s} has changed from {old} to {v}|{s}'s {a} is no longer {old} but {v}|{s}'s {a} used to be {old}, now it is {v}|from now on the {a} of {s} is {v}|these days {s}'s {a} is {v}|instead of {old}, the {a} of {s} is {v}|{s} took {v} as a new {a}|{v} is {s}'s new {a}|correction, the {a} of {s} is {v}"
_ANY = "{f} now|now {f}|these days {f}|{f} these days|since last week {f}|it has changed, {f}|{f} instead of {old}|not {old} any more, {f}|by now {f}|meanwhile {f}"
_WRONG = "correction, {f}|not {old}, {f}|I was wrong, {f}|it was a mistake, {f}|{f}, not {old}"
_LASTING = {"born", "birthday", "founded", "wrote", "lost", "bought"}  # what changes here is what one knows of it
_RELATIONS = {
    "lives": "{s} has moved to {v}|{s} moved from {old} to {v}|{s} left {old} and went to live in {v}|{s} lives in {v} now|{s} has a new house in {v}",
    "works": "{s} is a {v} now|{s} gave up work as a {old} and became a {v}|{s} changed jobs and works as a {v}|{s} found new work as a {v}",
    "married": "{s} got divorced and married {v}|{s} is now married to {v}|{s} has married again, to {v}",
    "meets": "the meeting with {s} has been moved to {v}|{s} will be there at {v} instead|the meeting with {s} was put off until {v}|{s} is coming at {v} now",
    "loves": "{s} has come to like {v} better|{s}'s new favourite food is {v}|{s} prefers {v} these days",
    "studies": "{s} gave up {old} for {v}|{s} has changed to {v}|{s} studies {v} now",
    "friend": "{s}'s new best friend is {v}|{s} works with {v} now|{s} trusts only {v} now",
    "met": "{s} has gone to the {v}|{s} moved to the {v}|{s} is in the {v} now",
    "password": "the password of {s} was changed to {v}|the new code for {s} is {v}|they changed the code for {s} to {v}|{v} opens {s} now",
    "capital": "the capital of {s} was moved to {v}|the new capital of {s} is {v}|{s} is now governed from {v}",
    "mayor": "the new mayor of {s} is {v}|{v} took over as mayor of {s}|{s} has a new mayor, {v}|{v} replaced {old} as mayor of {s}",
    "market": "the market of {s} has been moved to {v}|from now on the market in {s} is on {v}|the market in {s} is on {v} instead of {old}",
    "phone": "{s} has a new phone number, {v}|{s}'s new number is {v}|{s}'s phone number was changed to {v}|the number of {s} is now {v}",
}  # fmt: skip


def draw_update(world: World) -> tuple[str, Statement]:
    """What is told first, and the statement that replaces it or goes on from it, whose questions come later."""
    if world.rng.random() < BY_HAND:
        one = draw_everyday(world, two=True)
        return one.earlier, Statement(one.text, one.asked, "", EVERYDAY)
    old, new = draw_change(world)
    return old.fact, new


def draw_change(world: World) -> tuple[Fact, Statement]:
    """A fact, and the statement that replaces it, with questions to which only its answer is right."""
    old, new = world.contradiction()
    name, _, noun = new.relation.partition(" ")
    if world.rng.random() < SAID_SO:
        forms = _ATTRIBUTE if noun else _WRONG if name in _LASTING else _RELATIONS.get(name, _ANY)
        sentence = new.fact.rstrip(".!")
        parts = {"s": new.subject, "v": new.answer, "old": old.answer, "a": noun, "f": sentence}
        said = world.dress(world.pick(forms.split("|")).format(**parts))
        new = replace(new, fact=said) if new.answer in said else new
    told = questioned(world, new)
    asked = tuple((_now(world, question), answer) for question, answer in told.questions)
    return old, replace(told, questions=asked)


def _now(world: World, question: str) -> str:
    """At times the question says that it means the present."""
    return f"{question[:-1]} {world.pick(NOW)}?" if question.endswith("?") and world.rng.random() < 0.3 else question

"""What people write down today and ask for later: sentences by hand (`lines/`), with slots that are drawn anew.

A grammar and a list of patterns say everything in their own few ways; people do not. A line is one item:

    SENTENCE | QUESTION = ANSWER | …
    OLDER >> NEWER | QUESTION = ANSWER        the newer sentence replaces the older
    FIRST ++ SECOND | QUESTION = ANSWER       the first says what the question means, the second answers it

`{kind}` is drawn by the world (`KINDS`), `{kind2}` is another of its kind, `{id:one/two}` one of its own options, and
the same slot again is the same value. Every answer holds a slot, so that it cannot be guessed.
"""

# ruff: noqa: SIM905 - a list of words reads better as a text

import re
from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from . import everyday_words as more
from .amounts import amount, date, price, time
from .attached import ATTACHED, allowed, tail
from .synonyms import reword
from .words import ADJECTIVES, ANIMALS, DAYS, FIRST_NAMES, FOODS, KIN, MONTHS, PLACES, THINGS, TRADES

REPLACED, CONTINUED = " >> ", " ++ "
SLOT = re.compile(r"\{(\w+?)(\d?)(?::([^{}]*))?\}")
TRIES = 200  # values for the slots of a line
REWORDED = 0.15  # of the questions are asked in other words than they are written with
ENDS = "Lane Road Street Close Row Square Alley Hill Way Terrace".split()
FIRMS = "{} & Sons|{} Bakery|{} Motors|{} Books|{} Travel|{} Foods|{} Partners|{}co|{}|The {}".split("|")

KINDS: dict[str, Callable[[Any], str]] = {
    "name": lambda world: _name(world),
    "person": lambda world: _person(world),
    "kin": lambda world: _either(world, KIN, more.KIN),
    "town": lambda world: world.town() if world.rng.random() < 0.5 else world.pick(more.TOWNS),
    "street": lambda world: f"{_invented(world, THINGS)} {world.pick(ENDS)}",
    "firm": lambda world: world.pick(FIRMS).format(world.invented().capitalize()),
    "word": lambda world: _invented(world, world.words or THINGS),
    "thing": lambda world: f"{world.pick(ADJECTIVES)} {_noun(world)}",
    "object": lambda world: _noun(world),
    "room": lambda world: world.pick(PLACES),
    "food": lambda world: _either(world, FOODS, more.FOODS),
    "animal": lambda world: _either(world, ANIMALS, more.ANIMALS),
    "job": lambda world: _either(world, TRADES, more.JOBS),
    "color": lambda world: _either(world, ADJECTIVES[:12], more.COLORS),
    "number": lambda world: amount(world, world.rng.choice((30, 100, 1000, 10_000))),
    "small": lambda world: amount(world, 13),
    "digits": lambda world: str(world.rng.randrange(2, world.rng.choice((10, 100)))),
    "code": lambda world: world.code(),
    "year": lambda world: world.year(),
    "date": date,
    "day": lambda world: world.pick(DAYS),
    "month": lambda world: world.pick(MONTHS),
    "time": time,
    "price": price,
    "phone": lambda world: f"{world.rng.randrange(100, 1000)}-{world.rng.randrange(10_000):04d}",
}  # fmt: skip


class Everyday(NamedTuple):
    """earlier: the sentence before, "" for a simple item. outdated: it is no longer true. asked: (question, answer)."""

    text: str
    asked: tuple[tuple[str, str], ...]
    earlier: str = ""
    outdated: bool = False


@cache
def templates(two: bool) -> tuple[Everyday, ...]:
    """All lines of one sentence or of two, slots not filled."""
    texts = sorted((files("core.world") / "lines").iterdir(), key=lambda text: text.name)
    lines = [line for text in texts for line in text.read_text("utf-8").splitlines()]
    return tuple(one for line in lines if bool((one := parsed(line)).earlier) == two)


def parsed(line: str) -> Everyday:
    """One line as a template. Raises ValueError, with the line, where it is none."""
    told, *asked = (part.strip() for part in line.split("|"))
    mark = next((mark for mark in (REPLACED, CONTINUED) if mark in told), None)
    earlier, text = told.split(mark) if mark else ("", told)
    pairs = [(question, answer) for question, equals, answer in (part.partition(" = ") for part in asked) if equals]
    if not pairs or len(pairs) < len(asked):
        raise ValueError(f"{line!r} has no question with an answer. Write SENTENCE | QUESTION = ANSWER.")
    return Everyday(text, tuple(pairs), earlier, mark == REPLACED)


def draw_everyday(world: Any, two: bool) -> Everyday:
    """An item of one sentence or of two, with its slots filled."""
    return filled(world, world.pick(templates(two)))


def filled(world: Any, line: Everyday) -> Everyday:
    """The line with values in its slots.

    Raises ValueError, with the line, where its answers can never be told from its question or from what was before.
    """
    for _ in range(TRIES):
        fill, fair, by_chance = _Filling(world, _longer(world, line)), [], False
        earlier, text = fill(line.earlier), fill(line.text)
        for slots in line.asked:
            question, answer = fill(slots[0]), fill(slots[1])
            if answer in text and answer.lower() not in question.lower():
                by_chance |= line.outdated and answer in earlier and slots[1] not in line.earlier
                other = reword(world.rng, question, answer) if world.rng.random() < REWORDED else question
                fair.append((question if answer.lower() in other.lower() else other, answer))
        if fair and not by_chance:
            return Everyday(text, tuple(fair), earlier, line.outdated)
    raise ValueError(f"No answer to {line.text!r} is fair. Let it be a part of that sentence and not of its question.")


@cache
def _may_be_longer(line: Everyday) -> tuple[str, ...]:
    return tuple(allowed(line.text, [answer for _, answer in line.asked], SLOT))


def _longer(world: Any, line: Everyday) -> str:
    """The slot that gets a tail this time, "" for none; a sentence that has an earlier one says no more than that."""
    slots = () if line.earlier else _may_be_longer(line)
    return world.pick(slots) if slots and world.rng.random() < ATTACHED else ""


class _Filling:
    """Puts values into the slots of one item; different slots of a kind get different values. `longer` gets a tail."""

    def __init__(self, world: Any, longer: str = ""):
        self.world, self.longer = world, longer
        self.values: dict[str, str] = {}

    def __call__(self, text: str) -> str:
        text = SLOT.sub(self._value, text)
        text = re.sub(r"\b([Aa]) (?=[aeiou](?!ni[^nm]|ne |nce |u|se))", r"\1n ", text)
        return text[:1].upper() + text[1:] if text[-1:] in ".!?" else text

    def _value(self, slot: re.Match[str]) -> str:
        kind, number, options = slot.groups()
        if kind + number not in self.values:
            draw = (lambda: self.world.pick(options.split("/"))) if options else lambda: KINDS[kind](self.world)
            taken = {value for other, value in self.values.items() if other.rstrip("0123456789") == kind}
            free = (value for _ in range(TRIES) if (value := draw()) not in taken)
            if (value := next(free, None)) is None:
                raise ValueError(f"There is no value left for the slot {slot[0]!r}; give it more options.")
            if kind + number == self.longer:
                value = f"{value} {_Filling(self.world)(tail(self.world, kind))}"
            self.values[kind + number] = value
        return self.values[kind + number]


def _either(world: Any, some: Sequence[str], others: Sequence[str]) -> str:
    return world.pick(some if world.rng.random() < 0.5 else others)


def _name(world: Any) -> str:
    """A given name mostly, at times an invented one, or a surname with how its bearer is addressed."""
    luck = world.rng.random()
    if luck < 0.35:
        return world.name()
    if luck < 0.9:
        return world.pick(FIRST_NAMES if luck < 0.55 else more.GIVEN_NAMES)
    return _addressed(world)


def _person(world: Any) -> str:
    luck = world.rng.random()
    if luck < 0.4:
        return world.person()
    return f"{world.pick(more.GIVEN_NAMES)} {world.pick(more.SURNAMES)}" if luck < 0.75 else _addressed(world)


def _addressed(world: Any) -> str:
    return f"{world.pick(more.STYLES)} {world.pick(more.SURNAMES if world.rng.random() < 0.7 else more.GIVEN_NAMES)}"


def _invented(world: Any, words: Sequence[str]) -> str:
    return (world.invented() if world.rng.random() < 0.5 else world.pick(words)).capitalize()


def _noun(world: Any) -> str:
    if world.words and world.rng.random() < 0.1:
        return world.pick(world.words)
    return _either(world, THINGS, more.OBJECTS)

"""The fact world: invented people, places and things, what is true of them, and how people say and ask it.

Answers are opaque: names, codes, numbers and things drawn at random, so that nothing can be guessed from frequency and
only memory helps. Statements and questions are composed from many phrasings, so that their form cannot be learned by
heart either. Everything is drawn from a `random.Random`; the same seed gives the same world.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .phrasings import draw_pattern
from .relations import ATTRIBUTES, PLAIN_QUESTIONS, PLAIN_STATEMENTS, RELATIONS, Relation, relation_of
from .words import (
    ADJECTIVES,
    ANIMALS,
    CLOSINGS,
    CODAS,
    DAYS,
    FIRST_NAMES,
    FOODS,
    KIN,
    MONTHS,
    ONSETS,
    OPENINGS,
    PLACES,
    SUBJECTS,
    THINGS,
    TITLES,
    TRADES,
    VOWELS,
)

OF_PIECES = 0.3  # how often an invented word is made of given pieces, where there are any


@dataclass(frozen=True)
class Fact:
    """One statement, one question about it, and the answer, a literal part of the statement."""

    fact: str
    question: str
    answer: str
    subject: str = ""
    relation: str = ""


class World:
    """A source of random names, values and facts. `words` are extra real words that may serve as names and answers.

    real: sentences of real prose (`core.world.real`), of which statements may be made as well. pieces: of which words
    may be invented, for instance a tokenizer's: whoever has never copied a token gets names wrong that contain it.
    by_hand: of the statements that are not from real prose, the share of sentences by hand (`core.world.everyday`).
    """

    def __init__(self, rng: random.Random, words: list[str] | None = None):
        self.rng, self.words = rng, words or []
        self.real: Any = None
        self.pieces: list[str] = []
        self.by_hand = 0.6

    # ── words and values ──

    def pick(self, options: Sequence[str]) -> str:
        return self.rng.choice(options)

    def invented(self) -> str:
        """A word that is in no dictionary, pronounceable where it is not made of `pieces`."""
        if self.pieces and self.rng.random() < OF_PIECES:
            return "".join(self.pick(self.pieces) for _ in range(self.rng.choice((2, 2, 3)))).lower()
        parts = [
            self.pick(ONSETS) + self.pick(VOWELS) + self.pick(CODAS)
            for _ in range(self.rng.choices((1, 2, 3), (2, 6, 2))[0])
        ]
        return "".join(parts)

    def name(self) -> str:
        kind = self.rng.random()
        if kind < 0.45 or (kind >= 0.9 and not self.words):
            return self.invented().capitalize()
        return self.pick(FIRST_NAMES) if kind < 0.9 else self.pick(self.words).capitalize()

    def person(self) -> str:
        kind = self.rng.random()
        if kind < 0.45:
            return self.name()
        return f"{self.name()} {self.invented().capitalize()}" if kind < 0.85 else f"{self.pick(TITLES)} {self.name()}"

    def thing(self) -> str:
        noun = self.pick(self.words) if self.words and self.rng.random() < 0.15 else self.pick(THINGS)
        return noun if self.rng.random() < 0.35 else f"{self.pick(ADJECTIVES)} {noun}"

    def owned(self) -> str:
        return self.pick(THINGS)

    def place(self) -> str:
        noun = self.pick(PLACES) if self.rng.random() < 0.7 else self.pick(THINGS)
        return noun if self.rng.random() < 0.3 else f"{self.pick(ADJECTIVES)} {noun}"

    def town(self) -> str:
        end = self.pick(["", "", "ton", "ville", "berg", "ford", "haven", "wick", "burg", " Bay", " Hill"])
        return self.invented().capitalize() + end

    def code(self) -> str:
        digit, letter = (lambda: str(self.rng.randrange(10))), (lambda: chr(65 + self.rng.randrange(26)))
        forms: list[Callable[[], str]] = [
            lambda: "".join(digit() for _ in range(4)),
            lambda: letter() + letter() + "-" + digit() + digit() + digit(),
            lambda: digit() + letter() + digit() + letter(),
            lambda: "".join(digit() for _ in range(6)),
            lambda: letter() + digit() + digit(),
            lambda: f"{self.invented()}{self.rng.randrange(100)}",
            lambda: f"{self.invented()}-{self.invented()}",
            lambda: f"{self.pick(THINGS)}{digit()}{digit()}",
        ]
        return self.rng.choice(forms)()

    def number(self) -> str:
        return str(self.rng.randrange(2, self.rng.choice((20, 100, 1000, 10000))))

    def year(self) -> str:
        return str(self.rng.randrange(1400, 2031))

    def date(self) -> str:
        day, month = self.rng.randrange(1, 29), self.pick(MONTHS)
        return self.rng.choice((f"{day} {month}", f"{month} {day}", f"the {day}th of {month}"))

    def time(self) -> str:
        hour = self.rng.randrange(1, 13)
        return self.rng.choice((f"{hour}:{self.rng.randrange(60):02d}", f"half past {hour}", f"{hour} o'clock"))

    def value(self, kind: str) -> str:
        simple = {
            "color": ADJECTIVES[:12], "animal": ANIMALS, "food": FOODS, "trade": TRADES, "subject": SUBJECTS,
            "day": DAYS, "month": MONTHS,
        }  # fmt: skip
        if kind in simple:
            words = simple[kind]
            rare = self.rng.random() < 0.2
            return (self.pick(self.words) if self.words and rare else self.invented()) if rare else self.pick(words)
        return getattr(self, kind)()

    def place_of(self) -> str:
        """A place that can be locked."""
        if self.rng.random() < 0.5:
            return f"the {self.pick(ADJECTIVES)} {self.pick(PLACES)}"
        return f"{self.name()}'s {self.owned()}"

    def machine(self) -> str:
        return (
            f"the {self.invented().capitalize()} {self.owned()}" if self.rng.random() < 0.6 else f"the {self.thing()}"
        )

    # ── facts ──

    def fact(self, subject: str | None = None, relation: Relation | None = None, value: str | None = None) -> Fact:
        """A random fact; any of its three parts can be given (an update keeps subject and relation).

        The answer is always a literal part of the statement; a phrasing that would capitalise it is drawn again.
        """
        free = subject is None and relation is None and value is None
        while True:
            fact = self._pattern_fact() if free and self.rng.random() < 0.45 else self._fact(subject, relation, value)
            if fact.answer in fact.fact and fact.answer.lower() not in fact.question.lower():
                return fact

    def _pattern_fact(self) -> Fact:
        statement, question, answer, subject, relation = draw_pattern(self)
        return Fact(self.dress(statement), capital(question), answer, subject, relation)

    def _fact(self, subject: str | None, relation: Relation | None, value: str | None) -> Fact:
        relation = relation or self.rng.choice(RELATIONS if self.rng.random() < 0.6 else ATTRIBUTES)
        about: str = subject or getattr(self, relation.subject)()
        value = value or self.value(relation.value)
        while value.lower() in about.lower():
            value = self.value(relation.value)
        extra = self.owned() if "{o}" in relation.statements[0] else ""
        said, asked = about, about
        if relation.subject == "person" and not about.startswith(tuple(TITLES)) and self.rng.random() < 0.25:
            kin = self.pick(KIN)
            said = f"my {kin} {about}"
            asked = self.rng.choice((about, f"my {kin} {about}", f"your {kin} {about}"))
        relation_o = f"{relation.name} {extra}".strip()
        statement = self.pick(relation.statements).format(s=said, v=value, o=extra)
        statement = self.dress(statement)
        question = self.pick(relation.questions).format(s=asked, o=extra)
        return Fact(statement, capital(question), value, about, relation_o)

    def plain_fact(self, subject: str | None = None) -> Fact:
        """A fact in the simplest language there is, to begin learning with; about `subject` if one is given."""
        relation = self.rng.choice(ATTRIBUTES)
        about: str = subject or getattr(self, relation.subject)()
        value = self.value(relation.value)
        while value.lower() in about.lower():
            value = self.value(relation.value)
        thing = relation.name.partition(" ")[2]
        statement = self.pick(PLAIN_STATEMENTS).format(s=about, v=value, a=thing)
        question = self.pick(PLAIN_QUESTIONS).format(s=about, a=thing)
        return Fact(_sentence(statement), question, value, about, relation.name)

    def another(self, fact: Fact) -> Fact:
        """Something else about the same subject, or any fact where nothing else can be said about it."""
        said = relation_of(fact.relation)
        others = [other for other in RELATIONS + ATTRIBUTES if said and other.subject == said.subject and other != said]
        return self.fact(fact.subject, self.rng.choice(others)) if others else self.fact()

    def contradiction(self) -> tuple[Fact, Fact]:
        """The same said twice of a subject with two values: an old fact, and the one that replaces it."""
        while True:
            relation = self.rng.choice(ATTRIBUTES if self.rng.random() < 0.5 else RELATIONS)
            if "{o}" in relation.statements[0]:
                continue
            old = self.fact(None, relation)
            new = self.fact(old.subject, relation)
            if old.answer != new.answer:
                return old, new

    def dress(self, statement: str) -> str:
        """A statement as a sentence: sometimes with an opening or a closing phrase around it."""
        draw = self.rng.random()
        if draw < 0.25:
            statement = f"{self.pick(OPENINGS)} {statement}"
        elif draw < 0.35:
            statement = f"{statement}{self.pick(CLOSINGS)}"
        return _sentence(statement, self.rng.choices((".", "!", ""), (18, 1, 1))[0])

    def facts(self) -> Iterator[Fact]:
        while True:
            yield self.fact()


def capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _sentence(text: str, end: str = ".") -> str:
    return capital(text) + end

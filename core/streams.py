"""Endless streams of what a small model practises on: facts with their questions, and prose, as token ids.

Everything is drawn from one `random.Random`, so a seed fixes a whole training.
"""

import random
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from .data import Documents
from .packing import Passage, find
from .world import World
from .world.changes import draw_update
from .world.relations import Relation
from .world.statements import Statement, alike, draw, draw_kind, plain_statement

FACTS_AT_ONCE = 300  # tokenised together, which is several times faster than one by one
FEW = 4  # kinds of statements, at most, of which all are where they are hard to tell apart
STAY = 10  # steps, on average, that these kinds stay the same: what was written meanwhile is hard to tell apart too
ENDING = 0.25
"""What the end of an answer weighs in the loss, times its other tokens. Most answers practised are of one word or two:
a model that is unsure whether more follows guesses that it ends, and what people ask for is cut short."""
ANY_ORDER = 0.7  # how often a statement is taken whether or not it opens with an answer


class Question(NamedTuple):
    """The prompt that asks, and the answer with its end-of-text, as token ids."""

    prompt: list[int]
    answer: list[int]

    def places(self, ids: list[int]) -> list[int]:
        """Where the answer begins in these tokens."""
        return find(ids, self.answer[:-1])

    def passage(self, weight: float = 1.0) -> Passage:
        """It with its answer, of which only the answer is to be predicted."""
        return Passage(self.prompt + self.answer, len(self.prompt), weight, ENDING)


class Item(NamedTuple):
    """A statement as token ids, and all that is asked about it."""

    statement: list[int]
    questions: list[Question]


class GeneratedDocuments:
    """Stands in for `Documents` where there is no text at hand: statements of the fact world, strung together."""

    def __init__(self, world: World, tokenizer: PreTrainedTokenizerBase):
        self.world, self.tokenizer = world, tokenizer

    def __next__(self) -> list[int]:
        text = " ".join(self.world.fact().fact for _ in range(200))
        return self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]  # type: ignore[return-value]

    def state_dict(self) -> dict[str, Any]:
        return {}  # the world's Random is kept by the lessons

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state:
            raise ValueError("The checkpoint was trained on documents, and there are none now; name them with --data.")


class Prose:
    """Windows of documents: `kept` pieces of documents at hand, one of which is replaced now and then.

    A piece is at most `piece` tokens long, so that a resume can store them all.
    """

    def __init__(
        self, documents: Documents | GeneratedDocuments, rng: random.Random, kept: int = 128, piece: int = 16_384
    ):
        self.documents, self.rng, self.kept, self.piece = documents, rng, kept, piece
        self.pieces: list[list[int]] = []
        while len(self.pieces) < kept:
            self.refresh()

    def refresh(self) -> None:
        """Take one document more, and cut it: a long one fills several places."""
        ids = next(self.documents)
        fresh = [ids[start : start + self.piece] for start in range(0, len(ids), self.piece)]
        for piece in self.rng.sample(fresh, min(8, len(fresh))):
            if len(self.pieces) < self.kept:
                self.pieces.append(piece)
            else:
                self.pieces[self.rng.randrange(self.kept)] = piece

    def window(self, length: int) -> list[int]:
        """`length` consecutive tokens; short documents are strung together."""
        ids: list[int] = []
        while len(ids) < length:
            piece = self.rng.choice(self.pieces)
            missing = length - len(ids)
            start = self.rng.randrange(max(1, len(piece) - missing))
            ids += piece[start : start + missing]
        return ids

    def words(self, tokenizer: PreTrainedTokenizerBase, most: int = 12_000) -> list[str]:
        """Ordinary words of these documents, sorted, as names and answers for the fact world."""
        text = " ".join(str(tokenizer.decode(piece)) for piece in self.pieces)
        return sorted(set(re.findall(r"\b[a-z]{4,9}\b", text)))[:most]


class Facts:
    """An endless stream of items. `plain`: the share said and asked in the simplest way, to begin with.

    Now and then the same subject comes again with something else, so that a name alone does not give the answer.
    Statements that open with an answer come more often: they are the hard ones, for the subject is not yet known.
    """

    def __init__(self, world: World, tokenizer: PreTrainedTokenizerBase, again: float = 0.35):
        self.world, self.tokenizer, self.again, self.plain = world, tokenizer, again, 0.0
        self._ready: list[Item] = []
        self._kinds: list[int | Relation] = []
        self.few: list[int | Relation] = []

    def __iter__(self) -> "Facts":
        return self

    def __next__(self) -> Item:
        while True:
            if not self._ready:
                self._ready = self.encode(self._draw())[::-1]
            item = self._ready.pop()
            if self.world.rng.random() < ANY_ORDER or opens_with_an_answer(item):
                return item

    def alike(self, count: int) -> list[Item]:
        """Items that differ in what they are about, not in how they are said."""
        items: list[Item] = []
        while len(items) < count:
            together, kind = self.world.rng.choice((2, 3, 4, 6)), self._kind()
            items += self.encode([one for one in alike(self.world, together, kind) if one.questions])
        self.world.rng.shuffle(items)
        return items[:count]

    @contextmanager
    def of_few_kinds(self) -> Iterator[None]:
        """Meanwhile all statements are of a few kinds, as questions among thousands of facts meet them."""
        ready, self._ready = self._ready, []
        if not self.few or self.world.rng.random() < 1 / STAY:
            self.few = [self._kind() for _ in range(self.world.rng.randint(1, FEW))]
        self._kinds = self.few
        try:
            yield
        finally:
            self._ready, self._kinds = ready, []

    def _kind(self) -> int | Relation:
        return draw_kind(self.world, self.world.rng.random() < 0.5)

    def _draw(self) -> list[Statement]:
        drawn: list[Statement] = []
        while self._kinds and len(drawn) < FACTS_AT_ONCE // 2:
            drawn += [one for one in alike(self.world, 1, self.world.rng.choice(self._kinds)) if one.questions]
        while not self._kinds and len(drawn) < FACTS_AT_ONCE:
            about = drawn[-1] if drawn and drawn[-1].subject and self.world.rng.random() < self.again else None
            plain = self.world.rng.random() < self.plain
            statement = plain_statement(self.world, about) if plain else draw(self.world, about)
            drawn += [statement] if statement.questions else []
        return drawn

    def encode(self, statements: Sequence[Statement]) -> list[Item]:
        end = [self.tokenizer.eos_token_id]
        ids = lambda texts: self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]  # noqa: E731
        pairs = [pair for statement in statements for pair in statement.questions]
        if not pairs:  # the tokenizer takes no empty list
            return []
        prompts = ids([f"Question: {question} Answer:" for question, _ in pairs])
        answers = ids([answer for _, answer in pairs])
        questions = iter([Question(prompt, ids + end) for prompt, ids in zip(prompts, answers, strict=True)])
        texts = ids([statement.text for statement in statements])
        return [
            Item(text, list(islice(questions, len(statement.questions))))
            for text, statement in zip(texts, statements, strict=True)
        ]

    def update(self) -> tuple[list[int], Item]:
        """A statement, and the item that contradicts it (the latest is what counts) or goes on from it."""
        before, after = draw_update(self.world)
        old, new = self.encode([Statement(before, ()), after])
        return old.statement, new


def opens_with_an_answer(item: Item) -> bool:
    """Does an answer begin in the statement's first third?"""
    third = max(1, len(item.statement) // 3)
    return any(place < third for question in item.questions for place in question.places(item.statement)[:1])


def plain_lists(items: list[Item]) -> list:
    return [[item.statement, [list(question) for question in item.questions]] for item in items]


def items_of(lists: list) -> list[Item]:
    return [Item(statement, [Question(*question) for question in questions]) for statement, questions in lists]

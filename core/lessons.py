"""What a small model practises on: facts, questions and prose as token ids, drawn endlessly and packed into batches.

Everything is drawn from one `random.Random`, so a seed fixes a whole training; `state_dict` keeps it over a resume.
"""

import random
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from .data import Documents
from .facts import Fact, World

FACTS_AT_ONCE = 300  # tokenised together, which is several times faster than one by one


class Item(NamedTuple):
    """A fact as token ids: what is written, the prompt that asks for it, and the answer with its end-of-text."""

    statement: list[int]
    prompt: list[int]
    answer: list[int]


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
        pass


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
    """

    def __init__(self, world: World, tokenizer: PreTrainedTokenizerBase, again: float = 0.35):
        self.world, self.tokenizer, self.again, self.plain = world, tokenizer, again, 0.0
        self._ready: list[Item] = []

    def __next__(self) -> Item:
        if not self._ready:
            self._ready = self.encode(self._draw())[::-1]
        return self._ready.pop()

    def _draw(self) -> list[Fact]:
        facts: list[Fact] = []
        while len(facts) < FACTS_AT_ONCE:
            again = bool(facts) and self.world.rng.random() < self.again
            subject = facts[-1].subject if again else None
            if self.world.rng.random() < self.plain:
                facts.append(self.world.plain_fact(subject))
            else:
                facts.append(self.world.another(facts[-1]) if again else self.world.fact())
        return facts

    def encode(self, facts: Sequence[Fact]) -> list[Item]:
        end = [self.tokenizer.eos_token_id]
        ids = lambda texts: self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]  # noqa: E731
        statements = ids([fact.fact for fact in facts])
        prompts = ids([f"Question: {fact.question} Answer:" for fact in facts])
        answers = ids([fact.answer for fact in facts])
        return [Item(*parts[:2], parts[2] + end) for parts in zip(statements, prompts, answers, strict=True)]

    def update(self) -> tuple[list[int], Item]:
        """An old statement, and the item that contradicts it: the latest is what counts."""
        old, new = self.encode(self.world.contradiction())
        return old.statement, new


class Chunks(NamedTuple):
    """ids: C chunks of n tokens for each of B memories. items[b][c]: what can be asked about that chunk."""

    ids: list[list[list[int]]]
    items: list[list[list[Item]]]


class Lessons:
    """Chunks to write and items to ask, for batches of independent memories.

    min_chunk: shorter texts are repeated up to this length, as ingestion does.
    """

    def __init__(self, facts: Facts, prose: Prose, rng: random.Random, chunk_size: int, min_chunk: int):
        self.facts, self.prose, self.rng = facts, prose, rng
        self.chunk_size, self.min_chunk = chunk_size, min_chunk
        self._by_length: dict[int, list[Item]] = {}

    def context(self, most: int) -> tuple[list[int], list[Item]]:
        """A few statements in a row, and their items in another order."""
        items = [next(self.facts) for _ in range(self.rng.randint(2, most))]
        repeated = 2 * self.min_chunk > self.chunk_size and self.rng.random() < 0.7  # as in chunks of one short fact
        ids = [token for item in items for token in (self._repeated(item.statement) if repeated else item.statement)]
        return ids, self.rng.sample(items, len(items))

    def chunk(self, length: int) -> tuple[list[int], list[Item]]:
        """Several facts, or one fact in prose, or prose alone."""
        draw = self.rng.random()
        if draw > 0.85:
            return self.prose.window(length), []
        if draw > 0.55:
            item = self._fitting(length)
            where = self.rng.randint(0, length - len(item.statement))
            around = self.prose.window(max(1, length - len(item.statement)))[: length - len(item.statement)]
            return around[:where] + item.statement + around[where:], [item]
        ids, items = [], []
        while not items or self.rng.random() > 0.15:
            item = next(self.facts)
            if len(ids) + len(item.statement) > length:
                if items:
                    break
                continue
            ids, items = ids + item.statement, [*items, item]
        around = self.prose.window(length - len(ids)) if len(ids) < length else []
        return (ids + around, items) if self.rng.random() < 0.5 else (around + ids, items)

    def alone(self, length: int) -> tuple[list[int], list[Item]] | None:
        """A fact that fills a chunk of exactly this length by itself, as a short text does when it is ingested."""
        for _ in range(40):
            if self._by_length.get(length):
                item = self._by_length[length].pop()
                return self._repeated(item.statement), [item]
            item = next(self.facts)
            waiting = self._by_length.setdefault(len(self._repeated(item.statement)), [])
            if len(waiting) < 60:
                waiting.append(item)
        return None

    def chunks(self, batch: int, count: int, length: int, updates: float = 0.0) -> Chunks:
        """count chunks for each of `batch` memories. updates: how many memories hold a contradiction."""
        # Facts that fill a long chunk by themselves are too rare to wait for, unless short ones are repeated.
        alone = length <= max(self.chunk_size * 11 // 16, 2 * self.min_chunk) and self.rng.random() < 0.7
        ids, items = [], []
        for _ in range(batch):
            drawn = [(alone and self.alone(length)) or self.chunk(length) for _ in range(count)]
            row, asked = [list(part) for part in zip(*drawn, strict=True)]
            if count > 1 and 16 * length >= 9 * self.chunk_size and self.rng.random() < updates:
                self._contradict(row, asked, length)
            ids.append(row)
            items.append(asked)
        return Chunks(ids, items)

    def _contradict(self, row: list[list[int]], asked: list[list[Item]], length: int) -> None:
        old, new = self.facts.update()
        if max(len(old), len(new.statement)) > length:
            return
        first, second = sorted(self.rng.sample(range(len(row)), 2))
        row[first], asked[first] = (old + self.prose.window(length))[:length], []
        row[second], asked[second] = (new.statement + self.prose.window(length))[:length], [new]

    def _fitting(self, length: int) -> Item:
        while len((item := next(self.facts)).statement) > length:
            pass
        return item

    def _repeated(self, ids: list[int]) -> list[int]:
        """As ingestion writes it: repeated if short; where that makes two chunks, each of them holds it once."""
        repeated = ids * -(-self.min_chunk // len(ids))
        return repeated if len(repeated) <= self.chunk_size else ids

    def state_dict(self) -> dict[str, Any]:
        """Everything that decides what comes next; plain lists and numbers."""
        return {
            "random": self.rng.getstate(),
            "plain": self.facts.plain,
            "ready": [list(item) for item in self.facts._ready],
            "by_length": {length: [list(item) for item in items] for length, items in self._by_length.items()},
            "pieces": self.prose.pieces,
            "documents": self.prose.documents.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        version, numbers, gauss = state["random"]
        self.rng.setstate((version, tuple(numbers), gauss))
        self.facts.plain = state["plain"]
        self.facts._ready = [Item(*item) for item in state["ready"]]
        self._by_length = {int(n): [Item(*item) for item in items] for n, items in state["by_length"].items()}
        self.prose.pieces = state["pieces"]
        self.prose.documents.load_state_dict(state["documents"])

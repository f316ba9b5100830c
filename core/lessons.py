"""Lessons for a small model: contexts to read and chunks to write, with the questions that they answer.

Everything is drawn from one `random.Random`, so a seed fixes a whole training; `state_dict` keeps it over a resume.
"""

import math
import random
from itertools import islice
from typing import Any, NamedTuple

from .prompts import overlapping
from .streams import Facts, Item, Prose, Question, items_of, plain_lists
from .world.relations import BY_NAME

NUM_FACTS = (1, 1, 2, 2, 3, 4, 5, 6, 8, 10)  # statements in a context
ALIKE = 0.3  # of the contexts hold statements that are said alike
WHOLE = 0.3  # of the steps have chunks of full length, where ingestion cuts texts into chunks that overlap
TEXTS = 0.35  # of these memories hold one text of several statements
PATIENCE = 40  # facts that are drawn for one of a wanted length
TWICE = 0.65  # of the other pairs of their chunks hold one long statement


class Context(NamedTuple):
    """ids: statements in a row. asked: questions about them, and where in ids their answers begin."""

    ids: list[int]
    asked: list[tuple[Question, list[int]]]


class Chunks(NamedTuple):
    """ids: C chunks of n tokens for each of B memories. items[b][c]: what can be asked about that chunk.

    earlier[b]: the chunk that what is asked goes on from or replaces, -1 where there is none.
    """

    ids: list[list[list[int]]]
    items: list[list[list[Item]]]
    earlier: list[int]


class Lessons:
    """Chunks to write and items to ask, for batches of independent memories.

    min_chunk: shorter texts are repeated up to this length, as ingestion does. kept: K, where it writes longer ones in
    chunks that overlap (`MPlusConfig.overlapped`), else 0.
    """

    def __init__(self, facts: Facts, prose: Prose, rng: random.Random, chunk_size: int, min_chunk: int, kept: int = 0):
        self.facts, self.prose, self.rng = facts, prose, rng
        self.chunk_size, self.min_chunk, self.kept = chunk_size, min_chunk, kept
        self._by_length: dict[int, list[Item]] = {}
        self.patience = PATIENCE

    def contexts(self, batch: int, questions: int) -> list[Context]:
        """As many statements in a row in each, sometimes with prose between; up to so many questions about them.

        Of contexts of one or two statements there are more than `batch`, since there is less to ask about each.
        """
        count, with_prose = self.rng.choice(NUM_FACTS), self.rng.random() < 0.3
        return [self._context(count, with_prose, questions) for _ in range(max(batch, 3 * batch // count))]

    def _context(self, count: int, with_prose: bool, questions: int) -> Context:
        gap = self.rng.randint(0, count) if with_prose else -1
        ids, asked = [], []
        alike = count > 1 and not self.facts.plain and self.rng.random() < ALIKE
        for number, item in enumerate(self.facts.alike(count) if alike else islice(self.facts, count)):
            if number == gap:
                ids = ids + self.prose.window(self.rng.randrange(10, 60))
            text = item.statement * min(2, self._times(item.statement))
            asked += [(question, [len(ids) + place for place in question.places(text)]) for question in item.questions]
            ids = ids + text
        if gap == count:
            ids = ids + self.prose.window(self.rng.randrange(10, 60))
        return Context(ids, self.rng.sample(asked, min(questions, len(asked))))

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
        for _ in range(self.patience):
            if self._by_length.get(length):
                item = self._by_length[length].pop()
                return self._repeated(item.statement), [item]
            item = next(self.facts)
            waiting = self._by_length.setdefault(len(self._repeated(item.statement)), [])
            if len(waiting) < 60:
                waiting.append(item)
        return None

    def length(self, short: bool) -> int:
        """Tokens of a step's chunks. short: as of short texts; often a whole chunk, where texts are cut to overlap."""
        least = self.min_chunk if short else self.chunk_size // 2 + 1
        whole = self.kept and self.rng.random() < WHOLE
        return self.chunk_size if whole else self.rng.randint(least, self.chunk_size)

    def chunks_alike(self, batch: int, count: int, length: int) -> Chunks:
        """As `chunks`, but of all memories the statements are of the same few kinds, so that they are hard to find."""
        usual = self._by_length, self.kept, self.patience
        self._by_length, self.kept, self.patience = {}, 0, PATIENCE // 8
        try:
            with self.facts.of_few_kinds():
                return self.chunks(batch, count, length)
        finally:
            self._by_length, self.kept, self.patience = usual

    def chunks(self, batch: int, count: int, length: int, updates: float = 0.0, alike: float = 0.0) -> Chunks:
        """count chunks for each of `batch` memories. updates: how many memories hold a contradiction. alike: how often
        these are `chunks_alike`."""
        if alike and self.rng.random() < alike:
            return self.chunks_alike(batch, count, length)
        # Facts that fill a long chunk by themselves are too rare to wait for, unless short ones are repeated.
        alone = length <= max(self.chunk_size * 11 // 16, 2 * self.min_chunk) and self.rng.random() < 0.85
        overlap = self.kept and length == self.chunk_size and count > 1
        ids, items, earlier = [], [], []
        for _ in range(batch):
            pairs: list[tuple[list[int], list[Item]]] = []
            if overlap and self.rng.random() < TEXTS:
                pairs = self.text(count)
            while len(pairs) < count:
                if overlap and len(pairs) + 2 <= count and self.rng.random() < TWICE:
                    pairs += self.twice()
                else:
                    pairs.append((alone and self.alone(length)) or self.chunk(length))
            row, asked = [chunk for chunk, _ in pairs], [known for _, known in pairs]
            contradicts = count > 1 and 16 * length >= 11 * self.chunk_size and self.rng.random() < updates
            earlier.append(self._contradict(row, asked, length) if contradicts else -1)
            ids.append(row)
            items.append(asked)
        return Chunks(ids, items, earlier)

    def text(self, count: int) -> list[tuple[list[int], list[Item]]]:
        """Statements in a row, in so many chunks that overlap."""
        ids: list[int] = []
        placed: list[tuple[int, Item]] = []
        while len(ids) < count * self.kept:
            item = next(self.facts)
            placed.append((self.kept + len(ids), item))
            ids = ids + item.statement
        ids = ids[: count * self.kept]
        return self._overlapping(ids[: self.kept] + ids, len(ids), placed)

    def twice(self) -> list[tuple[list[int], list[Item]]]:
        """A statement longer than a block but no longer than a chunk, written twice over in two chunks that overlap."""
        while not self.kept < len((item := next(self.facts)).statement) <= self.chunk_size:
            pass
        length = len(item.statement)
        return self._overlapping(item.statement * 2, length, [(length, item)])

    def _overlapping(self, ids: list[int], kept: int, placed: list[tuple[int, Item]]) -> list:
        """Chunks, each with questions whose answers it holds and keeps the end of. placed: where statements begin."""
        bounds = overlapping(len(ids), kept, self.chunk_size, self.kept)
        items: list[list[Item]] = [[] for _ in bounds]
        for begin, item in placed:
            asked: list[list[Question]] = [[] for _ in bounds]
            for question in item.questions:
                first = next((place for place in question.places(ids) if place >= begin), -1)
                last = first + len(question.answer) - 1  # an end-of-text follows the answer
                holds = [start <= first and end - self.kept < last <= end for start, end in bounds]
                if any(holds):
                    asked[holds.index(True)].append(question)
            for chunk, questions in zip(items, asked, strict=True):
                chunk += [Item(item.statement, questions)] if questions else []
        return [(ids[start:end], known) for (start, end), known in zip(bounds, items, strict=True)]

    def ages(self, count: int, farthest: int) -> list[int]:
        """Different ages in writes, log-uniform, oldest first."""
        ages: set[int] = set()
        while len(ages) < count:
            ages.add(int(math.exp(self.rng.random() * math.log(farthest))) - 1)
        return sorted(ages, reverse=True)

    def gaps(self, count: int, most: int) -> list[int]:
        """Positions that questions stand farther away than they need to: up to `most` for three of four."""
        return [self.rng.randrange(most) if most and self.rng.random() < 0.75 else 0 for _ in range(count)]

    def _contradict(self, row: list[list[int]], asked: list[list[Item]], length: int) -> int:
        """Put a fact into the row and, later, what replaces it or goes on from it; returns the earlier chunk, or -1."""
        old, new = self.facts.update()
        if max(len(old), len(new.statement)) > length:
            return -1
        first, second = sorted(self.rng.sample(range(len(row)), 2))
        row[first], row[second] = self._ending_in(old, length), self._ending_in(new.statement, length)
        # Nothing else is asked of this memory: else one question in thirty would be about changes.
        asked[:] = [[new] if number == second else [] for number in range(len(row))]
        return first

    def _ending_in(self, ids: list[int], length: int) -> list[int]:
        """A chunk whose last tokens, those that stay, are these, as often as ingestion would write them."""
        return (self.prose.window(length) + self._repeated(ids))[-length:]

    def _fitting(self, length: int) -> Item:
        while len((item := next(self.facts)).statement) > length:
            pass
        return item

    def _times(self, ids: list[int]) -> int:
        """How often ingestion writes a text that is short enough for one chunk then; else once."""
        times = -(-self.min_chunk // len(ids))
        return times if times * len(ids) <= self.chunk_size else 1

    def _repeated(self, ids: list[int]) -> list[int]:
        return ids * self._times(ids)

    def state_dict(self) -> dict[str, Any]:
        """Everything that decides what comes next; plain lists and numbers."""
        return {
            "random": self.rng.getstate(),
            "plain": self.facts.plain,
            "ready": plain_lists(self.facts._ready),
            "few": [kind if isinstance(kind, int) else kind.name for kind in self.facts.few],
            "by_length": {length: plain_lists(items) for length, items in self._by_length.items()},
            "pieces": self.prose.pieces,
            "documents": self.prose.documents.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        version, numbers, gauss = state["random"]
        self.rng.setstate((version, tuple(numbers), gauss))
        self.facts.plain = state["plain"]
        self.facts._ready = items_of(state["ready"])
        self.facts.few = [kind if isinstance(kind, int) else BY_NAME[kind] for kind in state["few"]]
        self._by_length = {int(n): items_of(items) for n, items in state["by_length"].items()}
        self.prose.pieces = state["pieces"]
        self.prose.documents.load_state_dict(state["documents"])

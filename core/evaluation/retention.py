"""Knowledge retention (paper §4.4): a fact is written, then other text up to a distance, then the fact is asked for.

Every item starts from a complete reset, has random drops of its own and, as distractors, a stretch of its own of one
long text, which goes round when it ends. Items are replayed side by side (`core.replay`): the long text is written
once, and what follows a fact is written behind that fact for `lead` chunks before the item joins it. `gap` reports how
far the blocks at the join differ; with `lead` above the distance every block is the item's own. Readers without a
replay (the text baselines, the released rules) go through `core.evaluation.singly`.
"""

import random
import warnings
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ..bank import LANES, Bank, write_circle, write_openings
from ..model import MPlusForCausalLM
from ..prompts import cut, encode_question
from ..replay import READINGS, Reading, Replay
from ..replay_cache import ReplayCache, Storage, ask
from ..world import Fact
from .bm25_recall import PassageRanks
from .items import Item, Plan, num_before
from .metrics import exact_hit, first_line
from .records import Journal, Row
from .tokens import answer_ends, pad

REPLAYED = (*READINGS, "question-only")
TIMELESS = ("question-only",)  # the same at every distance
KEYS = ("seed", "live", "item", "method", "distance")
LARGEST_REPLAY = 2**29
"""Bytes the table of drops of one batch may take; longer distances make smaller batches."""

Progress = Callable[[int], object]
"""Called with the number of answers just given."""


class Retention:
    """The run of one seed: the text is written once, then batches of items are replayed and asked."""

    def __init__(
        self, model: MPlusForCausalLM, tokenizer: PreTrainedTokenizerBase, stream: list[int], plan: Plan, seed: int
    ):
        self.model, self.tokenizer, self.plan, self.seed = model, tokenizer, plan, seed
        self.size = model.config.chunk_size if isinstance(model, MPlusForCausalLM) else 512
        self.steps = {distance: -(-distance // self.size) for distance in plan.distances}
        count = max(1, len(stream) // self.size)
        longest = max(self.steps.values())
        count = min(count, max(longest + 1024, 4096)) if longest else count  # no need to write a whole library
        self.chunks = torch.tensor((stream * (1 + self.size // len(stream)))[: count * self.size])
        self.chunks = self.chunks.view(-1, self.size)
        self.gap = 0.0
        self.storage, self.ended = Storage(), answer_ends(tokenizer, model)
        self._chunks: dict[str, list[list[int]]] = {}

    def prepare(
        self, items: Sequence[Item], on_step: Callable[[int, int], None] | None = None, other: "Retention | None" = None
    ) -> None:
        """Write the circle of text, unless every block will be the items' own, or `other` has written the same."""
        config, longest = self.model.config, max(self.steps.values())
        self.longest = longest
        own = self.batch_size * (max(map(self._opening_length, items)) + 3 * min(self.plan.lead, longest))
        if other is None or other.circle is None or not torch.equal(other.chunks, self.chunks):
            joins = longest > self.plan.lead
            self.bank = Bank(self.model, config.num_blocks + own + (len(self.chunks) + LANES if joins else 0))
            self.initial = self.bank.add_initial()
            self.circle = write_circle(self.model, self.chunks, self.bank, on_step=on_step) if joins else None
        else:
            self.bank, self.initial, self.circle, self.storage = other.bank, other.initial, other.circle, other.storage
            self.bank.enlarge(self.bank.size + own)
        facts = [fact for item in items for fact in item.facts]
        self.ranks = PassageRanks(self.tokenizer, self.chunks, facts) if "mplus" in self.plan.methods else None

    def _answer_length(self, item: Item) -> int:
        return len(self.tokenizer(item.facts[item.asked[0]].answer, add_special_tokens=False)["input_ids"])

    def _opening_length(self, item: Item) -> int:
        return sum(len(self._fact_chunks(fact)) for fact in item.facts)

    def _fact_chunks(self, fact: Fact) -> list[list[int]]:
        if fact.fact not in self._chunks:
            with warnings.catch_warnings(action="ignore"):  # short facts are written repeatedly, as in `ingest`
                pieces = cut(fact.fact, self.tokenizer, self.model.config)
            self._chunks[fact.fact] = [pieces.ids[start:end] for start, end in pieces.bounds]
        return self._chunks[fact.fact]

    @property
    def batch_size(self) -> int:
        config = self.model.config
        tokens = config.pool_size + (max(self.steps.values()) + 2 * self.plan.live) * config.block_size
        return max(1, min(self.plan.batch, LARGEST_REPLAY // (4 * config.num_hidden_layers * tokens)))

    def batches(self, items: Sequence[Item]) -> Iterator[list[Item]]:
        """Items whose facts take equally many chunks, in batches that do not depend on what has been answered.

        In an order drawn at random: a run that is cut short has not answered the shortest facts alone.
        """
        groups: dict[int, list[Item]] = {}
        for item in items:
            groups.setdefault(self._opening_length(item), []).append(item)
        batches = []
        for _, group in sorted(groups.items()):
            group.sort(key=self._answer_length, reverse=True)  # answers side by side should end at about the same time
            batches += [group[start : start + self.batch_size] for start in range(0, len(group), self.batch_size)]
        yield from random.Random(self.seed).sample(batches, len(batches))

    def answer(self, batch: Sequence[Item], journal: Journal, progress: Progress) -> None:
        """Ask one batch at every distance by every method, unless the journal has all of it."""
        base = self.bank.size
        replay, opening, alone = None, self._opening_length(batch[0]), {}
        growing = self.plan.position == "begin"  # one memory that grows from distance to distance
        for distance, step in self.steps.items():
            replay = replay if growing else None
            self.bank.size = self.bank.size if growing else base
            for method in self.plan.methods:
                keys = [
                    (self.seed, self.plan.live, f"{item.number}.{which}", method, distance)
                    for item in batch
                    for which in item.asked
                ]
                if all(key in journal for key in keys):
                    progress(len(keys))
                    continue
                replay = replay or self._replay(batch, self.longest if growing else step)
                if method in TIMELESS:
                    if method not in alone:
                        alone[method] = list(self._ask(replay, batch, method, distance, opening, step))
                    journal.add(row | {"distance": distance} for row in alone[method])
                else:
                    journal.add(self._ask(replay, batch, method, distance, opening, step))
                progress(len(keys))
        self.bank.size = base

    def _replay(self, batch: Sequence[Item], total: int) -> Replay:
        """Memories of a batch that read their facts and `total` chunks of text, in their places."""
        self.offsets = [self.offset(item) for item in batch]
        self.before = [num_before(item, total, self.plan, self.seed) for item in batch]
        lead, around = self.plan.lead, dict[tuple[int, int], list[int]]()
        for place, before in enumerate(self.before):
            around.setdefault((min(before, lead), min(total - before, lead)), []).append(place)
        numbers: list[Tensor] = [self.initial] * len(batch)
        late = [place for place, before in enumerate(self.before) if before > lead]
        texts = [self._text(place, 0, lead) for place in late]  # a memory that starts to read differs from the circle
        starts = dict(zip(late, write_openings(self.model, texts, self.bank)[0], strict=True)) if late else {}
        for (pre, post), places in around.items():
            own, _ = write_openings(self.model, [self._opening(batch[p], p, pre, post) for p in places], self.bank)
            for place, mine in zip(places, own, strict=True):
                before, joined = self.before[place], self.before[place] + post
                first = torch.cat([starts[place], self._shared(place, lead, before)]) if place in starts else mine[:pre]
                numbers[place] = torch.cat([self.initial, first, mine[pre:], self._shared(place, joined, total)])
                if joined < total:
                    self._measure_gap(mine[-1], self._shared(place, joined - 1, joined))
        generator = torch.Generator().manual_seed(self._random(batch[0], "drops").randrange(2**62))
        return Replay(self.model, self.bank, torch.stack(numbers), generator)

    def _opening(self, item: Item, place: int, pre: int, post: int) -> list[list[int]]:
        """The item's facts with so many chunks of its text before and after them."""
        middle = self.before[place]
        facts = [chunk for fact in item.facts for chunk in self._fact_chunks(fact)]
        return self._text(place, middle - pre, middle) + facts + self._text(place, middle, middle + post)

    def _text(self, place: int, first: int, last: int) -> list[list[int]]:
        """Chunks first … last of the text that this memory reads."""
        return self.chunks[(self.offsets[place] + torch.arange(first, last)) % len(self.chunks)].tolist()

    def _shared(self, place: int, first: int, last: int) -> Tensor:
        """Their blocks, as they were written for all."""
        if first >= last or self.circle is None:
            return torch.zeros(0, dtype=torch.int64)
        return self.circle[(self.offsets[place] + torch.arange(first, last)) % len(self.chunks)]

    def offset(self, item: Item) -> int:
        """The chunk of text that follows this item's facts."""
        return self._random(item, "offset").randrange(len(self.chunks))

    def _random(self, item: Item, what: str) -> random.Random:
        return random.Random(f"{what} {self.seed} {self.plan.live} {item.number}")

    def _measure_gap(self, own: Tensor, shared: Tensor) -> None:
        first, second = self.bank.tokens[:, own].float(), self.bank.tokens[:, shared].float().squeeze(1)
        self.gap = max(self.gap, float((first - second).norm() / second.norm()))

    def _ask(self, replay: Replay, batch: Sequence[Item], method: str, distance: int, opening: int, step: int):
        asked = [(place, item, which) for place, item in enumerate(batch) for which in item.asked]
        for start in range(0, len(asked), self.plan.batch):
            part = asked[start : start + self.plan.batch]
            writes = 0 if method in TIMELESS else opening + step
            reading = READINGS.get(method, Reading(retrieve=False))
            if reading.foreign and len(batch) == 1:  # no other memory is at hand: this one before it was told anything
                writes = self.before[0]
            ids, mask = pad([self._prompt(item.facts[which]) for _, item, which in part], self.tokenizer)
            cache = ReplayCache(
                replay, [place for place, _, _ in part], writes, mask, reading, self.seed,
                self.storage, self.plan.max_new_tokens,
            )  # fmt: skip
            new = ask(cache, ids.to(self.model.device), self.plan.max_new_tokens, self.ended)
            texts = self.tokenizer.batch_decode(new, skip_special_tokens=True)
            for index, ((place, item, which), text) in enumerate(zip(part, texts, strict=True)):
                fact, given = item.facts[which], first_line(text)
                yield {
                    "seed": self.seed, "live": self.plan.live, "item": f"{item.number}.{which}", "method": method,
                    "distance": distance, "score": int(exact_hit(given, fact.answer)), "text": given,
                    "answer": fact.answer, **self._recall(cache, index, place, item, which, step),
                }  # fmt: skip

    def _prompt(self, fact: Fact) -> list[int]:
        return encode_question(fact.question, self.tokenizer, self.model.config)

    def _recall(self, cache: ReplayCache, index: int, place: int, item: Item, which: int, step: int) -> Row:
        """Per layer, the share of the fact's tokens in Θ that were retrieved (None: none is there); M+ alone."""
        if not cache.found[0] or cache.reading != Reading():
            return {}
        config, replay = self.model.config, cache.replay
        before = self.before[place] + sum(len(self._fact_chunks(fact)) for fact in item.facts[:which])
        first = config.pool_size + before * config.block_size
        last = first + len(self._fact_chunks(item.facts[which])) * config.block_size
        recall: list[float | None] = []
        sizes = []
        for layer, found in enumerate(cache.found):
            inside = replay.long_term(place, layer, cache.writes)
            true = int(inside[first:last].sum())
            hits = int(((found[index] >= first) & (found[index] < last)).sum())
            recall.append(hits / true if true else None)
            sizes.append(int(inside.sum()))
        row: Row = {"recall": recall, "chance": cache.num_retrieved / max(1, sizes[0])}
        if self.ranks:
            passages = config.num_retrieved // config.block_size
            row["bm25"] = self.ranks.found(item.facts, which, self.offsets[place], step, passages)
        return row

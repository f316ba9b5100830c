"""One step of a small model's training: draw a task of the lesson, make its batch, and return loss and figures.

A module, so that data-parallel wrappers see the forward pass. What it carries from step to step besides weights, and
what a resume needs, is its `progress`.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from .curriculum import Lesson, Task
from .lessons import Item, Lessons
from .lexical_start import start_retrievers
from .model import MPlusForCausalLM
from .objectives import Outcome, PastBlocks, identity_loss, predict, projected, surround, write_chunks
from .packing import Packed, Passage, pack
from .retrieval_lesson import TaughtPrefix

RETRIEVER_WEIGHT, RETRIEVER_STEPS = 0.5, 0.5  # of the retriever's loss, and on which share of the steps it counts
IDENTITY_WEIGHT = 0.5  # of the loss that keeps in memory what its tokens stand for
RIVALS = 128  # blocks of earlier steps that the right block is told apart from, besides those of the batch
FARTHEST = 600  # writes; ages are drawn log-uniformly up to here
REPEAT = "Repeat:"
BANDS = (("near", 5), ("mid", 25), ("far", 90), ("very_far", 10**9))


class Practice(nn.Module):
    """Holds the model; `forward(lesson, figures)` is one step. All chance comes from the lessons' Random and `seed`."""

    def __init__(
        self, model: MPlusForCausalLM, lessons: Lessons, seed: int, repeat: list[int], keep: int = 2048, crowd: int = 32
    ):
        """repeat: the tokens that ask for a whole chunk. keep: past blocks. crowd: memories written in warming up."""
        super().__init__()
        self.crowd = crowd
        self.model, self.lessons, self.rng, self.repeat = model, lessons, lessons.rng, repeat
        self.generator = torch.Generator().manual_seed(seed)
        self.past = PastBlocks(keep)
        self.tokens = 0
        self.retriever_started = False
        self.often: Tensor | None = None

    def prepare(self, lesson: Lesson) -> None:
        """Before a lesson's first step: the retriever gets its start when it is first needed."""
        if not self.retriever_started and any(task.long_term for task in lesson.tasks):
            start_retrievers(self.model, self.lessons, self._newest(self.crowd, 1))
            self.retriever_started = True

    def forward(self, lesson: Lesson, figures: dict[str, float]) -> tuple[Tensor, dict[str, float]]:
        """`figures` are the running ones: they decide how plain the facts are."""
        self.lessons.facts.plain = lesson.plain_share(figures)
        task = self.rng.choices(lesson.tasks, [task.share for task in lesson.tasks])[0]
        return getattr(self, task.kind)(task)

    # ── the four kinds of steps ──

    def context(self, task: Task) -> tuple[Tensor, dict[str, float]]:
        """Facts in the row itself; their own tokens are predicted too, lightly."""
        drawn = [self.lessons.context(5) for _ in range(task.batch)]
        rows = [[asked(item) for item in items] for _, items in drawn]
        packed = self._packed(rows, [Passage(ids, 1, 0.05) for ids, _ in drawn])
        outcome = predict(self.model, packed)
        return outcome.loss, {"context": mean(self._hits(packed, outcome, rows))}

    def blocks(self, task: Task) -> tuple[Tensor, dict[str, float]]:
        """Facts in freshly written blocks, and nothing else in memory; whole chunks are asked back as well."""
        count = self.rng.choice(task.chunks)
        ids, items = self._chunks(task, count)
        written = write_chunks(self.model, ids, self._newest(task.batch, (count + 1) // 2))
        self.past.add(written[:, :, :2])
        rows = []
        for chunk, memory in zip(ids[:, -1].tolist(), items, strict=True):
            known = [item for part in memory for item in part]
            row = [asked(item, 2.0) for item in self.rng.sample(known, min(task.questions, len(known)))]
            if not row or self.rng.random() < task.repeat:
                row.append(Passage(self.repeat + chunk, len(self.repeat), 0.5))
            rows.append(row)
        packed = self._packed(rows)
        outcome = predict(self.model, packed, lambda layer, _: written[layer].flatten(1, 2), count * written.shape[3])
        answers = [[passage.weight > 1 for passage in row] for row in rows]
        kept, figures = self._identity(written, ids)
        return outcome.loss + kept, figures | {"blocks": mean(self._hits(packed, outcome, rows, answers))}

    def memory(self, task: Task, retriever_alone: bool = False) -> tuple[Tensor, dict[str, float]]:
        """Facts in a memory that has read much else before and since."""
        count = self.rng.choice(task.chunks)
        ids, items = self._chunks(task, count, updates=0.12)
        written = write_chunks(self.model, ids, self._newest(task.batch, (count + 1) // 2))
        size = self.rng.choice(task.num_blocks)
        ages = [self._ages(count, FARTHEST if self.rng.random() < task.far else max(8, 2 * size)) for _ in ids]
        rows, sources = [], torch.full((task.batch, task.questions), -1)
        for index, memory in enumerate(items):
            known = [(chunk, item) for chunk, part in enumerate(memory) for item in part]
            chosen = self.rng.sample(known, min(task.questions, len(known)))
            sources[index, : len(chosen)] = torch.tensor([chunk for chunk, _ in chosen], dtype=torch.int64)
            rows.append([asked(item) for _, item in chosen] or [Passage(self.lessons.prose.window(8), 7, 0.0)])
        outcome, packed, figures, extra = self._read(task, written, ages, size, rows, sources, self._prompts(rows))
        hits = self._hits(packed, outcome, rows)
        kept, identity = self._identity(written, ids)
        loss = extra if retriever_alone else outcome.loss + extra + kept
        old = [ages[b][sources[b, q]] for b, row in enumerate(rows) for q in range(len(row)) if sources[b, q] >= 0]
        hits = [hit for hit, (b, q) in zip(hits, places(rows), strict=True) if sources[b, q] >= 0]
        lower = 0
        for name, upper in BANDS:
            band = [hit for hit, age in zip(hits, old, strict=True) if lower <= age < upper]
            figures |= {name: mean(band)} if band else {}
            lower = upper
        return loss, figures | identity | ({"memory": mean(hits)} if hits else {})

    def retriever(self, task: Task) -> tuple[Tensor, dict[str, float]]:
        """As `memory`, but only the retriever learns: the rest is run without a gradient, which is much faster."""
        with torch.no_grad():
            return self.memory(task, retriever_alone=True)

    def prose(self, task: Task) -> tuple[Tensor, dict[str, float]]:
        """Consecutive chunks of a document are written, with the gradient through all; what follows is predicted."""
        count, length = self.rng.choice(task.chunks), self.lessons.chunk_size
        texts = [self.lessons.prose.window(count * length + 80) for _ in range(task.batch)]
        self.lessons.prose.refresh()
        ids = torch.tensor([text[: count * length] for text in texts]).view(task.batch, count, length)
        self.tokens += ids.numel()
        written = write_chunks(self.model, ids.to(self._device), self._newest(task.batch, 1), pairs=False)
        rows = [[Passage(text[count * length :])] for text in texts]
        prompts = [[self.rng.randrange(4, len(row[0].ids))] for row in rows]
        ages = [list(range(count - 1, -1, -1)) for _ in rows]
        nothing = torch.full((task.batch, 1), -1)
        size = self.rng.choice(task.num_blocks)
        outcome, *_ = self._read(task, written, ages, size, rows, nothing, prompts)
        return outcome.loss, {"prose_loss": outcome.loss.item()}

    # ── what they share ──

    def _read(self, task, written, ages, size, rows, sources, prompts):
        """Behind θ and what Θ gives: (outcome, packed rows, the retriever's figures, its part of the loss)."""
        past = self.past.blocks
        around = surround(written, past, ages, size, self.generator)
        packed = self._packed(rows)
        config, none = self.model.config, torch.zeros((), device=self._device)
        if task.long_term:
            rivals = torch.randint(past.shape[1], (RIVALS,), generator=self.generator).to(self._device)
            prefix = TaughtPrefix(
                self.model, around, written, past[:, rivals], torch.tensor(ages), packed.prompt_mask(prompts),
                sources[:, : max(map(len, rows))], config.num_retrieved // config.block_size, 0.7, self.generator,
            )  # fmt: skip
            outcome = predict(self.model, packed, prefix, prefix.num_memory)
            figures = {f"found_{layer}": found for layer, found in enumerate(prefix.found)}
            counts = task.kind == "retriever" or self.rng.random() < RETRIEVER_STEPS
            with torch.enable_grad():
                extra = RETRIEVER_WEIGHT * prefix.loss if counts else none
        else:
            theta = lambda layer, _: [projected(self.model, layer, around.pool[layer])]  # noqa: E731
            outcome, figures, extra = predict(self.model, packed, theta, around.pool.shape[2]), {}, none
        self.past.add(written[:, :, self.rng.randrange(written.shape[2]) :])
        return outcome, packed, figures, extra

    def _identity(self, written: Tensor, ids: Tensor) -> tuple[Tensor, dict[str, float]]:
        if self.often is None:  # frequent tokens are mostly left out
            tokens = torch.tensor([token for piece in self.lessons.prose.pieces for token in piece])
            share = tokens.bincount(minlength=self.model.config.vocab_size) / len(tokens)
            self.often = (1e-3 / (share + 1e-6)).sqrt().clamp(max=1.0).to(self._device)
        loss, right = identity_loss(self.model, written, ids, self.often, self.generator)
        return IDENTITY_WEIGHT * loss, {f"kept_{layer}": share for layer, share in enumerate(right, start=1)}

    def _chunks(self, task: Task, count: int, updates: float = 0.0) -> tuple[Tensor, list[list[list[Item]]]]:
        least, longest = self.lessons.min_chunk, self.lessons.chunk_size
        middle = max(longest * 11 // 16, (least + longest) // 2)
        short = self.rng.random() < task.short
        length = self.rng.randint(*((least, middle) if short else (longest // 2 + 1, longest)))
        chunks = self.lessons.chunks(task.batch, count, length, updates)
        ids = torch.tensor(chunks.ids).to(self._device)
        self.tokens += ids.numel()
        return ids, chunks.items

    def _newest(self, batch: int, count: int) -> Tensor:
        """What the first chunks are written behind: blocks of earlier steps, to begin with of prose."""
        size = self.model.config.block_size
        if not len(self.past):
            pool: Tensor = self.model.memory.pool  # type: ignore[assignment]
            newest = pool[:, None, None, -size:]
            with torch.no_grad():
                for _ in range(8):
                    text = [self.lessons.prose.window(2 * self.lessons.chunk_size) for _ in range(self.crowd)]
                    ids = torch.tensor(text).view(self.crowd, 2, -1).to(self._device)
                    newest = newest.expand(-1, self.crowd, 1, -1, -1)
                    self.past.add(write_chunks(self.model, ids, newest))
                    newest = self.past.pick(self.crowd, 1, self.generator)
        return self.past.pick(batch, count, self.generator)

    def _ages(self, count: int, farthest: int) -> list[int]:
        """Different ages in writes, log-uniform, oldest first."""
        ages: set[int] = set()
        while len(ages) < count:
            ages.add(int(math.exp(self.rng.random() * math.log(farthest))) - 1)
        return sorted(ages, reverse=True)

    def _packed(self, rows: list[list[Passage]], contexts: list[Passage] | None = None) -> Packed:
        packed = pack(rows, contexts, self.model.config.pad_token_id or 0).to(self._device)
        self.tokens += packed.ids.numel()
        return packed

    def _prompts(self, rows: list[list[Passage]]) -> list[list[int]]:
        return [[passage.start for passage in row] for row in rows]

    def _hits(self, packed: Packed, outcome: Outcome, rows, chosen: list[list[bool]] | None = None) -> list[bool]:
        right = packed.all_right(outcome.right).tolist()
        return [right[b][q] for b, q in places(rows) if chosen is None or chosen[b][q]]

    @property
    def _device(self) -> torch.device:
        return self.model.memory.new.device

    @property
    def progress(self) -> dict[str, Any]:
        return {
            "lessons": self.lessons.state_dict(),
            "generator": self.generator.get_state(),
            "past": self.past.state_dict(),
            "tokens": self.tokens,
            "retriever_started": self.retriever_started,
            "often": self.often,
        }

    def load_progress(self, state: dict[str, Any], lesson: Lesson | None) -> None:
        self.lessons.load_state_dict(state["lessons"])
        self.generator.set_state(state["generator"])
        self.past.load_state_dict(state["past"], self._device)
        self.tokens, self.retriever_started = state["tokens"], state["retriever_started"]
        self.often = None if state["often"] is None else state["often"].to(self._device)


def asked(item: Item, weight: float = 1.0) -> Passage:
    """A question with its answer, of which only the answer is to be predicted."""
    return Passage(item.prompt + item.answer, len(item.prompt), weight)


def places(rows: list[list[Passage]]) -> list[tuple[int, int]]:
    return [(index, number) for index, row in enumerate(rows) for number in range(len(row))]


def mean(hits: list[bool]) -> float:
    return sum(hits) / max(1, len(hits))

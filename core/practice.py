"""One step of a small model's training: draw a task of the lesson, make its batch, and return loss and figures.

A module, so that data-parallel wrappers see the forward pass. What it carries from step to step besides weights, and
what a resume needs, is its `progress`.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .context_lesson import learn_in_context
from .curriculum import Lesson, Task
from .lessons import Lessons
from .model import MPlusForCausalLM
from .objectives import Outcome, identity_loss, predict, projected, surround, write_chunks
from .packing import Packed, Passage, pack
from .past import Past
from .pointing import attention_of, pointer_loss, to_written
from .refit import refit_retrievers
from .retrieval_lesson import TaughtPrefix
from .streams import Item

RETRIEVER_WEIGHT = 0.5  # of the retriever's loss
IDENTITY_WEIGHT = 0.15  # of the loss that keeps in memory what its tokens stand for
LANGUAGE = 0.1  # on which share of the steps in context the contexts are predicted too
FARTHEST = 600  # writes; ages are drawn log-uniformly up to here
APART = 0.5  # how often other texts were written between the chunks of a document that is read from Θ
REPEAT = "Repeat:"
BANDS = (("near", 0, 5), ("mid", 5, 25), ("far", 25, 90), ("very_far", 90, 10**9))  # ages in writes


class Practice(nn.Module):
    """Holds the model; `forward(lesson)` is one step. All chance comes from the lessons' Random and `seed`."""

    def __init__(
        self, model: MPlusForCausalLM, lessons: Lessons, seed: int, repeat: list[int], keep: int = 2048, crowd: int = 32
    ):
        """repeat: the tokens that ask for a whole chunk. keep: past blocks. crowd: memories written in warming up."""
        super().__init__()
        self.model, self.lessons, self.rng, self.repeat = model, lessons, lessons.rng, repeat
        self.generator = torch.Generator().manual_seed(seed)
        self.past = Past(model, lessons, self.generator, keep, crowd)
        self.tokens = 0
        self.retriever_started = False
        self.often: Tensor | None = None

    def prepare(self, lesson: Lesson) -> None:
        """Before a lesson's first step: the retriever gets its start when it is first needed."""
        if not self.retriever_started and any(task.long_term for task in lesson.tasks):
            refit_retrievers(self.model, self.lessons, self.generator, lesson.refit, 24 * self.past.crowd)
            self.retriever_started = True

    def forward(self, lesson: Lesson) -> tuple[Tensor, dict[str, float]]:
        """One step: the loss, and figures."""
        self.lessons.facts.plain, self.lessons.facts.world.by_hand = lesson.plain, lesson.by_hand
        task = self.rng.choices(lesson.tasks, [task.share for task in lesson.tasks])[0]
        return getattr(self, task.kind)(task)

    # ── the kinds of steps ──

    def context(self, task: Task) -> tuple[Tensor, dict[str, float]]:
        """Facts in the row itself; now and then their own tokens are predicted too, lightly."""
        contexts = self.lessons.contexts(task.batch, task.questions)
        gaps = self.lessons.gaps(sum(len(context.asked) for context in contexts), task.gap)
        read = learn_in_context(self.model, contexts, task.pointer, self.rng.random() < LANGUAGE, gaps)
        self.tokens += read.num_tokens
        pointed = {} if read.mass is None else {"context_pointed": read.mass}
        return read.loss, {"context": mean(read.right)} | pointed

    def blocks(self, task: Task) -> tuple[Tensor, dict[str, float]]:
        """Facts in freshly written blocks, and nothing else in memory; whole chunks are asked back as well."""
        count = self.rng.choice(task.chunks)
        ids, items, _ = self._chunks(task, count)
        written = write_chunks(self.model, ids, self.past.newest(task.batch, (count + 1) // 2))
        self.past.add(written[:, :, :2])
        rows, sources = self._questions(items, task.questions, 2.0)
        for chunk, row, answered in zip(ids[:, -1].tolist(), rows, sources, strict=True):
            if not row or self.rng.random() < task.repeat:
                row.append(Passage(self.repeat + chunk, len(self.repeat), 0.5))
                answered.append(-1)
        packed, size = self._packed(rows, task.gap), written.shape[3]
        with attention_of(self.model, task.pointer > 0) as weights:
            layers = written.flatten(2, 3).unbind()
            outcome = predict(self.model, packed, lambda layer, _: layers[layer], count * size)
        held = torch.arange(task.batch * count * size, device=ids.device).view(task.batch, -1)
        pointer, pointed = self._pointer(task, weights, lambda _: held, rows, sources, ids)
        answers = [[passage.weight > 1 for passage in row] for row in rows]
        kept, figures = self._identity(written, ids)
        hits = self._hits(packed, outcome, rows, answers)
        return outcome.loss + pointer + kept, figures | pointed | {"blocks": mean(hits)}

    def memory(self, task: Task, retriever_alone: bool = False) -> tuple[Tensor, dict[str, float]]:
        """Facts in a memory that has read much else before and since."""
        count = self.rng.choice(task.chunks)
        ids, items, earlier = self._chunks(task, count, task.updates)
        written = write_chunks(self.model, ids, self.past.newest(task.batch, (count + 1) // 2))
        size = self.rng.choice(task.num_blocks)
        ages = [self.lessons.ages(count, FARTHEST if self.rng.random() < task.far else max(8, 2 * size)) for _ in ids]
        # A question alone brings all that comes back; several of one memory share it.
        rows, answered = self._questions(items, self.rng.randint(1, task.questions))
        sources = torch.full((task.batch, task.questions), -1)
        for index, row in enumerate(rows):
            sources[index, : len(row)] = torch.tensor(answered[index], dtype=torch.int64)
            rows[index] = row or [Passage(self.lessons.prose.window(8), 7, 0.0)]
        with attention_of(self.model, task.pointer > 0 and not retriever_alone) as weights:
            outcome, packed, found, extra, held = self._read(task, written, ages, size, rows, sources, earlier)
        pointer, pointed = self._pointer(task, weights, held, rows, answered, ids)
        hits = self._hits(packed, outcome, rows)
        kept, identity = self._identity(written, ids)
        loss = extra if retriever_alone else outcome.loss + extra + pointer + kept
        old = [ages[b][sources[b, q]] for b, q in places(rows) if sources[b, q] >= 0]
        hits = [hit for hit, (b, q) in zip(hits, places(rows), strict=True) if sources[b, q] >= 0]
        for name, lower, upper in BANDS:
            band = [hit for hit, age in zip(hits, old, strict=True) if lower <= age < upper]
            found |= {name: mean(band)} if band else {}
        return loss, found | identity | pointed | ({"memory": mean(hits)} if hits else {})

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
        written = write_chunks(self.model, ids.to(self._device), self.past.newest(task.batch, 1), pairs=False)
        rows = [[Passage(text[count * length :])] for text in texts]
        prompts = [[self.rng.randrange(4, len(row[0].ids))] for row in rows]
        apart = task.long_term and self.rng.random() < APART
        ages = [self.lessons.ages(count, FARTHEST) if apart else list(range(count - 1, -1, -1)) for _ in rows]
        size, nothing = self.rng.choice(task.num_blocks), torch.full((task.batch, 1), -1)
        outcome, *_, extra, _ = self._read(task, written, ages, size, rows, nothing, prompts=prompts, continued=True)
        return outcome.loss + extra, {"prose_loss": outcome.loss.item()}

    # ── what they share ──

    def _read(self, task, written, ages, size, rows, sources, earlier=None, prompts=None, continued=False):
        """(outcome behind θ and what Θ gives, packed rows, retriever's figures, its loss, where tokens are from)."""
        past = self.past.others()
        around, packed = surround(written, past, ages, size, self.generator), self._packed(rows)
        config, none, prefix = self.model.config, torch.zeros((), device=self._device), None
        if task.long_term:
            rivals = torch.randint(past.shape[1], (task.rivals,), generator=self.generator).to(self._device)
            known = sources[:, : max(map(len, rows))]
            asking = packed.prompt_mask(prompts or [[passage.start for passage in row] for row in rows])
            top, earlier = config.num_retrieved // config.block_size, torch.tensor(earlier or [-1] * len(rows))
            prefix = TaughtPrefix(
                self.model, around, written, past[:, rivals], torch.tensor(ages), asking, packed.segments, known,
                continued, top, 0.4, self.generator, earlier,
            )  # fmt: skip
            outcome = predict(self.model, packed, prefix, prefix.num_memory)
            figures = {f"found_{layer}": found for layer, found in enumerate(prefix.found)}
            with torch.enable_grad():
                extra = RETRIEVER_WEIGHT * prefix.loss
        else:
            pools = around.pool.unbind()
            theta = lambda layer, _: [projected(self.model, layer, pools[layer])]  # noqa: E731
            outcome, figures, extra = predict(self.model, packed, theta, around.pool.shape[2]), {}, none
        held = prefix.places.__getitem__ if prefix else around.places.__getitem__
        self.past.add(written[:, :, self.rng.randrange(written.shape[2]) :])
        return outcome, packed, figures, extra, held

    def _questions(self, items, most: int, weight: float = 1.0) -> tuple[list[list[Passage]], list[list[int]]]:
        """Up to so many of all that can be asked of each memory, and the chunks that answer."""
        rows, sources = [], []
        for memory in items:
            known = [(question.passage(weight), chunk) for chunk, part in enumerate(memory)
                     for item in part for question in item.questions]  # fmt: skip
            chosen = self.rng.sample(known, min(most, len(known)))
            rows.append([passage for passage, _ in chosen])
            sources.append([chunk for _, chunk in chosen])
        return rows, sources

    def _pointer(self, task: Task, weights, held, rows, sources, ids: Tensor) -> tuple[Tensor | float, dict]:
        """The weighted pointer loss, and the attention that first tokens of answers get; 0 where it is not taught."""
        if not weights:
            return 0.0, {}
        behind_bos = lambda layer: F.pad(held(layer), (int(self.model.config.has_bos), 0), value=-1)  # noqa: E731
        loss, mass = pointer_loss(weights, behind_bos, to_written(rows, sources, ids, self.model.config.block_size))
        return task.pointer * loss, {} if mass is None else {"pointed": mass}

    def _identity(self, written: Tensor, ids: Tensor) -> tuple[Tensor, dict[str, float]]:
        if self.often is None:  # frequent tokens are mostly left out
            tokens = torch.tensor([token for piece in self.lessons.prose.pieces for token in piece])
            share = tokens.bincount(minlength=self.model.config.vocab_size) / len(tokens)
            self.often = (1e-3 / (share + 1e-6)).sqrt().clamp(max=1.0).to(self._device)
        loss, right = identity_loss(self.model, written, ids, self.often, self.generator)
        return IDENTITY_WEIGHT * loss, {f"kept_{layer}": share for layer, share in enumerate(right, start=1)}

    def _chunks(self, task: Task, count: int, updates: float = 0.0) -> tuple[Tensor, list[list[list[Item]]], list[int]]:
        length = self.lessons.length(self.rng.random() < task.short)
        chunks = self.lessons.chunks(task.batch, count, length, updates, task.alike)
        ids = torch.tensor(chunks.ids).to(self._device)
        self.tokens += ids.numel()
        return ids, chunks.items, chunks.earlier

    def _packed(self, rows: list[list[Passage]], gap: int = 0) -> Packed:
        gaps = self.lessons.gaps(len(rows), gap)
        packed = pack(rows, self.model.config.pad_token_id or 0, gaps).to(self._device)
        self.tokens += packed.ids.numel()
        return packed

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


def places(rows: list[list[Passage]]) -> list[tuple[int, int]]:
    return [(index, number) for index, row in enumerate(rows) for number in range(len(row))]


def mean(hits: list[bool]) -> float:
    return sum(hits) / max(1, len(hits))

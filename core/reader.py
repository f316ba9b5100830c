"""The data flow on one page: text is ingested into a memory, and questions are answered behind it.

`Reader` is the protocol all methods share, M+ and baselines alike; evaluation and the lab know nothing else.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from inspect import isfunction
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from .answering import Answer, check_single, num_weight_bytes, timed_answer
from .memory import Memory
from .memory_file import fingerprint, load_memory, save_memory
from .model import MPlusForCausalLM
from .prefix import PrefixBuffer
from .prompts import cut, encode_question
from .reading import generate, new_memory, read_logits, write
from .sources import Receipt
from .state import Found, Snapshot

OnChunk = Callable[[int, int], None]
"""Called after each chunk with (chunks done, chunks in all). An exception it raises stops the ingest and undoes it."""

R = TypeVar("R")


@runtime_checkable
class Reader(Protocol):
    """Anything that can be told texts and asked about them."""

    name: str

    def ingest(self, text: str, on_chunk: OnChunk | None = None) -> Receipt: ...

    def answer(self, question: str, max_new_tokens: int = 32, on_text: Callable[[str], None] | None = None,
               stop: Callable[[], bool] | None = None, raw: bool = False, **sampling: Any) -> Answer: ...  # fmt: skip

    def reset(self) -> None: ...

    @property
    def num_bytes(self) -> dict[str, int]: ...


@dataclass(frozen=True)
class LayerView:
    """What one layer makes of a question. `found` as in `Answer`; chance: the share of Θ that was retrieved.

    sources: for every retrieved token, oldest first, (receipt id or None, chunk, token position).
    """

    found: Found
    sources: list[tuple[int | None, int | None, int | None]]
    chance: float


def outlasting(reader: type[R]) -> type[R]:
    """A class whose methods leave `torch.inference_mode`: what they keep is used, and written to, after it."""
    for name, method in list(vars(reader).items()):
        if isfunction(method) and (name == "__init__" or not name.startswith("_")):
            setattr(reader, name, torch.inference_mode(False)(method))
    return reader


@outlasting
class MPlusReader:
    """M+ (or MemoryLLM, where K0 is 0) as a reader: one model, one tokenizer, one memory.

    Save, load, snapshot, restore, undo, fork, reset and delete are the memory's; here they take the shortest form.
    """

    def __init__(self, model: MPlusForCausalLM, tokenizer: PreTrainedTokenizerBase, memory: Memory | None = None):
        self.model, self.tokenizer = model, tokenizer
        self.memory = memory or new_memory(model)
        self.buffer = PrefixBuffer(self.memory.place.relays)
        self.name = "mplus" if model.config.num_retrieved else "memoryllm"

    def ingest(self, text: str, on_chunk: OnChunk | None = None) -> Receipt:
        """Write a text into memory, chunk by chunk; all of it or, if anything is raised meanwhile, nothing.

        Returns the receipt. Raises ValueError for an empty or one-token text; warns when a text is very short.
        """
        pieces = cut(text, self.tokenizer, self.model.config)
        ids = torch.tensor([pieces.ids], device=self.model.device)
        with self.memory.transaction():
            receipt = self.memory.open_receipt(text, pieces.spans, pieces.repeated)
            for done, (start, end) in enumerate(pieces.bounds, 1):
                write(self.model, [self.memory], ids[:, start:end], [(receipt.id, start, end)])
                if on_chunk:
                    on_chunk(done, len(pieces.bounds))
            return self.memory.state.receipts[receipt.id]

    def answer(
        self,
        question: str,
        max_new_tokens: int = 32,
        on_text: Callable[[str], None] | None = None,
        stop: Callable[[], bool] | None = None,
        raw: bool = False,
        **sampling: Any,
    ) -> Answer:
        """Answer one question, greedily unless `sampling` says otherwise: arguments of `generate`, but for those that
        change what it returns. Sampled answers repeat after `torch.manual_seed`.

        `on_text` receives pieces of text as they come; generation ends early once `stop()` is true. `raw`: the question
        is a whole prompt as it stands, not to be put into a form.
        Raises ValueError for an empty question and one longer than the window.
        """
        check_single(sampling)
        ids = encode_question(question, self.tokenizer, self.model.config, raw)
        return timed_answer(self, self._generate, [ids], max_new_tokens, on_text, stop, sampling)[0]

    def answer_many(self, questions: Sequence[str], max_new_tokens: int = 32, **sampling: Any) -> list[Answer]:
        """Answer several questions in one left-padded batch; the times are the batch's. With `num_return_sequences` as
        many answers a question, one question after the other. Raises ValueError as `answer` does."""
        if isinstance(questions, str):
            raise ValueError("`answer_many` takes a list of questions; put this one into a list, or use `answer`.")
        prompts = [encode_question(question, self.tokenizer, self.model.config) for question in questions]
        return timed_answer(self, self._generate, prompts, max_new_tokens, None, None, sampling)

    def _generate(self, ids: Tensor, mask: Tensor, **settings: Any) -> tuple[Tensor, list[list[Found]]]:
        return generate(self.model, [self.memory], ids, mask, self.buffer, **settings)

    @torch.no_grad()
    def inspect(self, question: str) -> list[LayerView]:
        """Per layer: scores over Θ, the tokens chosen, their ages and sources, and chance. Changes nothing.

        Raises ValueError for an empty question and one longer than the window.
        """
        ids = torch.tensor([encode_question(question, self.tokenizer, self.model.config)], device=self.model.device)
        _, found = read_logits(self.model, [self.memory], ids, buffer=self.buffer)
        return [self.view(layer, rows[0]) for layer, rows in enumerate(found) if rows]

    def view(self, layer: int, found: Found) -> LayerView:
        """Name the sources of what a layer found."""
        pairs = zip(found.blocks.tolist(), found.slots.tolist(), strict=True)
        sources = [self.memory.source(block, slot) for block, slot in pairs]
        size = len(self.memory.state.logs[layer])
        chance = min(1.0, len(found.rows) / size) if size else 0.0
        return LayerView(found, [(s.receipt, s.chunk, s.position) for s in sources], chance)

    def reset(self) -> None:
        """Back to the memory of the checkpoint; the undo history is forgotten."""
        self.memory.reset()

    def snapshot(self) -> Snapshot:
        """This moment, to `restore` later; costs next to nothing."""
        return replace(self.memory.snapshot(), owner=fingerprint(self.model))

    def restore(self, snapshot: Snapshot) -> None:
        """Become what the snapshot was. Raises ValueError for one of another model; the undo history is forgotten."""
        self._own(snapshot)
        self.memory.restore(snapshot)
        self.memory.state.logs = [log.independent() for log in self.memory.state.logs]  # one of a folder is not ours

    def _own(self, snapshot: Snapshot) -> None:
        if snapshot.owner not in ("", fingerprint(self.model)):
            raise ValueError("The snapshot is of another model's memory; restore it with the model that wrote it.")

    def undo(self) -> None:
        """Take back the last ingest. Raises ValueError when there is none left to take back."""
        self.memory.undo()

    def delete(self, receipt: Receipt | int) -> int:
        """Remove every token of one text; returns how many (`Memory.delete`). Raises ValueError if it is not there."""
        return self.memory.delete(receipt)

    def fork(self) -> "MPlusReader":
        """A reader with the same model and an independent memory that starts where this one stands."""
        twin = type(self)(self.model, self.tokenizer, self.memory.fork())
        twin.name = self.name
        return twin

    def save(self, path: str | os.PathLike) -> None:
        """Write the memory to one file, atomically. Raises ValueError if `path` is a folder, OSError if it fails."""
        save_memory(self.memory, path, fingerprint(self.model))

    def load(self, path: str | os.PathLike) -> None:
        """Take over a saved memory. Raises ValueError, and changes nothing, if the file is foreign or damaged."""
        load_memory(self.memory, path, fingerprint(self.model))

    @property
    def num_bytes(self) -> dict[str, int]:
        """Bytes by component: the weights, θ ("short"), Θ ("long") and the buffer of keys and values of questions."""
        return {"weights": num_weight_bytes(self.model), **self.memory.num_bytes, "buffer": self.buffer.num_bytes}

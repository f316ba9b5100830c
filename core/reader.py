"""The data flow on one page: text is ingested into a memory, and questions are answered behind it.

`Reader` is the protocol all methods share, M+ and baselines alike; evaluation and the lab know nothing else.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase, StoppingCriteria, StoppingCriteriaList, TextStreamer

from .memory import Memory
from .memory_file import fingerprint, load_memory, save_memory
from .model import MPlusForCausalLM
from .prefix import PrefixBuffer
from .prompts import cut, encode_question
from .reading import generate, new_memory, read_logits, write
from .sources import Receipt
from .state import Found

OnChunk = Callable[[int, int], None]
"""Called after each chunk with (chunks done, chunks in all). An exception it raises stops the ingest and undoes it."""


@dataclass(frozen=True)
class Answer:
    """text: the answer alone. tokens: its ids. Times in seconds from the call; bytes by component after the answer.

    found: per layer, what was retrieved (M+ only; empty otherwise).
    """

    text: str
    tokens: list[int]
    first_token_seconds: float
    seconds: float
    num_bytes: dict[str, int]
    found: tuple[Found, ...] = ()


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
        """Answer one question, greedily unless `sampling` says otherwise (any `generate` argument).

        `on_text` receives pieces of text as they come; generation ends early once `stop()` is true. `raw`: the question
        is a whole prompt as it stands, not to be put into a form.
        Raises ValueError for an empty question and one longer than the window.
        """
        ids = encode_question(question, self.tokenizer, self.model.config, raw)
        return timed_answer(self, self._generate, [ids], max_new_tokens, on_text, stop, sampling)[0]

    def answer_many(self, questions: Sequence[str], max_new_tokens: int = 32, **sampling: Any) -> list[Answer]:
        """Answer several questions in one left-padded batch; the times are the batch's."""
        prompts = [encode_question(question, self.tokenizer, self.model.config) for question in questions]
        return timed_answer(self, self._generate, prompts, max_new_tokens, None, None, sampling)

    def _generate(self, ids: Tensor, mask: Tensor, **settings: Any) -> tuple[Tensor, list[list[Found]]]:
        return generate(self.model, [self.memory], ids, mask, self.buffer, **settings)

    @torch.no_grad()
    def inspect(self, question: str) -> list[LayerView]:
        """Per layer: scores over Θ, the tokens chosen, their ages and sources, and chance. Changes nothing."""
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
        self.memory.reset()

    def undo(self) -> None:
        self.memory.undo()

    def delete(self, receipt: Receipt | int) -> int:
        return self.memory.delete(receipt)

    def fork(self) -> "MPlusReader":
        """A reader with the same model and an independent memory that starts where this one stands."""
        return type(self)(self.model, self.tokenizer, self.memory.fork())

    def save(self, path: str | os.PathLike) -> None:
        """Write the memory to one file, atomically."""
        save_memory(self.memory, path, fingerprint(self.model))

    def load(self, path: str | os.PathLike) -> None:
        """Take over a saved memory. Raises ValueError, and changes nothing, if the file is foreign or damaged."""
        load_memory(self.memory, path, fingerprint(self.model))

    @property
    def num_bytes(self) -> dict[str, int]:
        return {"weights": num_weight_bytes(self.model), **self.memory.num_bytes, "buffer": self.buffer.num_bytes}


def num_weight_bytes(model: torch.nn.Module) -> int:
    """Bytes of a model's parameters, tied ones counted once."""
    return sum(parameter.nbytes for parameter in model.parameters())


class _Streamer(TextStreamer):
    """Hands on whole characters as they come, and notes when the first token arrived."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, on_text: Callable[[str], None] | None):
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)  # type: ignore[arg-type]
        self.on_text, self.first = on_text, 0.0

    def put(self, value: Tensor) -> None:
        if not self.next_tokens_are_prompt and not self.first:
            self.first = time.perf_counter()
        super().put(value)

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        if self.on_text and text:
            self.on_text(text)


class _Stop(StoppingCriteria):
    def __init__(self, stop: Callable[[], bool]):
        self.stop = stop

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: Any) -> Tensor:  # type: ignore[override]
        return torch.full((len(input_ids),), self.stop(), dtype=torch.bool, device=input_ids.device)


def timed_answer(
    reader: Any,
    run: Callable[..., tuple[Tensor, list[list[Found]]]],
    prompts: list[list[int]],
    max_new_tokens: int,
    on_text: Callable[[str], None] | None,
    stop: Callable[[], bool] | None,
    sampling: dict[str, Any],
) -> list[Answer]:
    """Left-pad prompts, call `run(ids, mask, **generate arguments)`, and time and decode what comes back."""
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens is {max_new_tokens}; ask for at least 1 token.")
    tokenizer, width = reader.tokenizer, max(map(len, prompts))
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id or 0
    ids = torch.tensor([[pad] * (width - len(p)) + p for p in prompts], device=reader.model.device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=reader.model.device)
    settings: dict[str, Any] = {"max_new_tokens": max_new_tokens, "do_sample": False, "pad_token_id": pad} | sampling
    streamer = None
    if len(prompts) == 1 and settings.get("num_beams", 1) == 1:
        streamer = settings["streamer"] = _Streamer(tokenizer, on_text)
    if stop:
        settings["stopping_criteria"] = StoppingCriteriaList([_Stop(stop)])
    begin = time.perf_counter()
    out, found = run(ids, mask, **settings)
    seconds = time.perf_counter() - begin
    first = streamer.first - begin if streamer and streamer.first else seconds
    answers = []
    for index, row in enumerate(out[:, width:].tolist()):
        text = tokenizer.decode(row, skip_special_tokens=True).strip()
        prompt = index * len(prompts) // len(out)  # several answers a prompt when num_return_sequences asks for them
        per_layer = tuple(rows[prompt] for rows in found if rows)
        answers.append(Answer(text, row, first, seconds, reader.num_bytes, per_layer))
    return answers

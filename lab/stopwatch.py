"""Where an answer's seconds went and what it needed for a moment, told from outside the reader."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from core.context import PIECE
from core.cost import Setting, memory_cost
from core.reader import Answer, MPlusReader


class Stopwatch:
    """Adds up the seconds spent in the functions it wraps."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def on(self, work: Callable) -> Callable:
        def timed(*args: Any, **kwargs: Any) -> Any:
            begin = time.perf_counter()
            try:
                return work(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - begin

        return timed


def answer_steps(
    reader: Any, question: str, max_new_tokens: int, stop: Callable[[], bool]
) -> tuple[Answer, dict[str, float]]:
    """Answer a question: (answer, seconds by step). The steps sum to the answer's seconds.

    retrieve: scoring Θ and choosing from it, all layers (M+ only). copy: moving what was chosen to the model's device,
    timed once more after the answer; 0.0 where it is there. prefill: the rest until the first token, for a reader of
    the text itself the reading of it included. decode: the further tokens.
    """
    watch = Stopwatch()
    if isinstance(reader, MPlusReader):
        reader.memory.search = watch.on(reader.memory.search)
    try:
        answer = reader.answer(question, max_new_tokens, stop=stop)
    finally:
        if isinstance(reader, MPlusReader):
            del reader.memory.search  # the method of the class is back
    first = answer.first_token_seconds
    retrieve = min(watch.seconds, first)
    logs = reader.memory.state.logs if isinstance(reader, MPlusReader) else []
    chosen = [log.take(found.rows) for log, found in zip(logs, answer.found, strict=False)]  # none by a young memory
    copy = min(copy_seconds(chosen, reader.model.device), first - retrieve)
    steps = {"retrieve": retrieve, "copy": copy, "prefill": first - retrieve - copy, "decode": answer.seconds - first}
    return answer, steps


def copy_seconds(tensors: Sequence[torch.Tensor], device: torch.device) -> float:
    """Seconds to copy tensors to a device; 0.0 if all of them are on it."""
    away = [tensor for tensor in tensors if tensor.device != device]
    if not away:
        return 0.0
    begin = time.perf_counter()
    for tensor in away:
        tensor.to(device)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begin


def peak_activations(reader: Any, kept: int) -> int:
    """Bytes that one layer needs at the most for a moment, by the estimate of `core.cost`.

    A memory writes chunks of its own size; a reader of the text itself runs its `kept` tokens in pieces.
    """
    model = reader.model
    setting = Setting(dtype=model.dtype)
    if not isinstance(reader, MPlusReader):
        setting = Setting(dtype=model.dtype, chunk=1, prompt=max(1, min(PIECE, kept)))
    return memory_cost(model.config, setting).activations

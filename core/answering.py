"""From prompts to answers: what `generate` is asked, in a batch or alone, and what it took."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase, StoppingCriteria, StoppingCriteriaList, TextStreamer

from .state import Found


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
        return torch.full((len(input_ids),), bool(self.stop()), dtype=torch.bool, device=input_ids.device)


def num_copies(settings: dict[str, Any]) -> int:
    """How many times `generate` takes every prompt, by its arguments: for beams, and for several answers."""
    return max(_number("num_beams", settings), _number("num_return_sequences", settings))


def check_single(settings: dict[str, Any]) -> None:
    """ValueError if arguments of `generate` ask for several answers."""
    if _number("num_return_sequences", settings) != 1:
        raise ValueError("`answer` gives one answer; ask for several by `answer_many([question], …)`.")


def _number(name: str, settings: dict[str, Any]) -> int:
    return settings.get(name) or getattr(settings.get("generation_config"), name, None) or 1


def timed_answer(
    reader: Any,
    run: Callable[..., tuple[Tensor, list[list[Found]]]],
    prompts: list[list[int]],
    max_new_tokens: int,
    on_text: Callable[[str], None] | None,
    stop: Callable[[], bool] | None,
    sampling: dict[str, Any],
) -> list[Answer]:
    """Left-pad prompts, call `run(ids, mask, **generate arguments)`, and time and decode what comes back.

    Raises ValueError unless at least one new token is asked for, and for what would change the form of what comes back.
    """
    if not isinstance(max_new_tokens, Integral) or max_new_tokens < 1:
        raise ValueError(f"max_new_tokens is {max_new_tokens!r}; ask for at least 1 token.")
    if sampling.get("return_dict_in_generate"):
        raise ValueError("return_dict_in_generate changes what is returned; leave it out.")
    if not prompts:
        return []
    tokenizer, width = reader.tokenizer, max(map(len, prompts))
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id or 0
    ids = torch.tensor([[pad] * (width - len(p)) + p for p in prompts], device=reader.model.device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=reader.model.device)
    settings = {"max_new_tokens": int(max_new_tokens), "do_sample": False, "pad_token_id": pad, **sampling}
    settings["return_dict_in_generate"] = False  # whatever a generation_config says
    streamer = None
    if len(prompts) == num_copies(settings) == 1 and "streamer" not in settings:
        streamer = settings["streamer"] = _Streamer(tokenizer, on_text)
    if stop:
        settings["stopping_criteria"] = StoppingCriteriaList([*settings.get("stopping_criteria", ()), _Stop(stop)])
    begin = time.perf_counter()
    out, found = run(ids, mask, **settings)
    seconds = time.perf_counter() - begin
    first = streamer.first - begin if streamer and streamer.first else seconds
    answers = []
    for index, row in enumerate(out[:, width:].tolist()):
        text = tokenizer.decode(row, skip_special_tokens=True).strip()
        prompt = index * len(prompts) // len(out)  # several answers a prompt when num_return_sequences asks for them
        per_layer = tuple(rows[prompt] for rows in found if rows)
        while len(row) > 1 and row[-1] == pad and row[-2] in (pad, tokenizer.eos_token_id):
            row.pop()  # which fills a shorter answer up to the longest
        answers.append(Answer(text, row, first, seconds, reader.num_bytes, per_layer))
    return answers

"""Prompts side by side, and where an answer ends."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase


def pad(prompts: Sequence[Sequence[int]], tokenizer: PreTrainedTokenizerBase) -> tuple[Tensor, Tensor]:
    """Left-padded ids and mask (B, n)."""
    width = max(map(len, prompts))
    filler = tokenizer.pad_token_id or tokenizer.eos_token_id or 0
    ids = torch.tensor([[filler] * (width - len(prompt)) + list(prompt) for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    return ids, mask


def answer_ends(tokenizer: PreTrainedTokenizerBase, model: Any) -> Callable[[list[int]], bool]:
    """Whether an answer's tokens are all that counts of it: they end the text, or its first line."""
    ids = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    end: Any = tokenizer.eos_token_id
    ends = {*(ids if isinstance(ids, list) else [ids]), end}
    lines = {token for token, text in enumerate(tokenizer.batch_decode([[id] for id in range(len(tokenizer))]))
             if len(f"{text}x".splitlines()) > 1}  # fmt: skip

    def ended(tokens: list[int]) -> bool:
        if tokens[-1] in ends:
            return True
        return tokens[-1] in lines and bool(str(tokenizer.decode(tokens, skip_special_tokens=True)).strip())

    return ended

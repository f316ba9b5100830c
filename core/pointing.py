"""Attention is taught where to look: a late layer shall put its mass on the tokens that the answer is made of.

Our own addition, not the paper's. From the loss of the answers alone a small model learns to point in its first layer
and no further: it finds a token that is like one of the question, and copies what stands there. Which of several such
tokens is meant takes a second look, and no gradient leads there. So in two late layers the first group of heads is
told: at every position that predicts a token of an answer, -log of the attention that falls on that token in the right
statement, or in memory on what was written at it. It is a hint in training only; the model itself is unchanged.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from transformers.models.llama.modeling_llama import LlamaAttention

from .model import MPlusForCausalLM
from .packing import Passage, find

LAYERS = (-3, -2)  # of 6 these are 3 and 4: late, but with a layer left to use what was found
LEAST = 1e-5  # attention that counts as none


class Pointers(NamedTuple):
    """m positions that predict a token of an answer.

    rows, columns (m,): where they stand in the batch. marked (m, S + 1) bool: which of S places hold the token; the
    last column, for "no such place", is False. first (m,) bool: is it the answer's first token?
    """

    rows: Tensor
    columns: Tensor
    marked: Tensor
    first: Tensor


class Pointer(NamedTuple):
    """One of them, as it is found: `places` are numbers below S."""

    row: int
    column: int
    places: list[int]
    first: bool


def pointers(found: Sequence[Pointer], num_places: int, device: torch.device) -> Pointers:
    marked = torch.zeros(len(found), num_places + 1, dtype=torch.bool)
    for index, pointer in enumerate(found):
        marked[index, pointer.places] = True
    rows, columns, firsts = ([pointer[part] for pointer in found] for part in (0, 1, 3))
    place = lambda values, dtype: torch.tensor(values, dtype=dtype, device=device)  # noqa: E731
    return Pointers(place(rows, torch.int64), place(columns, torch.int64), marked.to(device), place(firsts, torch.bool))


def to_written(
    rows: Sequence[Sequence[Passage]], sources: Sequence[Sequence[int]], ids: Tensor, block_size: int
) -> Pointers:
    """From answers in packed rows to the memory tokens that were written at them.

    sources[b][q]: which of the chunks ids (B, C, n) answers passage q of row b, -1 for none. Places are numbered (b · C
    + chunk) · K + slot. A chunk of n tokens leaves the last K; a token before those has no place.
    """
    batch, count, length = ids.shape
    chunks, found = ids.tolist(), []
    for index, (row, answered) in enumerate(zip(rows, sources, strict=True)):
        start = 0
        for passage, chunk in zip(row, answered, strict=False):
            answer = passage.ids[passage.start : -1] if chunk >= 0 else []
            begins = find(chunks[index][chunk], answer)
            offset = (index * count + chunk) * block_size + block_size - length
            for number in range(len(answer)):
                places = [offset + at + number for at in begins if at + number >= length - block_size]
                if places:
                    found.append(Pointer(index, start + passage.start - 1 + number, places, not number))
            start += len(passage.ids)
    return pointers(found, batch * count * block_size, ids.device)


@contextmanager
def attention_of(model: MPlusForCausalLM, taught: bool = True) -> Iterator[dict[int, Tensor]]:
    """Collects, by layer, the attention weights (B, heads, n, keys) of the heads that are taught, those of the first
    group, while the model runs in the block; without `taught` it collects nothing.

    Only these layers leave the fused attention, and everything is put back.
    """
    weights: dict[int, Tensor] = {}
    count, attention = len(model.model.layers), cast(LlamaAttention, model.model.layers[0].self_attn)
    heads = attention.num_key_value_groups
    layers = sorted({max(0, count + layer) for layer in LAYERS}) if taught else []
    attentions: list[Any] = [model.model.layers[layer].self_attn for layer in layers]
    config, hooks = model.config, []
    eager = copy(config)
    eager._attn_implementation = "eager"

    def additive(_module, args, kwargs):  # eager attention adds its mask, where the fused one takes what is allowed
        mask = kwargs.get("attention_mask")
        if mask is not None and mask.dtype == torch.bool:
            dtype = kwargs["hidden_states"].dtype
            hidden = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
            kwargs["attention_mask"] = hidden.masked_fill_(~mask, torch.finfo(dtype).min)
        return args, kwargs

    try:
        for layer, attention in zip(layers, attentions, strict=True):
            attention.config = eager
            keep = lambda _, __, output, layer=layer: weights.__setitem__(layer, output[1][:, :heads])  # noqa: E731
            hooks += [attention.register_forward_pre_hook(additive, with_kwargs=True)]
            hooks += [attention.register_forward_hook(keep)]
        yield weights
    finally:
        for attention in attentions:
            attention.config = config
        for hook in hooks:
            hook.remove()


def pointer_loss(
    weights: Mapping[int, Tensor], places: Callable[[int], Tensor], wanted: Pointers
) -> tuple[Tensor, float | None]:
    """-log of the attention on the right places, mean over positions and layers; and its mass on first tokens.

    weights: of each layer (B, heads, n, keys). places(layer) (B, p <= keys): which place each of the first p keys
    holds, -1 for none. A position whose places are not among the keys of a layer (they have left θ and were not
    retrieved) is left out there. The mass is None where there is none.
    """
    losses, masses = [], []
    for layer, attention in weights.items():
        held = places(layer)[wanted.rows]
        right = wanted.marked.gather(1, torch.where(held < 0, wanted.marked.shape[1] - 1, held))
        there = right.any(1)
        if not there.any():
            continue
        looked = attention[wanted.rows[there], :, wanted.columns[there], : right.shape[1]].float()
        mass = (looked * right[there, None]).sum(-1)
        losses.append(-(mass + LEAST).log().mean())
        masses.append(mass[wanted.first[there]].mean().item() if wanted.first[there].any() else None)
    known = [mass for mass in masses if mass is not None]
    loss = torch.stack(losses).sum() / len(weights) if losses else torch.zeros((), device=wanted.rows.device)
    return loss, sum(known) / len(known) if known else None

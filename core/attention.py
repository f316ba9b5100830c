"""Attention to a long memory, without repeated heads and, on a CPU, without masks or copies that are not needed.

With grouped-query attention several query heads read the same keys: taking the group as if it were a sequence reads
every key once instead of once per head. Every prompt token sees all of memory: only the prompt's own keys are masked.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from .products import direct, product

GROUPED = "sdpa_grouped"
SHORT = 256
"""Prompts of up to so many tokens are matched with all keys at once."""


def grouped_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs
) -> tuple[Tensor, None]:
    """As `sdpa_attention_forward`: query (B, heads, n, d), key and value (B, kv heads, P, d) -> (B, n, heads, d)."""
    batch, heads, length, width = query.shape
    scale, groups, past = kwargs.get("scaling") or width**-0.5, heads // key.shape[1], key.shape[2] - length
    if length > 1 and attention_mask is None:  # causal from the first key on: transformers knows when
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    plain = direct(query) and not torch.is_grad_enabled()
    if length == 1 and (attention_mask is None or attention_mask.shape[1] == 1):
        grouped = query.view(batch, heads // groups, groups, width)
        if plain and (attention_mask is None or attention_mask.dtype == torch.bool):
            return _one(grouped, key, value, attention_mask, scale).view(batch, 1, heads, width), None
        mixed = F.scaled_dot_product_attention(grouped, key, value, attention_mask, scale=scale)
        return mixed.reshape(batch, 1, heads, width), None
    short = plain and length <= min(SHORT, past)
    if short and attention_mask is not None and _hides_no_past(attention_mask, past):
        return _few(query, key, value, attention_mask, scale), None
    mixed = F.scaled_dot_product_attention(
        query, key, value, attention_mask, dropout_p=kwargs.get("dropout", 0.0), scale=scale, enable_gqa=groups > 1
    )
    return mixed.transpose(1, 2).contiguous(), None


def _hides_no_past(mask: Tensor, past: int) -> bool:
    return mask.dtype == torch.bool and mask.shape[1] == 1 and bool(mask[..., :past].all())


def _one(grouped: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """A single token's queries (B, kv heads, group, d). Keys stand on the left: so they are read in their order."""
    scores = (key @ (grouped * scale).transpose(2, 3)).transpose(2, 3).contiguous()
    if mask is not None:
        scores.masked_fill_(~mask, -torch.inf)
    return scores.softmax(-1) @ value


def _few(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scale: float) -> Tensor:
    """A prompt's queries (B, heads, n, d) -> (B, n, heads, d)."""
    batch, heads, length, width = query.shape
    kv_heads, past = key.shape[1], key.shape[2] - length
    grouped = (query * scale).reshape(batch * kv_heads, -1, width)
    mixed, hidden = torch.empty_like(grouped), ~mask[..., past:]
    for index, (some, keys, values) in enumerate(zip(grouped, key.flatten(0, 1), value.flatten(0, 1), strict=True)):
        scores = product(some, keys)
        own = scores.view(-1, length, past + length)[..., past:]
        own.masked_fill_(hidden[index // kv_heads % len(hidden)], -torch.inf)
        mixed[index] = product(torch.softmax(scores, -1, out=scores), values.t())
    return mixed.view(batch, heads, length, width).transpose(1, 2)


AttentionInterface.register(GROUPED, grouped_attention)
AttentionMaskInterface.register(GROUPED, sdpa_mask)

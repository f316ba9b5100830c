"""Attention to a long memory, without repeated heads.

With grouped-query attention several query heads read the same keys: for a single token, taking the group as if it were
a sequence reads every key once instead of once per head.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from .products import direct

GROUPED = "sdpa_grouped"


def grouped_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs
) -> tuple[Tensor, None]:
    """As `sdpa_attention_forward`: query (B, heads, n, d), key and value (B, kv heads, P, d) -> (B, n, heads, d)."""
    batch, heads, length, width = query.shape
    scale, groups = kwargs.get("scaling") or width**-0.5, heads // key.shape[1]
    if length > 1 and attention_mask is None:  # causal from the first key on: transformers knows when
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    plain = direct(query) and not torch.is_grad_enabled()
    if length == 1 and (attention_mask is None or attention_mask.shape[1] == 1):
        grouped = query.view(batch, heads // groups, groups, width)
        if plain and (attention_mask is None or attention_mask.dtype == torch.bool):
            return _one(grouped, key, value, attention_mask, scale).view(batch, 1, heads, width), None
        mixed = F.scaled_dot_product_attention(grouped, key, value, attention_mask, scale=scale)
        return mixed.reshape(batch, 1, heads, width), None
    options = {"dropout_p": kwargs.get("dropout", 0.0), "scale": scale, "enable_gqa": groups > 1}
    if query.device.type == "cpu" and query.requires_grad:  # torch's gradient in bf16 takes more than twice as long
        with torch.autocast("cpu", enabled=False):
            parts = query.float(), key.float(), value.float()
            mixed = F.scaled_dot_product_attention(*parts, attention_mask, **options).to(query.dtype)
    else:
        mixed = F.scaled_dot_product_attention(query, key, value, attention_mask, **options)
    return mixed.transpose(1, 2).contiguous(), None


def _one(grouped: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """A single token's queries (B, kv heads, group, d). Keys stand on the left: so they are read in their order."""
    scores = (key @ (grouped * scale).transpose(2, 3)).transpose(2, 3).contiguous()
    if mask is not None:
        scores.masked_fill_(~mask, -torch.inf)
    return scores.softmax(-1) @ value


AttentionInterface.register(GROUPED, grouped_attention)
AttentionMaskInterface.register(GROUPED, sdpa_mask)

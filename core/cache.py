"""The one trick: memory tokens are the first P positions of the KV cache.

`LlamaAttention` asks its cache for keys and values, and `LlamaModel` asks it how many positions came before. So a cache
that opens with memory is all M+ needs: positions, masks and `generate` follow from it, and transformers is not forked.
"""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaModel, rotate_half

Prefix = Callable[[int, Tensor], Tensor]
"""(layer index, that layer's normed input (B, n, d)) -> the memory tokens (B, P, d) the layer attends to."""


class PrefixLayer(DynamicLayer):
    """One layer's keys and values. It promises `prefix_length` positions before they exist.

    The mask is made once, before any layer runs. A cache that reported 0 then would get no mask column for the prefix,
    and SDPA would silently cut the keys to the prompt's length.
    """

    def __init__(self, prefix_length: int):
        super().__init__()
        self.prefix_length = prefix_length

    def get_seq_length(self) -> int:
        return super().get_seq_length() if self.is_initialized else self.prefix_length


class MemoryCache(Cache):
    """A KV cache that opens with memory: each layer lays its prefix down when it first runs. It answers one prompt."""

    def __init__(self, prefix: Prefix, prefix_length: int, model: LlamaModel):
        super().__init__(layers=[PrefixLayer(prefix_length) for _ in model.layers])
        self.prefix, self.prefix_length = prefix, prefix_length
        embeddings = model.embed_tokens.weight
        self.cos, self.sin = model.rotary_emb(embeddings, torch.arange(prefix_length, device=embeddings.device)[None])

    def lay_prefix(self, layer: LlamaDecoderLayer, hidden: Tensor) -> None:
        """Project this layer's memory tokens to keys and values, once. `hidden` (B, n, d) is the layer's raw input."""
        attention = layer.self_attn
        slot = cast(PrefixLayer, self.layers[attention.layer_idx])
        if slot.is_initialized:
            return
        memory = self.prefix(attention.layer_idx, layer.input_layernorm(hidden)).to(hidden.dtype)
        assert memory.shape[1] == self.prefix_length, "a prefix must be as long as the cache promised"
        memory = layer.input_layernorm(memory)
        heads = (*memory.shape[:2], -1, attention.head_dim)
        keys = attention.k_proj(memory).view(heads).transpose(1, 2)
        values = attention.v_proj(memory).view(heads).transpose(1, 2)
        slot.update(keys * self.cos[:, None] + rotate_half(keys) * self.sin[:, None], values)

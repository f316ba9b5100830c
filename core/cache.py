"""The one trick: memory tokens are the first P positions of the KV cache.

`LlamaAttention` asks its cache for keys and values, and `LlamaModel` asks it how many positions came before. So a cache
that opens with memory is all M+ needs: positions, masks and `generate` follow from it, and transformers is not forked.
What a layer keeps of it, and for how long, is in `core.prefix`.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor
from transformers.cache_utils import Cache
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaModel

from .laying import lay
from .prefix import ROOM, Laid, Prefix, PrefixBuffer, PrefixLayer, RelaidLayer, Segment, Standing, rotated, split_heads
from .products import direct


class MemoryCache(Cache):
    """A KV cache that opens with memory: each layer lays its prefix down when it first runs. It answers one prompt."""

    def __init__(self, prefix: Prefix, prefix_length: int, model: LlamaModel, buffer: PrefixBuffer | None = None):
        storage = buffer.storage if buffer else {}
        layers = [
            RelaidLayer(prefix_length, buffer)
            if buffer and buffer.relays
            else PrefixLayer(prefix_length, storage.get(i))
            for i in range(len(model.layers))
        ]
        super().__init__(layers=layers)  # type: ignore[arg-type]
        self.prefix, self.prefix_length, self.buffer = prefix, prefix_length, buffer
        self.checked: tuple[Tensor | None, bool] = None, False  # a mask, and whether it hides nothing but what follows
        scale = model.norm.weight  # of the model's dtype, and where it computes
        rope = buffer.rope if buffer else None
        if rope is None or rope[0].shape[1] != prefix_length or rope[0].dtype != scale.dtype:
            rope = model.rotary_emb(scale, torch.arange(prefix_length, device=scale.device)[None])
            if buffer is not None:
                buffer.rope = rope
        self.cos, self.sin = rope

    def lay_prefix(self, layer: LlamaDecoderLayer, hidden: Tensor) -> None:
        """Lay this layer's memory down as keys and values, once. `hidden` (B, n, d) is the layer's raw input."""
        attention = layer.self_attn
        slot = cast(PrefixLayer, self.layers[attention.layer_idx])
        if slot.is_initialized:
            return
        norm = getattr(layer.forward, "normed", layer.input_layernorm)  # see `core.decoding`
        memory = self.prefix(attention.layer_idx, norm(hidden))
        segments = [Segment(memory)] if isinstance(memory, Tensor) else memory
        slot.take_bias(segments, hidden)
        if self.buffer is not None and not torch.is_grad_enabled() and len(hidden) == 1:
            if isinstance(slot, RelaidLayer) and any(
                segment.projected and segment.key is not None for segment in segments
            ):
                return self._lay_each_time(segments, layer, slot, hidden)
            return self._lay_in_buffer(self.buffer, segments, layer, slot, hidden)
        pieces, start = [], 0
        for segment in segments:
            keys, values = split_heads(self._joined(segment, layer, hidden), layer.self_attn)
            keys = rotated(keys, *self._rope(start, segment))
            pieces.append([piece.expand(len(hidden), -1, -1, -1) for piece in (keys, values)])
            start += segment.tokens.shape[1]
        self._check_length(start)
        slot.update(torch.cat([keys for keys, _ in pieces], dim=2), torch.cat([values for _, values in pieces], dim=2))

    def _lay_in_buffer(self, buffer, segments: Sequence[Segment], layer, slot: PrefixLayer, hidden: Tensor) -> None:
        index = layer.self_attn.layer_idx
        start, held = 0, buffer.held.pop(index, [])  # while it is laid, and if that is interrupted, it holds nothing
        room = self.prefix_length + hidden.shape[1] + ROOM
        if slot.storage is None or slot.storage[0].shape[2] < room:
            held, slot.storage = [], None
        laid = []
        for number, segment in enumerate(segments):
            place = (start, segment.tokens.shape[1], segment.key)
            end = start + place[1]
            if segment.key is None or number >= len(held) or held[number] != place:
                joined = self._joined(segment, layer, hidden)
                if slot.storage is None:
                    size = layer.self_attn.head_dim
                    shape = (1, joined.shape[-1] // (2 * size), room, size)
                    slot.storage = joined.new_empty(shape), joined.new_empty(shape)
                self._put(segment, joined, layer, start, *slot.storage)
            laid.append(place)
            start = end
        self._check_length(start)
        assert slot.storage is not None, "a memory prefix has at least one token"
        slot.lazy_initialization(*slot.storage)
        slot.keys, slot.values = slot.storage[0][:, :, :start], slot.storage[1][:, :, :start]
        buffer.storage[index], buffer.held[index] = slot.storage, laid

    def _lay_each_time(self, segments: Sequence[Segment], layer, slot: RelaidLayer, hidden: Tensor) -> None:
        standing, kept, start = [], [], 0
        for segment in segments:
            length = segment.tokens.shape[1]
            if segment.stands:
                ranks = torch.arange(length) if segment.ranks is None else segment.ranks[0]
                standing.append(Standing(start, segment.tokens.to(hidden), (start + ranks).to(hidden.device)))
            else:
                keys, values = split_heads(self._joined(segment, layer, hidden), layer.self_attn)
                kept.append(Laid(start, rotated(keys, *self._rope(start, segment)), values.contiguous()))
            start += length
        self._check_length(start)
        slot.hold(standing, kept, (self.cos[0], self.sin[0]))

    def _put(self, segment: Segment, joined: Tensor, layer, start: int, keys: Tensor, values: Tensor) -> None:
        """Put a segment's keys and values from `start` on into the storage (1, kv heads, capacity, head dim)."""
        if direct(joined) and joined.is_contiguous():
            ranks = torch.arange(joined.shape[1]) if segment.ranks is None else segment.ranks[0]
            cos, sin = self.cos[0].numpy(), self.sin[0].numpy()
            return lay(joined[0].numpy(), (start + ranks).numpy(), cos, sin, start, keys[0].numpy(), values[0].numpy())
        rows = slice(start, start + joined.shape[1])
        unturned, values[:, :, rows] = split_heads(joined, layer.self_attn)
        rotated(unturned, *self._rope(start, segment), out=keys[:, :, rows])

    def _joined(self, segment: Segment, layer: LlamaDecoderLayer, hidden: Tensor) -> Tensor:
        """Keys before RoPE and values, side by side (B or 1, P, 2 · kv heads · head dim)."""
        tokens = segment.tokens.to(hidden.device, hidden.dtype)
        return tokens if segment.projected else project(tokens, layer)

    def _rope(self, start: int, segment: Segment) -> tuple[Tensor, Tensor]:
        """Cosines and sines (B or 1, 1, P, head dim) of a segment that begins at position `start`."""
        places = slice(start, start + segment.tokens.shape[1])
        if segment.ranks is None:
            return self.cos[:, None, places], self.sin[:, None, places]
        ranks = segment.ranks.to(self.cos.device)
        return self.cos[0, places][ranks][:, None], self.sin[0, places][ranks][:, None]

    def _check_length(self, length: int) -> None:
        assert length == self.prefix_length, "a prefix must be as long as the cache promised"


def project(tokens: Tensor, layer: LlamaDecoderLayer) -> Tensor:
    """What memory tokens (..., d) contribute in a layer under the active adapter: keys before RoPE and values, joined.

    A memory token only ever acts through these, so storing them instead of the token is exact, and, with grouped-query
    attention, smaller: (..., 2 · kv heads · head dim).
    """
    fused = getattr(layer.forward, "project", None)  # see `core.decoding`
    if fused is not None:
        return fused(tokens)
    normed = layer.input_layernorm(tokens)
    return torch.cat([layer.self_attn.k_proj(normed), layer.self_attn.v_proj(normed)], dim=-1)

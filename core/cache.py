"""The one trick: memory tokens are the first P positions of the KV cache.

`LlamaAttention` asks its cache for keys and values, and `LlamaModel` asks it how many positions came before. So a cache
that opens with memory is all M+ needs: positions, masks and `generate` follow from it, and transformers is not forked.

A prefix comes in segments (bos, retrieved, θ). A segment with a key is unchanged for as long as its key is; a
`PrefixBuffer` keeps its keys and values between questions, so that an unchanged θ is projected once and never copied.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaDecoderLayer, LlamaModel, rotate_half

from .laying import lay
from .products import direct

ROOM = 256
"""Positions a buffer grows by beyond what is needed, so that decoding does not copy the prefix for every token."""


class Segment(NamedTuple):
    """Part of a prefix. tokens (B or 1, P, d) are hidden states, or, `projected`, the layer's keys and values before
    RoPE side by side (B or 1, P, 2 · kv heads · head dim). `key` names the content for a buffer; None: always new.
    ranks (B or 1, P) int64: the position of each token within the segment; None: they stand in their order.
    bias (B, n or 1, P): what is added to the attention that each prompt token, or all of them, pays to each of them."""

    tokens: Tensor
    projected: bool = False
    key: Hashable = None
    ranks: Tensor | None = None
    bias: Tensor | None = None


Prefix = Callable[[int, Tensor], Tensor | Sequence[Segment]]
"""(layer index, that layer's normed input (B, n, d)) -> the memory the layer attends to: tokens, or segments of it."""


class PrefixBuffer:
    """Keys and values that outlive a question: per layer one preallocated pair (B, heads, capacity, head dim)."""

    def __init__(self) -> None:
        self.storage: dict[int, tuple[Tensor, Tensor]] = {}
        self.held: dict[int, list[tuple[int, int, Hashable]]] = {}
        self.rope: tuple[Tensor, Tensor] | None = None

    @property
    def num_bytes(self) -> int:
        return sum(keys.nbytes + values.nbytes for keys, values in self.storage.values())


class PrefixLayer(DynamicLayer):
    """One layer's keys and values. It promises `prefix_length` positions before they exist, and grows without copying.

    The mask is made once, before any layer runs. A cache that reported 0 then would get no mask column for the prefix,
    and SDPA would silently cut the keys to the prompt's length.
    """

    def __init__(self, prefix_length: int, storage: tuple[Tensor, Tensor] | None = None):
        super().__init__()
        self.prefix_length, self.storage = prefix_length, storage
        self.bias: Tensor | None = None  # (B, n or 1, p): of the first p positions; see `Segment`

    def get_seq_length(self) -> int:
        return super().get_seq_length() if self.is_initialized else self.prefix_length

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        if torch.is_grad_enabled():  # autograd must see every version, so there new tensors are made
            return super().update(key_states, value_states, *args, **kwargs)
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        keys, values = self._with_room(key_states, start, end)
        keys[:, :, start:end], values[:, :, start:end] = key_states, value_states
        self.keys, self.values = keys[:, :, :end], values[:, :, :end]
        return self.keys, self.values

    def take_bias(self, segments: Sequence[Segment], like: Tensor) -> None:
        """Keep what the segments add to the attention on them; those that say nothing add nothing."""
        given = [segment.bias for segment in segments if segment.bias is not None]
        if given:
            shape = given[0].shape[:2]
            parts = [
                like.new_zeros(*shape, each.tokens.shape[1]) if each.bias is None else each.bias.to(like)
                for each in segments
            ]
            self.bias = torch.cat(parts, dim=-1)

    def biased(self, mask: Tensor | None, length: int) -> Tensor | None:
        """The mask (B or 1, 1, n, keys) of `length` tokens, bool or additive, with what the memory adds; None: nothing
        is hidden."""
        if self.bias is None:
            return mask
        keys = self.get_seq_length() + length if mask is None else mask.shape[-1]
        added = F.pad(self.bias, (0, keys - self.bias.shape[-1]))[:, None]
        if mask is None:
            return added
        if mask.dtype != torch.bool:
            return mask + added
        return added.masked_fill(~mask, torch.finfo(added.dtype).min)

    def add_positions(self, count: int) -> tuple[Tensor, Tensor, int]:
        """Room for more positions, counted already; the caller fills it: storage of keys, of values, and the first
        row."""
        keys, start = cast(Tensor, self.keys), self.get_seq_length()
        storage = self._with_room(keys, start, start + count)
        self.keys, self.values = (each[:, :, : start + count] for each in storage)
        return *storage, start

    def _with_room(self, like: Tensor, start: int, end: int) -> tuple[Tensor, Tensor]:
        """The storage behind `self.keys`, or a larger copy where it is full or beam search has replaced the keys."""
        if self.storage is not None and self.storage[0].shape[2] >= end and len(self.storage[0]) == len(like):
            own = not start or cast(Tensor, self.keys).data_ptr() == self.storage[0].data_ptr()
            if own:
                return self.storage
        shape = (like.shape[0], like.shape[1], end + ROOM, like.shape[3])
        grown = like.new_empty(shape), like.new_empty(shape)
        if start:
            grown[0][:, :, :start], grown[1][:, :, :start] = cast(Tensor, self.keys), cast(Tensor, self.values)
        self.storage = grown
        return grown


class MemoryCache(Cache):
    """A KV cache that opens with memory: each layer lays its prefix down when it first runs. It answers one prompt."""

    def __init__(self, prefix: Prefix, prefix_length: int, model: LlamaModel, buffer: PrefixBuffer | None = None):
        storage = buffer.storage if buffer else {}
        layers = [PrefixLayer(prefix_length, storage.get(index)) for index in range(len(model.layers))]
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
        start, held = 0, buffer.held.get(index, [])
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


def rotated(heads: Tensor, cos: Tensor, sin: Tensor, out: Tensor | None = None) -> Tensor:
    """RoPE of heads (B, heads, n, head dim) by cos and sin (1, 1, n, head dim), perhaps put into `out`.

    Each product is rounded, as in transformers; what `addcmul` does depends on the processor.
    """
    return torch.add(torch.mul(heads, cos, out=out), rotate_half(heads) * sin, out=out)


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


def split_heads(joined: Tensor, attention: LlamaAttention) -> tuple[Tensor, Tensor]:
    """The inverse of the joining: (B, P, 2 · kv heads · head dim) -> keys and values (B, kv heads, P, head dim)."""
    heads = joined.unflatten(-1, (2, -1, attention.head_dim))
    return heads[:, :, 0].transpose(1, 2), heads[:, :, 1].transpose(1, 2)

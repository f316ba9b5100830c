"""One layer's share of a cache that opens with memory: what is laid before a prompt, and where it is kept meanwhile.

A prefix comes in segments (bos, retrieved, θ). A segment with a key is unchanged for as long as its key is; a
`PrefixBuffer` keeps its keys and values between questions, so that an unchanged θ is projected once and never copied.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.cache_utils import DynamicLayer
from transformers.models.llama.modeling_llama import LlamaAttention, rotate_half

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

    @property
    def stands(self) -> bool:
        """Whether it stays as it is from question to question, and need not be projected: θ's keys and values."""
        return self.projected and self.key is not None


Prefix = Callable[[int, Tensor], Tensor | Sequence[Segment]]
"""(layer index, that layer's normed input (B, n, d)) -> the memory the layer attends to: tokens, or segments of it."""


class PrefixBuffer:
    """Keys and values that outlive a question: per layer one preallocated pair (B, heads, capacity, head dim).

    relays: θ is not among them; it is laid anew at each step, into one pair that all layers share (`RelaidLayer`).
    """

    def __init__(self, relays: bool = False) -> None:
        self.relays = relays
        self.storage: dict[int, tuple[Tensor, Tensor]] = {}
        self.held: dict[int, list[tuple[int, int, Hashable]]] = {}
        self.rope: tuple[Tensor, Tensor] | None = None
        self._shared: tuple[Tensor, Tensor] | None = None

    def shared(self, like: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """The pair that layers share, with room for `length` positions of heads such as those of `like`."""
        if self._shared is None or self._shared[0].shape[2] < length or self._shared[0].dtype != like.dtype:
            shape = (1, like.shape[1], length + ROOM, like.shape[3])
            self._shared = None  # before the larger pair is made
            self._shared = like.new_empty(shape), like.new_empty(shape)
        return self._shared

    @property
    def num_bytes(self) -> int:
        pairs = [*self.storage.values(), *([] if self._shared is None else [self._shared])]
        return sum(keys.nbytes + values.nbytes for keys, values in pairs)


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


class Standing(NamedTuple):
    """A segment that is laid anew at each step: `joined` (1, P, 2 · kv heads · head dim), from position `start` on, and
    the position of each token, `places` (P,), where the model computes."""

    start: int
    joined: Tensor
    places: Tensor


class Laid(NamedTuple):
    """Keys and values (1, kv heads, P, head dim) from position `start` on."""

    start: int
    keys: Tensor
    values: Tensor


class RelaidLayer(PrefixLayer):
    """One layer whose θ is not kept a second time: the prefixes of all layers are laid into one pair of tensors.

    On a GPU turning 10,240 keys takes microseconds, and keeping them laid 40 MB a layer. What was retrieved and the
    prompt are kept.
    """

    def __init__(self, prefix_length: int, buffer: PrefixBuffer):
        super().__init__(prefix_length)
        self.buffer = buffer
        self.standing: list[Standing] | None = None

    def get_seq_length(self) -> int:
        return super().get_seq_length() if self.standing is None else self.length

    def hold(self, standing: list[Standing], kept: list[Laid], rope: tuple[Tensor, Tensor]) -> None:
        """Take a prefix in: what is laid at each step, and what is laid already. rope: by position, (P, head dim)."""
        self.standing, self.kept, self.rope, self.length = standing, kept, rope, self.prefix_length
        self.lazy_initialization(standing[0].joined, standing[0].joined)

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        if self.standing is None:  # several prompts at once, or hidden states
            return super().update(key_states, value_states, *args, **kwargs)
        if self.length > self.prefix_length:  # the last that is kept is what the prompt has so far
            _, keys, values = self.kept.pop()
            tail = torch.cat([keys, key_states], dim=2), torch.cat([values, value_states], dim=2)
        else:
            tail = key_states, value_states
        self.kept.append(Laid(self.prefix_length, *tail))
        self.length += key_states.shape[2]
        keys, values = self.buffer.shared(key_states, self.length)
        for start, *laid in self.kept:
            rows = slice(start, start + laid[0].shape[2])
            keys[:, :, rows], values[:, :, rows] = laid
        for start, joined, places in self.standing:
            rows = slice(start, start + joined.shape[1])
            heads = joined.unflatten(-1, (2, -1, keys.shape[3]))
            values[:, :, rows] = heads[:, :, 1].transpose(1, 2)
            cos, sin = (each[places][None, None] for each in self.rope)
            rotated(heads[:, :, 0].transpose(1, 2), cos, sin, out=keys[:, :, rows])
        return keys[:, :, : self.length], values[:, :, : self.length]


def rotated(heads: Tensor, cos: Tensor, sin: Tensor, out: Tensor | None = None) -> Tensor:
    """RoPE of heads (B, heads, n, head dim) by cos and sin (1, 1, n, head dim), perhaps put into `out`.

    Each product is rounded, as in transformers; what `addcmul` does depends on the processor.
    """
    return torch.add(torch.mul(heads, cos, out=out), rotate_half(heads) * sin, out=out)


def split_heads(joined: Tensor, attention: LlamaAttention) -> tuple[Tensor, Tensor]:
    """The inverse of the joining: (B, P, 2 · kv heads · head dim) -> keys and values (B, kv heads, P, head dim)."""
    heads = joined.unflatten(-1, (2, -1, attention.head_dim))
    return heads[:, :, 0].transpose(1, 2), heads[:, :, 1].transpose(1, 2)

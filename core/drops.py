"""Which tokens leave θ when a block arrives? Replaceable policies; the paper draws them at random, layer by layer."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from .short_term import ShortTerm


class Pool(NamedTuple):
    """What a policy may look at: θ (`short.pool` are its tokens (L, N, w)), and ages and blocks (L, N) int64, oldest
    slot first."""

    short: ShortTerm
    ages: Tensor
    blocks: Tensor


DropPolicy = Callable[[Pool, int, torch.Generator], Tensor]
"""(pool, count, generator) -> slots to drop (L, count) int64, ascending in every layer."""


def random_per_layer(pool: Pool, count: int, generator: torch.Generator) -> Tensor:
    """Paper §3.1: `count` uniformly random tokens, drawn independently in every layer."""
    return torch.rand(pool.ages.shape, generator=generator).topk(count).indices.sort().values


def random_shared(pool: Pool, count: int, generator: torch.Generator) -> Tensor:
    """MemoryLLM: one draw for all layers."""
    layers, size = pool.ages.shape
    return torch.rand(size, generator=generator).topk(count).indices.sort().values.expand(layers, -1)


def oldest(pool: Pool, count: int, generator: torch.Generator) -> Tensor:
    """The tokens of the largest age, a baseline of research on eviction: recall stays whole, then ends at once."""
    return pool.ages.topk(count).indices.sort().values


class Recorded:
    """Plays back given slots, one (L, count) or (1, count) tensor a write. Raises ValueError when they run out."""

    def __init__(self, drops: Iterable[Tensor]):
        self.drops = iter(drops)

    def __call__(self, pool: Pool, count: int, generator: torch.Generator) -> Tensor:
        slots = next(self.drops, None)
        if slots is None:
            raise ValueError("There are more writes than recorded drops; record one tensor of slots per write.")
        return slots.expand(len(pool.ages), -1)


DROPS: dict[str, DropPolicy] = {"per_layer": random_per_layer, "shared": random_shared}

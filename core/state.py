"""What a memory is made of at one moment, and where it starts."""

from dataclasses import dataclass, field, replace
from itertools import count
from typing import NamedTuple

import torch
from torch import Tensor

from .config import MPlusConfig
from .log import TokenLog
from .placement import Placement
from .sources import Receipt


class Tokens(NamedTuple):
    """Memory tokens of all layers, in the form they are stored in.

    hidden (L, k, d): the states themselves. projected (L, k, w): what they contribute as keys and values, if that form
    is stored (`core.cache.project`), with their retriever keys (L, k, r), which could not be made from it later.
    """

    hidden: Tensor
    projected: Tensor | None = None
    keys: Tensor | None = None

    @property
    def stored(self) -> Tensor:
        return self.hidden if self.projected is None else self.projected


@dataclass
class State:
    """Everything a memory is. Tensors in it are never changed in place, logs only through forks.

    pool (L, N, w) where `Placement.short` says; stamp, block, slot (L, N) int64 on the CPU, oldest slot
    first; a log a layer.
    newest (L, K, d): the newest block as hidden states, for the next write. keys (L, N, r): retriever keys of θ, kept
    only where the pool is projected and they could not be made later. version: changes whenever θ does.
    clock: memory tokens written so far. written: False only for a MemoryLLM checkpoint before its first write.
    """

    pool: Tensor
    newest: Tensor
    keys: Tensor | None
    stamp: Tensor
    block: Tensor
    slot: Tensor
    logs: list[TokenLog]
    clock: int = 0
    next_block: int = 1
    next_receipt: int = 1
    version: int = 0
    written: bool = True
    receipts: dict[int, Receipt] = field(default_factory=dict)
    block_owner: dict[int, tuple[int, int]] = field(default_factory=dict)  # block -> (receipt, chunk)

    def fork(self) -> "State":
        logs = [log.fork() for log in self.logs]
        return replace(self, logs=logs, receipts=dict(self.receipts), block_owner=dict(self.block_owner))

    def placed(self, place: Placement) -> "State":
        """This state with θ where `place` keeps it."""
        keys, device = self.keys, place.short
        self.pool, self.newest = place.short_pool(self.pool), self.newest.to(device)
        self.keys = None if keys is None else keys.to(device)
        return self


@dataclass(frozen=True)
class Snapshot:
    """A moment of a memory, to go back to. Opaque; made by `Memory.snapshot`."""

    state: State
    random: Tensor


@dataclass(frozen=True)
class Found:
    """What one layer retrieved, oldest first. rows, ages, blocks, slots (R,) int64; tokens (R, d) where Θ lives.

    every_score (m,) of all rows of Θ, and which of them are alive (None: all); empty where nothing had to be scored.
    """

    rows: Tensor
    tokens: Tensor
    ages: Tensor
    blocks: Tensor
    slots: Tensor
    every_score: Tensor
    alive: Tensor | None = None

    @property
    def candidates(self) -> Tensor:
        """The rows that were scored, ascending."""
        return torch.arange(len(self.every_score)) if self.alive is None else self.alive.nonzero().flatten()

    @property
    def scores(self) -> Tensor:
        """The scores of the candidates."""
        return self.every_score if self.alive is None else self.every_score[self.alive]


_versions = count(1)


def next_version() -> int:
    """A number no other content of θ has in this process; buffers tell by it whether they are still right."""
    return next(_versions)


def initial_state(config: MPlusConfig, tokens: Tokens, logs: list[TokenLog] | None, written: bool) -> State:
    """The state of a memory that has read nothing: the checkpoint's θ and its logs, or empty ones.

    Raises ValueError if the shape of θ is not the configuration's.
    """
    pool = tokens.stored.detach()
    expected = (config.num_hidden_layers, config.pool_size, config.hidden_size)
    if tuple(tokens.hidden.shape) != expected:
        raise ValueError(
            f"The initial pool has shape {tuple(tokens.hidden.shape)}; the configuration asks for {expected}."
        )
    layers, size = pool.shape[:2]
    place = torch.arange(size).expand(layers, -1)
    if logs is None:
        width = (pool.shape[-1], config.retriever_size, pool.dtype)
        logs = [TokenLog.empty(*width) for _ in range(layers)] if config.num_retrieved else []
    first_free = 1 + -(-size // config.block_size)
    highest = max([int(log.block.max()) for log in logs if log.length], default=0)
    # The initial tokens of θ count as written just before the clock started; as released, they have age 0 there.
    stamp = place - size + 1 if config.rules == "paper" else torch.zeros_like(place)
    return State(
        pool=pool,
        newest=tokens.hidden[:, -config.block_size :].detach().clone(),
        keys=None if tokens.keys is None else tokens.keys.detach(),
        version=next_version(),
        stamp=stamp,
        block=1 + place // config.block_size,
        slot=place % config.block_size,
        logs=[log.fork() for log in logs],
        next_block=max(first_free, highest + 1),
        written=written,
    )


def pool_rows(tokens: Tensor, rows: Tensor) -> Tensor:
    """tokens (L, N, d) at rows (L, m) -> (L, m, d), wherever the tokens live."""
    return tokens.gather(1, rows.to(tokens.device)[..., None].expand(-1, -1, tokens.shape[-1]))


def renewed(tokens: Tensor, kept: Tensor, new: Tensor) -> Tensor:
    """tokens (L, N, d) at rows kept (L, N - k), then new (L, k, d), in one copy."""
    out, kept = torch.empty_like(tokens, pin_memory=tokens.is_pinned()), kept.to(tokens.device)
    for old, rows, target in zip(tokens, kept, out, strict=True):
        torch.index_select(old, 0, rows, out=target[: len(rows)])
    out[:, kept.shape[1] :] = new.detach()
    return out


def delete_blocks(state: State, blocks: list[int], initial: State, projected: bool) -> int:
    """Remove every token of these blocks from θ and Θ, in place; returns how many, over all layers.

    Survivors keep their values and their order. Tokens of the initial θ return to the free places, at the old end:
    those that are nowhere any more, then those in Θ, which leave it, so that no token is in two places.
    """
    doomed = torch.tensor(blocks, dtype=torch.int64)
    removed = sum(log.kill(torch.isin(log.block, doomed)) for log in state.logs)
    gone = torch.isin(state.block, doomed)
    for block in blocks:
        del state.block_owner[block]
    if not gone.any():
        return removed
    block_size = state.newest.shape[1]
    rows = torch.stack([_refilled(state, initial, layer, gone[layer]) for layer in range(len(gone))])
    for name in ("pool", "stamp", "block", "slot", *(["keys"] if state.keys is not None else [])):
        now, then = getattr(state, name), getattr(initial, name)
        places = rows.to(now.device)
        setattr(
            state,
            name,
            torch.stack(
                [torch.cat([old.to(here.device), here])[at] for old, here, at in zip(then, now, places, strict=True)]
            ),
        )
    if not projected:
        state.newest = state.pool[:, -block_size:]
    elif bool(gone[:, -block_size:].any()):  # what stood before the deleted block is no longer known as hidden states
        state.newest = initial.newest.to(state.newest.device)
    state.written = initial.written or not bool(gone.all())
    state.version = next_version()
    return removed + int(gone.sum())


def _refilled(state: State, initial: State, layer: int, gone: Tensor) -> Tensor:
    """The new θ of a layer (N,), as rows of [initial θ | θ]: survivors, and initial tokens where some are `gone`."""
    size, count = len(gone), int(gone.sum())
    kept = size + (~gone).nonzero().flatten()
    if not initial.written and len(kept):  # there is no initial θ worth returning to: tiled, as in a first write
        return torch.cat([kept.repeat(-(-count // len(kept)))[:count], kept])
    first, now = (_places(each.block[layer], each.slot[layer], state) for each in (initial, state))
    rank = 2 * torch.isin(first, now[~gone]).long()
    log = state.logs[layer] if state.logs else None
    stored = _places(log.block, log.slot, state) if log else first[:0]
    rank += torch.isin(first, stored).long()
    back = rank.sort(stable=True).indices[:count]
    if log is not None:
        log.kill(torch.isin(stored, first[back]))
    rows = torch.cat([back, kept])
    # Initial tokens stand in their first order, before all that was written since, which stands as it is.
    return rows[torch.cat([first, now])[rows].clamp(max=int(first.max()) + 1).sort(stable=True).indices]


def _places(block: Tensor, slot: Tensor, state: State) -> Tensor:
    """One number for a token's block and place in it."""
    return block * state.newest.shape[1] + slot

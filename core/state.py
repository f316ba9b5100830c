"""What a memory is made of at one moment, and where it starts."""

from dataclasses import dataclass, field, replace
from itertools import count
from typing import NamedTuple

import torch
from torch import Tensor

from .config import MPlusConfig
from .log import TokenLog
from .placement import Placement
from .short_term import ShortTerm
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
    """Everything a memory is. Tensors in it are never changed in place, θ and logs only through forks.

    short: θ, with retriever keys only where it is projected and they could not be made later; stamp, block, slot (L, N)
    int64 on the CPU, of its tokens, oldest first; a log a layer.
    newest (L, K, d): the newest block as hidden states, for the next write. version: changes whenever θ does.
    clock: memory tokens written so far. written: False only for a MemoryLLM checkpoint before its first write.
    """

    short: ShortTerm
    newest: Tensor
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

    @property
    def pool(self) -> Tensor:
        """θ's tokens (L, N, w), oldest first, as a copy; others may be put in their place."""
        return self.short.pool

    @pool.setter
    def pool(self, tokens: Tensor) -> None:
        self.short, self.version = ShortTerm(tokens, self.keys), next_version()

    @property
    def keys(self) -> Tensor | None:
        """θ's retriever keys (L, N, r), oldest first, as a copy, where they are kept."""
        return self.short.pool_keys

    def fork(self) -> "State":
        parts = {"short": self.short.fork(), "logs": [log.fork() for log in self.logs]}
        return replace(self, **parts, receipts=dict(self.receipts), block_owner=dict(self.block_owner))

    def placed(self, place: Placement) -> "State":
        """This state with θ where `place` keeps it."""
        self.short, self.newest = self.short.placed(place), self.newest.to(place.short)
        return self


@dataclass(frozen=True)
class Snapshot:
    """A moment of a memory, to go back to. Opaque; made by `Memory.snapshot`, or by a reader, which names the model.

    projected: the form of its tokens. owner: the fingerprint of the model they are of, where it is known.
    """

    state: State
    random: Tensor
    projected: bool
    owner: str = ""

    @property
    def kind(self) -> str:
        """What a memory must be to become this."""
        form = "projected" if self.projected else "hidden"
        long = f"Θ of {len(self.state.logs)} layers" if self.state.logs else "no Θ"
        return f"a θ of shape {tuple(self.state.short.tokens.shape)} in the {form} form and {long}"


@dataclass(frozen=True)
class Found:
    """What one layer retrieved, oldest first: rows, ages, blocks, slots (R,) int64. The tokens are the log's to `take`.

    every_score (m,) of all rows of Θ, and which of them are alive (None: all); empty where nothing had to be scored.
    """

    rows: Tensor
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
        short=ShortTerm(pool, tokens.keys),
        newest=tokens.hidden[:, -config.block_size :].detach().clone(),
        version=next_version(),
        stamp=stamp,
        block=1 + place // config.block_size,
        slot=place % config.block_size,
        logs=[log.fork() for log in logs],
        next_block=max(first_free, highest + 1),
        written=written,
    )


def first_write(state: State, block: Tokens, number: int) -> None:
    """MemoryLLM before its first write: the block is tiled to fill θ, the remainder with its youngest tokens."""
    size, block_size = state.block.shape[1], state.newest.shape[1]
    layers, count, _ = block.stored.shape
    tiles = torch.arange(count).repeat(size // count)
    tiles = torch.cat([tiles, torch.arange(count)[count - size % count :]]) if size % count else tiles
    state.short = ShortTerm(block.stored[:, tiles].to(state.short.tokens))
    state.newest = block.hidden[:, tiles[-block_size:]].detach().to(state.newest)
    state.block = torch.full((layers, size), number)
    state.slot = (tiles + block_size - count).expand(layers, -1)
    state.written = True


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
    pool = _joined(initial.pool, state.pool, rows)
    keys, first = state.keys, initial.keys
    keys = None if keys is None or first is None else _joined(first, keys, rows)
    state.short, state.version = ShortTerm(pool, keys), next_version()
    for name in ("stamp", "block", "slot"):
        setattr(state, name, _joined(getattr(initial, name), getattr(state, name), rows))
    if not projected:
        state.newest = pool[:, -block_size:]
    elif bool(gone[:, -block_size:].any()):  # what stood before the deleted block is no longer known as hidden states
        state.newest = initial.newest.to(state.newest.device)
    state.written = initial.written or not bool(gone.all())
    return removed + int(gone.sum())


def _joined(initial: Tensor, now: Tensor, rows: Tensor) -> Tensor:
    """[initial | now] (L, 2N, ...) at rows (L, N), where `now` is."""
    joined = zip(initial, now, rows.to(now.device), strict=True)
    return torch.stack([torch.cat([old.to(new.device), new])[at] for old, new, at in joined])


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

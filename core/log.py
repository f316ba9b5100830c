"""Θ of one layer: an append-only log of memory tokens. Forks share rows, so snapshots cost nothing."""

from typing import Any

import torch
from torch import Tensor

DEAD = 0
"""The block number of a row that has been evicted or deleted. Real blocks count from 1."""


class TokenLog:
    """Rows of one layer, in the order in which they left θ.

    tokens (m, d) and keys (m, r) in the model's dtype, on `device`; on the CPU int64 columns (m,): born (the clock at
    which the age was 0), block (the write it came from, DEAD once gone) and slot (its place in that block), and recall
    (m,) float64. Rows before `merged` are Θ proper, the rest are pending (released rules; under the paper's rules all
    are merged).

    tokens, keys, born and slot are only ever appended to, so that forks can share one buffer; block and recall, which
    change in place, are small and copied by each fork when it needs to.
    """

    SLACK = 8  # dead rows are kept until they are more than one in so many

    reserve = 0
    """Rows that buffers have room for as soon as they grow at all. Memory of a host that is not used costs nothing, and
    a buffer that has room need not be copied, which would stall one write in many."""

    pinned = False
    """Whether keys are kept where a GPU can fetch them while it computes."""

    APPENDED = ("tokens", "keys", "born", "slot")
    CHANGED = ("block", "recall")

    def __init__(
        self, tokens: Tensor, keys: Tensor, born: Tensor, block: Tensor, slot: Tensor, recall: Tensor,
        device: torch.device | str = "cpu",
    ):  # fmt: skip
        columns = {"tokens": tokens, "keys": keys, "born": born, "block": block, "slot": slot, "recall": recall}
        self._columns = {
            name: column.detach().to(device if name in ("tokens", "keys") else "cpu")
            for name, column in columns.items()
        }
        self.length = self.merged = len(tokens)
        self._tip = [self.length]  # shared by forks: rows in use in the shared buffers
        self.num_dead = int((self.block == DEAD).sum())
        self._own_block = False  # whether `block` may be changed where it stands
        self._queue: tuple[Tensor, int, int] | None = None  # rows to evict next; see `_oldest`

    @classmethod
    def empty(cls, d: int, r: int, dtype: torch.dtype, device: torch.device | str = "cpu") -> "TokenLog":
        whole = torch.zeros(0, dtype=torch.int64)
        tokens, keys = torch.zeros(0, d, dtype=dtype), torch.zeros(0, r, dtype=dtype)
        return cls(tokens, keys, whole, whole, whole, whole.double(), device)

    def __len__(self) -> int:
        """Rows that are alive, pending ones included."""
        return self.length - self.num_dead

    def __getattr__(self, name: str) -> Tensor:
        if name in ("tokens", "keys", "born", "slot", "block", "recall"):
            return self._columns[name][: self.length]
        raise AttributeError(name)

    @property
    def live(self) -> Tensor:
        """(m,) bool: which rows still exist."""
        return self.block != DEAD

    def append(self, **rows: Tensor) -> None:
        """Add rows to every column. Amortised constant time: buffers double, and forks share what came before."""
        count = len(rows["tokens"])
        end = self.length + count
        own_tip = self._tip[0] == self.length  # nobody else has written behind our last row
        if not own_tip or end > len(self._columns["tokens"]):
            # A GPU copies fast and has little room: there a buffer grows often, by little.
            room = end // (32 if self._columns["tokens"].is_cuda else 4)
            self._columns = {
                name: _grown(column[: self.length], max(end + room, self.reserve), self.pinned and name == "keys")
                for name, column in self._columns.items()
            }
            self._tip, self._own_block = [self.length], True
        for name, new in rows.items():
            self._columns[name][self.length : end] = new.detach().to(self._columns[name])
        self.length = self._tip[0] = end

    def take(self, rows: Tensor, device: torch.device | None = None) -> Tensor:
        """The tokens of some rows (R,), as (R, d), on `device` or where they are kept."""
        tokens = self.tokens
        if not self.pinned or device is None:
            return tokens.index_select(0, rows.to(tokens.device)).to(device or tokens.device)
        found = tokens.new_empty((len(rows), tokens.shape[1]), pin_memory=True)
        return torch.index_select(tokens, 0, rows, out=found).to(device, non_blocking=True)

    def adopt(self, log: "TokenLog") -> "TokenLog":
        """The rows of another log, kept as and where this one keeps its own."""
        columns = (getattr(log, name) for name in ("tokens", "keys", "born", "block", "slot", "recall"))
        twin = TokenLog(*columns, device=self._columns["keys"].device)
        twin.merged, twin.reserve, twin.pinned = log.merged, self.reserve, self.pinned
        return twin

    def set(self, **columns: Tensor) -> None:
        """Replace `block` or `recall` (m,), leaving forks as they were."""
        for name, column in columns.items():
            assert name in self.CHANGED, "only block and recall may change after a row is written"
            self._columns[name] = _grown(column, len(self._columns["tokens"]))

    def kill(self, rows: Tensor) -> int:
        """Remove rows, given by index without repeats or by mask. Returns how many were alive; may compact."""
        rows = rows.nonzero().flatten() if rows.dtype == torch.bool else rows
        rows = rows[self.block[rows] != DEAD]
        if len(rows):
            if not self._own_block:
                self.set(block=self.block)
                self._own_block = True
            self.block[rows] = DEAD
            self.num_dead += len(rows)
        if self.num_dead * self.SLACK > self.length:
            self.compact()
        return len(rows)

    def evict(self, count: int) -> int:
        """Remove the `count` oldest rows; of equally old ones the earlier. Returns how many there were to remove."""
        rows = self._oldest(min(count, len(self)))
        return self.kill(rows)

    def _oldest(self, count: int) -> Tensor:
        """The `count` oldest rows, taken from a queue: searching all rows at every write would cost as much as Θ is
        large. The queue holds every row not younger than `bound` among the first `seen`, oldest first."""
        if self._queue is not None:
            queue, bound, seen = self._queue
            late = seen + (self.born[seen:] <= bound).nonzero().flatten()  # entered since, and old enough
            if len(late):
                queue = torch.cat([queue, late])
                queue = queue[self.born[queue].sort(stable=True).indices]
            if bool((self.block[queue[:count]] == DEAD).any()):
                queue = queue[self.block[queue] != DEAD]
            if len(queue) >= count:
                self._queue = queue[count:], bound, self.length
                return queue[:count]
        born = self.born.masked_fill(~self.live, torch.iinfo(torch.int64).max)
        enough = min(len(self), max(count, 4096, self.length // 8))
        bound = int(born.kthvalue(enough).values) if enough else 0
        queue = ((born <= bound) & self.live).nonzero().flatten()
        queue = queue[born[queue].sort(stable=True).indices]
        self._queue = queue[count:], bound, self.length
        return queue[:count]

    def compact(self) -> None:
        """Drop dead rows from the buffers (into new ones: forks keep theirs)."""
        live = self.live
        merged = int(live[: self.merged].sum())
        self._columns = {name: column[: self.length][live.to(column.device)] for name, column in self._columns.items()}
        self.length, self.merged, self.num_dead = len(self._columns["tokens"]), merged, 0
        self._tip, self._own_block, self._queue = [self.length], True, None

    def fork(self) -> "TokenLog":
        """An independent log with the same rows, sharing their storage."""
        self._own_block = False
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin._columns = dict(self._columns)
        return twin

    def independent(self) -> "TokenLog":
        """A log with these rows that nothing written through others can change: already this one."""
        return self

    def with_tokens(self, tokens: Tensor) -> "TokenLog":
        """A log of the same rows that stores these tokens (m, w) instead."""
        device = self._columns["keys"].device
        others = {name: getattr(self, name) for name in ("keys", "born", "block", "slot", "recall")}
        twin = TokenLog(tokens, **others, device=device)
        twin.merged = self.merged
        return twin

    @property
    def num_bytes(self) -> int:
        """Bytes of the rows in use, dead ones included."""
        return sum(column[: self.length].nbytes for column in self._columns.values())


def _grown(column: Tensor, capacity: int, pinned: bool = False) -> Tensor:
    grown = column.new_empty((capacity, *column.shape[1:]), pin_memory=pinned)
    grown[: len(column)] = column
    return grown


def pack_logs(logs: list[TokenLog]) -> dict[str, Tensor]:
    """The live rows of all layers as named tensors, ready for one safetensors file."""
    packed = {}
    for layer, log in enumerate(logs):
        live = log.live
        for name in (*TokenLog.APPENDED, *TokenLog.CHANGED):
            packed[f"long.{layer}.{name}"] = getattr(log, name).cpu()[live].contiguous()
        packed[f"long.{layer}.merged"] = live[: log.merged].sum()
    return packed


def unpack_logs(packed: dict[str, Tensor], dtype: torch.dtype, num_layers: int, d: int, r: int) -> list[TokenLog]:
    """The inverse of `pack_logs`, tokens and keys in `dtype`.

    Raises ValueError if it is not Θ of `num_layers` layers with tokens of width d and keys of width r.
    """
    found = sum(name.startswith("long.") and name.endswith(".merged") for name in packed)
    if found != num_layers:
        raise ValueError(f"it holds Θ of {found} layers, expected {num_layers}")
    return [_unpack(packed, f"long.{layer}.", dtype, d, r) for layer in range(num_layers)]


def _unpack(packed: dict[str, Tensor], prefix: str, dtype: torch.dtype, d: int, r: int) -> TokenLog:
    kinds = {"tokens": dtype, "keys": dtype, "recall": torch.float64}
    columns: dict[str, Any] = {}
    for name in (*TokenLog.APPENDED, *TokenLog.CHANGED):
        column = packed.get(prefix + name, torch.empty(()))
        length = len(columns["tokens"]) if columns else column.numel() // d
        expected = (length, *{"tokens": (d,), "keys": (r,)}.get(name, ()))
        if tuple(column.shape) != expected:
            raise ValueError(f"{prefix}{name} is absent or has shape {tuple(column.shape)}, expected {expected}")
        columns[name] = column.to(kinds.get(name, torch.int64))
    log, merged = TokenLog(**columns), packed.get(f"{prefix}merged")
    if merged is None or merged.dim() or not 0 <= int(merged) <= log.length:
        raise ValueError(f"{prefix}merged is not a number of rows")
    log.merged = int(merged)
    return log

"""Θ of one layer on disk: append-only columns in memory-mapped files, behind the interface of `TokenLog`.

Rows are mapped, not read: a search brings in the keys, a retrieved token its own page. For the paper's rules, under
which nothing but death changes a row. What makes the layers one memory that outlives the process is `core.tier`.
"""

import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .log import DEAD, TokenLog

MAPPED = ("tokens", "keys", "born", "slot")
STORED = (*MAPPED, "block")
ROOM = 1 << 16
"""Rows a file grows by at least. Files are sparse: room that is not used takes no disk."""
ALLOTTED = 1 << 10
"""Rows beyond those in use that the disk is asked for at once."""


class DiskLog(TokenLog):
    """One layer's rows on disk. On disk there is only one future: a fork may go back and write over what its elders
    appended later, and whoever then reads or writes by those elders gets a ValueError.

    Raises ValueError for files that are missing or hold fewer than `length` rows.
    """

    SLACK = 0  # never compacts by itself

    def __init__(
        self, folder: Path, layer: int, widths: tuple[int, int], dtype: torch.dtype, length: int, dead: Tensor
    ):
        self._files = {name: folder / f"{layer}.{name}" for name in STORED}
        self._shapes: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
            "tokens": ((widths[0],), dtype), "keys": ((widths[1],), dtype),
            "born": ((), torch.int64), "slot": ((), torch.int64), "block": ((), torch.int64),
        }  # fmt: skip
        self.length = 0
        self._tip, self._allotted = [length], length
        self.returns: list[int] = []  # shared by forks: at which rows somebody has begun to write over later ones
        self._seen = 0  # how many of these this log knows of: it made them, or was forked from one that did
        self._whole(length)
        self._queue, self._own_block = None, True
        self._columns = {"block": torch.zeros(0, dtype=torch.int64), "recall": torch.zeros(0, dtype=torch.float64)}
        self._map(max(length, 1))
        self.length = self.merged = length
        # A private mapping: deaths are marked in it, not in the file, and pages come in when they are looked at.
        self._columns["block"] = torch.from_file(
            str(self._files["block"]), shared=False, size=len(self._block_file), dtype=torch.int64
        )
        self.dead = dead
        self._columns["block"][dead] = DEAD
        self.num_dead = len(dead)

    def _whole(self, length: int) -> None:
        for name, (shape, dtype) in self._shapes.items():
            path, wanted = self._files[name], length * (shape[0] if shape else 1) * dtype.itemsize
            size = path.stat().st_size if path.is_file() else 0
            if size < wanted:
                raise ValueError(f"{path} holds {size} of {wanted} bytes; restore the folder from another copy.")

    def _map(self, capacity: int) -> None:
        for name, (shape, dtype) in self._shapes.items():
            path, size = self._files[name], capacity * (shape[0] if shape else 1)
            with path.open("ab") as file:
                file.truncate(max(size * dtype.itemsize, path.stat().st_size))
            column = torch.from_file(str(path), shared=True, size=size, dtype=dtype).view(capacity, *shape)
            if name == "block":
                self._block_file = column
            else:
                self._columns[name] = column
        for name in ("block", "recall"):
            grown = np.zeros(capacity, np.float64 if name == "recall" else np.int64)  # no time until it is touched
            grown[: self.length] = self._columns[name][: self.length]
            self._columns[name] = torch.from_numpy(grown)
        self._own_block = True

    def _allot(self, rows: int) -> None:
        """Have room on the disk itself for so many rows, or an OSError: a full disk kills whoever writes to a map."""
        rows = min(rows, len(self._columns["tokens"]))
        for name, (shape, dtype) in self._shapes.items() if hasattr(os, "posix_fallocate") else ():
            each = (shape[0] if shape else 1) * dtype.itemsize
            with self._files[name].open("r+b") as file:
                os.posix_fallocate(file.fileno(), self._allotted * each, (rows - self._allotted) * each)
        self._allotted = rows

    def check(self) -> None:
        """ValueError if rows of this log have been written over, or its folder has been closed."""
        lowest = min(self.returns[self._seen :], default=self.length)
        if lowest < 0:
            raise ValueError("This memory's folder has been closed or opened anew; go on with what opened it last.")
        if lowest < self.length:
            raise ValueError("This state of the memory has been written over on disk; go on from the newer one.")

    def close(self) -> None:
        """Let nobody read or write by this log or its forks any more."""
        self.returns.append(-1)

    def __getattr__(self, name: str) -> Tensor:
        if name in (*TokenLog.APPENDED, *TokenLog.CHANGED):
            self.check()
        return super().__getattr__(name)

    def append(self, **rows: Tensor) -> None:
        self.check()
        end = self.length + len(rows["tokens"])
        if end > len(self._columns["tokens"]):
            self._map(end + max(end // 4, ROOM))
        if end > self._allotted:
            self._allot(end + ALLOTTED)
        if self._tip[0] != self.length:
            self.returns.append(self.length)  # what stands behind our last row goes, for all forks
        self._block_file[self.length : end] = rows["block"]
        for name, new in rows.items():
            self._columns[name][self.length : end] = new.detach().to("cpu", self._columns[name].dtype)
        self.length = self._tip[0] = end
        self._seen = len(self.returns)

    def take_over(self, log: TokenLog) -> None:
        """Append the live rows of another log."""
        for rows in log.live.nonzero().flatten().split(ROOM):
            self.append(**{name: getattr(log, name)[rows] for name in (*STORED, "recall")})
        self.merged = self.length

    def kill(self, rows: Tensor) -> int:
        rows = rows.nonzero().flatten() if rows.dtype == torch.bool else rows
        rows = rows[self.block[rows] != DEAD]
        if len(rows):
            self.dead = torch.cat([self.dead, rows])
        return super().kill(rows)

    def independent(self) -> TokenLog:
        """The live rows in RAM: on disk they may be written over."""
        live = self.live
        return TokenLog(*(getattr(self, name)[live] for name in ("tokens", "keys", "born", "block", "slot", "recall")))

    def checksum(self, start: int, end: int, value: int = 0) -> int:
        for name in STORED:
            column = self._block_file if name == "block" else self._columns[name]
            raw: Any = column[start:end].contiguous().view(torch.uint8).numpy()
            value = zlib.crc32(raw, value)
        return value

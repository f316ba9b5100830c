"""Θ on disk: append-only columns in memory-mapped files, behind the interface of `TokenLog`.

A folder holds one file per layer and column, and `commits`: a record per `DiskTier.commit`, with the rows of every
layer from which and up to which it reaches and a checksum of them. What a killed process had not committed is not
there when the folder is opened again. Rows that died are listed in `deaths.<layer>`; they leave the disk when the tier
is compacted, which writes a new generation beside the old one and then changes the name in `tier.json`.

Rows are mapped, not read: a search brings in the keys, a retrieved token its own page. For the paper's rules, under
which nothing but death changes a row. Committed rows survive the death of the process; `flush` makes them survive a
power cut as well.
"""

import json
import os
import shutil
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .commits import Commit, Commits, sync
from .log import DEAD, TokenLog

MAPPED = ("tokens", "keys", "born", "slot")
STORED = (*MAPPED, "block")
ROOM = 1 << 16
"""Rows a file grows by at least. Files are sparse: room that is not used takes no disk."""


class DiskLog(TokenLog):
    """One layer's rows on disk. A fork may go back and write over what its elders appended later; reading those elders
    then raises ValueError, as on disk there is only one future."""

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
        self._tip, self._returns, self._seen = [length], [], 0
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

    def __getattr__(self, name: str) -> Tensor:
        if name in (*TokenLog.APPENDED, *TokenLog.CHANGED) and min(self._returns[self._seen :], default=self.length) < (
            self.length
        ):
            raise ValueError("This state of the memory has been written over on disk; go on from the newer one.")
        return super().__getattr__(name)

    def append(self, **rows: Tensor) -> None:
        end = self.length + len(rows["tokens"])
        if self._tip[0] != self.length:
            self._returns.append(self.length)  # what stood behind our last row is gone, for all forks
        if end > len(self._columns["tokens"]):
            self._map(end + max(end // 4, ROOM))
        self._block_file[self.length : end] = rows["block"]
        for name, new in rows.items():
            self._columns[name][self.length : end] = new.detach().to("cpu", self._columns[name].dtype)
        self.length = self._tip[0] = end
        self._seen = len(self._returns)

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

    def checksum(self, start: int, end: int, value: int = 0) -> int:
        for name in STORED:
            column = self._block_file if name == "block" else self._columns[name]
            raw: Any = column[start:end].contiguous().view(torch.uint8).numpy()
            value = zlib.crc32(raw, value)
        return value


class DiskTier:
    """Θ of all layers in one folder. `logs` takes the place of a memory's logs; call `commit` after every chunk.

    widths: of a memory token and of a retriever key. Raises ValueError if the folder holds a tier of another kind.
    """

    def __init__(self, folder: str | os.PathLike, num_layers: int, widths: tuple[int, int], dtype: torch.dtype):
        self.folder, self.widths, self.dtype = Path(folder), widths, dtype
        kind = {"layers": num_layers, "widths": list(widths), "dtype": str(dtype)}
        self.folder.mkdir(parents=True, exist_ok=True)
        manifest = self.folder / "tier.json"
        known = json.loads(manifest.read_text()) if manifest.is_file() else {**kind, "generation": 0}
        if {name: known.get(name) for name in kind} != kind:
            raise ValueError(f"{self.folder} holds Θ of another kind ({known}); this memory needs {kind}.")
        self._kind, self.generation = kind, known["generation"]
        self._open()
        if not manifest.is_file():
            self._name_generation()

    def _open(self) -> None:
        self._home = self.folder / f"{self.generation:06d}"
        self._home.mkdir(exist_ok=True)
        layers = self._kind["layers"]
        self._commits = Commits(self._home / "commits", layers)
        nothing = (0,) * layers
        _, ends, first, count, _ = self._commits.last or (nothing, nothing, nothing, nothing, 0)
        self.logs: list[DiskLog] = []
        for layer in range(layers):
            path = self._home / f"deaths.{layer}"
            dead = torch.zeros(0, dtype=torch.int64)
            if count[layer]:
                raw = path.read_bytes()[8 * first[layer] : 8 * (first[layer] + count[layer])]
                dead = torch.frombuffer(bytearray(raw), dtype=torch.int64)
            self.logs.append(DiskLog(self._home, layer, self.widths, self.dtype, ends[layer], dead))
        self._ends, self._deaths = list(ends), [log.dead for log in self.logs]
        self._first = list(first)

    def commit(self, logs: list[Any] | None = None) -> None:
        """Make everything that was appended and killed so far part of the tier. `logs`: the memory's present ones."""
        self.logs = self.logs if logs is None else logs
        starts, value = [], 0
        for layer, log in enumerate(self.logs):
            start = min([self._ends[layer], *log._returns[: log._seen]]) if log._returns else self._ends[layer]
            starts.append(min(start, log.length))
            value = log.checksum(starts[-1], log.length, value)
            log._returns.clear()
            log._seen = 0
            if log.dead is not self._deaths[layer]:
                self._note_deaths(layer, log.dead)
        self._ends = [log.length for log in self.logs]
        deaths = tuple(len(log.dead) for log in self.logs)
        self._commits.append(Commit(tuple(starts), tuple(self._ends), tuple(self._first), deaths, value))

    def go_back(self, lengths: list[int], deaths: list[int]) -> list[DiskLog]:
        """The logs as they were with so many rows and deaths; later ones will be written over. ValueError if fewer."""
        wanted = zip(self.logs, lengths, deaths, strict=True)
        if any(log.length < rows or len(log.dead) < gone for log, rows, gone in wanted):
            raise ValueError(f"{self.folder} holds fewer rows than are asked for; its files are incomplete.")
        self.logs = [
            DiskLog(self._home, layer, self.widths, self.dtype, rows, self.logs[layer].dead[:gone])
            for layer, (rows, gone) in enumerate(zip(lengths, deaths, strict=True))
        ]
        self._ends, self._deaths = list(lengths), [log.dead for log in self.logs]
        return self.logs

    def _note_deaths(self, layer: int, dead: Tensor) -> None:
        """Append what died since; where the list has become another one, as after going back, write it anew behind."""
        known, path = self._deaths[layer], self._home / f"deaths.{layer}"
        grows = len(dead) >= len(known) and torch.equal(dead[: len(known)], known)
        with path.open("ab") as file:
            if not grows or file.tell() != 8 * (self._first[layer] + len(known)):
                self._first[layer], known = file.tell() // 8, dead[:0]
            file.write(dead[len(known) :].numpy().tobytes())
        self._deaths[layer] = dead

    def verify(self) -> list[tuple[int, int]]:
        """Read everything; the rows (first, last + 1 of layer 0) of commits whose checksum is wrong. Commits that were
        gone back behind, as after a kill between two saves of θ, are not looked at: they will be written over."""
        stack: list[Commit] = []
        for commit in self._commits:
            while stack and stack[-1].ends[0] > commit.starts[0]:
                stack.pop()  # written over later
            stack.append(commit)
        wrong = []
        for commit in stack:
            if any(end > now for end, now in zip(commit.ends, self._ends, strict=True)):
                continue
            value = 0
            for log, start, end in zip(self.logs, commit.starts, commit.ends, strict=True):
                value = log.checksum(start, end, value)
            if value != commit.checksum:
                wrong.append((commit.starts[0], commit.ends[0]))
        return wrong

    def has_gone_back(self, logs: list[Any]) -> bool:
        """Whether these hold fewer rows, or fewer deaths, than were committed last."""
        known = zip(logs, self._ends, self._deaths, strict=True)
        return any(log.length < end or len(log.dead) < len(dead) for log, end, dead in known)

    def compact(self) -> None:
        """Leave dead rows out, on the disk too. The logs of before may no longer be used; take `logs` anew."""
        self.rewrite(self.logs)

    def rewrite(self, logs: Sequence[TokenLog], prepare: Callable[[], object] = lambda: None) -> None:
        """Hold the live rows of these logs, and nothing else, in new files. Take `logs` anew.

        prepare: called when the new files are whole, but a kill would still leave the old ones in use.
        """
        old_home = self._home
        self._commits.close()
        self.generation += 1
        shutil.rmtree(self.folder / f"{self.generation:06d}", ignore_errors=True)
        self._open()
        for source, target in zip(logs, self.logs, strict=True):
            target.take_over(source)
        self.commit()
        self.flush()
        prepare()
        self._name_generation()
        shutil.rmtree(old_home)

    def _name_generation(self) -> None:
        draft = self.folder / ".tier.json.part"
        draft.write_text(json.dumps({**self._kind, "generation": self.generation}))
        sync(draft)
        os.replace(draft, self.folder / "tier.json")
        sync(self.folder)

    def flush(self) -> None:
        """Hand everything to the disk itself."""
        for path in self._home.iterdir():
            sync(path)
        sync(self._home)

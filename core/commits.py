"""The record file of a disk tier: one line of numbers per commit, appended whole or not at all.

A record says of every layer from which row and up to which it reaches, where its list of deaths begins and how long it
is, and holds a checksum of the rows; a second checksum tells a whole record from half a one.
"""

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Commit(NamedTuple):
    """starts, ends: rows (per layer) it reaches from and up to. first, deaths: its part of the lists of deaths."""

    starts: tuple[int, ...]
    ends: tuple[int, ...]
    first: tuple[int, ...]
    deaths: tuple[int, ...]
    checksum: int


class Commits:
    """A file of records, open to be appended to. Half a record of a process that was killed is cut off."""

    def __init__(self, path: Path, num_layers: int):
        self.path, self.num_layers = path, num_layers
        self._form = struct.Struct(f"<{4 * num_layers}qI")
        self._step = self._form.size + 4
        self.last, end = self._last()
        self._file = path.open("ab")
        self._file.truncate(end)

    def _last(self) -> tuple[Commit | None, int]:
        """The last record that is whole, and where it ends. It is looked for from the end: only there can one break."""
        end = self.path.stat().st_size // self._step * self._step if self.path.is_file() else 0
        while end:
            with self.path.open("rb") as file:
                file.seek(end - self._step)
                if record := self._read(file.read(self._step)):
                    return record, end
            end -= self._step
        return None, 0

    def __iter__(self) -> Iterator[Commit]:
        raw = self.path.read_bytes()
        for start in range(0, len(raw) - self._step + 1, self._step):
            if (record := self._read(raw[start : start + self._step])) is None:
                return
            yield record

    def append(self, commit: Commit) -> None:
        body = self._form.pack(*commit.starts, *commit.ends, *commit.first, *commit.deaths, commit.checksum)
        self._file.write(body + zlib.crc32(body).to_bytes(4, "little"))
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def _read(self, raw: bytes) -> Commit | None:
        if zlib.crc32(raw[:-4]) != int.from_bytes(raw[-4:], "little"):
            return None
        *values, checksum = self._form.unpack(raw[:-4])
        count = self.num_layers
        starts, ends, first, deaths = (tuple(values[start : start + count]) for start in range(0, 4 * count, count))
        return Commit(starts, ends, first, deaths, checksum)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk itself."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

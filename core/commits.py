"""The record files of a disk tier: one line of numbers per commit, appended whole or not at all, and which rows died.

A record says of every layer from which row and up to which it reaches, where its list of deaths begins and how long it
is, and holds a checksum of the rows; a second checksum tells a whole record from half a one.
"""

import errno
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor


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
        self._file, self._end = path.open("ab", buffering=0), end  # what is not written whole must not follow later
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
        self._file.truncate(self._end)  # half a record of a full disk
        if self._file.write(body + zlib.crc32(body).to_bytes(4, "little")) < self._step:
            raise OSError(errno.ENOSPC, f"{self.path} cannot be written: the disk is full.")
        self._end += self._step

    def close(self) -> None:
        self._file.close()

    def _read(self, raw: bytes) -> Commit | None:
        if zlib.crc32(raw[:-4]) != int.from_bytes(raw[-4:], "little"):
            return None
        *values, checksum = self._form.unpack(raw[:-4])
        count = self.num_layers
        starts, ends, first, deaths = (tuple(values[start : start + count]) for start in range(0, 4 * count, count))
        return Commit(starts, ends, first, deaths, checksum)


def read_deaths(path: Path, first: int, count: int) -> Tensor:
    """`count` rows (count,) int64 of a list of deaths, from number `first` on. ValueError if the file holds fewer."""
    raw = path.read_bytes()[8 * first : 8 * (first + count)] if count and path.is_file() else b""
    if len(raw) < 8 * count:
        raise ValueError(f"{path} holds fewer than {count} deaths; restore the folder from another copy.")
    return torch.frombuffer(bytearray(raw), dtype=torch.int64) if count else torch.zeros(0, dtype=torch.int64)


def note_deaths(path: Path, first: int, known: Tensor, dead: Tensor) -> int:
    """Append which rows died since `known`; where the list has become another one, as after going back, write it anew
    behind. Returns where in the file the list begins."""
    grows = len(dead) >= len(known) and torch.equal(dead[: len(known)], known)
    with path.open("ab") as file:
        if not grows or file.tell() != 8 * (first + len(known)):
            file.truncate(file.tell() // 8 * 8)  # of a number of which half was written
            first, known = file.tell() // 8, dead[:0]
        file.write(dead[len(known) :].numpy().tobytes())
    return first


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk itself."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

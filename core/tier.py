"""Θ of all layers in one folder, which outlives the process.

A folder holds one file per layer and column (`core.disk`), and `commits`: a record per `DiskTier.commit`, with the rows
of every layer from which and up to which it reaches and a checksum of them. What a killed process had not committed is
not there when the folder is opened again. Rows that died are listed in `deaths.<layer>`; they leave the disk when the
tier is compacted, which writes a new generation beside the old one and then changes the name in `tier.json`.

Committed rows survive the death of the process; `flush` makes them survive a power cut as well. A folder is open in one
process at a time, and in it for the tier that opened it last (`core.claim`).
"""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .claim import Claim
from .commits import Commit, Commits, note_deaths, read_deaths, sync
from .disk import DiskLog
from .log import TokenLog
from .weights import read_json


class DiskTier:
    """Θ of all layers in one folder. `logs` takes the place of a memory's logs; call `commit` after every chunk.

    widths: of a memory token and of a retriever key. The folder goes over to this tier, from another of this process if
    need be; with `take` False not before `take` is called, and until then nothing may be written.

    Raises ValueError if the folder cannot be written in, is open in another process, is damaged, or holds a tier of
    another kind.
    """

    def __init__(
        self, folder: str | os.PathLike, num_layers: int, widths: tuple[int, int], dtype: torch.dtype, take: bool = True
    ):
        if not os.fspath(folder):
            raise ValueError("The name of the folder is empty; name one for the memory to live in.")
        self.folder, self.widths, self.dtype = Path(folder).resolve(), widths, dtype
        kind = {"layers": num_layers, "widths": list(widths), "dtype": str(dtype)}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"{folder} cannot be made a folder ({error}); name another.") from error
        self._claim = Claim(self.folder, self._let_go)
        try:
            known = self._manifest() or {**kind, "generation": 0}
            if {name: known.get(name) for name in kind} != kind:
                raise ValueError(f"{self.folder} holds Θ of another kind ({known}); this memory needs {kind}.")
            self._kind, self.generation = kind, known["generation"]
            self._open()
        except BaseException:
            self._claim.release()  # an error may live long, and hold what failed
            raise
        if take:
            self.take()

    def take(self) -> None:
        """Become the one tier that writes in the folder."""
        self._claim.take()
        if self._manifest() is None:
            self._name_generation()

    def close(self) -> None:
        """Leave the folder to others. What was not committed is lost."""
        self._claim.release()
        self._let_go()

    def __del__(self) -> None:
        if "logs" in self.__dict__:
            self.close()

    @property
    def held(self) -> bool:
        """Whether the folder is this tier's to write in."""
        return self._claim.held

    def _let_go(self) -> None:
        self._commits.close()
        for log in self.logs:
            log.close()

    def _manifest(self) -> dict[str, Any] | None:
        path = self.folder / "tier.json"
        if path.is_file():
            known = read_json(path)
            if type(known.get("generation")) is not int:
                raise ValueError(f"{path} names no generation of files; restore it from another copy.")
            return known
        later = [home.name for home in self._homes() if int(home.name)]
        if later:
            raise ValueError(f"{path} is missing, which says which of {sorted(later)} holds; restore it.")
        return None

    def _homes(self) -> list[Path]:
        """The folders of all generations that are there; others of such a name are somebody's own."""
        return [home for home in self.folder.glob("[0-9]" * 6) if (home / "commits").is_file()]

    def _folder_of(self, generation: int) -> Path:
        return self.folder / f"{generation:06d}"

    def _open(self) -> None:
        self._home = self._folder_of(self.generation)
        self._home.mkdir(exist_ok=True)
        layers = self._kind["layers"]
        self._commits = Commits(self._home / "commits", layers)
        nothing = (0,) * layers
        _, ends, first, count, _ = self._commits.last or (nothing, nothing, nothing, nothing, 0)
        self._first = list(first)
        deaths = [read_deaths(self._home / f"deaths.{layer}", first[layer], count[layer]) for layer in range(layers)]
        self._stand([self._log(layer, ends[layer], deaths[layer]) for layer in range(layers)])

    def _log(self, layer: int, rows: int, dead: Tensor) -> DiskLog:
        return DiskLog(self._home, layer, self.widths, self.dtype, rows, dead)

    def _stand(self, logs: list[DiskLog]) -> None:
        """These are what the files hold now."""
        self.logs, self._ends, self._deaths = logs, [log.length for log in logs], [log.dead for log in logs]
        self._returns = [log.returns for log in logs]
        self._noted = [0 for _ in logs]

    def owns(self, logs: Sequence[TokenLog]) -> bool:
        """Whether these are logs of the files in use, not of files given up or of RAM."""
        return len(logs) == len(self._returns) and all(
            isinstance(log, DiskLog) and log.returns is returns
            for log, returns in zip(logs, self._returns, strict=True)
        )

    def commit(self, logs: list[Any] | None = None) -> None:
        """Make everything that was appended and killed so far part of the tier. `logs`: the memory's present ones.

        Raises ValueError if the folder is no longer this tier's, or if these logs have been written over.
        """
        logs = self.logs if logs is None else logs
        self.check(logs)
        self.logs, starts, value = logs, [], 0
        for layer, log in enumerate(self.logs):
            returns = self._returns[layer]
            starts.append(min([self._ends[layer], *returns[self._noted[layer] :], log.length]))
            self._noted[layer] = len(returns)
            value = log.checksum(starts[-1], log.length, value)
            if log.dead is not self._deaths[layer]:
                known, path = self._deaths[layer], self._home / f"deaths.{layer}"
                self._first[layer] = note_deaths(path, self._first[layer], known, log.dead)
                self._deaths[layer] = log.dead
        self._ends = [log.length for log in self.logs]
        deaths = tuple(len(log.dead) for log in self.logs)
        self._commits.append(Commit(tuple(starts), tuple(self._ends), tuple(self._first), deaths, value))

    def check(self, logs: Sequence[Any]) -> None:
        """ValueError if these logs cannot be committed."""
        self._claim.check()
        for log in logs:
            log.check()

    def go_back(self, lengths: list[int], deaths: list[int]) -> list[DiskLog]:
        """The logs as they were with so many rows and deaths; later ones will be written over. ValueError if fewer."""
        wanted = zip(self.logs, lengths, deaths, strict=True)
        if any(log.length < rows or len(log.dead) < gone for log, rows, gone in wanted):
            raise ValueError(f"{self.folder} holds fewer rows than are asked for; its files are incomplete.")
        rows_and_deaths = enumerate(zip(lengths, deaths, strict=True))
        self._stand([self._log(layer, rows, self.logs[layer].dead[:gone]) for layer, (rows, gone) in rows_and_deaths])
        return self.logs

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

    def has_parted(self, logs: Sequence[Any]) -> bool:
        """Whether other rows died here than were committed last, which no number of deaths can tell, or there is more
        of the one and less of the other, for which no order of commit and state file outlives a kill."""
        pairs = [(log.dead, dead) for log, dead in zip(logs, self._deaths, strict=True) if log.dead is not dead]
        if any(not torch.equal(one[: len(other)], other[: len(one)]) for one, other in pairs):
            return True
        known = zip(logs, self._ends, self._deaths, strict=True)
        gone_on = any(log.length > end or len(log.dead) > len(dead) for log, end, dead in known)
        return gone_on and self.has_gone_back(logs)

    def has_gone_back(self, logs: Sequence[Any]) -> bool:
        """Whether these hold fewer rows, or fewer deaths, than were committed last."""
        known = zip(logs, self._ends, self._deaths, strict=True)
        return any(log.length < end or len(log.dead) < len(dead) for log, end, dead in known)

    def compact(self) -> None:
        """Leave dead rows out, on the disk too. The logs of before may no longer be used; take `logs` anew."""
        self.rewrite(self.logs)

    def rewrite(self, logs: Sequence[TokenLog], prepare: Callable[[], object] = lambda: None) -> None:
        """Hold the live rows of these logs, and nothing else, in new files. Take `logs` anew. All of it or, if anything
        fails, nothing: the tier then is what it was.

        prepare: called when the new files are whole, but a kill would still leave the old ones in use.
        """
        self._claim.check()
        before, new = dict(self.__dict__), 1 + max(int(home.name) for home in self._homes())
        try:
            self.generation = new
            self._open()
            for source, target in zip(logs, self.logs, strict=True):
                target.take_over(source)
            self.commit()
            self.flush()
            prepare()
            self._name_generation()
        except BaseException:
            if (self._manifest() or before)["generation"] != new:
                if self._commits is not before["_commits"]:
                    self._commits.close()
                self.__dict__.update(before)
                shutil.rmtree(self._folder_of(new), ignore_errors=True)
            raise
        before["_commits"].close()
        for home in self._homes():  # the old one, and what killed processes may have left
            if home != self._home:
                shutil.rmtree(home, ignore_errors=True)  # else the next time

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

"""A reader whose memory lives in a folder: Θ in memory-mapped files (`core.disk`), the rest in a small file beside it.

    reader = core.load("mini", disk="my-memory", max_long_term=10**9)

Every chunk is committed as it is written; θ, texts and random state are saved, and Θ seen to the disk before them,
after every text, after every `save_every` chunks of a long one, and whenever something is taken back. So a kill or a
power cut takes what was written since the last save, at most `save_every` chunks, and nothing else.
"""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from .log import TokenLog
from .memory import Memory
from .memory_file import fingerprint, load_memory, save_memory
from .model import MPlusForCausalLM
from .reader import MPlusReader, OnChunk, outlasting
from .sources import Receipt
from .state import Snapshot
from .tier import DiskTier

STATE = re.compile(r"\.?(\d{6})\.safetensors(\.\d+\.part)?")
"""Names of state files and their drafts; the number is the generation of the files of Θ they belong to."""


@outlasting
class DurableReader(MPlusReader):
    """M+ as a reader, kept in a folder. What the folder holds already is opened.

    One process at a time, and in it the reader that opened the folder last: any other gets a ValueError. Whatever
    changes the memory does so in RAM and in the folder or, if anything is raised, in neither; what is done to `memory`
    itself, past this reader, is kept with the next change.
    """

    def __init__(
        self, model: MPlusForCausalLM, tokenizer: PreTrainedTokenizerBase, memory: Memory,
        folder: str | os.PathLike, save_every: int = 64,
    ):  # fmt: skip
        """`memory` is as its checkpoint left it.

        Raises ValueError for a memory without Θ or under the released rules, and for a folder that is damaged, open in
        another process, of another model or of another kind of memory.
        """
        super().__init__(model, tokenizer, memory)
        if not memory.state.logs or memory.config.rules != "paper":
            raise ValueError("Only Θ under the paper's rules can live on disk; this model has none. Leave `disk` out.")
        if save_every < 1:
            raise ValueError(f"save_every is {save_every}; save after 1 chunk or more.")
        self.save_every, self.owner = save_every, fingerprint(model)
        self._initial, self._behind = memory.state.logs, False
        widths = memory.state.short.tokens.shape[-1], memory.config.retriever_size
        self.tier = DiskTier(folder, len(self._initial), widths, memory.state.short.tokens.dtype, take=False)
        self.folder = self.tier.folder
        try:
            self._take_up()
        except BaseException:
            self.tier.close()  # an error may live long, and with it what failed
            raise

    def _take_up(self) -> None:
        """Become what the folder holds, or fill it."""
        memory = self.memory
        if self.state_file.is_file():
            load_memory(memory, self.state_file, self.owner, self.tier)
            self.tier.take()
        elif sum(log.length for log in self.tier.logs) > sum(log.length for log in self._initial):
            raise ValueError(f"{self.state_file} is missing; restore it from another copy, or name an empty folder.")
        else:
            self.tier.take()
            for log, initial in zip(self.tier.logs, self._initial, strict=True):
                if not log.length:  # else it was killed when all but the state had been written
                    log.take_over(initial)
            memory.state.logs = list(self.tier.logs)
            self.keep()

    @property
    def state_file(self) -> Path:
        """θ, texts and random state. Named as the files of Θ it belongs to, so that one name changes both."""
        return self.folder / f"{self.tier.generation:06d}.safetensors"

    def keep(self) -> None:
        """Make the folder hold what the memory holds. A kill meanwhile leaves what it held before, or this.

        What the state file refers to must be committed: rows and deaths before it when there are more of them, after it
        when some were taken back. Raises ValueError if the folder is no longer this reader's.
        """
        self._behind, logs = True, self.memory.state.logs
        if self.tier.owns(logs) and not self.tier.has_parted(logs):
            self.tier.check(logs)
            gone_back = self.tier.has_gone_back(logs)
            if not gone_back:
                self.tier.commit(logs)
                self.tier.flush()
            save_memory(self.memory, self.state_file, self.owner, on_disk=True)
            if gone_back:
                self.tier.commit(logs)
        else:  # of RAM, as after a reset or a load, of files that have been given up since, or with other deaths
            self._start_anew(logs)
        self._behind = False

    def _start_anew(self, logs: Sequence[TokenLog]) -> None:
        """Hold these logs in new files, with a state of their own; one name changes from the old files to the new."""

        def prepare() -> None:
            self.memory.state.logs = list(self.tier.logs)
            self.memory.restore(self.memory.snapshot())
            save_memory(self.memory, self.state_file, self.owner, on_disk=True)

        self.tier.rewrite(logs, prepare)
        for file in self.folder.iterdir():  # the old state, and those and drafts that killed processes may have left
            known = STATE.fullmatch(file.name)
            if known and int(known[1]) < self.tier.generation:
                file.unlink(missing_ok=True)

    @contextmanager
    def _whole(self, goes_on: bool = True) -> Iterator[None]:
        """Change the memory and the folder, or neither. What could not be taken back in the folder is so later.

        goes_on: the change starts from what the memory holds now, and that must be kept first if it is not.
        """
        logs = self.memory.state.logs
        if goes_on and (self._behind or not self.tier.owns(logs) or self.tier.has_gone_back(logs)):
            self.keep()
        try:
            with self.memory.all_or_nothing():
                yield
                self.keep()
        except BaseException:
            with suppress(OSError, ValueError):
                self.keep()
            raise

    def ingest(self, text: str, on_chunk: OnChunk | None = None) -> Receipt:
        """As `MPlusReader.ingest`. A process killed amid a long text keeps what was saved of it so far."""

        def committed(done: int, num_chunks: int) -> None:
            self.tier.commit(self.memory.state.logs)
            if done % self.save_every == 0:
                self.keep()
            if on_chunk:
                on_chunk(done, num_chunks)

        with self._whole():
            return super().ingest(text, committed)

    def delete(self, receipt: Receipt | int) -> int:
        """As `MPlusReader.delete`. The rows leave the disk with the next `compact`."""
        with self._whole():
            return super().delete(receipt)

    def undo(self) -> None:
        """As `MPlusReader.undo`."""
        with self._whole():
            super().undo()

    def restore(self, snapshot: Snapshot) -> None:
        """As `MPlusReader.restore`. ValueError if what the snapshot holds has been written over on disk since."""
        self._own(snapshot)
        with self._whole(goes_on=False):
            self.memory.restore(snapshot)  # in the files it is in, where there is one future alone

    def reset(self) -> None:
        """As `MPlusReader.reset`, in new files."""
        with self._whole(goes_on=False):
            super().reset()

    def load(self, path: str | os.PathLike) -> None:
        """As `MPlusReader.load`: the folder then holds that memory, in new files."""
        with self._whole(goes_on=False):
            super().load(path)

    def compact(self) -> None:
        """Give the room of deleted and evicted rows back to the disk. The undo history is forgotten."""
        with self._whole():
            self._start_anew(self.memory.state.logs)

    def fork(self) -> MPlusReader:
        """A reader with an independent memory that starts where this one stands, Θ included, in RAM; its undo history
        begins anew."""
        twin = MPlusReader(self.model, self.tokenizer, self.memory.fork())
        twin.name = self.name
        return twin

    def close(self) -> None:
        """Keep everything and leave the folder to others; this reader can then no longer be read or written."""
        try:
            if self.tier.held:
                self.keep()
        finally:
            self.tier.close()

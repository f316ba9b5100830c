"""A reader whose memory lives in a folder: Θ in memory-mapped files (`core.disk`), the rest in a small file beside it.

    reader = core.load("mini", disk="my-memory", max_long_term=10**9)

Every chunk is committed as it is written; θ, texts and random state are saved, and Θ seen to the disk before them,
after every text, after every `save_every` chunks of a long one, and whenever something is taken back. So a kill or a
power cut takes what was written since the last save, at most `save_every` chunks, and nothing else.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from .disk import DiskTier
from .log import TokenLog
from .memory import Memory
from .memory_file import fingerprint, load_memory, save_memory
from .model import MPlusForCausalLM
from .reader import MPlusReader, OnChunk
from .sources import Receipt


class DurableReader(MPlusReader):
    """M+ as a reader, kept in a folder. What the folder holds already is opened.

    A fork reads from the same files; once one of the two writes, the other can no longer be read (`DiskLog`).
    """

    def __init__(
        self, model: MPlusForCausalLM, tokenizer: PreTrainedTokenizerBase, memory: Memory,
        folder: str | os.PathLike, save_every: int = 64,
    ):  # fmt: skip
        """`memory` is as its checkpoint left it.

        Raises ValueError for a memory without Θ or under the released rules, and for a folder that is damaged, of
        another model or of another kind of memory.
        """
        super().__init__(model, tokenizer, memory)
        if not memory.state.logs or memory.config.rules != "paper":
            raise ValueError("Only Θ under the paper's rules can live on disk; this model has none. Leave `disk` out.")
        self.folder, self.save_every, self.owner = Path(folder), save_every, fingerprint(model)
        widths = memory.state.short.tokens.shape[-1], memory.config.retriever_size
        self._initial = memory.state.logs
        self.tier = DiskTier(folder, len(self._initial), widths, memory.state.short.tokens.dtype)
        if self.state_file.is_file():
            load_memory(memory, self.state_file, self.owner, self.tier)
        elif sum(log.length for log in self.tier.logs) > sum(log.length for log in self._initial):
            raise ValueError(f"{self.state_file} is missing; restore it from another copy, or name an empty folder.")
        else:
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
        when some were taken back.
        """
        logs = self.memory.state.logs
        gone_back = self.tier.has_gone_back(logs)
        if not gone_back:
            self.tier.commit(logs)
            self.tier.flush()
        save_memory(self.memory, self.state_file, self.owner)
        if gone_back:
            self.tier.commit(logs)

    def _start_anew(self, logs: Sequence[TokenLog]) -> None:
        """Hold these logs in new files, with a state of their own; one name changes from the old files to the new."""

        def prepare() -> None:
            self.memory.state.logs = list(self.tier.logs)
            self.memory.restore(self.memory.snapshot())
            save_memory(self.memory, self.state_file, self.owner)

        old = self.state_file
        self.tier.rewrite(logs, prepare)
        old.unlink(missing_ok=True)

    def ingest(self, text: str, on_chunk: OnChunk | None = None) -> Receipt:
        """As `MPlusReader.ingest`. A process killed amid a long text keeps what was saved of it so far."""

        def committed(done: int, num_chunks: int) -> None:
            self.tier.commit(self.memory.state.logs)
            if done % self.save_every == 0:
                self.keep()
            if on_chunk:
                on_chunk(done, num_chunks)

        try:
            return super().ingest(text, committed)
        finally:  # also when it was stopped and taken back, before the next chunk goes over what was committed
            self.keep()

    def delete(self, receipt: Receipt | int) -> int:
        removed = super().delete(receipt)
        self.keep()
        return removed

    def undo(self) -> None:
        super().undo()
        self.keep()

    def reset(self) -> None:
        super().reset()
        self._start_anew(self._initial)

    def load(self, path: str | os.PathLike) -> None:
        """Not for a memory that lives in a folder: raises ValueError."""
        raise ValueError(f"This memory lives in {self.folder}; load {path} into a reader without `disk`.")

    def compact(self) -> None:
        """Give the room of deleted and evicted rows back to the disk. The undo history is forgotten."""
        self.keep()
        self._start_anew(self.tier.logs)

    def fork(self) -> MPlusReader:
        return MPlusReader(self.model, self.tokenizer, self.memory.fork())

"""Where a memory token came from: receipts of ingested texts, and the way back from a token to its text."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Chunk:
    """One write. Its tokens are `receipt.spans[start:end]`; the block it left is number `block`."""

    block: int
    start: int
    end: int


@dataclass(frozen=True)
class Receipt:
    """What one ingest did.

    text: as given. spans: (begin, end) characters of every token that was written. chunks: the writes, in order.
    dropped: tokens per layer that left θ. evicted: tokens per layer that left Θ for good (the mean over layers).
    repeated: how often a text below `min_chunk` tokens was repeated to fill a chunk; 1 for every other text.
    """

    id: int
    text: str
    spans: tuple[tuple[int, int], ...]
    chunks: tuple[Chunk, ...] = ()
    dropped: int = 0
    evicted: float = 0.0
    repeated: int = 1

    @property
    def num_tokens(self) -> int:
        """Tokens that were written, repeated ones included."""
        return len(self.spans)

    @property
    def text_tokens(self) -> int:
        """Tokens of the text itself, each counted once: those from where it begins for the last time."""
        begins = (number for number in range(len(self.spans) - 1, 0, -1) if self.spans[number] < self.spans[number - 1])
        return len(self.spans) - next(begins, 0)

    def with_chunk(self, chunk: Chunk, dropped: int, evicted: float) -> "Receipt":
        return replace(
            self, chunks=(*self.chunks, chunk), dropped=self.dropped + dropped, evicted=self.evicted + evicted
        )


@dataclass(frozen=True)
class Source:
    """The origin of one memory token: "written by" this token of this chunk of this text.

    position is the token's index in the receipt, or None for the head of a block that a short chunk borrowed from the
    block before it. `receipt` is None for the memory a checkpoint was shipped with.
    """

    receipt: int | None
    chunk: int | None = None
    position: int | None = None


INITIAL = Source(None)


def token_source(receipt: Receipt, chunk: int, slot: int, block_size: int) -> Source:
    """The source of the token at `slot` (0 … K-1) of a chunk's block: the chunk's last K positions, in order."""
    span = receipt.chunks[chunk]
    position = span.end - block_size + slot
    return Source(receipt.id, chunk, position if position >= span.start else None)

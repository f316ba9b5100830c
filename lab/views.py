"""What the figures draw, as NumPy: the memory after each write (`Moment`), and what a question found (`Retrieval`).

Texts go by receipt id; 0 stands for the memory the checkpoint was shipped with.
"""

from dataclasses import dataclass, field

import numpy as np

from core.memory import Memory
from core.reader import MPlusReader
from core.reading import gives_odds
from core.sources import Receipt
from core.state import Found

Array = np.ndarray


@dataclass(frozen=True)
class Moment:
    """The memory at one step. owner, age (L, N): text and age in tokens of every slot of θ, oldest slot first.

    long_owner, long_age: the same for the live rows of Θ, one array a layer; pending: of those, rows not yet merged.
    dropped, moved, evicted: tokens per layer that this step took out of θ, put into Θ, and lost for good (the mean).
    """

    event: str
    receipt: int
    owner: Array
    age: Array
    long_owner: tuple[Array, ...]
    long_age: tuple[Array, ...]
    pending: int
    written: int
    dropped: int
    moved: float
    evicted: float
    clock: int
    writes: int

    @property
    def num_bytes(self) -> int:
        arrays = [self.owner, self.age, *self.long_owner, *self.long_age]
        return sum(array.nbytes for array in arrays)


@dataclass(frozen=True)
class LayerFound:
    """One layer's retrieval. scores, owner, block, slot (m,): of all live rows of Θ, oldest first; chosen: places in
    them. block and slot name a token's source, see `core.memory.Memory.source`.

    got_*: of the R retrieved tokens, oldest first: text, chunk, position in the text (-1: none), age, score, and
    `got_sure`, a token's part of what the retriever gives to its block among those retrieved (all parts make 1; 0 where
    the rule's scores are no log-odds). scores is empty where all of Θ was used and nothing had to be scored.
    """

    scores: Array
    owner: Array
    block: Array
    slot: Array
    chosen: Array
    got_owner: Array
    got_chunk: Array
    got_position: Array
    got_block: Array
    got_age: Array
    got_score: Array
    got_sure: Array
    chance: float


@dataclass(frozen=True)
class Retrieval:
    """What one question found, layer by layer, and what Θ held then."""

    question: str
    answer: str
    layers: tuple[LayerFound, ...]
    long_counts: dict[int, float] = field(default_factory=dict)  # text -> its share of Θ, mean over layers

    def hits(self, receipt: Receipt, layer: int | None = None) -> Array:
        """How many layers (of all, or of one) retrieved each token of a text, (num_tokens,). Of a text that was written
        several times over, a token's first copy counts for all."""
        first: dict[tuple[int, int], int] = {}
        copy_of = np.array([first.setdefault(span, place) for place, span in enumerate(receipt.spans)], np.int64)
        count = np.zeros(len(copy_of), np.int32)
        for index, found in enumerate(self.layers):
            if layer is None or index == layer:
                mine = found.got_position[(found.got_owner == receipt.id) & (found.got_position >= 0)]
                count[np.unique(copy_of[mine[mine < len(copy_of)]])] += 1
        return count

    def shares(self, layer: int | None = None) -> dict[int, float]:
        """Text -> share of the retrieved tokens, over all layers or one."""
        found = self.layers if layer is None else self.layers[layer : layer + 1]
        owners = np.concatenate([one.got_owner for one in found]) if found else np.zeros(0, np.int32)
        ids, counts = np.unique(owners, return_counts=True)
        return {int(i): float(c) / max(1, len(owners)) for i, c in zip(ids, counts, strict=True)}

    def sure(self, layer: int | None = None) -> dict[int, float]:
        """Text -> how sure the retriever is of it, the mean over all layers or one; all 0 where it does not say."""
        found = self.layers if layer is None else self.layers[layer : layer + 1]
        return {id: sum(float(one.got_sure[one.got_owner == id].sum()) for one in found) / len(found)
                for id in self.shares(layer)}  # fmt: skip


def owner_table(memory: Memory) -> Array:
    """(next_block,) int32: block number -> receipt id, 0 for the initial memory."""
    table = np.zeros(memory.state.next_block + 1, np.int32)
    for block, (receipt, _) in memory.state.block_owner.items():
        table[block] = receipt
    return table


def look(memory: Memory, event: str, receipt: int = 0, before: Moment | None = None) -> Moment:
    """The memory as it is now. `before` is the step before this one, from which the flow is told."""
    state, table = memory.state, owner_table(memory)
    live = [log.live.numpy() for log in state.logs]
    long_owner = tuple(
        table[log.block.numpy()[mask]].astype(np.int32) for log, mask in zip(state.logs, live, strict=True)
    )
    long_age = tuple(
        (state.clock - log.born.numpy()[mask]).astype(np.int32) for log, mask in zip(state.logs, live, strict=True)
    )
    size = float(np.mean([len(owner) for owner in long_owner])) if long_owner else 0.0
    before_size = float(np.mean([len(o) for o in before.long_owner])) if before and before.long_owner else 0.0
    written = state.clock - before.clock if before and event == "write" else 0
    dropped = min(written, state.short.tokens.shape[1])
    moved = float(dropped) if long_owner and memory.config.num_retrieved else 0.0
    return Moment(
        event,
        receipt,
        table[state.block.numpy()].astype(np.int32),
        memory.ages.numpy().astype(np.int32),
        long_owner,
        long_age,
        int(np.mean([log.length - log.merged for log in state.logs])) if state.logs else 0,
        written,
        dropped,
        moved,
        max(0.0, before_size + moved - size) if event == "write" else 0.0,
        state.clock,
        (before.writes if before else 0) + (event == "write"),
    )


def retrieval(reader: MPlusReader, question: str, answer: str, found: tuple[Found, ...]) -> Retrieval:
    """What an answer's retrieval looked like. The memory must not have changed in between."""
    memory = reader.memory
    table = owner_table(memory)
    layers = tuple(_layer(reader, memory, table, layer, one) for layer, one in enumerate(found))
    counts: dict[int, float] = {}
    for log in memory.state.logs:
        owners = table[log.block[log.live].numpy()]
        for id, count in zip(*np.unique(owners, return_counts=True), strict=True):
            counts[int(id)] = counts.get(int(id), 0.0) + count / max(1, len(owners)) / len(memory.state.logs)
    return Retrieval(question, answer, layers, counts)


def _layer(reader: MPlusReader, memory: Memory, table: Array, layer: int, found: Found) -> LayerFound:
    log, view = memory.state.logs[layer], reader.view(layer, found)
    candidates, rows = found.candidates.numpy(), found.rows.numpy()
    scores = found.scores.float().numpy()
    places = np.searchsorted(candidates, rows) if len(candidates) else np.zeros(0, np.int64)
    block, slot = (column.numpy()[candidates].astype(np.int32) for column in (log.block, log.slot))
    got = scores[places] if len(scores) else np.full(len(rows), np.nan, np.float32)
    none = -1
    return LayerFound(
        scores,
        table[block].astype(np.int32),
        block,
        slot,
        places,
        np.array([s[0] or 0 for s in view.sources], np.int32),
        np.array([none if s[1] is None else s[1] for s in view.sources], np.int32),
        np.array([none if s[2] is None else s[2] for s in view.sources], np.int32),
        found.blocks.numpy().astype(np.int32),
        found.ages.numpy().astype(np.int32),
        got,
        _sure(memory, found, got),
        view.chance,
    )


def _sure(memory: Memory, found: Found, scores: Array) -> Array:
    """Each retrieved token's part of its block's probability."""
    if not len(scores) or np.isnan(scores).any() or not gives_odds(memory):
        return np.zeros(len(scores), np.float32)
    _, first, block, count = np.unique(
        found.blocks.numpy(), return_index=True, return_inverse=True, return_counts=True
    )  # fmt: skip
    odds = scores[first] - scores.max()
    return ((np.exp(odds) / np.exp(odds).sum()) / count)[block].astype(np.float32)


def title(receipt: Receipt, length: int = 34) -> str:
    """A text's name on the page: its number and how it begins."""
    words = " ".join(receipt.text.split())
    return f"{receipt.id} · {words[:length]}{'…' if len(words) > length else ''}"

"""Memory as an object, apart from the weights: θ, Θ, and the sources and ages of every token in them.

Many memories can share one model. A memory knows tensors and receipts, never the network: blocks come in by `add`,
tokens go out by `search`. Nothing a snapshot holds is ever changed: `snapshot`, `undo` and `fork` copy almost nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from numbers import Integral

import torch
from torch import Tensor

from .choice import oldest_first, select
from .config import MPlusConfig
from .drops import DROPS, DropPolicy, Pool
from .log import TokenLog
from .placement import ON_HOST, Placement
from .retriever import RELEVANCE, Evidence, Keys, Relevance
from .rules import RULE_SETS
from .sources import INITIAL, Chunk, Receipt, Source, token_source
from .state import Found, Snapshot, Tokens, delete_blocks, first_write, initial_state, next_version

KeyOf = Callable[[int, Tensor], Tensor]
"""(layer, tokens (m, d)) -> retriever keys (m, r). Called when tokens leave θ."""


class Memory:
    """One latent memory. `seed` fixes every random choice; `undo_levels` is how many ingests `undo` can take back."""

    def __init__(
        self,
        config: MPlusConfig,
        tokens: Tokens,
        logs: list[TokenLog] | None = None,
        *,
        seed: int = 0,
        written: bool = True,
        drop: DropPolicy | None = None,
        relevance: Relevance | None = None,
        undo_levels: int = 1,
        place: Placement = ON_HOST,
    ):
        """`tokens` is the initial θ, `logs` the initial Θ of every layer (empty without); neither is modified.

        With `tokens.projected` it stores keys and values, not hidden states. ValueError for another shape or seed.
        """
        self.config = config
        self.projected, self.place = tokens.projected is not None, place
        self.rules = RULE_SETS[config.rules](config)
        self.drop = drop or DROPS[config.drop]
        self.relevance = relevance or RELEVANCE[config.relevance]
        self.undo_levels = undo_levels
        if not isinstance(seed, Integral) or not -(2**63) <= seed < 2**64:
            raise ValueError(f"seed is {seed!r}; give a whole number of up to 64 bits.")
        self.seed = int(seed)
        self._initial = initial_state(config, tokens, logs, written)
        self._undo: list[Snapshot] = []
        self.random = torch.Generator()
        self.reset()

    # ── going back and forth ──
    def reset(self) -> None:
        """Back to the checkpoint's memory (never to zeros) and to the seed; the undo history is forgotten."""
        self.state = self._initial.fork().placed(self.place)
        self.random.manual_seed(self.seed)
        self._undo = []

    def snapshot(self) -> Snapshot:
        """This moment, to `restore` later; costs nothing but what changes afterwards. The undo history is not in it."""
        return Snapshot(self.state.fork(), self.random.get_state(), self.projected)

    def restore(self, snapshot: Snapshot) -> None:
        """Become what the snapshot was, random state included; the undo history, of another past, is forgotten."""
        theirs, ours = snapshot.kind, self.snapshot().kind
        if theirs != ours:
            raise ValueError(f"The snapshot has {theirs}, this memory {ours}; restore it into one of its own kind.")
        self._become(snapshot)
        self._undo = []

    def _become(self, snapshot: Snapshot) -> None:
        self.state = snapshot.state.fork().placed(self.place)
        self.random.set_state(snapshot.random)

    def fork(self) -> "Memory":
        """An independent memory that starts where this one stands and shares the weights and all stored tensors."""
        twin = object.__new__(Memory)
        twin.__dict__.update(self.__dict__)
        twin.random = torch.Generator()
        twin._undo = list(self._undo)
        twin._become(self.snapshot())
        logs = [log.independent() for log in twin.state.logs]
        if logs != twin.state.logs:  # from a disk, where one future alone has room; the undo history lies there too
            twin.state.logs, twin._undo = logs, []
        return twin

    def undo(self) -> None:
        """Take back the last ingest. Raises ValueError when there is none left to take back."""
        if not self._undo:
            raise ValueError("There is nothing to undo: no ingest since the last undo, restore, load, delete or reset.")
        self._become(self._undo.pop())

    @contextmanager
    def all_or_nothing(self) -> Iterator[Snapshot]:
        """Any exception inside the block rolls the memory back, its undo history included. Yields what it was."""
        before, undo = self.snapshot(), list(self._undo)
        try:
            yield before
        except BaseException:
            self._become(before)
            self._undo = undo
            raise

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A block that `undo` takes back as one; all of it or nothing."""
        with self.all_or_nothing() as before:
            yield
        self._undo = [*self._undo, before][-self.undo_levels :] if self.undo_levels else []

    # ── writing ──
    @property
    def newest(self) -> Tensor | None:
        """The newest block of θ (L, 1, K, d), what the next chunk is written behind; None before a first write."""
        return self.state.newest[:, None] if self.state.written else None

    def open_receipt(self, text: str, spans: list[tuple[int, int]], repeated: int = 1) -> Receipt:
        """Register a text that is about to be written. `add` then fills in its chunks."""
        receipt = Receipt(self.state.next_receipt, text, tuple(spans), repeated=repeated)
        self.state.receipts[receipt.id] = receipt
        self.state.next_receipt += 1
        return receipt

    def add(self, block: Tokens, keys_of: KeyOf | None, source: tuple[int, int, int] | None = None) -> None:
        """Put a block of k tokens per layer at the young end of θ; as many leave θ for Θ (paper §3.1).

        `keys_of` makes retriever keys of what leaves; None for MemoryLLM, where it is gone. `source` is (receipt id,
        first token, last token + 1) of the chunk the block was written from.
        """
        state, config = self.state, self.config
        layers, count, _ = block.stored.shape
        state.version = next_version()
        number = state.next_block
        state.next_block += 1
        if not state.written:
            first_write(state, block, number)
            return self._account(source, number, 0, 0.0)
        state.clock += count
        dropped = self.drop(Pool(state.short, self.ages, state.block), count, self.random)
        kept = torch.ones(state.stamp.shape, dtype=torch.bool).scatter_(1, dropped, False)
        kept = kept.nonzero()[:, 1].view(layers, -1)
        evicted = 0.0
        if keys_of is not None and config.num_retrieved:
            self._move_to_long_term(dropped, keys_of)
            evicted = self.rules.settle(state.logs, state.clock)
        state.short.renew(dropped, kept, block.stored, block.keys)
        state.newest = block.hidden.detach().to(state.newest)
        new = {"stamp": self.rules.stamps(state.clock, count), "block": torch.full((count,), number)}
        new["slot"] = torch.arange(config.block_size - count, config.block_size)
        for name, column in new.items():
            old = getattr(state, name).gather(1, kept)
            setattr(state, name, torch.cat([old, column.expand(layers, -1)], dim=1))
        self._account(source, number, dropped.shape[1], evicted)

    def _move_to_long_term(self, dropped: Tensor, keys_of: KeyOf) -> None:
        state = self.state
        tokens, known = state.short.take(dropped)
        born = self.rules.born(state.stamp.gather(1, dropped), state.clock)
        block, slot = state.block.gather(1, dropped), state.slot.gather(1, dropped)
        for layer, log in enumerate(state.logs):
            keys = keys_of(layer, tokens[layer]) if known is None else known[layer]
            recall = torch.zeros(len(tokens[layer]), dtype=torch.float64)
            log.append(
                tokens=tokens[layer], keys=keys, born=born[layer], block=block[layer], slot=slot[layer], recall=recall
            )

    def _account(self, source: tuple[int, int, int] | None, number: int, dropped: int, evicted: float) -> None:
        if source is not None:
            id, start, end = source
            receipt = self.state.receipts[id]
            self.state.block_owner[number] = (id, len(receipt.chunks))
            self.state.receipts[id] = receipt.with_chunk(Chunk(number, start, end), dropped, evicted)

    # ── reading ──
    @property
    def ages(self) -> Tensor:
        """Ages of θ's tokens (L, N) int64, in memory tokens."""
        return self.rules.ages(self.state.stamp, self.state.clock)

    @property
    def num_retrieved(self) -> int:
        """Tokens each layer will retrieve now: K0, or what every layer can supply."""
        wanted = self.config.num_retrieved
        if not wanted or not self.state.logs:
            return 0
        return min(self.rules.available(log, wanted) for log in self.state.logs)

    def search(
        self, layer: int, queries: Tensor, wanted: int | None = None, keys: Tensor | None = None,
        evidence: Evidence | None = None,
    ) -> Found:  # fmt: skip
        """The `wanted` (or K0) most relevant tokens of Θ for queries (n, r), oldest first; of equal ages the last.
        keys: the log's own, where they have been sent for already. evidence: see `core.retriever.Evidence`."""
        log, wanted = self.state.logs[layer], self.num_retrieved if wanted is None else wanted
        rows, scores, alive = self.rules.tiles(log, wanted), torch.zeros(0), None  # where nothing has to be scored
        if rows is None:
            stored = Keys(log.keys if keys is None else keys, log.block)
            told = () if evidence is None else (evidence,)  # only the block rule takes it
            scores = self.relevance(queries.detach().to(stored.vectors.dtype), stored, *told).float().cpu()
            alive = log.live if log.num_dead else None
            rows = select(scores, wanted, alive)
        rows, born, blocks, slots = oldest_first(rows, log.born, log.block, log.slot)
        return Found(rows, self.state.clock - born, blocks, slots, scores, alive)

    def source(self, block: int, slot: int) -> Source:
        """The text a token came from, by its block number and slot. Holds in θ, in Θ and for retrieved tokens."""
        owner = self.state.block_owner.get(block)
        if owner is None:
            return INITIAL
        return token_source(self.state.receipts[owner[0]], owner[1], slot, self.config.block_size)

    @property
    def receipts(self) -> list[Receipt]:
        """The texts in this memory, in the order in which they were written."""
        return list(self.state.receipts.values())

    def delete(self, receipt: Receipt | int) -> int:
        """Remove every token of one text from θ and Θ; returns how many, over all layers.

        All other tokens stay as they are and in order; tokens of the checkpoint's initial θ return to the free places,
        at its old end. What later chunks took over by attending to the text cannot be told apart and stays.
        Raises ValueError if the memory has no such receipt, or another text under its number, as after an undo.
        """
        id, held = receipt.id if isinstance(receipt, Receipt) else receipt, self.state.receipts
        if id not in held or (isinstance(receipt, Receipt) and receipt.text != held[id].text):
            what = f"{id} of this text" if id in held else id
            raise ValueError(f"There is no receipt {what} in this memory; it holds {sorted(held) or 'none'}.")
        blocks = [chunk.block for chunk in held[id].chunks]
        with self.all_or_nothing():
            removed = delete_blocks(self.state, blocks, self._initial, self.projected)
            self.state.placed(self.place)
            del self.state.receipts[id]
            self._undo = []  # an undo would bring the deleted text back
        return removed

    @property
    def num_bytes(self) -> dict[str, int]:
        """Bytes held: "short" is θ's tokens, "long" Θ with keys and columns, of all layers."""
        return {"short": self.state.short.tokens.nbytes, "long": sum(log.num_bytes for log in self.state.logs)}

"""Blocks that many memories share: a long text is written once, and every memory that reads it refers to its blocks.

What a write leaves depends on the chunk and on the K newest memory tokens alone, never on the rest of the memory. So
the block of a chunk is the same in every memory that has read the same text for a while, and need not be made again.
"""

import torch
from torch import Tensor

from .adapters import READ, WRITE, use_adapter
from .model import MPlusForCausalLM

LANES = 32
"""Stretches of a circle of text that are written side by side. A circle takes up to so many blocks more than chunks."""


class Bank:
    """Blocks in the order in which they were added, addressed by number. On the CPU.

    tokens (L, capacity, K, w): what they contribute when they are read, keys before RoPE and values side by side
    ("projected" in `core.reading.new_memory`). keys (L, capacity, K, r): their retriever keys; empty without Θ.
    """

    def __init__(self, model: MPlusForCausalLM, capacity: int):
        config = model.config
        width = 2 * config.num_key_value_heads * config.head_dim  # type: ignore[operator]
        self.model = model
        shape = config.num_hidden_layers, capacity, config.block_size
        self.tokens = torch.empty(*shape, width, dtype=model.dtype)
        self.keys = torch.empty(*shape, config.retriever_size if config.num_retrieved else 0, dtype=model.dtype)
        self.size = 0

    @torch.no_grad()
    def add(self, blocks: Tensor, numbers: Tensor | None = None) -> Tensor:
        """Take in blocks (L, B, K, d), as `model.write` returns them; returns their numbers (B,).

        They get the next free numbers, or those given, which must have been reserved.
        """
        numbers = self.reserve(blocks.shape[1]) if numbers is None else numbers
        with use_adapter(self.model, READ):
            self.tokens[:, numbers] = self.model.memory_projections(blocks).to("cpu")
        if self.keys.shape[-1]:
            for layer, block in enumerate(blocks):
                self.keys[layer, numbers] = self.model.memory_keys(layer, block).to("cpu")
        return numbers

    def reserve(self, count: int) -> Tensor:
        """The next `count` free numbers."""
        assert self.size + count <= self.tokens.shape[1], "the bank was made too small"
        self.size += count
        return torch.arange(self.size - count, self.size)

    def enlarge(self, capacity: int) -> None:
        """Make room for so many blocks in all."""
        more = capacity - self.tokens.shape[1]
        if more > 0:
            self.tokens, self.keys = (
                torch.cat([kept, kept.new_empty(len(kept), more, *kept.shape[2:])], dim=1)
                for kept in (self.tokens, self.keys)
            )

    def add_initial(self) -> Tensor:
        """The checkpoint's initial θ, as N / K blocks; returns their numbers."""
        pool: Tensor = self.model.memory.pool  # type: ignore[assignment]
        return self.add(pool.unflatten(1, (self.model.config.num_blocks, self.model.config.block_size)))

    @property
    def num_bytes(self) -> int:
        return self.tokens.nbytes + self.keys.nbytes


def first_newest(model: MPlusForCausalLM, batch: int) -> Tensor:
    """The newest K tokens of fresh memories (L, B, K, d)."""
    pool: Tensor = model.memory.pool  # type: ignore[assignment]
    return pool[:, None, -model.config.block_size :].expand(-1, batch, -1, -1)


@torch.no_grad()
def write_circle(model: MPlusForCausalLM, chunks: Tensor, bank: Bank, lanes: int = LANES, lead: int = 8, on_step=None):
    """Write chunks (T, n) as one endless circle of text into the bank; returns the T blocks' numbers, in order.

    The circle is cut into `lanes` that are written side by side. Each starts `lead` chunks early: by then its blocks
    are those that one long run would have left (`Bank` on why; tests measure it). on_step: called with (done, steps).
    """
    lanes = max(1, min(lanes, len(chunks) // max(1, lead)))
    length = -(-len(chunks) // lanes)
    starts = torch.arange(lanes) * length
    newest = first_newest(model, lanes)
    numbers = bank.reserve(lanes * length).view(lanes, length)  # neighbours in the text are neighbours in the bank
    for step in range(-lead, length):
        with use_adapter(model, WRITE):
            newest = model.write(chunks[(starts + step) % len(chunks)].to(model.device), newest)
        if step >= 0:
            bank.add(newest, numbers[:, step])
        if on_step:
            on_step(step + lead + 1, length + lead)
    return numbers.flatten()[: len(chunks)]


@torch.no_grad()
def write_openings(model: MPlusForCausalLM, openings: list[list[list[int]]], bank: Bank) -> tuple[Tensor, Tensor]:
    """Write each opening, a list of chunks of token ids, into a fresh memory of its own.

    All openings have the same number of chunks. Chunks of equal length are written in one pass.
    Returns the blocks' numbers (B, chunks) and the newest blocks (L, B, K, d), to go on from.
    """
    newest = first_newest(model, len(openings)).clone()
    numbers = torch.empty(len(openings), len(openings[0]), dtype=torch.int64)
    for step in range(numbers.shape[1]):
        lengths: dict[int, list[int]] = {}
        for row, chunks in enumerate(openings):
            lengths.setdefault(len(chunks[step]), []).append(row)
        for rows in lengths.values():
            ids = torch.tensor([openings[row][step] for row in rows], device=model.device)
            with use_adapter(model, WRITE):
                newest[:, rows] = model.write(ids, newest[:, rows])
            numbers[rows, step] = bank.add(newest[:, rows])
    return numbers, newest

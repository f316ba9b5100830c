"""Many memories at once, replayed instead of rewritten: which token is where follows from the drops alone.

A `Replay` gives exactly what B `Memory` objects under the paper's rules would give (tests compare them), at a fraction
of the time: no token is moved when one is dropped. It keeps, for every token ever written, the write that dropped it.
At any moment θ is what has not been dropped and Θ what has, its youngest M tokens. So every earlier moment can still
be asked, and tokens are fetched from the bank only when a question calls for them.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .bank import Bank
from .model import MPlusForCausalLM
from .retriever import Evidence, Keys

NEVER = torch.iinfo(torch.int32).max


@dataclass(frozen=True)
class Reading:
    """How a memory is read. The default is M+.

    retrieve: lay tokens of Θ before the prompt (without: MemoryLLM). guess: retrieve at random.
    blank: all memory tokens are zero. shuffle: in random order. foreign: the next memory of the batch. weigh: tell
    attention how sure the retriever is, where the model wants that (`core.retriever.certainty`).
    """

    retrieve: bool = True
    guess: bool = False
    blank: bool = False
    shuffle: bool = False
    foreign: bool = False
    weigh: bool = True


READINGS = {
    "mplus": Reading(),
    "memoryllm": Reading(retrieve=False),
    "unweighted": Reading(weigh=False),
    "random-retriever": Reading(guess=True, weigh=False),
    "zeroed": Reading(blank=True),
    "scrambled": Reading(shuffle=True),
    "foreign": Reading(foreign=True),
}


class Replay:
    """B memories; memory b read the blocks `blocks[b]` (the first N / K are the initial θ), one write each.

    left (B, L, tokens) int32: the write that dropped a token, counted from 1, or `NEVER`. Tokens are numbered as the
    blocks stand in `blocks`, so a smaller number is an older token.
    """

    def __init__(self, model: MPlusForCausalLM, bank: Bank, blocks: Tensor, generator: torch.Generator):
        config = model.config
        if config.rules != "paper" or model.initial_long_term is not None or not model.initially_written:
            raise ValueError("Only memories under the paper's rules that start without Θ can be replayed.")
        self.model, self.bank, self.blocks, self.size = model, bank, blocks, config.block_size
        batch, layers, pool_size = len(blocks), config.num_hidden_layers, config.pool_size
        self.left = torch.full((batch, layers, blocks.shape[1] * self.size), NEVER, dtype=torch.int32)
        held = torch.arange(pool_size).expand(batch, layers, -1).contiguous()
        rows = batch * (layers if config.drop == "per_layer" else 1)
        for write, drawn in enumerate(draw_slots(rows, pool_size, self.size, self.num_writes, generator), 1):
            slots = drawn.view(batch, -1, self.size).expand(-1, layers, -1)
            self.left.scatter_(2, held.gather(2, slots), write)
            first = pool_size + (write - 1) * self.size
            held.scatter_(2, slots, torch.arange(first, first + self.size).expand(batch, layers, -1))

    @property
    def num_writes(self) -> int:
        return self.blocks.shape[1] - self.model.config.num_blocks

    def num_retrieved(self, writes: int) -> int:
        """Tokens each layer retrieves after so many writes."""
        config = self.model.config
        return min(config.num_retrieved, writes * self.size, config.max_long_term)

    def pool(self, memory: int, layer: int, writes: int) -> Tensor:
        """The tokens of θ after so many writes (N,), oldest first."""
        return places(self._left(memory, layer, writes) > writes)

    def long_term(self, memory: int, layer: int, writes: int) -> Tensor:
        """Mask over the tokens written so far: which are in Θ after so many writes."""
        mask = self._left(memory, layer, writes) <= writes
        overflow = writes * self.size - self.model.config.max_long_term
        if overflow > 0:
            mask[places(mask)[:overflow]] = False
        return mask

    def keys(self, memory: int, layer: int, numbers: Tensor) -> Keys:
        """Retriever keys of tokens by their numbers."""
        vectors = self.bank.keys[layer].flatten(0, 1).index_select(0, self.rows(memory, numbers))
        return Keys(vectors, numbers // self.size)

    def _left(self, memory: int, layer: int, writes: int) -> Tensor:
        return self.left[memory, layer, : self.model.config.pool_size + writes * self.size]

    def rows(self, memory: int, numbers: Tensor) -> Tensor:
        """Where in a layer of the bank, as one row of tokens, these tokens are."""
        return self.blocks[memory, numbers // self.size] * self.size + numbers % self.size

    def search(
        self, memory: int, layer: int, writes: int, queries: Tensor, guess: int | None = None,
        evidence: Evidence | None = None,
    ) -> Tensor:  # fmt: skip
        """The numbers of the retrieved tokens, oldest first, for queries (n, r). guess: a seed for random scores.
        evidence: as `core.memory.Memory.search` takes it.

        The rules of `core.retriever`. By block all is done on whole blocks: only those written lately are partly in θ.
        """
        num, left = self.num_retrieved(writes), self._left(memory, layer, writes)
        if not num:
            return torch.zeros(0, dtype=torch.int64)
        inside = self.long_term(memory, layer, writes)
        by_block = self.model.config.relevance == "block"
        group = self.size if by_block else 1
        present = inside.view(-1, group)
        counts = present.sum(1)
        queries = queries.to("cpu", self.bank.keys.dtype)
        if guess is not None:
            draw = torch.Generator().manual_seed(guess + zlib.crc32(queries.float().numpy().tobytes()))
            scores = torch.rand(len(counts), generator=draw)
        elif by_block:
            scores = self._block_scores(memory, layer, queries, present, counts)
        else:
            scores = self._token_scores(memory, layer, queries, len(inside) // self.size)
        scores = scores.masked_fill(counts == 0, -torch.inf)
        if evidence is not None:
            scores = evidence.add(scores)
        order = scores.argsort(descending=True)
        last = scores[order[int((counts[order].cumsum(0) < num).sum())]]
        above, ties = (self._members(chosen, present) for chosen in (scores > last, scores == last))
        # As `core.retriever.select`: of equal scores, as in a block, the token that left θ first goes first.
        ties = ties[left[ties].argsort(stable=True)][: num - len(above)]
        return torch.cat([above, ties]).sort().values

    def _members(self, chosen: Tensor, present: Tensor) -> Tensor:
        """The tokens in Θ of the chosen groups."""
        groups = chosen.nonzero().flatten()
        tokens = groups[:, None] * present.shape[1] + torch.arange(present.shape[1])
        return tokens[present[groups]]

    def _block_scores(self, memory: int, layer: int, queries: Tensor, present: Tensor, counts: Tensor) -> Tensor:
        """The sum over the queries of the best match among a block's tokens in Θ, one score a block."""
        keys, parts, place = self.bank.keys[layer], [], 0
        partly = ((counts > 0) & (counts < self.size)).numpy()
        for first, last in runs(self.blocks[memory, : len(present)]):
            for start in range(first, last, BLOCKS):  # few enough that their matches do not leave the cache
                piece = keys[start : min(last, start + BLOCKS)]
                matches = (queries @ piece.flatten(0, 1).T).view(len(queries), len(piece), self.size)
                here, place = slice(place, place + len(piece)), place + len(piece)
                if partly[here].any():
                    matches.masked_fill_(~present[here], -torch.inf)
                parts.append(matches.amax(2).sum(0))
        return torch.cat(parts).float()

    def _token_scores(self, memory: int, layer: int, queries: Tensor, num_blocks: int) -> Tensor:
        scores, rule = [], self.model.config.relevance
        for first, last in runs(self.blocks[memory, :num_blocks]):
            keys = self.bank.keys[layer, first:last].flatten(0, 1)
            scores.append(keys @ queries.mean(0) if rule == "dot" else (keys @ queries.T).sigmoid().mean(1))
        return torch.cat(scores).float()


BLOCKS = 256
"""Blocks that are matched with a question at a time."""


def draw_slots(rows: int, num: int, size: int, times: int, generator: torch.Generator) -> Iterator[Tensor]:
    """`times` draws (rows, size) of `size` different slots out of `num`, every set of them equally likely.

    Slots are drawn one by one and those that came twice are drawn again, whichever slots they are: no slot is
    preferred. That is an order of magnitude faster than sorting `num` random numbers for every draw.
    """
    for start in range(0, times, DRAWS):
        slots = torch.randint(num, (min(DRAWS, times - start) * rows, size), generator=generator, dtype=torch.int32)
        again = torch.arange(len(slots))
        while len(again):
            part = slots[again].sort(1).values
            twice = torch.zeros_like(part, dtype=torch.bool)
            twice[:, 1:] = part[:, 1:] == part[:, :-1]
            part[twice] = torch.randint(num, (int(twice.sum()),), generator=generator, dtype=torch.int32)
            slots[again] = part
            again = again[twice.any(1)]
        yield from slots.long().view(-1, rows, size)


DRAWS = 64
"""Writes whose drops are drawn at a time."""


def places(mask: Tensor) -> Tensor:
    """Where a mask (m,) holds. numpy finds a few in many an order of magnitude faster."""
    return torch.from_numpy(np.flatnonzero(mask.numpy()))


def runs(numbers: Tensor) -> list[tuple[int, int]]:
    """Block numbers as runs of neighbours [first, last), so that long stretches are read without being copied."""
    cuts = (numbers.diff() != 1).nonzero().flatten() + 1
    return [(int(piece[0]), int(piece[-1]) + 1) for piece in torch.tensor_split(numbers, cuts)]

"""Many memories at once, replayed instead of rewritten: which token is where follows from the drops alone.

A `Replay` gives exactly what B `Memory` objects under the paper's rules would give (tests compare them), at a fraction
of the time: no token is moved when one is dropped. It keeps, for every token ever written, the write that dropped it.
At any moment θ is what has not been dropped and Θ what has, its youngest M tokens. So every earlier moment can still
be asked, and tokens are fetched from the bank only when a question calls for them.
"""

import zlib
from dataclasses import dataclass

import torch
from torch import Tensor

from .adapters import READ, use_adapter
from .bank import Bank
from .cache import Segment
from .model import MPlusForCausalLM

NEVER = torch.iinfo(torch.int32).max


@dataclass(frozen=True)
class Reading:
    """How a memory is read. The default is M+.

    retrieve: lay tokens of Θ before the prompt (without: MemoryLLM). guess: retrieve at random.
    blank: all memory tokens are zero. shuffle: in random order. foreign: the next memory of the batch.
    """

    retrieve: bool = True
    guess: bool = False
    blank: bool = False
    shuffle: bool = False
    foreign: bool = False


READINGS = {
    "mplus": Reading(),
    "memoryllm": Reading(retrieve=False),
    "random-retriever": Reading(guess=True),
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
        draws = (batch, layers if config.drop == "per_layer" else 1, pool_size)
        for write in range(1, self.num_writes + 1):
            slots = torch.rand(draws, generator=generator).topk(self.size, sorted=False).indices
            slots = slots.expand(-1, layers, -1)
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
        return (self._left(memory, layer, writes) > writes).nonzero().flatten()

    def long_term(self, memory: int, layer: int, writes: int) -> Tensor:
        """Mask over the tokens written so far: which are in Θ after so many writes."""
        mask = self._left(memory, layer, writes) <= writes
        overflow = writes * self.size - self.model.config.max_long_term
        if overflow > 0:
            mask[mask.nonzero().flatten()[:overflow]] = False
        return mask

    def _left(self, memory: int, layer: int, writes: int) -> Tensor:
        return self.left[memory, layer, : self.model.config.pool_size + writes * self.size]

    def tokens(self, memory: int, layer: int, numbers: Tensor) -> Tensor:
        """Stored memory tokens (m, w) by their numbers."""
        return self.bank.tokens[layer, self.blocks[memory, numbers // self.size], numbers % self.size]

    def search(self, memory: int, layer: int, writes: int, queries: Tensor, guess: int | None = None) -> Tensor:
        """The numbers of the retrieved tokens, oldest first, for queries (n, r). guess: a seed for random scores."""
        inside = self.long_term(memory, layer, writes)
        if guess is None:
            scores = self._scores(memory, layer, queries.to("cpu", self.bank.keys.dtype), inside)
        else:
            scores = self._random_scores(inside, queries, guess)
        return self._select(scores, self.num_retrieved(writes), self._left(memory, layer, writes))

    def _scores(self, memory: int, layer: int, queries: Tensor, inside: Tensor) -> Tensor:
        """One score a token, -inf outside Θ; the rules of `core.retriever`, run by run of neighbouring blocks."""
        scores, rule, start = [], self.model.config.relevance, 0
        for first, last in runs(self.blocks[memory, : len(inside) // self.size]):
            keys = self.bank.keys[layer, first:last].flatten(0, 1)
            here = inside[start : start + len(keys)]
            start += len(keys)
            if rule == "dot":
                score = keys @ queries.mean(0)
            elif rule == "mean_sigmoid":
                score = (keys @ queries.T).sigmoid().mean(1)
            else:
                matches = (keys @ queries.T).masked_fill_(~here[:, None], -torch.inf)
                score = matches.unflatten(0, (-1, self.size)).amax(1).sum(1).repeat_interleave(self.size)
            scores.append(score.float().masked_fill(~here, -torch.inf))
        return torch.cat(scores)

    def _random_scores(self, inside: Tensor, queries: Tensor, seed: int) -> Tensor:
        draw = torch.Generator().manual_seed(seed + zlib.crc32(queries.float().cpu().numpy().tobytes()))
        by_block = self.model.config.relevance == "block"
        scores = torch.rand(len(inside) // self.size if by_block else len(inside), generator=draw)
        scores = scores.repeat_interleave(self.size) if by_block else scores
        return scores.masked_fill(~inside, -torch.inf)

    def _select(self, scores: Tensor, num: int, left: Tensor) -> Tensor:
        """As `core.retriever.select`: of equal scores, as in a block, the token that left θ first goes first."""
        if not num:
            return torch.zeros(0, dtype=torch.int64)
        last = scores.topk(num).values[-1]
        above, ties = (scores > last).nonzero().flatten(), (scores == last).nonzero().flatten()
        ties = ties[left[ties].argsort(stable=True)][: num - len(above)]
        return torch.cat([above, ties]).sort().values


def runs(numbers: Tensor) -> list[tuple[int, int]]:
    """Block numbers as runs of neighbours [first, last), so that long stretches are read without being copied."""
    cuts = (numbers.diff() != 1).nonzero().flatten() + 1
    return [(int(piece[0]), int(piece[-1]) + 1) for piece in torch.tensor_split(numbers, cuts)]


class ReplayPrefix:
    """A `Prefix` for prompts (B, n), of which prompt i asks memory `memories[i]` after `writes[i]` writes.

    found[layer][i]: the numbers of the tokens that prompt i retrieved.
    """

    def __init__(
        self, replay: Replay, memories: list[int], writes: list[int], mask: Tensor, reading: Reading, seed: int = 0
    ):
        wanted = {replay.num_retrieved(count) if reading.retrieve else 0 for count in writes}
        assert len(wanted) == 1, "prompts of one batch retrieve equally many tokens"
        self.replay, self.writes, self.mask, self.reading, self.seed = replay, writes, mask.bool(), reading, seed
        self.memories = [(memory + reading.foreign) % len(replay.blocks) for memory in memories]
        self.num_retrieved = wanted.pop()
        self.num_memory = self.num_retrieved + replay.model.config.pool_size
        self.found: list[list[Tensor]] = [[] for _ in range(replay.model.config.num_hidden_layers)]

    def __call__(self, layer: int, normed: Tensor) -> list[Segment]:
        rows = []
        for index, (memory, writes, real) in enumerate(zip(self.memories, self.writes, self.mask, strict=True)):
            numbers = self.replay.pool(memory, layer, writes)
            if self.num_retrieved:
                queries = self.replay.model.retriever_queries(layer, normed[index][real])
                guess = self.seed if self.reading.guess else None
                found = self.replay.search(memory, layer, writes, queries, guess)
                self.found[layer].append(found)
                numbers = torch.cat([found, numbers])
            if self.reading.shuffle:
                draw = torch.Generator().manual_seed(self.seed + memory * 1009 + layer)
                numbers = numbers[torch.randperm(len(numbers), generator=draw)]
            rows.append(self.replay.tokens(memory, layer, numbers))
        tokens = torch.stack(rows)
        return [Segment(torch.zeros_like(tokens) if self.reading.blank else tokens, self.replay.bank.projected)]


@torch.no_grad()
def ask(prefix: ReplayPrefix, input_ids: Tensor, **settings) -> Tensor:
    """`GenerationMixin.generate` for the prompts (B, n) of a prefix; returns the new tokens (B, new)."""
    model = prefix.replay.model
    with use_adapter(model, READ):
        ids = model.generate(input_ids, prefix, prefix.num_memory, attention_mask=prefix.mask.long(), **settings)
    return ids[:, input_ids.shape[1] :]

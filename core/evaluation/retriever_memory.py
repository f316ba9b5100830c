"""The memory that all kinds of retrievers search, as hidden states, and how well one of them finds its facts."""

import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..bank import LANES, Bank, write_circle, write_openings
from ..choice import select
from ..model import MPlusForCausalLM
from ..prompts import cut
from ..world import Fact

NEAREST = 10  # blocks among which a fact's own is looked for
Search = Callable[[int], Tensor]
"""Scores (m,) of all memory tokens for question i."""


class States(Bank):
    """A bank of the hidden states themselves: tokens (L, capacity, K, d)."""

    def __init__(self, model: MPlusForCausalLM, capacity: int):
        super().__init__(model, 0)
        config = model.config
        self.tokens = torch.empty(config.num_hidden_layers, capacity, config.block_size, config.hidden_size)

    def add(self, blocks: Tensor, numbers: Tensor | None = None) -> Tensor:
        numbers = self.reserve(blocks.shape[1]) if numbers is None else numbers
        self.tokens[:, numbers] = blocks.float().to("cpu")
        return numbers


class Written(NamedTuple):
    """states (L, m, K, d) of a memory's m blocks. bounds: first and last + 1 block of each fact. texts: what each block
    stands for, the whole fact or a chunk of the long text."""

    states: Tensor
    bounds: list[tuple[int, int]]
    texts: list[str]


@torch.no_grad()
def write(model: MPlusForCausalLM, tokenizer: Any, facts: Sequence[Fact], stream: Sequence[int]) -> Written:
    """The facts, then all whole chunks of the text, into one memory."""
    chunks, bounds, texts = [], [], []
    for fact in facts:
        with warnings.catch_warnings(action="ignore"):  # short facts are written repeatedly, as in `ingest`
            pieces = cut(fact.fact, tokenizer, model.config)
        bounds.append((len(chunks), len(chunks) + len(pieces.bounds)))
        chunks += [pieces.ids[start:end] for start, end in pieces.bounds]
        texts += [fact.fact] * len(pieces.bounds)
    size = model.config.chunk_size
    text = torch.tensor(stream[: len(stream) // size * size]).view(-1, size)
    bank = States(model, len(chunks) + len(text) + LANES)
    opening, _ = write_openings(model, [chunks], bank)
    order = torch.cat([opening[0], write_circle(model, text, bank)])
    return Written(bank.tokens[:, order], bounds, texts + tokenizer.batch_decode(text.tolist()))


class Found(NamedTuple):
    """By question and layer (q, L): the share of the fact's tokens among the K0 best, of its blocks among the
    `NEAREST` best. seconds: of processor time, for a question in all layers."""

    tokens: Tensor
    blocks: Tensor
    seconds: float


def measure(layers: Sequence[Search], written: Written, asked: int, num: int) -> Found:
    """Ask each layer's search for the first `asked` facts; `num` is K0."""
    size, seconds = written.states.shape[2], 0.0
    tokens, blocks = torch.zeros(2, asked, len(layers))
    for layer, search in enumerate(layers):
        for which in range(asked):
            start = time.process_time()
            scores = search(which)
            best = select(scores, num) // size
            seconds += time.process_time() - start
            first, last = written.bounds[which]
            tokens[which, layer] = ((best >= first) & (best < last)).sum() / ((last - first) * size)
            near = select(scores.unflatten(0, (-1, size)).amax(1), NEAREST)
            blocks[which, layer] = ((near >= first) & (near < last)).sum() / (last - first)
    return Found(tokens, blocks, seconds / asked)

"""Which tokens of Θ does a question call for? One retriever per layer, and three interchangeable rules of relevance.

A rule turns the question's queries and Θ's keys into one score per stored token. Selection is the same for all of them:
the K0 best tokens (`core.choice`).
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import MPlusConfig
from .log import DEAD
from .matching import block_maxima, sigmoid_means
from .products import direct
from .tiles import COLUMNS, packed


def projector(size_in: int, size_out: int, depth: int) -> nn.Sequential:
    """A bias-free SiLU perceptron d -> 2r -> r, or one linear map where `depth` is 1."""
    if depth == 1:
        return nn.Sequential(nn.Linear(size_in, size_out, bias=False))
    hidden = 2 * size_out
    return nn.Sequential(nn.Linear(size_in, hidden, bias=False), nn.SiLU(), nn.Linear(hidden, size_out, bias=False))


class Retriever(nn.Module):
    """f_q and f_k of one layer (paper §3.2). Both take states after the layer's input norm.

    `scale` is the learned temperature of the block rule's cross-entropy, with which its scores are log-odds; the other
    rules do not use it.
    `encoder_query` is a third projector the authors train and never use; it is kept so that a checkpoint survives.
    """

    def __init__(self, config: MPlusConfig):
        super().__init__()
        d, r, depth = config.hidden_size, config.retriever_size, config.retriever_depth
        self.query = projector(d, r, depth)
        self.key = projector(d, r, depth)
        if config.encoder_retriever:
            self.encoder_query = projector(d, r, depth)
        if config.relevance == "block":
            self.scale = nn.Parameter(torch.full((), r**-0.5))


class Keys(NamedTuple):
    """What a rule may look at. `vectors` (m, r) and `blocks` (m,) int64, the block each token was written in, >= 0."""

    vectors: Tensor
    blocks: Tensor


Relevance = Callable[..., Tensor]
"""(queries (n, r) of the question's real tokens, keys of m tokens) -> scores (m,), higher is more relevant. The block
rule takes `Evidence` of the layers before as well."""


CHUNK = {"cpu": 1 << 18, "cuda": 1 << 24}
"""Matches of queries and keys that are held at once: on a CPU 1 MB, so that they are used up before they leave the
cache; on a GPU as many as keep it busy."""


def dot(queries: Tensor, keys: Keys) -> Tensor:
    """Paper §3.2: the inner product <f_q(h), f_k(θ)>, averaged over the question's tokens."""
    scores, mean = queries.new_empty(len(keys.vectors)), queries.mean(0)
    for rows in chunks(len(scores), queries[:1]):
        scores[rows] = near(keys.vectors[rows], queries) @ mean
    return scores


def mean_sigmoid(queries: Tensor, keys: Keys) -> Tensor:
    """The authors' released rule: the mean over question tokens of sigmoid(q·k)."""
    scores = queries.new_empty(len(keys.vectors))
    if compiles(queries, keys.vectors):
        panels = packed(queries)
        weights = np.zeros((len(panels), COLUMNS), np.float32)
        weights.reshape(-1)[: len(queries)] = 1 / len(queries)
        sigmoid_means(keys.vectors.detach().numpy(), panels, weights, scores.numpy())
        return scores
    for rows in chunks(len(scores), queries):
        scores[rows] = (near(keys.vectors[rows], queries) @ queries.t()).sigmoid_().mean(1)
    return scores


def block_late_interaction(queries: Tensor, keys: Keys, evidence: "Evidence | None" = None) -> Tensor:
    """Our rule: a block scores the sum over question tokens of its best match, and shares the score with its tokens.

    A question names a thing by one or two tokens; only one or two tokens of the right block match them, and the token
    that holds the answer matches none. Averages over tokens lose both; the block brings its answer along.
    evidence: of the layers before, for queries whose scores are log-odds; it then counts as well.
    """
    scores = block_scores(queries, keys)
    if evidence is not None:
        scores[DEAD] = -torch.inf
        scores = evidence.add(scores.float())
    return scores[keys.blocks.to(scores.device)]


def block_scores(queries: Tensor, keys: Keys) -> Tensor:
    """What each block scores by that rule, by its number; -inf for a number that no token has."""
    num_blocks = int(keys.blocks.max()) + 1 if len(keys.blocks) else 0
    scores = queries.new_zeros(num_blocks)
    for group in queries.split(QUERIES):
        scores += block_best(group, keys, num_blocks).sum(1)
    return scores


QUERIES = 64
"""Question tokens that are matched with all blocks at once."""


QUESTION = 16
"""Up to so many tokens of a prompt each counts in full, as the retriever was taught; those of a longer prompt together
say as much as so many. What is said over and over is no news: in a passage some block matches far better than others
whether or not it is of any use, and attention would be told so."""


LEAST = -4.0
"""The lowest certainty: a block that may yet be right is not lost."""


ABOUT = 2.0
"""Nats by which a later block may be less likely than an earlier one and still count as about as likely."""


UNHEARD = -5.0
"""Nats below the likeliest block that later layers remember, at the least, and of a block that a layer has not found:
what one layer alone holds unlikely is not lost in the others."""


class Evidence:
    """What the layers so far say of blocks, for one question: how many nats each lies below the likeliest, summed over
    layers, of those before the last no more than `-UNHEARD` each, over the root of how many they are. Ours.

    Each layer's retriever asks with what that layer has understood, and their mistakes differ: a block that several
    layers hold likely is the right one more often than one that a single layer is sure of. The mean would say so less
    and less clearly than one layer does, the sum would drown which of two statements came last (`overtaken`).
    """

    def __init__(self) -> None:
        self.sums, self.layers = torch.empty(0), 0

    def add(self, odds: Tensor) -> Tensor:
        """Count the next layer's log-odds (S,) of blocks by their number, -inf where it has found none; returns what
        all layers say of them up to it (S,)."""
        size, before, below = len(odds), self.sums.to(odds.device), odds - odds.max()
        before = F.pad(before, (0, max(0, size - len(before))), value=UNHEARD * self.layers)
        heard = F.pad(below.clamp(min=UNHEARD), (0, len(before) - size), value=UNHEARD)
        self.sums, self.layers = before + heard, self.layers + 1
        return (before[:size] + below) / self.layers**0.5


@torch.no_grad()
def certainty(
    queries: Tensor, keys: Keys, scale: Tensor, bias: float, recency: float, evidence: Evidence | None = None
) -> Tensor:
    """What the attention on memory tokens gains: bias · log(p / p of the likeliest block), `LEAST` at the least; and
    up to `recency` less where a later block is about as likely (`overtaken`).

    queries (n, r) of the question's tokens, keys of the P tokens that lie before it, retrieved or in θ; p is the
    softmax over their blocks that the block rule is trained with. Ours: the paper lays tokens before the question and
    forgets how sure the retriever was of each. Among thousands of statements said alike the reader then has to choose
    once more, and at times it chooses a rival, from Θ or from θ. evidence: of the layers before, which then counts as
    well. Returns (P,), without gradient.
    """
    numbers, blocks = keys.blocks.unique(return_inverse=True)  # from 0 on, oldest first, however much was written
    scores = block_scores(queries.detach().to(keys.vectors.dtype), Keys(keys.vectors, blocks)).float()
    odds = scale.detach().float().to(scores.device) * scores
    told = odds if evidence is None else evidence.add(by_number(odds, numbers))[numbers]
    gains = below_best(told, bias) - overtaken(odds, recency)
    return gains[blocks.to(gains.device)]


def by_number(odds: Tensor, numbers: Tensor) -> Tensor:
    """Log-odds (m,) of blocks with these numbers (m,), ascending: (the last number + 1,), -inf for all others."""
    return odds.new_full((int(numbers[-1]) + 1,), -torch.inf).scatter(0, numbers.to(odds.device), odds)


def overtaken(odds: Tensor, recency: float) -> Tensor:
    """What blocks of log-odds (..., S), oldest first, lose to later ones: how much likelier the likeliest of those is
    in nats, and `ABOUT`, but not less than 0 nor more than `recency`.

    Where something has changed, what is no longer true and what is now are found about equally well: by which was said
    later they differ, and nothing else in attention tells that.
    """
    later = odds.flip(-1).cummax(-1).values.flip(-1)[..., 1:]
    lead = F.pad(later, (0, 1), value=-torch.inf) - odds
    return (lead + ABOUT).clamp(0, recency)


def below_best(odds: Tensor, bias: float) -> Tensor:
    """Log-odds (..., S) of blocks as `certainty` counts them, from the best of each row down."""
    return (bias * (odds - odds.amax(-1, keepdim=True))).clamp(min=LEAST)


def block_best(queries: Tensor, keys: Keys, num_blocks: int) -> Tensor:
    """The best match of each question token in each block: (num_blocks, n); -inf where a block has no token.

    Tokens of one write stand close together, so a chunk of rows touches few blocks, and they stay in the cache.
    """
    if compiles(queries, keys.vectors):
        panels = packed(queries)
        best = queries.new_full((num_blocks, len(panels), COLUMNS), -torch.inf)
        block_maxima(keys.vectors.detach().numpy(), keys.blocks.numpy(), panels, best.numpy())
        return best.flatten(1)[:, : len(queries)]
    best = queries.new_full((num_blocks, len(queries)), -torch.inf)
    for rows in chunks(len(keys.vectors), queries):
        matches, blocks = near(keys.vectors[rows], queries) @ queries.t(), near(keys.blocks[rows], queries)
        # an index that is expanded along the last dimension takes torch's sorted, vectorised path
        best.scatter_reduce_(0, blocks[:, None].expand(-1, len(queries)), matches, "amax")
    return best


def compiles(queries: Tensor, vectors: Tensor) -> bool:
    """Whether compiled functions match these: on a CPU, in float32, without a gradient."""
    learns = torch.is_grad_enabled() and (queries.requires_grad or vectors.requires_grad)
    return direct(queries) and direct(vectors) and vectors.is_contiguous() and not learns


def near(rows: Tensor, queries: Tensor) -> Tensor:
    """Rows of Θ where the question is; a chunk at a time, so that keys on the host need no room on the device."""
    return rows.to(queries.device, non_blocking=True)


def chunks(num_rows: int, queries: Tensor) -> Iterator[slice]:
    """Rows in pieces of which no more than `CHUNK` matches are made at once."""
    step = max(1, CHUNK.get(queries.device.type, CHUNK["cpu"]) // max(1, len(queries)))
    return (slice(start, start + step) for start in range(0, num_rows, step))


RELEVANCE: dict[str, Relevance] = {"dot": dot, "mean_sigmoid": mean_sigmoid, "block": block_late_interaction}

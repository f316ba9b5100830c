"""How one layer's retriever is taught on frozen states: rules of relevance for whole batches, losses, and the steps.

Ours is late interaction by block with cross-entropy over blocks. The others, the paper's and the released code's among
them, are here to be compared with it (`core.evaluation.retriever_table`).
"""

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .retriever import Retriever

ASKED, OTHERS = 24, 100  # questions of a step, and rivals of each kind: other facts, and prose
RATE, SCALE_RATE, WARM_UP = 2e-3, 0.1, 8
TINY = 1e-5  # keeps logarithms finite, as released


class Frozen(NamedTuple):
    """States of one layer after its input norm: blocks of facts (m, K, d), of which block i answers question i, and of
    prose (p, K, d); queries (m, W, d), of whose tokens those `asked` (m, W) bool are real.
    """

    facts: Tensor
    prose: Tensor
    queries: Tensor
    asked: Tensor


EVIDENCE: dict[str, Callable[[Tensor], Tensor]] = {
    "block": lambda matches: matches.amax(-1),
    "soft_block": lambda matches: matches.logsumexp(-1),
    "address": lambda matches: matches.mean(-1),
    "dot": lambda matches: matches,
    "mean_sigmoid": torch.sigmoid,
}
"""What the matches (t, m, K) of a question's tokens with blocks say: of a block, (t, m), or of each of its tokens."""

TOKEN_RULES = ("dot", "mean_sigmoid")
"""Rules that score tokens: the evidence is averaged over the question, as the paper and its code do, not summed."""


def score(retriever: Retriever, queries: Tensor, asked: Tensor, blocks: Tensor, rule: str = "block") -> Tensor:
    """Queries (q, W, d) whose tokens `asked` (q, W) marks, blocks (m, K, d), all normed -> (q, m), or (q, m, K).

    The rules of `core.retriever` and two more, as training needs them: many questions and whole blocks at once.
    """
    vectors, keys = retriever.query(queries[asked]), retriever.key(blocks)
    found = EVIDENCE[rule]((vectors @ keys.flatten(0, 1).T).unflatten(1, keys.shape[:2]))
    total = found.new_zeros(len(queries), *found.shape[1:]).index_add(0, asked.nonzero()[:, 0], found)
    return total / asked.sum(1)[:, None, None] if rule in TOKEN_RULES else total


def over_blocks(scores: Tensor, scale: Tensor, rule: str) -> Tensor:
    """Cross-entropy over blocks, question i's being block i. A block of scored tokens has their joint probability."""
    logits = scores * scale
    logits = logits.logsumexp(-1) if rule in TOKEN_RULES else logits
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))


def balanced(scores: Tensor, scale: Tensor, rule: str) -> Tensor:
    """The released loss: mean -log p of what is relevant and mean -log(1 - p) of the rest, half each.

    p is the released score as it is; inner products, which the paper's formula has in its place, go through a sigmoid.
    """
    p = scores if rule == "mean_sigmoid" else torch.sigmoid(scores * scale)
    right = torch.eye(*p.shape[:2], dtype=torch.bool, device=p.device)
    return -((p[right] + TINY).log().mean() + (1 - p[~right] + TINY).log().mean()) / 2


LOSSES = {"blocks": over_blocks, "balanced": balanced}


def by_steps(steps: int) -> Iterator[float]:
    """So many steps: the share done before each."""
    return (step / steps for step in range(steps))


def by_clock(seconds: float) -> Iterator[float]:
    """As many steps as take so many seconds of processor time, one at least."""
    start = time.process_time()
    for step in count():
        done = (time.process_time() - start) / seconds
        if step and done >= 1:
            return
        yield min(1.0, done)


def learn(
    retriever: Retriever, seen: Frozen, held_out: int, pace: Iterable[float], generator: torch.Generator,
    rule: str = "block", loss: str = "blocks",
) -> int:  # fmt: skip
    """Tell the blocks of a step's questions from those of other facts and from prose; returns the steps made.

    The first `held_out` facts are left out. pace: the share of training that is done, once before each step. rule: of
    `EVIDENCE`; loss: of `LOSSES`.
    """
    retriever.requires_grad_(True)
    projectors = [*retriever.query.parameters(), *retriever.key.parameters()]
    groups = [{"params": projectors, "lr": RATE}, {"params": [retriever.scale], "lr": SCALE_RATE, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
    rates, made = [group["lr"] for group in optimizer.param_groups], 0
    for made, done in enumerate(pace, 1):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * (min(1.0, made / WARM_UP) * max(0.1, 1 - done))
        drawn = held_out + torch.randperm(len(seen.facts) - held_out, generator=generator)[: ASKED + OTHERS]
        rivals = torch.randint(len(seen.prose), (OTHERS,), generator=generator)
        now, blocks = drawn[:ASKED], torch.cat([seen.facts[drawn], seen.prose[rivals]])
        scores = score(retriever, seen.queries[now], seen.asked[now], blocks, rule)
        LOSSES[loss](scores, retriever.scale, rule).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return made

"""The kinds of retrievers that are compared: a rule of relevance, where training starts, and the loss.

Of each rule the paper's or ours is in `core.retriever`; two more are here. All have projectors of one width and depth.
"""

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..config import MPlusConfig
from ..lexical_start import as_linear
from ..retriever import RELEVANCE, Keys, Relevance, Retriever


class Kind(NamedTuple):
    """rule: of `RULES`. start: random, projection (one random linear map for both), words or shipped.

    loss: of `core.fitting.LOSSES`, none for a kind that is not trained. last: only the question's last token asks.
    """

    name: str
    rule: str
    start: str = "random"
    loss: str = ""
    last: bool = False


KINDS = (
    Kind("late interaction, untrained projection", "block", "projection"),
    Kind("released: mean sigmoid, balanced loss", "mean_sigmoid", loss="balanced"),
    Kind("paper: dot product, balanced loss", "dot", loss="balanced"),
    Kind("mean sigmoid, loss over blocks", "mean_sigmoid", loss="blocks"),
    Kind("dot product, loss over blocks", "dot", loss="blocks"),
    Kind("one address a block, loss over blocks", "address", loss="blocks"),
    Kind("late interaction, last token asks", "block", loss="blocks", last=True),
    Kind("late interaction, balanced loss", "block", loss="balanced"),
    Kind("late interaction, soft maximum", "soft_block", loss="blocks"),
    Kind("late interaction, loss over blocks", "block", loss="blocks"),
    Kind("closed form, mean sigmoid", "mean_sigmoid", "words"),
    Kind("closed form, mean sigmoid, balanced loss", "mean_sigmoid", "words", "balanced"),
    Kind("closed form, late interaction", "block", "words"),
    Kind("closed form, late interaction, loss over blocks", "block", "words", "blocks"),
    Kind("shipped", "shipped", "shipped"),
)


def soft_block(queries: Tensor, keys: Keys) -> Tensor:
    """Late interaction with a logsumexp in the place of the maximum; all blocks are whole and in order."""
    size = len(keys.blocks) // (int(keys.blocks.max()) + 1)
    parts = keys.vectors.split(64 * size)
    scores = torch.cat([(queries @ rows.T).unflatten(1, (-1, size)).logsumexp(2).sum(0) for rows in parts])
    return scores[keys.blocks]


def address(queries: Tensor, keys: Keys) -> Tensor:
    """One key a block, the mean of its tokens'; all blocks are whole and in order."""
    num = int(keys.blocks.max()) + 1
    return (keys.vectors.unflatten(0, (num, -1)).mean(1) @ queries.mean(0))[keys.blocks]


RULES: dict[str, Relevance] = {**RELEVANCE, "soft_block": soft_block, "address": address}
SCALES = {"mean_sigmoid": 20.0}
"""Where the loss's temperature starts for a rule of small scores; of 10, 20, 50 and 200 none did clearly better."""


def fresh(config: MPlusConfig, kind: Kind, generator: torch.Generator) -> Retriever:
    """A retriever of the model's width and depth before training, random or one linear map for questions and keys."""
    config = copy.copy(config)
    config.relevance = "block"  # with a scale
    retriever = Retriever(config)
    if kind.rule in SCALES:
        retriever.scale.data.fill_(SCALES[kind.rule])
    for weight in (*retriever.query.parameters(), *retriever.key.parameters()):
        nn.init.normal_(weight, std=weight.shape[1] ** -0.5, generator=generator)
    if kind.start == "projection":
        matrix = torch.randn(config.retriever_size, config.hidden_size, generator=generator)
        as_linear(retriever.query, matrix)
        as_linear(retriever.key, matrix)
    return retriever


def last_only(asked: Tensor) -> Tensor:
    """Of real tokens (m, W) bool, of which padding follows, the last of each row."""
    return asked & (asked.cumsum(1) == asked.sum(1, keepdim=True))

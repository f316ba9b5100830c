"""A start for the block retriever in closed form: a block is relevant if it holds the question's rare words.

Our own trick, not the paper's. Learned from nothing together with the reader, the retriever stays at chance for a long
time, and as long as it does the reader learns to do without it. But the tokens that a memory token and a question token
stand for can be read off their states by a linear map. So both projectors are set, by ridge regression, to give
whitened token embeddings, on the question's side weighted by how rare the token is; the block rule then is a soft
BM25 from the first step, and what words alone cannot tell is learned from there.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .retriever import Retriever

RIDGE = 1e-2
SCALE = 7.0


def rarity(counts: Tensor) -> Tensor:
    """Weights (V,) near 0 for tokens that stand everywhere and near 1 for rare ones, from how often each was met."""
    surprise = -((counts + 1) / (counts + 1).sum()).log()
    return torch.sigmoid((surprise - 6.3) * 1.5) + 0.02


def token_codes(embeddings: Tensor, width: int) -> Tensor:
    """Unit vectors (V, width) that tell tokens apart: embeddings (V, d), centred and whitened along their main axes."""
    with torch.autocast(embeddings.device.type, enabled=False):
        centred = embeddings.float() - embeddings.float().mean(0)
        _, strength, axes = torch.linalg.svd(centred, full_matrices=False)
        return F.normalize(centred @ (axes[:width].T / strength[:width]), dim=-1)


def linear_map(states: Tensor, targets: Tensor) -> Tensor:
    """The ridge regression (d, r) from states (m, d) to targets (m, r)."""
    products = states.T @ states
    products += RIDGE * products.diagonal().mean() * torch.eye(len(products), device=states.device)
    return torch.linalg.solve(products, states.T @ targets)


@torch.no_grad()
def as_linear(projector: nn.Sequential, matrix: Tensor) -> None:
    """Make a perceptron of depth 2 compute the linear map (r, d). Raises ValueError for one of depth 1."""
    if len(projector) != 3:
        raise ValueError("A start in closed form needs a retriever of depth 2.")
    unit = torch.eye(len(matrix), device=matrix.device)
    # silu(x) - silu(-x) = x: with each direction once up and once down, the perceptron is exactly linear.
    projector[0].weight.copy_(torch.cat([matrix, -matrix]))  # type: ignore[operator]
    projector[2].weight.copy_(torch.cat([unit, -unit], dim=1))  # type: ignore[operator]


@torch.no_grad()
def lexical_start(
    retriever: Retriever,
    keys: tuple[Tensor, Tensor],
    queries: tuple[Tensor, Tensor],
    codes: Tensor,
    weights: Tensor,
) -> None:
    """Set one layer's retriever. keys, queries: normed states (m, d) and the tokens (m,) they stand for.

    codes (V, r) from `token_codes`, weights (V,) from `rarity`. Raises ValueError for a retriever of depth 1.
    """
    for projector, (states, tokens), weight in (
        (retriever.key, keys, torch.ones_like(weights)),
        (retriever.query, queries, weights),
    ):
        with torch.autocast(states.device.type, enabled=False):
            target = codes[tokens].float() * weight[tokens, None]
            as_linear(projector, linear_map(states.float(), target).T)
    retriever.scale.fill_(SCALE)

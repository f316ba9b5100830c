"""Tokens that a model has hardly ever seen, told apart again.

At every step the softmax pushes what it does not want away from the states, tokens never wanted all in one direction,
until their embeddings are nearly the same ("representation degeneration", Gao et al., arXiv 1907.12009). With tied
embeddings a model then cannot copy them either: of mini's 2,048 tokens 233 were one, among them " Hen" and " Ken",
quotation marks, and the bytes of all accented letters.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .model import MPlusForCausalLM

ALIKE, ALONG = 0.9, 0.8
"""Cosines: from which on two embeddings are the same, and one lies along the direction in which such embeddings do."""
STAYS = 0.7
"""How much of a redrawn embedding still lies there, which keeps the token as unlikely as it is. Other embeddings have
0.34; with as much, redrawn tokens are said where they do not belong. With 0.7 as many answers are right as before, and
what is left tells them apart."""


@torch.no_grad()
def redraw_rare_tokens(model: MPlusForCausalLM, seed: int = 0) -> Tensor:
    """Draw anew, in place, what embeddings along one direction have besides it, as others are spread; their ids.

    What is copied needs no more than to be told apart: circuits that have learned to copy others copy these at once.
    Does nothing where no embeddings are alike. Raises ValueError for a model whose embeddings are not tied.
    """
    if not model.config.tie_word_embeddings:
        raise ValueError("The embeddings of this model are not tied; tokens are redrawn only where they are.")
    table: nn.Parameter = model.get_input_embeddings().weight  # type: ignore[assignment]
    old = table.detach().float().cpu()
    unit = F.normalize(old, dim=1)
    nearest = (unit @ unit.T).fill_diagonal_(-1).max(1).values
    if not bool((nearest > ALIKE).any()):
        return torch.empty(0, dtype=torch.int64)
    direction = F.normalize(unit[nearest > ALIKE].mean(0), dim=0)
    alike = unit @ direction > ALONG
    others = old[~alike]
    centred = others - others.mean(0)
    spread = centred.T @ centred / len(centred) + 1e-4 * torch.eye(old.shape[1])
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(int(alike.sum()), old.shape[1], generator=generator) @ torch.linalg.cholesky(spread).T
    across = F.normalize(drawn - (drawn @ direction)[:, None] * direction, dim=1)
    new = STAYS * direction + (1 - STAYS**2) ** 0.5 * across
    table[alike.to(table.device)] = (others.norm(dim=1).median() * new).to(table)
    return alike.nonzero()[:, 0]

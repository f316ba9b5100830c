"""Several token sequences in one row: many questions about the same memory cost one pass instead of many.

Sequences of a row do not see each other. They all see whatever lies before the row, memory or a context that was read;
each is positioned as if it stood there alone.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

IGNORED, NOTHING = -100, -1


class Passage(NamedTuple):
    """Token ids of which those from `start` on are to be predicted, each with this weight in the loss.

    ending: the last token's weight is so many times that.
    """

    ids: list[int]
    start: int = 1
    weight: float = 1.0
    ending: float = 1.0


class Packed(NamedTuple):
    """A batch of B rows of width W; all tensors (B, W).

    labels: the token to predict after each position, IGNORED where there is none. weights: of those in the loss.
    positions: of each token in its passage, that is, behind any prefix, or its row's gap farther.
    segments: the number of the passage in its row, NOTHING on padding.
    """

    ids: Tensor
    labels: Tensor
    weights: Tensor
    positions: Tensor
    segments: Tensor

    @property
    def visible(self) -> Tensor:
        """(B, W, W) bool: which earlier tokens of its row each token may attend to."""
        return (self.segments[:, :, None] == self.segments[:, None]).tril()

    def prompt_mask(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """(B, Q, W) float: 1 on the first prompts[b][q] tokens of passage q of row b, for rows of up to Q passages."""
        count = max(len(row) for row in prompts)
        lengths = torch.zeros(len(prompts), count + 1, dtype=torch.int64)
        for index, row in enumerate(prompts):
            lengths[index, : len(row)] = torch.tensor(row)
        mask = torch.zeros(len(prompts), count, self.ids.shape[1])
        for number in range(count):
            inside = self.segments.cpu() == number
            mask[:, number] = (inside & (inside.cumsum(1) <= lengths[:, number, None])).float()
        return mask.to(self.ids.device)

    def all_right(self, right: Tensor) -> Tensor:
        """(B, Q) bool, for Q passages: is every label right? `right` (B, W) is true where the prediction is.

        Passages that are not there, or have no labels, count as right.
        """
        wrong = (self.labels != IGNORED) & ~right
        count = max(1, int(self.segments.max()) + 1)
        mistakes = torch.zeros(len(self.ids), count, dtype=torch.int64, device=self.ids.device)
        return mistakes.scatter_add_(1, self.segments.clamp(min=0), wrong.long()) == 0

    def to(self, device: torch.device) -> "Packed":
        return Packed(*(tensor.to(device) for tensor in self))


def pack(rows: Sequence[Sequence[Passage]], padding: int = 0, gaps: Sequence[int] | None = None) -> Packed:
    """Lay the passages of each row one after the other; gaps: how many positions behind the prefix each row starts."""
    shape = len(rows), max(sum(len(passage.ids) for passage in row) for row in rows)
    ids, labels = torch.full(shape, padding), torch.full(shape, IGNORED)
    positions, segments = torch.zeros(shape, dtype=torch.int64), torch.full(shape, NOTHING)
    weights = torch.zeros(shape)
    for index, (row, gap) in enumerate(zip(rows, gaps or [0] * len(rows), strict=True)):
        start = 0
        for number, passage in enumerate(row):
            end, tokens = start + len(passage.ids), torch.tensor(passage.ids, dtype=torch.int64)
            ids[index, start:end], segments[index, start:end] = tokens, number
            positions[index, start:end] = gap + torch.arange(len(tokens))
            predicting = slice(start + passage.start - 1, max(start + passage.start, end) - 1)
            labels[index, predicting] = tokens[passage.start :]
            weights[index, predicting] = passage.weight
            weights[index, end - 2] *= passage.ending
            start = end
    return Packed(ids, labels, weights, positions, segments)


def find(ids: list[int], part: list[int]) -> list[int]:
    """Where `part` begins in `ids`, all places; nowhere if it is empty."""
    return [start for start in range(len(ids) - len(part) + 1) if part and ids[start : start + len(part)] == part]

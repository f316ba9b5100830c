"""The best rows of Θ by their scores, and what stands in its columns there, oldest first."""

import numpy as np
import torch
from torch import Tensor

from .tiles import compiled


def select(scores: Tensor, num: int, alive: Tensor | None = None) -> Tensor:
    """The rows of the `num` best scores (m,), ascending. Equal scores: the earlier row first, so blocks stay whole.

    alive (m,) bool: the rows that may be chosen, None: all; where they are fewer than `num`, all of them are.
    """
    values = scores.detach().float().cpu().numpy()
    usable = np.ones(len(values), np.bool_) if alive is None else alive.numpy()
    candidates = values if alive is None else values[usable]
    rows = np.empty(min(num, len(candidates)), np.int64)
    if len(rows):
        place = len(candidates) - len(rows)
        last = np.partition(candidates, place)[place]  # numpy selects several times as fast as topk
        _not_below(last, values, usable, int(np.count_nonzero(candidates > last)), rows)
    return torch.from_numpy(rows)


@compiled
def _not_below(last, values, usable, better, rows):
    """rows (num,), filled with the usable rows of values above `last`, of which there are `better`, and with the first
    of those equal to it."""
    count, equal = 0, len(rows) - better
    for row in range(len(values)):
        if values[row] >= last and usable[row] and (values[row] > last or equal > 0):
            equal -= values[row] == last
            rows[count] = row
            count += 1


def oldest_first(rows: Tensor, born: Tensor, block: Tensor, slot: Tensor) -> tuple[Tensor, ...]:
    """Rows (R,) of a log, oldest first, of equal ages the last; and its columns there: rows, born, blocks and slots,
    each (R,) int64."""
    found = np.empty((4, len(rows)), np.int64)
    _oldest_first(rows.numpy(), born.numpy(), block.numpy(), slot.numpy(), found)
    return torch.from_numpy(found).unbind()


@compiled
def _oldest_first(rows, born, block, slot, found):
    last, times = len(rows) - 1, np.empty(len(rows), np.int64)
    for i in range(len(rows)):
        times[i] = born[rows[last - i]]
    order = np.argsort(times, kind="mergesort")
    for i in range(len(rows)):
        row = rows[last - order[i]]
        found[0, i], found[1, i], found[2, i], found[3, i] = row, born[row], block[row], slot[row]


def compile_choice() -> None:
    """Compile now what the first answer would wait for; where that was done before it is read from the disk."""
    one = torch.zeros(1, dtype=torch.int64)
    select(one.float(), 1)
    oldest_first(one, one, one, one)

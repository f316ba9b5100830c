"""How well the tokens of a question match all keys of Θ, scored while the matches are still in the cache."""

import numpy as np

from .tiles import COLUMNS, GROUP, compiled, multiply

ABOVE = tuple(
    np.float32(number)
    for number in (
        -2.76076847742355e-16, 2.00018790482477e-13, -8.60467152213735e-11, 5.12229709037114e-08, 1.48572235717979e-05,
        6.37261928875436e-04, 4.89352455891786e-03,
    )
)  # fmt: skip
BELOW = tuple(
    np.float32(number) for number in (1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03,
                                      4.89352518554385e-03)
)  # fmt: skip
"""tanh(x) as x times one polynomial of x² over another, within 2e-7 up to ±9, where it is 1: as Eigen computes it.
Unlike a library's e^x it becomes vector instructions."""
FLAT = np.float32(9)


@compiled
def sigmoid_means(keys, queries, weights, scores):
    """scores (m,): of each of keys (m, r), the sum over the columns of queries of weight times sigmoid(match).

    queries (panels, r, COLUMNS) and weights (panels, COLUMNS), 0 where a column is padding (`core.tiles`).
    """
    matches, half = np.empty((len(queries), GROUP, COLUMNS), np.float32), np.float32(0.5)
    halves = weights * half
    always = halves.sum()
    for start in range(0, len(keys), GROUP):
        count = min(GROUP, len(keys) - start)
        multiply(keys[start : start + count], queries, matches)
        for row in range(count):
            total = always
            for panel in range(len(queries)):
                values, weight = matches[panel, row], halves[panel]
                for column in range(COLUMNS):
                    x = min(max(values[column] * half, -FLAT), FLAT)
                    y = x * x
                    above, below = ABOVE[0], BELOW[0]
                    above = above * y + ABOVE[1]
                    above = above * y + ABOVE[2]
                    above = above * y + ABOVE[3]
                    above = above * y + ABOVE[4]
                    above = above * y + ABOVE[5]
                    above = above * y + ABOVE[6]
                    below = below * y + BELOW[1]
                    below = below * y + BELOW[2]
                    below = below * y + BELOW[3]
                    total += weight[column] * (x * above / below)
            scores[start + row] = total


@compiled
def block_maxima(keys, blocks, queries, best):
    """best (number of blocks, panels, COLUMNS): each column's best match among a block's keys, or what it was if that
    is more. keys (m, r), the block of each, blocks (m,), and queries (panels, r, COLUMNS)."""
    matches = np.empty((len(queries), GROUP, COLUMNS), np.float32)
    for start in range(0, len(keys), GROUP):
        count = min(GROUP, len(keys) - start)
        multiply(keys[start : start + count], queries, matches)
        for row in range(count):
            block = best[blocks[start + row]]
            for panel in range(len(queries)):
                values, largest = matches[panel, row], block[panel]
                for column in range(COLUMNS):
                    largest[column] = max(largest[column], values[column])

"""A short prompt behind a long memory through one decoder layer, as one compiled function.

As a row of torch operations a prompt of a few tokens is packed, unpacked and handed to memory between all of them. Here
its tokens stay the columns of panels (`core.tiles`) from the norm to the residual, so that every weight, key and value
meets all of them at once, read once and in its order.
"""

import numpy as np

from .tiles import COLUMNS, GROUP, LOG2_E, ROWS, ask_for, compiled, multiply, powers_of_two, tile_row, tile_rows

HIDDEN, LARGE = np.float32(-1e30), np.float32(60)


@compiled
def prefill_layer(x, heads, out, gates, down, cos, sin, keys, values, start, epsilon, scale, bias):
    """The layer's outputs for the tokens of a prompt, put into `x`; their keys and values go into rows `start` ... of
    the cache.

    x (n, d) is the layer's raw input. Weights are (outputs, inputs), contiguous: heads maps to queries, keys and
    values, gates to gate and up, both with the scale of the norm before them in it. cos, sin (n, head dim). keys,
    values (kv heads, capacity, head dim); every token sees all rows up to its own. bias (p,): added to the scores of
    the first p rows, all before `start`. The activation is SiLU; heads turn as in `transformers`, half against half.
    """
    count, width = x.shape
    num_kv, _, size = keys.shape
    panels, groups = -(-count // COLUMNS), len(heads) // (num_kv * size) - 2
    joined = np.empty((panels, len(heads), COLUMNS), np.float32)
    multiply(heads, _normed(x, epsilon), joined)
    _turn(joined, (groups + 1) * num_kv, groups * num_kv, cos, sin, scale * LOG2_E)
    _keep(joined[:, groups * num_kv * size :], count, keys, values, start)
    mixed = np.empty((panels, groups * num_kv * size, COLUMNS), np.float32)
    for head in range(num_kv):
        own = slice(head * groups * size, (head + 1) * groups * size)
        rows = slice(0, start + count)
        _attend(joined[:, own], keys[head, rows], values[head, rows], start, bias, mixed[:, own])
    sums = np.empty((panels, width, COLUMNS), np.float32)
    multiply(out, mixed, sums)
    _add(sums, x)
    halves = np.empty((panels, len(gates), COLUMNS), np.float32)
    multiply(gates, _normed(x, epsilon), halves)
    inner = np.empty((panels, len(gates) // 2, COLUMNS), np.float32)
    for panel in range(panels):
        _gated(halves[panel, : len(gates) // 2].reshape(-1), halves[panel, len(gates) // 2 :].reshape(-1),
               inner[panel].reshape(-1))  # fmt: skip
    multiply(down, inner, sums)
    _add(sums, x)


@compiled
def prefill_keys(x, heads, cos, sin, keys, values, start, epsilon):
    """Only keys and values of a prompt's tokens x (n, d), as of a last layer whose outputs nobody asks for; see
    `prefill_layer`."""
    num_kv, _, size = keys.shape
    own = heads[len(heads) - 2 * num_kv * size :]
    joined = np.empty((-(-len(x) // COLUMNS), len(own), COLUMNS), np.float32)
    multiply(own, _normed(x, epsilon), joined)
    _turn(joined, num_kv, 0, cos, sin, np.float32(1))
    _keep(joined, len(x), keys, values, start)


@compiled
def _keep(joined, count, keys, values, start):
    """Put the keys and values (panels, 2 · kv heads · size, COLUMNS) of so many tokens into the cache."""
    num_kv, _, size = keys.shape
    for token in range(count):
        new = joined[token // COLUMNS, :, token % COLUMNS]
        for head in range(num_kv):
            for i in range(size):
                keys[head, start + token, i] = new[head * size + i]
                values[head, start + token, i] = new[(num_kv + head) * size + i]


@compiled
def _normed(x, epsilon):
    """Rows of x over their root mean squares, as panels."""
    panels = np.zeros((-(-len(x) // COLUMNS), x.shape[1], COLUMNS), np.float32)
    for token in range(len(x)):
        row, factor = x[token], _one_over_length(x[token], epsilon)
        panel, column = panels[token // COLUMNS], token % COLUMNS
        for i in range(len(row)):
            panel[i, column] = row[i] * factor
    return panels


@compiled
def _one_over_length(row, epsilon):
    """One over the root mean square of a row (d,)."""
    total = np.float32(0)
    for i in range(len(row)):
        total += row[i] * row[i]
    return np.float32(1) / np.sqrt(total / np.float32(len(row)) + epsilon)


@compiled
def norm_rows(x, scale, epsilon, result):
    """result (n, d): rows of x over their root mean squares, times the scale (d,)."""
    for token in range(len(x)):
        row, out, factor = x[token], result[token], _one_over_length(x[token], epsilon)
        for i in range(len(row)):
            out[i] = row[i] * factor * scale[i]


@compiled
def _turn(joined, num_heads, num_queries, cos, sin, scale):
    """RoPE of the first heads of joined (panels, heads · size, COLUMNS), in place; queries are scaled besides."""
    size = cos.shape[1]
    turn, half = np.zeros((2, size, COLUMNS), np.float32), size // 2
    for panel in range(len(joined)):
        for column in range(min(COLUMNS, len(cos) - panel * COLUMNS)):
            for i in range(size):
                turn[0, i, column] = cos[panel * COLUMNS + column, i]
                turn[1, i, column] = sin[panel * COLUMNS + column, i]
        for head in range(num_heads):
            factor = scale if head < num_queries else np.float32(1)
            for i in range(half):
                lower, upper = joined[panel, head * size + i], joined[panel, head * size + half + i]
                for column in range(COLUMNS):
                    low, high = lower[column] * factor, upper[column] * factor
                    lower[column] = low * turn[0, i, column] - high * turn[1, i, column]
                    upper[column] = high * turn[0, half + i, column] + low * turn[1, half + i, column]


@compiled
def _attend(queries, keys, values, start, bias, mixed):
    """What the queries of one group make of keys and values (P, size), put into mixed; both (panels, group · size,
    COLUMNS). Queries are scaled for powers of 2; the first panel's first token sees keys up to row `start`.

    Softmax goes along with the keys (Dao et al. 2022), relative to the largest of the first scores; sums so far are
    scaled down where a score turns up that is larger by far.
    """
    size, count = keys.shape[1], len(keys)
    num_panels, num_heads = len(queries), queries.shape[1] // size
    below = np.zeros((num_panels, num_heads, COLUMNS), np.float32)  # what is added to scores
    total, ones = np.zeros_like(below), np.ones(GROUP, np.float32)
    memory, room = np.empty(GROUP * COLUMNS, np.float32), np.empty(GROUP * COLUMNS, np.float32)
    share = -(-GROUP // (num_panels * num_heads))  # of the next keys and values, which memory is asked for in turns
    mixed[:] = 0
    for first in range(0, count, GROUP):
        some = min(GROUP, count - first)
        flat = memory[: some * COLUMNS]
        scores = flat.reshape(some, COLUMNS)
        for panel in range(num_panels):
            last = start + panel * COLUMNS - first  # the row that the panel's first token sees last
            for head in range(num_heads):
                own, turn = slice(head * size, (head + 1) * size), panel * num_heads + head
                following, part = np.uint64(4 * (first + GROUP + turn * share) * size), min(share, GROUP - turn * share)
                scaled, sums, whole = below[panel, head], mixed[panel, own], total[panel, head]
                ask_for(keys.ctypes.data + following, part, size, size, 0, 1)
                _product(keys[first].ctypes.data, size, 1, queries[panel, own], scaled.ctypes.data, 0, scores)
                for row in range(min(some, len(bias) - first)):
                    more = bias[first + row] * LOG2_E
                    for column in range(COLUMNS):  # as one operation on a row numba makes no vector code of it
                        scores[row, column] += more
                for row in range(max(0, last + 1), some):
                    scores[row, : row - last] = HIDDEN
                _lower(flat, scaled, sums, whole, first == 0)
                powers_of_two(flat, room.view(np.int32), room)
                ask_for(values.ctypes.data + following, part, size, size, 0, 1)
                _product(values[first].ctypes.data, 1, size, scores, sums.ctypes.data, COLUMNS, sums)
                place = whole.ctypes.data
                tile_row(ones.ctypes.data, 0, 1, scores.ctypes.data, some, place, 0, place)
    for panel in range(num_panels):
        for head in range(num_heads):
            for i in range(size):
                mixed[panel, head * size + i] /= total[panel, head]


@compiled
def _product(left, row, term, right, start, every, sums):
    """sums (m, COLUMNS) = what stands at `start` plus left, an address, times right (k, COLUMNS); see `core.tiles`."""
    whole, steps = len(sums) - len(sums) % ROWS, len(right)
    columns, place = right.ctypes.data, sums.ctypes.data
    for i in range(0, whole, ROWS):
        tile_rows(left + np.uint64(4 * i * row), row, term, columns, steps, start + np.uint64(4 * i * every), every,
                  place + np.uint64(4 * i * COLUMNS))  # fmt: skip
    for i in range(whole, len(sums)):
        tile_row(left + np.uint64(4 * i * row), row, term, columns, steps, start + np.uint64(4 * i * every), every,
                 place + np.uint64(4 * i * COLUMNS))  # fmt: skip


@compiled
def _lower(scores, below, sums, total, first):
    """Keep powers of the scores (m · COLUMNS,) in range: for the `first` scores, and where one is far too large, the
    largest of each column is taken off all of it and put down in `below`; sums and total so far shrink to fit."""
    above = 0
    for place in range(len(scores)):
        above += scores[place] > LARGE
    if not above and not first:
        return
    for column in range(COLUMNS):
        rise = HIDDEN if first else np.float32(0)
        for place in range(column, len(scores), COLUMNS):
            rise = max(rise, scores[place])
        below[column] -= rise
        for place in range(column, len(scores), COLUMNS):
            scores[place] -= rise
        if not first:  # the first have nothing before them, and their power may be out of range
            shrunk = np.exp2(-rise)
            total[column] *= shrunk
            for row in range(len(sums)):
                sums[row, column] *= shrunk


@compiled
def _gated(gate, up, inner):
    """inner = SiLU(gate) times up, all (m,)."""
    room = np.empty_like(gate)
    for place in range(len(gate)):
        inner[place] = min(-gate[place] * LOG2_E, np.float32(126))
    powers_of_two(inner, room.view(np.int32), room)
    for place in range(len(gate)):
        inner[place] = gate[place] * up[place] / (np.float32(1) + inner[place])


@compiled
def _add(sums, x):
    """Rows of x plus the columns of sums."""
    for token in range(len(x)):
        panel, row, column = sums[token // COLUMNS], x[token], token % COLUMNS
        for i in range(len(row)):
            row[i] += panel[i, column]


def compile_prefill() -> None:
    """Compile now what the first answer would wait for; where that was done before it is read from the disk."""
    x, weight, cache = np.zeros((1, 4), np.float32), np.zeros((4, 4), np.float32), np.zeros((1, 2, 4), np.float32)
    heads, one = np.zeros((12, 4), np.float32), np.float32(1)
    prefill_layer(x, heads, weight, weight, weight[:, :2].copy(), x, x, cache, cache.copy(), 1, one, one, x[0, :1])
    norm_rows(x, x[0], one, x.copy())
    prefill_keys(x, heads, x, x, cache, cache.copy(), 1, one)

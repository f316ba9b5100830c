"""What torch has no quick operation for on a CPU, compiled: one token more through a layer.

As a row of torch operations a decoded token costs more in Python than in arithmetic, and four queries are no product
that a library multiplies well. Here weights, keys and values are each read once, in their order, at the memory bus's
speed.

Compiled by numba at its first call, which takes some seconds once per machine: the result is kept on the disk. All
arrays are float32 and contiguous: with unknown strides the compiler makes no vector instructions.
"""

import math

import numpy as np

from .matching import block_maxima, sigmoid_means
from .tiles import COLUMNS, LOG2_E, compiled, powers_of_two

BLOCK = 64
"""Terms that are summed before they are added to the rest: a long sum of float32 loses fewer digits so."""


@compiled
def decode_layer(x, heads, out, gates, down, cos, sin, keys, values, start, epsilon, scale, bias):
    """The layer's output for one token, put into `x`; its key and value are put into row `start` of the cache.

    x (d,) is the layer's raw input. Weights are (inputs, outputs), contiguous: heads maps to queries, keys and values,
    gates to gate and up, both with the scale of the norm before them in it. cos, sin (head dim,). keys, values
    (kv heads, capacity, head dim). bias (p,): added to the scores of the first p rows. The activation is SiLU; heads
    turn as in `transformers`, half against half.
    """
    num_kv, _, size = keys.shape
    joined = _normed_product(x, heads, epsilon).reshape(-1, size)
    groups = (len(joined) // num_kv) - 2
    num_queries = groups * num_kv
    for head in range(num_queries + num_kv):
        _turn(joined[head], cos, sin)
    for head in range(num_kv):
        keys[head, start] = joined[num_queries + head]
        values[head, start] = joined[num_queries + num_kv + head]
    mixed = np.zeros((num_queries, size), np.float32)
    for head in range(num_kv):
        group = slice(head * groups, (head + 1) * groups)
        _attend(joined[group], keys[head, : start + 1], values[head, : start + 1], scale, bias, mixed[group])
    _add_product(mixed.reshape(-1), out, x)
    inner = _normed_product(x, gates, epsilon)
    half = len(inner) // 2
    for i in range(half):
        inner[i] *= inner[half + i] / (np.float32(1) + math.exp(-inner[i]))
    _add_product(inner[:half], down, x)


@compiled
def _normed_product(x, weight, epsilon):
    """x over its root mean square, times the weight."""
    total = np.float32(0)
    for i in range(len(x)):
        total += x[i] * x[i]
    result = np.zeros(weight.shape[1], np.float32)
    _add_product(x / np.sqrt(total / np.float32(len(x)) + epsilon), weight, result)
    return result


@compiled
def _add_product(x, weight, result):
    """result += x times weight (inputs, outputs), row by row: memory serves one stream faster than several at once."""
    part = np.empty_like(result)
    for start in range(0, len(x), BLOCK):
        part[:] = 0
        for i in range(start, min(len(x), start + BLOCK)):
            factor, row = x[i], weight[i]
            for j in range(len(part)):
                part[j] += factor * row[j]
        result += part


@compiled
def _turn(head, cos, sin):
    """RoPE, in place."""
    half = len(head) // 2
    for i in range(half):
        low, high = head[i], head[half + i]
        head[i] = low * cos[i] - high * sin[i]
        head[half + i] = high * cos[half + i] + low * sin[half + i]


@compiled
def _attend(queries, keys, values, scale, bias, mixed):
    """What the queries of one group (group, size) make of keys and values (P, size), put into mixed (group, size).

    Queries are taken four at a time, with zeros for those that are missing: so a key is read once for all of them.
    """
    four, sums = np.zeros((4, queries.shape[1]), np.float32), np.zeros((4, queries.shape[1]), np.float32)
    scores, part = np.empty((4, len(keys)), np.float32), np.empty_like(sums)
    powers = np.empty(len(keys), np.float32)
    for first in range(0, len(queries), 4):
        count = min(4, len(queries) - first)
        four[:count], sums[:] = queries[first : first + count] * scale, 0
        _scores(four, keys, scores)
        for row in range(count):
            for place in range(len(bias)):
                scores[row, place] += bias[place]
            _softmax(scores[row], powers.view(np.int32), powers)
        for start in range(0, len(keys), BLOCK):
            end = min(len(keys), start + BLOCK)
            part[:] = 0
            _mix(scores[:, start:end], values[start:end], part)
            sums += part
        mixed[first : first + count] = sums[:count]


@compiled
def _scores(four, keys, scores):
    """scores (4, P) of four queries (4, size) with keys (P, size)."""
    first, second, third, fourth = four[0], four[1], four[2], four[3]
    for place in range(len(keys)):
        key = keys[place]
        a = b = c = d = np.float32(0)
        for i in range(len(key)):
            a += first[i] * key[i]
            b += second[i] * key[i]
            c += third[i] * key[i]
            d += fourth[i] * key[i]
        scores[0, place], scores[1, place], scores[2, place], scores[3, place] = a, b, c, d


@compiled
def _softmax(scores, exponents, powers):
    """In place. `exponents` and `powers`: room, as for `powers_of_two`."""
    top, total = scores.max(), np.float32(0)
    for place in range(len(scores)):
        scores[place] = (scores[place] - top) * LOG2_E
    powers_of_two(scores, exponents, powers)
    for place in range(len(scores)):
        total += scores[place]
    scores /= total


@compiled
def _mix(weights, values, sums):
    """sums (4, size) += weights (4, P) times values (P, size), two values at a time."""
    first, second, third, fourth = sums[0], sums[1], sums[2], sums[3]
    count = len(values) - len(values) % 2
    for place in range(0, count, 2):
        one, other = values[place], values[place + 1]
        a, b, c, d = weights[0, place], weights[1, place], weights[2, place], weights[3, place]
        e, f, g, h = weights[0, place + 1], weights[1, place + 1], weights[2, place + 1], weights[3, place + 1]
        for i in range(len(one)):
            x, y = one[i], other[i]
            first[i] += a * x + e * y
            second[i] += b * x + f * y
            third[i] += c * x + g * y
            fourth[i] += d * x + h * y
    for place in range(count, len(values)):
        for i in range(sums.shape[1]):
            for row in range(4):
                sums[row, i] += weights[row, place] * values[place, i]


def compile_kernels() -> None:
    """Compile now what else the first answer would wait for; where that was done before it is read from the disk."""
    x, square, cache = np.zeros(4, np.float32), np.zeros((4, 4), np.float32), np.zeros((1, 2, 4), np.float32)
    heads, one = np.zeros((4, 12), np.float32), np.float32(1)
    decode_layer(x, heads, square, square, square[:2], x, x, cache, cache.copy(), 0, one, one, x[:1])
    panels, key = np.zeros((1, 4, COLUMNS), np.float32), np.zeros((1, 4), np.float32)
    block_maxima(key, np.zeros(1, np.int64), panels, panels[:, :1].copy())
    sigmoid_means(key, panels, panels[0, :1].copy(), x[:1].copy())

"""Memory tokens laid down as keys and values in front of a prompt, in one pass over them, compiled."""

from functools import partial

import numpy as np

from .tiles import compiled


@partial(compiled, fastmath=False)  # each product is rounded, as in `core.prefix.rotated`
def lay(joined, places, cos, sin, start, keys, values):
    """Put tokens (P, 2 · kv heads · head dim), their keys before RoPE and their values, into rows `start` ... of keys
    and values (kv heads, capacity, head dim), the keys turned to the places (P,) that cos and sin (n, head dim) have.

    Heads turn as in `transformers`, half against half."""
    num_kv, _, size = keys.shape
    half = size // 2
    for token in range(len(joined)):
        turn, lift, row = cos[places[token]], sin[places[token]], start + token
        for head in range(num_kv):
            raw, key = joined[token, head * size : (head + 1) * size], keys[head, row]
            for i in range(half):
                key[i] = raw[i] * turn[i] - raw[half + i] * lift[i]
                key[half + i] = raw[half + i] * turn[half + i] + raw[i] * lift[half + i]
            values[head, row] = joined[token, (num_kv + head) * size : (num_kv + head + 1) * size]


def compile_laying() -> None:
    """Compile now what the first answer would wait for; where that was done before it is read from the disk."""
    tokens, turn, cache = np.zeros((1, 4), np.float32), np.zeros((1, 2), np.float32), np.zeros((1, 1, 2), np.float32)
    lay(tokens, np.zeros(1, np.int64), turn, turn, 0, cache, cache.copy())

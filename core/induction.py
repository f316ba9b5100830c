"""A start for small models that can already copy and look things up; everything it sets is trained further.

Our own trick, not the paper's. A small Llama that starts at random needs thousands of steps before attention learns to
look things up at all (the plateau before induction heads). Written down as weights, the circuit works from step 1:

    layer 0, first half of the heads    the token before this one
    layer 0, second half                a bag of the last fifteen or so tokens
    layer 1                             where did this token stand before? copy what came after it
    layer 2, or 3 of six and more       where is a bag of tokens like ours? copy what stands there

From six layers on, a nearly silent layer stands before and behind the last of these: room for what is learned later.

Content is matched in the slowest RoPE dimensions only, which hardly turn over a whole memory. So `rope_theta` must be
large (1e7), and there must be at least two key-value heads.
"""

from typing import Any

import torch
from torch import Tensor

from .model import MPlusForCausalLM

IDENTITY, BEFORE, BAG = slice(1, 65), slice(65, 97), slice(97, 129)
"""Where the residual stream keeps a token's identity, the token before it and the bag; dimension 0 is a constant."""
QUIET = 0.02  # of a silent layer's outputs
SLOW = 1.2e-3
"""A RoPE frequency, in radians a token, below which a dimension counts as independent of position."""


@torch.no_grad()
def induction_init(model: MPlusForCausalLM, generator: torch.Generator) -> None:
    """Write the circuit into a freshly made model, in place; call it before adapters are added.

    Raises ValueError if the configuration has no room for it: three layers, hidden size 129, head_dim 32, two
    key-value heads and slow RoPE dimensions are needed.
    """
    config: Any = model.config
    layers: list[Any] = [layer.self_attn for layer in model.model.layers]
    circuit, silent = ((0, 1, 3), (2, 4)) if len(layers) >= 6 else ((0, 1, 2), ())
    frequencies = _check(config)
    size = config.head_dim
    random = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    scale = 0.08
    embeddings = model.model.embed_tokens.weight
    embeddings.copy_(random(*embeddings.shape) * 0.02)
    embeddings[:, IDENTITY] = random(len(embeddings), 64) * scale
    embeddings[:, 0] = 8 * scale
    mix = torch.linalg.qr(random(64, 64))[0][:size]
    slow = [i for i, frequency in enumerate(frequencies) if frequency < SLOW]
    slow = slow + [i + size // 2 for i in slow]
    for index in circuit:
        for projection in (layers[index].q_proj, layers[index].k_proj, layers[index].v_proj, layers[index].o_proj):
            projection.weight.mul_(0.3)
    for index in silent:
        layers[index].o_proj.weight.mul_(QUIET)
        model.model.layers[index].mlp.down_proj.weight.mul_(QUIET)  # type: ignore[union-attr]
    for group in range(2):
        heads = _Heads(config, layers[circuit[0]], group)
        _look_back(heads, frequencies) if group == 0 else _look_around(heads, frequencies)
        heads.move(mix, IDENTITY, (BEFORE, BAG)[group], (0.1, 0.35)[group])
        copied = slice(1 + size * group, 1 + size * (group + 1))
        heads = _Heads(config, layers[circuit[1]], group)
        heads.match(slow, mix * 2.2, IDENTITY, BEFORE)
        heads.move(torch.eye(size), copied, copied, 0.45)
        heads = _Heads(config, layers[circuit[2]], group)
        heads.match(slow, torch.eye(size) * 3.0, BAG, BAG)
        heads.move(torch.eye(size), copied, copied, 0.15)


class _Heads:
    """One key-value head of a layer and the query heads that share it."""

    def __init__(self, config: Any, attention: Any, group: int):
        self.size, count = config.head_dim, config.num_attention_heads // config.num_key_value_heads
        self.key = attention.k_proj.weight[group * self.size :][: self.size]
        self.value = attention.v_proj.weight[group * self.size :][: self.size]
        starts = [(group * count + head) * self.size for head in range(count)]
        self.queries = [attention.q_proj.weight[start:][: self.size] for start in starts]
        self.outputs = [attention.o_proj.weight[:, start : start + self.size] for start in starts]

    def match(self, dimensions: list[int], directions: Tensor, ours: slice, theirs: slice) -> None:
        """Attend to where `theirs` in the residual stream is what `ours` is here, seen through directions (m, .)."""
        for number, dimension in enumerate(dimensions):
            self.key[dimension] = 0
            # The stream's BEFORE and BAG already are projections by `mix`; the identity is projected here.
            self.key[dimension, theirs.start + number] = directions[number].norm()
            for query in self.queries:
                query[dimension] = 0
                query[dimension, ours] = directions[number]

    def move(self, projection: Tensor, source: slice, target: slice, gain: float) -> None:
        """Add gain · projection · source of what is attended to onto `target`, shared by the heads."""
        self.value.zero_()
        self.value[:, source] = projection
        for output in self.outputs:
            output.mul_(0.3)
            output[target] += torch.eye(self.size) * gain / len(self.outputs)


def _look_back(heads: _Heads, frequencies: list[float], gain: float = 0.95) -> None:
    """Attend to the previous token: the three fastest RoPE dimensions, turned by one step."""
    for i in range(3):
        turn = torch.tensor(frequencies[i])
        heads.key[i, 0] = gain
        for query in heads.queries:
            query[i, 0] = gain * turn.cos()
            query[i + heads.size // 2, 0] = -gain * turn.sin()


def _look_around(heads: _Heads, frequencies: list[float], gain: float = 0.855) -> None:
    """Attend to all recent tokens alike, fading over about fifteen: dimensions of middling speed, not turned."""
    for i, frequency in enumerate(frequencies):
        if frequency < 0.06:
            heads.key[i, 0] = gain * (1 if frequency > 0.01 else 0.5)
            for query in heads.queries:
                query[i, 0] = gain * (1 if frequency > 0.01 else 0.5)


def _check(config: Any) -> list[float]:
    size = config.head_dim
    theta = config.rope_parameters["rope_theta"]
    frequencies = [theta ** (-i / (size // 2)) for i in range(size // 2)]
    num_slow = sum(frequency < SLOW for frequency in frequencies)
    if config.num_hidden_layers < 3 or config.hidden_size < BAG.stop or size != 32 or num_slow < 4:
        raise ValueError(
            f"A model of {config.num_hidden_layers} layers, hidden size {config.hidden_size}, head_dim {size} and "
            f"rope_theta {theta:g} has no room for the copying circuit; take at least 3 layers, hidden size "
            f"{BAG.stop}, head_dim 32 and rope_theta 1e7."
        )
    if config.num_key_value_heads != 2:
        raise ValueError(f"The copying circuit needs 2 key-value heads, not {config.num_key_value_heads}.")
    return frequencies

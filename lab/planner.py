"""What a memory of a given shape will take on the GPU and beside it: `core.cost` for the shapes people ask about."""

from dataclasses import dataclass

import torch

from core.config import MPlusConfig
from core.cost import PAPER_MB, Cost, Setting, memory_cost

__all__ = ["PAPER_MB", "SHAPES", "Plan", "Shape", "plan"]


@dataclass(frozen=True)
class Shape:
    """A Llama: layers, hidden size d, MLP width, KV heads, head size, vocabulary, and whether embeddings are tied."""

    layers: int
    hidden: int
    mlp: int
    heads: int
    kv_heads: int
    head: int
    vocab: int
    tied: bool

    @property
    def parameters(self) -> int:
        attention = self.hidden * self.head * 2 * (self.heads + self.kv_heads)
        each = attention + 3 * self.hidden * self.mlp + 2 * self.hidden
        return self.layers * each + self.vocab * self.hidden * (1 if self.tied else 2) + self.hidden


SHAPES = {
    "Llama-3.1-8B": Shape(32, 4096, 14336, 32, 8, 128, 128256, False),
    "Llama-3.2-3B": Shape(28, 3072, 8192, 24, 8, 128, 128256, True),
    "Llama-3.2-1B": Shape(16, 2048, 8192, 32, 8, 64, 128256, True),
    "SmolLM2-135M": Shape(30, 576, 1536, 9, 3, 64, 49152, True),
}


@dataclass(frozen=True)
class Plan:
    """A `Cost` in the words of the page, in bytes. pool: θ on the GPU; kv: keys and values of prefix and prompt."""

    cost: Cost

    @property
    def weights(self) -> int:
        return self.cost.weights - self.embeddings

    @property
    def embeddings(self) -> int:
        """The table of input embeddings, which waits on the host where it is not the output layer too."""
        return self.cost.embeddings

    @property
    def pool(self) -> int:
        return 0 if self.cost.offload == "all" else self.cost.short + self.cost.undo

    @property
    def kv(self) -> int:
        return self.cost.buffer

    @property
    def long(self) -> int:
        return self.cost.host

    @property
    def activations(self) -> int:
        return self.cost.activations

    @property
    def gpu(self) -> int:
        return self.cost.device

    @property
    def host(self) -> int:
        return self.cost.host


def plan(
    shape: Shape, block: int, blocks: int, retrieved: int, longest: int, bytes_each: int, prompt: int = 2048,
    offload: bool = False,
) -> Plan:  # fmt: skip
    """Predict the bytes of a memory. offload: θ lives on the host too, as `core.load(offload="all")` places it.

    Raises ValueError for sizes below 1 (K0 may be 0).
    """
    for name, value in (("K", block), ("the number of blocks", blocks), ("the prompt", prompt)):
        if value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1.")
    if retrieved < 0 or longest < 0:
        raise ValueError(f"K0 is {retrieved} and M is {longest}; neither may be negative.")
    config = MPlusConfig(
        vocab_size=shape.vocab, hidden_size=shape.hidden, intermediate_size=shape.mlp, num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads, head_dim=shape.head,
        tie_word_embeddings=shape.tied, block_size=block, num_blocks=blocks,
        num_retrieved=min(retrieved, longest),  # no more comes back than Θ holds
        max_long_term=max(longest, 1),
    )  # fmt: skip
    dtype = torch.bfloat16 if bytes_each == 2 else torch.float32
    where = "all" if offload else "long"
    setting = Setting(dtype, "smaller", where, prompt=prompt, long_term=longest, relaid=not offload)  # as on a GPU
    return Plan(memory_cost(config, setting))

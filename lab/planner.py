"""What a memory of a given shape will take on the GPU and beside it, computed from the shapes alone."""

from dataclasses import dataclass

PAPER_MB = {
    "Llama-3.1-8B, SnapKV": 32574.49,
    "Llama-3.2-3B, 128k window": 30422.70,
    "M+ 8B": 21177.76,
    "Llama-3.1-8B, 16k window": 19239.21,
    "M+ 8B, offloaded": 17973.34,
    "MemoryLLM 8B": 21176.24,
    "MemoryLLM 8B, offloaded": 17967.47,
}
"""Peak GPU memory in the paper's Table 1, MB (arXiv 2502.00592)."""


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
    """Bytes by part. θ is what the pool's hidden states take; kv the keys and values of prefix and prompt; Θ with keys.

    activations: the widest moment of one forward pass of a chunk behind the prefix (MLP and logits), one layer.
    """

    weights: int
    pool: int
    kv: int
    long: int
    activations: int
    offload_weights: bool

    @property
    def gpu(self) -> int:
        return self.weights + self.pool + self.kv + self.activations

    @property
    def host(self) -> int:
        return self.long


def plan(
    shape: Shape, block: int, blocks: int, retrieved: int, longest: int, bytes_each: int, prompt: int = 2048,
    offload: bool = False,
) -> Plan:  # fmt: skip
    """Predict the bytes of a memory. offload: only one layer's θ is on the GPU at a time.

    Raises ValueError for sizes below 1 (K0 may be 0).
    """
    for name, value in (("K", block), ("the number of blocks", blocks), ("the prompt", prompt)):
        if value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1.")
    if retrieved < 0 or longest < 0:
        raise ValueError(f"K0 is {retrieved} and M is {longest}; neither may be negative.")
    size = block * blocks
    token_kv = 2 * shape.kv_heads * shape.head * bytes_each
    pool = shape.layers * size * shape.hidden * bytes_each
    return Plan(
        weights=shape.parameters * bytes_each,
        pool=pool // shape.layers if offload else pool,
        kv=shape.layers * (1 + retrieved + size + prompt) * token_kv,
        long=shape.layers * longest * (shape.hidden + shape.hidden // 20) * bytes_each + (pool if offload else 0),
        activations=prompt * (3 * shape.mlp + 4 * shape.hidden) * bytes_each + shape.vocab * 4,
        offload_weights=offload,
    )

"""What an M+ model is: one dataclass, one field per fact, checked when it is made.

Letters used in all of `core`: B batch, L layers, d hidden size, n prompt or chunk tokens, K memory tokens written per
chunk, N tokens in the short-term pool θ, M tokens the long-term memory Θ may hold, K0 tokens retrieved from Θ per
layer, P memory tokens the prompt sits behind (bos and retrieved and θ), r retriever width.
"""

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig
from transformers.models.llama.configuration_llama import LlamaConfig

RULES = ("paper", "released")
RELEVANCES = ("dot", "mean_sigmoid", "block")
DROPS = ("per_layer", "shared")


@strict
class MPlusConfig(LlamaConfig):
    """A `LlamaConfig` and the memory (paper §3). The defaults are the paper's; `num_retrieved=0` is MemoryLLM.

    rules: "paper" (oldest tokens leave Θ at M, ages count from creation) or "released" (what the authors' code does:
        tokens live in Θ for `initial_recall / recall_decay` merges, ages stand still in θ, a small Θ is tiled).
    relevance: "dot" (paper §3.2), "mean_sigmoid" (released) or "block" (late interaction by source block).
    drop: "per_layer" (M+: each layer loses its own random tokens) or "shared" (MemoryLLM: one permutation for all).
    retrieval_bias: how much the retriever's certainty weighs in attention to memory (`core.retriever.certainty`; ours,
        for the block rule); 0 is the paper: all of memory counts the same. A list has one number a layer.
    retrieval_recency: how much attention to a block sinks, at most, where a later one is about as likely, in layers
        that have a retrieval_bias (`core.retriever.overtaken`; ours); 0 is the paper.
    retrieval_accumulates: whether layers count what those before them found, in searching Θ and in their certainty; in
        reading, not in training (`core.retriever.Evidence`; ours). False is the paper: each goes by its own alone.
    retriever_size: r; 0 stands for the paper's d / 20. retriever_depth: linear layers in f_q and f_k, 1 or 2.
    overlapped: texts of up to so many tokens are written in chunks that overlap, so that each of their tokens becomes
        a memory token, and those that fit a chunk twice over; of longer texts only the last K tokens of a chunk do. It
        needs a chunk_size of 2 K.
    merge_every: chunks between two merges of dropped tokens into Θ (released rules).
    round_rope: round RoPE's inverse frequencies to bfloat16, as the authors' usage does to the released 8B weights.

    Raises ValueError on any value the rest of the code could not honour.
    """

    model_type = "mplus"

    block_size: int = 256
    num_blocks: int = 40
    num_retrieved: int = 2560
    max_long_term: int = 150_000
    chunk_size: int = 512
    min_chunk: int = 16
    overlapped: int = 0
    prompt_window: int = 2048

    rules: str = "paper"
    relevance: str = "dot"
    drop: str = "per_layer"
    merge_every: int = 60
    initial_recall: int | float = 10.0
    recall_decay: int | float = 1.0

    has_bos: bool = True
    round_rope: bool = False
    retriever_size: int = 0
    retriever_depth: int = 2
    encoder_retriever: bool = False
    retrieval_bias: int | float | list[int | float] = 0.0
    retrieval_recency: int | float = 0.0
    retrieval_accumulates: bool = False

    lora_rank: int = 16
    lora_alpha: int | float = 32.0
    lora_dropout: int | float = 0.0
    lora_targets: list[str] | None = None
    read_adapter: bool = True

    def __post_init__(self, **kwargs):
        if self.lora_targets is None:
            self.lora_targets = ["q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "down_proj"]
        if self.retriever_size == 0:
            self.retriever_size = max(1, self.hidden_size // 20)
        super().__post_init__(**kwargs)
        self._check()  # not a `validate_…` method: those come back wrapped in an error that is no ValueError

    @property
    def pool_size(self) -> int:
        """N, the number of tokens in θ."""
        return self.num_blocks * self.block_size

    @property
    def prefix_size(self) -> int:
        """P, the number of memory positions a prompt sits behind once Θ holds K0 tokens."""
        return int(self.has_bos) + self.num_retrieved + self.pool_size

    def bias_in(self, layer: int) -> float:
        """`retrieval_bias` of one layer."""
        return self.retrieval_bias[layer] if isinstance(self.retrieval_bias, list) else self.retrieval_bias

    def _check(self) -> None:
        one_of = {"rules": RULES, "relevance": RELEVANCES, "drop": DROPS, "retriever_depth": (1, 2)}
        for name, allowed in one_of.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}; choose one of {', '.join(map(str, allowed))}.")
        positive = "block_size num_blocks max_long_term chunk_size min_chunk prompt_window retriever_size merge_every "
        llama = "hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads vocab_size"
        for name in (positive + llama).split():
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if not self.initial_recall > 0:
            raise ValueError(f"initial_recall is {self.initial_recall}; it must be above 0.")
        for name in ("num_retrieved", "lora_rank", "recall_decay", "overlapped", "retrieval_recency"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must not be negative.")
        if isinstance(self.retrieval_bias, list) and len(self.retrieval_bias) != self.num_hidden_layers:
            raise ValueError(
                f"retrieval_bias has {len(self.retrieval_bias)} numbers for {self.num_hidden_layers} layers; give one "
                "number a layer, or one for all."
            )
        biases = [self.bias_in(layer) for layer in range(self.num_hidden_layers)]
        if not all(bias >= 0 for bias in biases):
            raise ValueError(f"retrieval_bias is {self.retrieval_bias}; it must not be negative.")
        if any(biases) and self.relevance != "block":
            raise ValueError(
                f"retrieval_bias is {self.retrieval_bias} with relevance {self.relevance!r}, whose scores are no odds; "
                "set it to 0, or relevance to 'block'."
            )
        for name in ("retrieval_recency", "retrieval_accumulates"):
            if getattr(self, name) and not any(biases):
                raise ValueError(f"{name} is {getattr(self, name)} with no retrieval_bias; set that too.")
        if self.num_blocks < 2:
            raise ValueError(
                f"num_blocks is {self.num_blocks}; θ needs at least 2 blocks, one to keep and one to drop."
            )
        if self.overlapped and self.chunk_size != 2 * self.block_size:
            raise ValueError(
                f"chunk_size is {self.chunk_size}; chunks that overlap need 2 block_size, {2 * self.block_size}."
            )
        if self.min_chunk > self.chunk_size:
            raise ValueError(f"min_chunk is {self.min_chunk}, above chunk_size {self.chunk_size}; lower min_chunk.")


AutoConfig.register("mplus", MPlusConfig)

"""What a model with memory costs in bytes, before it is loaded.

    python -m core.cost --model mini --offload long --device-memory 24
    python -m core.cost --model llama-3.1-8b --form projected --dtype bfloat16

Every component is counted as core stores it; tests hold the counts against the tensors that are really made.
"""

import argparse
from dataclasses import dataclass, replace
from typing import Any

import torch

from .adapters import add_adapters
from .config import MPlusConfig
from .model import MPlusForCausalLM
from .placement import OFFLOADS, Placement

SPARE = 256
"""Positions a prefix buffer has beyond memory and prompt (`core.prefix.ROOM`)."""

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

LLAMA_8B: dict[str, Any] = dict(
    vocab_size=128_256, hidden_size=4096, intermediate_size=14_336, num_hidden_layers=32, num_attention_heads=32,
    num_key_value_heads=8, head_dim=128, tie_word_embeddings=False, max_position_embeddings=131_072,
)  # fmt: skip

PRODUCTS = (("q_proj", "k_proj", "v_proj"), ("o_proj",), ("gate_proj", "up_proj"), ("down_proj",))
"""Linear maps that a fused layer makes one product of (`core.decoding`)."""

COLUMNS = {"short": 5 * 8, "long": 4 * 8}
"""Bytes of a token's stamp, block, slot, row and rank in θ; of its born, block, slot and recall in Θ."""


@dataclass(frozen=True)
class Setting:
    """How a model is used. form, stored: see `core.reading.new_memory`; offload: `core.placement`. chunk, prompt: in
    tokens. long_term: tokens of Θ a layer. undo: ingests that can be taken back. fused: see `core.decoding`.
    relaid: `PrefixBuffer.relays`, as on a GPU with offload "long"."""

    dtype: torch.dtype = torch.float32
    form: str = "smaller"
    offload: str = "long"
    chunk: int = 0
    prompt: int = 64
    long_term: int | None = None
    fused: bool = False
    stored: str | None = None
    undo: int = 1
    relaid: bool = False


@dataclass(frozen=True)
class Cost:
    """Bytes by component, and by place: `device` computes, `host` holds what is offloaded (one RAM on a CPU).

    weights: parameters, `fused` ones (`core.decoding`) included. embeddings: those of them that `core.load` keeps on
    the host unless offload is "none", the input table where it is not the output layer too. short: θ, its newest block.
    undo: both as they were before the last ingests. initial: the θ a reset returns to, as the checkpoint has it and as
    memory stores it. long: tokens of Θ. keys: retriever keys of Θ, and of θ where it is projected, `undo`'s included;
    columns: ages, blocks, places and the like of all of these. buffer: keys and values of prefix and prompt, all
    layers. activations: the largest layer of a write or an answer, an estimate.
    """

    weights: int
    embeddings: int
    short: int
    undo: int
    initial: int
    long: int
    keys: int
    columns: int
    buffer: int
    activations: int
    offload: str = "long"

    @property
    def parts(self) -> dict[str, int]:
        return {name: value for name, value in self.__dict__.items() if name not in ("offload", "embeddings")}

    @property
    def host(self) -> int:
        """What lives off the device: columns and the initial θ always, Θ, all keys and the embeddings unless offload is
        "none", θ if it is "all"."""
        away = self.columns + self.initial
        if self.offload != "none":
            away += self.long + self.keys + self.embeddings
        return away + (self.short + self.undo if self.offload == "all" else 0)

    @property
    def device(self) -> int:
        return sum(self.parts.values()) - self.host


def memory_cost(config: MPlusConfig, setting: Setting = Setting()) -> Cost:
    """The cost of `config` used as `setting` says, Θ full (or `setting.long_term` tokens a layer).

    Raises ValueError for a form or an offload that does not exist.
    """
    Placement(offload=setting.offload)  # names a wrong one
    if setting.form not in ("hidden", "projected", "smaller"):
        raise ValueError(f"form is {setting.form!r}; choose one of hidden, projected, smaller.")
    size, layers, d, r = setting.dtype.itemsize, config.num_hidden_layers, config.hidden_size, config.retriever_size
    joined = 2 * config.num_key_value_heads * config.head_dim  # type: ignore[operator]
    projected = setting.form == "projected" or (setting.form == "smaller" and joined < d)
    width, pool = joined if projected else d, layers * config.pool_size
    stored = layers * (config.max_long_term if setting.long_term is None else setting.long_term)
    if not config.num_retrieved:
        stored = 0
    keyed = pool * r * size if projected and config.num_retrieved else 0
    newest = layers * config.block_size * d * size
    short = pool * width * size + newest
    tokens = setting.prompt + config.prefix_size + SPARE
    chunk = setting.chunk or config.chunk_size
    positions = config.block_size + chunk + int(config.has_bos)
    write = size * (
        positions * joined * 2 + chunk * (4 * d + 3 * config.intermediate_size) + layers * config.block_size * d
    )
    read = size * (setting.prompt * (4 * d + 3 * config.intermediate_size) + config.vocab_size)
    buffer = layers * tokens * joined * size
    if setting.relaid and projected:  # θ's are kept once, and where each stands
        kept = tokens - SPARE - config.pool_size
        buffer = (layers * kept + tokens) * joined * size + pool * 8
    return Cost(
        weights=_weights(config, setting.fused, setting.dtype) * size,
        embeddings=0 if config.tie_word_embeddings else config.vocab_size * d * size,
        short=short,
        undo=short * setting.undo,
        initial=pool * d * size + (pool * width * size + keyed if projected else 0) + newest,
        long=stored * (width + 4 if setting.stored else width * size),
        keys=stored * r * size + keyed * (1 + setting.undo),
        columns=stored * COLUMNS["long"] + pool * COLUMNS["short"] * (1 + setting.undo),
        buffer=buffer,
        activations=max(write, read),
        offload=setting.offload,
    )


def _weights(config: MPlusConfig, fused: bool, dtype: torch.dtype) -> int:
    """Parameters of a model and its adapters, counted on ones of one and two layers that have no data."""
    one, two = (_count(config, layers, fused, dtype) for layers in (1, 2))
    return one + (config.num_hidden_layers - 1) * (two - one)


def _count(config: MPlusConfig, layers: int, fused: bool, dtype: torch.dtype) -> int:
    plain = {"retrieval_bias": 0.0, "retrieval_recency": 0.0, "retrieval_accumulates": False}  # which are no parameters
    config = MPlusConfig(**{**config.to_dict(), **plain, "num_hidden_layers": layers})
    with torch.device("meta"):
        model = MPlusForCausalLM(config)
        add_adapters(model, config)
    count = sum(parameter.numel() for parameter in model.parameters())
    if fused:
        targets, single = set(config.lora_targets or ()) if config.lora_rank else set(), dtype == torch.float32
        adapters = 2 if config.read_adapter and config.lora_rank else 1
        for product in PRODUCTS:
            names = tuple(end for part in product for end in (f"{part}.weight", f"{part}.base_layer.weight"))
            size = sum(parameter.numel() for name, parameter in model.named_parameters() if name.endswith(names))
            copies = adapters if targets & set(product) else 1
            if single:  # packed for each adapter, and for single tokens once more where the parameter will not do
                count += size * (copies + (0 if len(product) == 1 and product[0] not in targets else 1))
            elif product != ("o_proj",) or "o_proj" in targets:
                count += size * copies
    return count


def table(cost: Cost) -> str:
    """A cost as lines of text, in megabytes."""
    lines = [f"{name.replace('_', ' '):<14}{value / 1e6:12,.1f} MB" for name, value in cost.parts.items()]
    lines += [f"{'on device':<14}{cost.device / 1e6:12,.1f} MB", f"{'on host':<14}{cost.host / 1e6:12,.1f} MB"]
    return "\n".join(lines)


def main() -> None:
    from .checkpoint import configuration

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="mini", help="a checkpoint, or llama-3.1-8b for the paper's shape")
    parser.add_argument("--offload", default="long", choices=OFFLOADS)
    parser.add_argument("--form", default="smaller", choices=["hidden", "projected", "smaller"])
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--stored", choices=["int8", "fp8"], help="Θ in one byte a number")
    parser.add_argument("--undo", type=int, default=1, help="ingests that can be taken back")
    parser.add_argument("--prompt", type=int, default=64, help="tokens of a question")
    parser.add_argument("--long-term", type=int, help="tokens of Θ a layer; without: as many as it may hold")
    parser.add_argument("--relaid", action="store_true", help="θ's keys are not kept turned, as on a GPU with long")
    parser.add_argument("--device-memory", type=float, help="gigabytes there are; says whether it fits")
    arguments = parser.parse_args()
    paper = arguments.model == "llama-3.1-8b"
    try:
        config = MPlusConfig(**LLAMA_8B) if paper else configuration(arguments.model)
    except ValueError as error:
        parser.error(str(error))
    setting = Setting(
        getattr(torch, arguments.dtype), arguments.form, arguments.offload,
        prompt=arguments.prompt, long_term=arguments.long_term, stored=arguments.stored, undo=arguments.undo,
        relaid=arguments.relaid,
    )  # fmt: skip
    cost = memory_cost(config, setting)
    print(table(cost))
    if paper:
        for name, reported in PAPER_MB.items():
            print(f"paper, {name:<26} {reported:>10,.0f} MB")
        for offload in OFFLOADS:
            on_gpu = replace(setting, offload=offload, relaid=offload == "long")
            ours = memory_cost(config, on_gpu).device / 2**20
            print(f"here, offload {offload:<19} {ours:>10,.0f} MB (2^20 bytes)")
    if arguments.device_memory:
        print("fits" if cost.device <= arguments.device_memory * 1e9 else "does not fit")


if __name__ == "__main__":
    main()

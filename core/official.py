"""The authors' checkpoint layout (MPlus, MemoryLLM): names and settings, both ways.

Their config says `model_type: llama`; `architectures` and the tensor names tell what a checkpoint really is. A loaded
checkpoint runs under the `released` rules with `mean_sigmoid` relevance.
"""

import re
from typing import Any

import torch
from torch import Tensor

from .config import MPlusConfig
from .log import TokenLog

ARCHITECTURES = ("MPlus", "MemoryLLM")
LONG_TERM_NAMES = ("ltm", "ltm_keys", "ltm_ages", "ltm_recall_frequencies")
UNUSED_CONFIG = ("architectures", "model_type", "transformers_version", "torch_dtype", "dtype", "_name_or_path")

# ours -> theirs; the first match applies. {} stands for what the pattern's group holds.
RENAMES = [
    (r"memory\.bos", "bos_embedding"),
    (r"memory\.new", "new_memory_positional_emb"),
    (r"memory\.pool", "memory"),
    (r"(.*)\.lora_([AB])\.write\.weight", r"\1.lora_\2.default.weight"),
    (r"(.*)\.lora_([AB])\.read\.weight", r"\1.lora_\2.decoder_adapter.weight"),
    (r"(.*)\.retriever\.query\.(.*)", r"\1.self_attn.query_proj.\2"),
    (r"(.*)\.retriever\.key\.(.*)", r"\1.self_attn.key_proj.\2"),
    (r"(.*)\.retriever\.encoder_query\.(.*)", r"\1.self_attn.encoder_query_proj.\2"),
]


def official_name(name: str, config: MPlusConfig) -> str:
    """The authors' name of one of our parameters."""
    for pattern, theirs in RENAMES:
        if re.fullmatch(pattern, name):
            name = re.sub(pattern, theirs, name)
            break
    if config.retriever_depth == 1:  # theirs is then a bare Linear, ours still a Sequential
        name = re.sub(r"(_proj)\.0\.weight$", r"\1.weight", name)
    return name


def is_official(config: dict[str, Any]) -> bool:
    """Whether a config.json was written by the authors' classes."""
    return any(name in ARCHITECTURES for name in config.get("architectures") or [])


def config_from_official(theirs: dict[str, Any], names: set[str]) -> MPlusConfig:
    """Our configuration of an official checkpoint, from its config.json and the tensor names it holds.

    Raises ValueError naming the setting when the config lacks one the architecture needs.
    """

    def need(name: str) -> Any:
        if name not in theirs:
            raise ValueError(f"The official config.json has no {name!r}; take the checkpoint's own file unchanged.")
        return theirs[name]

    long_term = "MPlus" in theirs["architectures"]
    lora = theirs.get("lora_config") or {}
    llama = {key: value for key, value in theirs.items() if key in MPlusConfig.__dataclass_fields__}
    rope = {"rope_theta": theirs.get("rope_theta", 10000.0)}
    scaling = theirs.get("rope_scaling") or {}
    llama["rope_parameters"] = theirs.get("rope_parameters") or {"rope_type": "default", **rope, **scaling}
    for name in UNUSED_CONFIG:
        llama.pop(name, None)
    ours = dict(
        block_size=need("num_tokens"),
        num_blocks=need("num_blocks"),
        has_bos="bos_embedding" in names,
        lora_rank=lora.get("r", 0),
        lora_alpha=float(lora.get("lora_alpha", 1)),
        lora_targets=sorted({name.split(".lora_A.")[0].rsplit(".", 1)[1] for name in names if ".lora_A." in name}),
        read_adapter=any(".decoder_adapter." in name for name in names),
        min_chunk=min(16, need("num_tokens")),
        chunk_size=max(512, 2 * need("num_tokens")),
        rules="released",
        relevance="mean_sigmoid",
    )
    if long_term:
        ours |= dict(
            num_blocks=need("num_blocks") - need("num_ltm_blocks"),
            num_retrieved=need("num_ltm_blocks") * need("num_tokens"),
            retriever_size=need("selector_hidden_dim"),
            retriever_depth=theirs.get("num_selector_layers", 2),
            encoder_retriever=any("encoder_query_proj" in name for name in names),
            merge_every=need("update_ltm_frequency"),
            initial_recall=float(need("initial_rf_when_moving_stm_to_ltm")),
            recall_decay=float(need("decay_frequency")),
            drop="per_layer",
        )
    else:
        ours |= dict(num_retrieved=0, drop="per_layer" if theirs.get("drop_memory_per_layer") else "shared")
    return MPlusConfig(**{**llama, **ours})


def long_term_from_official(tensors: dict[str, Tensor], config: MPlusConfig) -> list[TokenLog]:
    """Pops `ltm*.l` of every layer from `tensors` and makes Θ of them. Ages become whole numbers, as theirs do.

    The authors do not record which write a stored token came from; runs of K neighbours share one block number.
    """
    logs = []
    first = 1 + config.num_blocks
    for layer in range(config.num_hidden_layers):
        tokens, keys, ages, recall = (tensors.pop(f"{name}.{layer}") for name in LONG_TERM_NAMES)
        born = -ages.to(torch.int64)
        place = torch.arange(len(tokens))
        blocks, slots = first + place // config.block_size, place % config.block_size
        logs.append(TokenLog(tokens, keys, born, blocks, slots, recall.double()))
    return logs


def official_config(config: MPlusConfig) -> dict[str, Any]:
    """The config.json the authors' classes would have written for a model of ours."""
    rope = dict(config.rope_parameters or {})
    theta, kind = rope.pop("rope_theta", 10000.0), rope.get("rope_type", "default")
    names = (
        "attention_bias attention_dropout bos_token_id eos_token_id head_dim hidden_act hidden_size initializer_range "
        "intermediate_size max_position_embeddings mlp_bias num_attention_heads num_hidden_layers num_key_value_heads "
        "pad_token_id rms_norm_eps tie_word_embeddings use_cache vocab_size"
    )
    if config.num_retrieved and config.relevance == "block":
        raise ValueError(
            'relevance is "block", which the authors\' code does not have: it would search Θ by a rule that this '
            "model was not taught; keep it in our own layout (`save_model`)."
        )
    theirs: dict[str, Any] = {name: getattr(config, name) for name in names.split()}
    retrieved, remainder = divmod(config.num_retrieved, config.block_size)
    if remainder:
        raise ValueError(
            f"num_retrieved is {config.num_retrieved}, not a multiple of block_size {config.block_size}; the authors' "
            "layout counts retrieved tokens in blocks."
        )
    theirs |= dict(
        model_type="llama",
        architectures=["MPlus" if retrieved else "MemoryLLM"],
        rope_theta=theta,
        rope_scaling=None if kind == "default" else rope,
        num_tokens=config.block_size,
        num_blocks=config.num_blocks + retrieved,
        add_bos_embedding=config.has_bos,
        add_decoder_lora=config.read_adapter,
        drop_memory_per_layer=config.drop == "per_layer",
        lora_config=None
        if not config.lora_rank
        else dict(
            inference_mode=False,
            r=config.lora_rank,
            lora_alpha=config.lora_alpha,
            lora_dropout=config.lora_dropout,
            target_modules=config.lora_targets,
        ),
    )
    if retrieved:
        theirs |= dict(
            add_selector=True,
            map_from_hidden_states=True,
            num_ltm_blocks=retrieved,
            num_selector_layers=config.retriever_depth,
            selector_hidden_dim=config.retriever_size,
            update_ltm_mode="immediate",
            update_ltm_frequency=config.merge_every,
            initial_rf_when_moving_stm_to_ltm=config.initial_recall,
            decay_frequency=config.recall_decay,
        )
    return theirs

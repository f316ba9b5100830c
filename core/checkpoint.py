"""Weights on disk: find a checkpoint, recognise whose it is, load it whole or say what is wrong, save it again.

Three kinds are read: ours (config `model_type: mplus`), the authors' (see `official.py`), and any Llama-architecture
model, which becomes the base of a fresh M+.
"""

import json
import os
from pathlib import Path
from typing import Any, cast

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from . import official
from .adapters import add_adapters
from .config import MPlusConfig
from .log import TokenLog, pack_logs, unpack_logs
from .model import MPlusForCausalLM
from .state import State
from .weights import WEIGHTS, check_names, check_shapes, read_file, read_json, read_tensors, tensor_names, weight_files

SHIPPED = Path(__file__).parent.parent / "models"
LONG_TERM = "long_term.safetensors"


def find(name_or_path: str | os.PathLike) -> Path:
    """The folder of a checkpoint: a shipped name ("mini"), a local folder, or a hub name, which is downloaded.

    Raises ValueError if it is none of these.
    """
    path = Path(name_or_path)
    if (path / "config.json").is_file():
        return path
    if (SHIPPED / str(name_or_path) / "config.json").is_file():
        return SHIPPED / str(name_or_path)
    if path.is_dir():
        raise ValueError(f"The folder {path} has no config.json; name the folder of a checkpoint.")
    try:
        patterns = ["*.json", "*.safetensors", "tokenizer*", "*.model"]
        return Path(snapshot_download(str(name_or_path), allow_patterns=patterns))
    except Exception as error:
        shipped = sorted(folder.parent.name for folder in SHIPPED.glob("*/config.json"))
        raise ValueError(
            f"There is no checkpoint {str(name_or_path)!r}: not a folder here, not on the hub (or the hub is out of "
            f"reach), and not one of the shipped models: {', '.join(shipped) or 'none'}."
        ) from error


@torch.inference_mode(False)
def load_model(
    name_or_path: str | os.PathLike,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    allow_pickle: bool = False,
    **settings: Any,
) -> MPlusForCausalLM:
    """Load any of the three kinds. `settings` override fields of `MPlusConfig`; dtype None keeps float32.

    No key is dropped silently: a missing or unexpected tensor, or one of another shape, is a ValueError with its name,
    and so is a setting that does not exist. What a base lacks is drawn from a seed of its own: the same at every load.
    """
    unknown = sorted(set(settings) - set(MPlusConfig.__dataclass_fields__))
    if unknown:
        raise ValueError(f"There is no setting {', '.join(unknown)}; the fields of MPlusConfig are the settings.")
    folder = find(name_or_path)
    theirs = read_json(folder / "config.json")
    dtype = dtype or torch.float32
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ValueError(f"dtype is {dtype!r}; give one such as torch.float32 or torch.bfloat16.")
    if theirs.get("model_type") == MPlusConfig.model_type:
        fields = {key: value for key, value in theirs.items() if key not in official.UNUSED_CONFIG}
        tensors = read_tensors(folder, allow_pickle)
        model = _build(_config(fields, settings, folder), tensors, dtype, _told(folder, settings))
        if (folder / LONG_TERM).is_file():
            model.initial_long_term = _long_term(folder / LONG_TERM, model.config, dtype)
    elif official.is_official(theirs):
        model = _load_official(theirs, read_tensors(folder, allow_pickle), dtype, folder, settings)
    elif theirs.get("model_type") == "llama":
        model = _from_llama(folder, dtype, allow_pickle, settings)
    else:
        raise ValueError(
            f"{folder} holds a {theirs.get('model_type')!r} model; M+ needs a Llama-architecture one "
            "(Llama 3.x, SmolLM2, TinyLlama), an M+ or a MemoryLLM checkpoint."
        )
    if model.config.round_rope:
        frequencies: Any = model.model.rotary_emb.inv_freq
        model.model.rotary_emb.register_buffer("inv_freq", frequencies.to(torch.bfloat16).float(), persistent=False)
    try:
        model.to(torch.device(device or "cpu"))  # type: ignore[arg-type]
    except (AssertionError, RuntimeError) as error:
        raise ValueError(f"The model cannot be put on {device!r} ({error}); leave device out for the CPU.") from error
    return model.eval()


def configuration(name_or_path: str | os.PathLike) -> MPlusConfig:
    """What `load_model` would give the model of this checkpoint, of any kind, without reading its weights."""
    folder = find(name_or_path)
    theirs = read_json(folder / "config.json")
    if official.is_official(theirs):
        return official.config_from_official(theirs, tensor_names(folder))
    return cast(MPlusConfig, MPlusConfig.from_pretrained(folder))


def _config(fields: dict[str, Any], settings: dict[str, Any], folder: Path) -> MPlusConfig:
    try:
        return MPlusConfig(**{**fields, **settings})
    except StrictDataclassError as error:  # which is no ValueError
        raise ValueError(f"config.json of {folder}, with the settings given, makes no model: {error}") from error


def _told(folder: Path, settings: dict[str, Any]) -> str:
    """Where tensors are from, and what they have been asked to be, for errors."""
    return f"{folder}{''.join(f', with {name}={value!r}' for name, value in settings.items())}"


def _build(config: MPlusConfig, tensors: dict[str, Tensor], dtype: torch.dtype, where: str) -> MPlusForCausalLM:
    with torch.device("meta"):
        model = MPlusForCausalLM(config)
        add_adapters(model, config)
    wanted = model.state_dict()
    tied = {"lm_head.weight"} if config.tie_word_embeddings else set()
    check_names(set(wanted) - tied, set(tensors) - tied, where)
    check_shapes({name: tuple(tensor.shape) for name, tensor in wanted.items()}, tensors, where)
    for name, tensor in tensors.items():  # in place: two copies of a large checkpoint may not fit
        tensors[name] = tensor.to(dtype) if tensor.is_floating_point() else tensor
    model.load_state_dict(tensors, assign=True, strict=False)
    model.tie_weights()
    model.model.rotary_emb = LlamaRotaryEmbedding(config)  # never on meta, never cast: casting rounds its frequencies
    return model


def _long_term(file: Path, config: MPlusConfig, dtype: torch.dtype) -> list[TokenLog]:
    packed = read_file(file)
    try:
        return unpack_logs(packed, dtype, config.num_hidden_layers, config.hidden_size, config.retriever_size)
    except ValueError as error:
        raise ValueError(f"{file} is not the Θ of this checkpoint ({error}); fetch it again.") from error


def _load_official(
    theirs: dict[str, Any], tensors: dict[str, Tensor], dtype, folder: Path, settings
) -> MPlusForCausalLM:
    config = _config(official.config_from_official(theirs, set(tensors)).to_dict(), settings, folder)
    written = bool(tensors.pop("initialized", torch.ones(()))) or config.num_retrieved > 0
    if config.num_retrieved:
        names = {f"{kind}.{layer}" for layer in range(config.num_hidden_layers) for kind in official.LONG_TERM_NAMES}
        check_names(names, {name for name in tensors if name.startswith("ltm")}, folder)
        logs = official.long_term_from_official(tensors, config)
    with torch.device("meta"):
        probe = MPlusForCausalLM(config)
        add_adapters(probe, config)
    names, where = {official.official_name(name, config): name for name in probe.state_dict()}, _told(folder, settings)
    model = _build(config, {names.get(name, name): tensor for name, tensor in tensors.items()}, dtype, where)
    if config.num_retrieved:
        model.initial_long_term = logs
    model.initially_written = written
    return model


def _from_llama(folder: Path, dtype: torch.dtype, allow_pickle: bool, settings: dict[str, Any]) -> MPlusForCausalLM:
    base = read_json(folder / "config.json")
    fields = {key: value for key, value in base.items() if key not in official.UNUSED_CONFIG}
    rope = {"rope_theta": fields.pop("rope_theta", 10000.0), **(fields.pop("rope_scaling", None) or {})}
    fields.setdefault("rope_parameters", {"rope_type": "default", **rope})
    config = _config(fields, settings, folder)
    pickled = weight_files(folder, allow_pickle)[0].suffix == ".bin"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # a fresh θ, retriever and adapters are part of the model: a saved memory relies on them
        try:
            loaded: Any = MPlusForCausalLM.from_pretrained(
                folder, config=config, dtype=dtype, use_safetensors=not pickled, output_loading_info=True,
                ignore_mismatched_sizes=True,
            )  # fmt: skip
        except (SafetensorError, OSError, RuntimeError, KeyError) as error:
            raise ValueError(f"The weights in {folder} cannot be read ({error}); fetch them again.") from error
        model, info = loaded
        add_adapters(model, config)
    if config.has_bos and isinstance(config.bos_token_id, int):  # as the authors' training begins
        model.memory.bos.data[:] = model.model.embed_tokens.weight.data[config.bos_token_id].to(model.memory.bos.device)
    fresh = ("memory.", "retriever.", *(["lm_head"] if config.tie_word_embeddings else []))
    missing = {name for name in info["missing_keys"] if not any(part in name for part in fresh)}
    unexpected = {name for name in info["unexpected_keys"] if not name.endswith("rotary_emb.inv_freq")}
    check_names(missing, unexpected, folder)
    for name, found, wanted in sorted(info["mismatched_keys"]):
        check_shapes({name: tuple(wanted)}, {name: torch.empty(found, device="meta")}, folder)
    return model


def save_model(model: MPlusForCausalLM, folder: str | os.PathLike, retrieves: bool = True) -> None:
    """Write config.json, model.safetensors and, if the model has an initial Θ, long_term.safetensors.

    Without `retrieves` it is written as the MemoryLLM it is too: no Θ and no retriever.
    """
    folder, config, tensors = Path(folder), model.config, _own_tensors(model)
    folder.mkdir(parents=True, exist_ok=True)
    if not retrieves:
        config = MPlusConfig(**{**config.to_dict(), "num_retrieved": 0})
        tensors = {name: tensor for name, tensor in tensors.items() if ".retriever." not in name}
    config.save_pretrained(folder)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    if retrieves and model.initial_long_term is not None:
        save_file(pack_logs(model.initial_long_term), folder / LONG_TERM)


def export_official(model: MPlusForCausalLM, folder: str | os.PathLike, state: State | None = None) -> None:
    """Write the authors' layout: the checkpoint as it was loaded, or with the θ and Θ of a memory's `state`.

    Their layout has no place for sources and pending tokens: the former are lost, the latter join Θ. Tokens whose life
    was not counted yet, all of them under the paper's rules, begin it: whoever reads the layout counts.
    Raises ValueError for a model that it cannot express, and for a projected memory.
    """
    folder, config = Path(folder), model.config
    theirs = official.official_config(config) | {"torch_dtype": str(model.dtype).removeprefix("torch.")}
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {official.official_name(name, config): tensor for name, tensor in _own_tensors(model).items()}
    logs, written, clock = model.initial_long_term, model.initially_written, 0
    if state is not None:
        if state.short.tokens.shape[-1] != config.hidden_size or state.short.keys is not None:
            raise ValueError('A memory kept in the "projected" form cannot be exported; write it in form="hidden".')
        tensors["memory"] = state.pool
        logs, written, clock = state.logs, state.written, state.clock
    if config.num_retrieved:
        theirs["ltm_initial_size"] = len(logs[0]) if logs else 0
        for layer in range(config.num_hidden_layers):
            log = logs[layer] if logs else TokenLog.empty(config.hidden_size, config.retriever_size, model.dtype)
            recall = log.recall.float()
            recall[log.merged if config.rules == "released" else 0 :] = config.initial_recall
            columns = (log.tokens, log.keys, (clock - log.born).float(), recall)
            for name, column in zip(official.LONG_TERM_NAMES, columns, strict=True):
                tensors[f"{name}.{layer}"] = column[log.live].contiguous()
    else:
        tensors["initialized"] = torch.tensor(int(written), dtype=torch.uint8)
    (folder / "config.json").write_text(json.dumps(theirs, indent=2))
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def _own_tensors(model: MPlusForCausalLM) -> dict[str, Tensor]:
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        tensors.pop("lm_head.weight", None)
    return tensors

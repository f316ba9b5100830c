"""M+ in five lines:

>>> import core
>>> mplus = core.load("mini")
>>> receipt = mplus.ingest("Ilse keeps her spare key under the blue flowerpot.")
>>> mplus.answer("Where does Ilse keep her spare key?").text
"""

import os
from typing import Any

import torch
from transformers import AutoTokenizer

from .base_bits import quantise_base
from .checkpoint import export_official, find, load_model, save_model
from .config import MPlusConfig
from .decoding import prepare_for_answers
from .durable import DurableReader
from .memory import Memory
from .model import MPlusForCausalLM
from .placement import look_up_on_host
from .reader import Answer, MPlusReader, Reader
from .reading import new_memory
from .sources import Receipt

__all__ = [
    "Answer",
    "DurableReader",
    "MPlusConfig",
    "MPlusForCausalLM",
    "MPlusReader",
    "Memory",
    "Reader",
    "Receipt",
    "export_official",
    "load",
    "load_model",
    "new_memory",
    "save_model",
]


@torch.inference_mode(False)
def load(
    name_or_path: str | os.PathLike = "mini",
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    *,
    seed: int = 0,
    form: str = "smaller",
    offload: str = "long",
    stored: str | None = None,
    fused: bool | None = None,
    bits: int | None = None,
    disk: str | os.PathLike | None = None,
    allow_pickle: bool = False,
    **settings: Any,
) -> MPlusReader:
    """A reader on any checkpoint: a shipped name, a folder or a hub name; ours, the authors', or a Llama as fresh base.

    device None is the CPU, dtype None float32. `seed` fixes the memory's random drops. form: see `new_memory`;
    "hidden" is needed to export a memory. offload: "none", "long" or "all", what lives on the host (`core.placement`).
    stored: "int8" or "fp8" for Θ in one byte a number. fused: whether weights are kept once more with the adapters
    added in (`core.decoding`); None: on a CPU, up to a billion parameters. bits: 4 or 8 for a quantised base on CUDA.
    disk: a folder in which the memory is to live; what it holds already is opened (`core.durable`).
    `settings` override fields of `MPlusConfig` (for a fresh base: block_size, num_blocks, …). Raises ValueError that
    names what is wrong.
    """
    if disk is not None and stored is not None:
        raise ValueError(f"A memory on disk keeps whole numbers; leave out disk={str(disk)!r} or stored={stored!r}.")
    model = load_model(name_or_path, device, dtype, allow_pickle, **settings)
    folder = find(name_or_path)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"There is no tokenizer in {folder} ({error}); add the checkpoint's tokenizer files."
        ) from error
    if bits is not None:
        quantise_base(model, bits)
    if fused is None:
        fused = model.device.type == "cpu" and model.num_parameters() < 10**9
    prepare_for_answers(model, fused)
    if offload != "none" and not model.config.tie_word_embeddings:
        look_up_on_host(model.model.embed_tokens, model.device)
    memory = new_memory(model, form, seed=seed, offload=offload, stored=stored)
    model.memory.pool = model.memory.pool.cpu()  # the initial θ is needed for a reset alone
    return MPlusReader(model, tokenizer, memory) if disk is None else DurableReader(model, tokenizer, memory, disk)

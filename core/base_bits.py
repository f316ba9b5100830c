"""The base model's weights in 4 or 8 bits, on CUDA, by bitsandbytes (extra `quantised`).

Adapters, memory tokens and retrievers keep their type, so everything else works as it does: memory is written and read
by whatever the layers compute.
"""

from typing import Any

import torch
from torch import nn


def quantise_base(model: Any, bits: int) -> None:
    """Replace the linear maps of the decoder layers, in place, by 4-bit (NF4) or 8-bit (LLM.int8) ones.

    Raises ValueError for other bits, for a model that is not on a CUDA device, and where bitsandbytes is missing.
    """
    if bits not in (4, 8):
        raise ValueError(f"bits is {bits}; the base can be quantised to 4 or 8 bits, or left as it is with None.")
    if model.device.type != "cuda":
        raise ValueError(
            f"A base of {bits} bits needs a CUDA device, and this model is on {model.device}; load it with "
            'device="cuda", or without bits.'
        )
    try:
        import bitsandbytes as bnb  # type: ignore[import-not-found]
    except ImportError as error:
        raise ValueError(
            "A quantised base needs bitsandbytes; type `.venv/bin/pip install -e '.[quantised]'` in the clone."
        ) from error
    for layer in model.model.layers:
        for part in (layer.self_attn, layer.mlp):
            for name, child in list(part.named_children()):
                place = (child, "base_layer") if hasattr(child, "base_layer") else (part, name)
                linear = getattr(*place)
                if isinstance(linear, nn.Linear):
                    setattr(*place, _replaced(linear, bits, bnb, model.dtype).to(model.device))


def _replaced(linear: nn.Linear, bits: int, bnb: Any, dtype: torch.dtype) -> nn.Module:
    """The same map in few bits, still on the host; moving it to the device quantises it."""
    sizes, bias = (linear.in_features, linear.out_features), linear.bias is not None
    weight = linear.weight.detach().cpu().contiguous()
    if bits == 4:
        made = bnb.nn.Linear4bit(*sizes, bias=bias, compute_dtype=dtype, quant_type="nf4")
        made.weight = bnb.nn.Params4bit(weight, requires_grad=False, quant_type="nf4")
    else:
        made = bnb.nn.Linear8bitLt(*sizes, bias=bias, has_fp16_weights=False)
        made.weight = bnb.nn.Int8Params(weight, requires_grad=False, has_fp16_weights=False)
    if bias:
        made.bias = linear.bias
    return made

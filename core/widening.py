"""A wider model that computes what a narrower one does, to be trained on from there.

Our own trick, as in Net2Net (Chen et al., arXiv 1511.05641): old weights fill a corner of the new ones. New dimensions
of the residual stream are read by random weights and written by none, so they hold zeros; new heads and neurons compute
something at random, and nothing reads it. So gradients reach all that is new from the first step on.
"""

from typing import Any

import torch
from torch import Tensor

from .adapters import add_adapters
from .config import MPlusConfig
from .model import MPlusForCausalLM

WIDER = ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads")
"""Fields of a shape that may grow; all others stay as they are."""
SPREAD = 0.5  # of new weights, in standard deviations of the old ones of the same matrix


def is_narrower(config: MPlusConfig, shape: dict[str, Any]) -> bool:
    """Whether a model of `config` has to be widened to have this shape."""
    return any(getattr(config, name) < shape[name] for name in WIDER)


@torch.no_grad()
def widened(model: MPlusForCausalLM, shape: dict[str, Any], seed: int = 0) -> MPlusForCausalLM:
    """A model of the widths of `shape` (`WIDER`) with the logits and retrieval of `model`, on its device.

    Raises ValueError where a width would shrink, or query heads would move to other key-value heads.
    """
    old: Any = model.config
    new = MPlusConfig(**{**old.to_dict(), **{name: shape[name] for name in WIDER}})
    if any(getattr(new, name) < getattr(old, name) for name in WIDER):
        raise ValueError(f"A model can only grow: {widths(old)} do not fit into {widths(new)}.")
    if new.num_attention_heads * old.num_key_value_heads != old.num_attention_heads * new.num_key_value_heads:
        raise ValueError(f"Each key-value head keeps its number of query heads: {widths(old)}, {widths(new)}.")
    share = old.hidden_size / new.hidden_size
    new.rms_norm_eps = old.rms_norm_eps * share  # zeros lower the mean square: what is added to it goes down as well
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        wider = MPlusForCausalLM(new)
        add_adapters(wider, new)
        found = model.state_dict()
        for name, tensor in wider.state_dict().items():
            tensor.copy_(_grown(name, found[name].float().cpu(), tensor.shape, share))
    wider.initially_written = model.initially_written
    return wider.to(model.device, model.dtype)  # type: ignore[arg-type]


def widths(config: MPlusConfig) -> str:
    return ", ".join(f"{name} {getattr(config, name)}" for name in WIDER)


def _grown(name: str, old: Tensor, shape: torch.Size, share: float) -> Tensor:
    """The tensor `old` in the first corner of one of `shape`; `share`: of the old hidden size in the new one."""
    if old.dim() == 1:  # the weight of a norm, which would see a mean square lowered by zeros
        return torch.cat([old, old.mean().expand(shape[0] - len(old))]) * share**0.5
    grown = torch.zeros(shape)
    if old.dim() == 2:
        silent = ("o_proj", "down_proj", "lora_B", "embed_tokens", "lm_head")  # what they would add stays 0
        if not any(part in name for part in silent):
            grown = torch.randn(shape) * SPREAD * old.std()
    grown[tuple(slice(size) for size in old.shape)] = old
    return grown

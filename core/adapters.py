"""Two LoRA adapters on one model (paper §3.3): "write" makes memory tokens, "read" answers behind them."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from .config import MPlusConfig

WRITE, READ = "write", "read"


def add_adapters(model: nn.Module, config: MPlusConfig) -> None:
    """Put the adapters on `model` in place; with `read_adapter=False` one adapter serves both, with rank 0 none.

    peft freezes everything it does not own; all parameters that were trainable before are trainable again afterwards.
    """
    if config.lora_rank == 0:
        return
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    settings = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,  # type: ignore[arg-type]
        lora_dropout=config.lora_dropout,
        target_modules=config.lora_targets,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Already found a `peft_config`")  # a second adapter is the point
        for name in (WRITE, READ) if config.read_adapter else (WRITE,):
            inject_adapter_in_model(settings, model, adapter_name=name)
    _TUNED.pop(model, None)
    for parameter in trainable:
        parameter.requires_grad_(True)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.requires_grad_(True)


_TUNED: WeakKeyDictionary[nn.Module, list[BaseTunerLayer]] = WeakKeyDictionary()


def _tuned_layers(model: nn.Module) -> list[BaseTunerLayer]:
    """The model's adapted layers; searched for once, as a walk over all modules takes as long as a layer."""
    if model not in _TUNED:
        _TUNED[model] = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    return _TUNED[model]


@contextmanager
def use_adapter(model: nn.Module, name: str) -> Iterator[None]:
    """Route through one adapter inside the block. An adapter that does not exist falls back to the only one there is.

    peft's own `set_adapter` also freezes the adapter it leaves, so a backward pass after write and read would lose the
    writer's gradient; here every parameter keeps its `requires_grad`. The active adapter is global state of the model:
    two threads must not share one.
    """
    tuned = _tuned_layers(model)
    if not tuned:
        yield
        return
    learns = torch.is_grad_enabled()
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad] if learns else []
    previous = tuned[0].active_adapters
    available = tuned[0]._get_available_adapters()

    def switch(names: str | list[str]) -> None:
        for layer in tuned:
            if learns:
                layer.set_adapter(names)
            else:  # nothing is to be frozen, so there is nothing to undo
                vars(layer)["_active_adapter"] = names  # Module.__setattr__ would cost a tenth of a token
        for parameter in trainable:
            parameter.requires_grad_(True)

    switch(name if name in available else WRITE)
    try:
        yield
    finally:
        switch(previous)

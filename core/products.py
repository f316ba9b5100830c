"""Weights of which several are one product, in the order in which a CPU reads them quickest.

A single row is no product but a pass over the weight, which then is best stored with its inputs outermost; several rows
(`core.tiles`, and torch for many) want its outputs outermost.
"""

from typing import Any

import torch
import torch.nn.functional as F
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn


def direct(x: Tensor) -> bool:
    """Whether compiled functions take this."""
    return x.device.type == "cpu" and x.dtype == torch.float32


class Product:
    """Linear maps of one input as one product per adapter, the adapter and what scales the input added in.

    Kept as (in, out) for single rows and, on a CPU, once more as (out, in) for longer inputs. Both are made when they
    are first needed and anew when a weight changes.
    """

    def __init__(self, modules: list[Any], scale: nn.Parameter | None = None):
        """scale (in,): what every input is to be multiplied by first, as a norm does."""
        self.modules, self.scale = modules, scale
        self.adapted = any(isinstance(module, LoraLinear) for module in modules)
        self.bare = len(modules) == 1 and not self.adapted and scale is None  # the parameter is the product
        self.kept: dict[tuple[str, bool], tuple[list[tuple[int, int]], Tensor]] = {}
        self.parts: dict[str, list[Tensor]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "kept": {}, "parts": {}}  # a copy of the model makes its own

    def weight(self, adapter: str, by_outputs: bool = False) -> Tensor:
        """The maps side by side, (in, out), or, by_outputs, (out, in), contiguous."""
        adapter = adapter if self.adapted else ""  # one copy serves both adapters where neither has a part in it
        parts = self.parts.get(adapter) or self._parts(adapter)
        state, known = [(part._version, part.data_ptr()) for part in parts], self.kept.get((adapter, by_outputs))
        if known is None or known[0] != state:
            with torch.no_grad():
                rows = torch.cat([_added(module, adapter) for module in self.modules])
                rows = rows if self.scale is None else rows * self.scale
                rows = (rows if by_outputs else rows.t()).contiguous()
            known = self.kept[adapter, by_outputs] = state, rows
        return known[1]

    def _parts(self, adapter: str) -> list[Tensor]:
        parts: list[Any] = [] if self.scale is None else [self.scale]
        for module in self.modules:
            parts.append(getattr(module, "base_layer", module).weight)
            if isinstance(module, LoraLinear) and adapter in module.lora_A:
                parts += [module.lora_A[adapter].weight, module.lora_B[adapter].weight]
        self.parts[adapter] = parts
        return parts

    def by_inputs(self, adapter: str) -> Tensor:
        """The maps side by side, (in, out), contiguous: the parameter itself where nothing is added to it."""
        own: Tensor | None = self.modules[0].weight.detach().t() if self.bare else None
        return own if own is not None and own.is_contiguous() else self.weight(adapter)

    def __call__(self, x: Tensor, adapter: str, decodes: bool = True) -> Tensor:
        """(..., in) -> (..., out of all maps). decodes: whether a single row is worth a weight of its own."""
        if direct(x) and (not decodes or x.numel() > x.shape[-1]):
            return F.linear(x, self.weight(adapter, by_outputs=True))
        if self.bare:
            return self.modules[0](x)
        return x @ self.weight(adapter)


def _added(module: Any, adapter: str) -> Tensor:
    """The weight (out, in) of a linear map with an adapter added in, if it has it."""
    if isinstance(module, LoraLinear):
        weight: Any = module.get_base_layer().weight
        return weight + module.get_delta_weight(adapter) if adapter in module.lora_A else weight
    return module.weight

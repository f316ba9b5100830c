"""What makes writing and answering fast without changing what is computed, beside the caches.

An adapter is two more products per weight; added into a copy of the weight it is none. Queries, keys and values are one
product instead of three, as are the two halves of the MLP. With grouped-query attention several query heads read the
same keys: handing torch the group as if it were a sequence lets it read every key once instead of once per head. Every
prompt token sees all of memory, so there no mask is needed, only among the prompt's own tokens. On a CPU a weight
stored with its inputs outermost is read in the order in which it is used.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from .cache import MemoryCache, rotated

GROUPED = "sdpa_grouped"
SPLIT = 256
"""Prompts of up to so many tokens attend to memory and to themselves in two steps."""


def grouped_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs
) -> tuple[Tensor, None]:
    """As `sdpa_attention_forward`: query (B, heads, n, d), key and value (B, kv heads, P, d) -> (B, n, heads, d)."""
    batch, heads, length, width = query.shape
    scale, groups, past = kwargs.get("scaling"), heads // key.shape[1], key.shape[2] - length
    if length > 1 and attention_mask is None:  # causal from the first key on: transformers knows when
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    if length == 1 and (attention_mask is None or attention_mask.shape[1] == 1):
        grouped = query.view(batch, heads // groups, groups, width)
        mixed = F.scaled_dot_product_attention(grouped, key, value, attention_mask, scale=scale)
        return mixed.reshape(batch, 1, heads, width), None
    if attention_mask is not None and _splits(query, past, attention_mask):
        return _memory_and_prompt(query, key, value, attention_mask, scale or width**-0.5), None
    mixed = F.scaled_dot_product_attention(
        query, key, value, attention_mask, dropout_p=kwargs.get("dropout", 0.0), scale=scale, enable_gqa=groups > 1
    )
    return mixed.transpose(1, 2).contiguous(), None


def _splits(query: Tensor, past: int, mask: Tensor) -> bool:
    """Whether it pays to attend in two steps, and the mask hides nothing of what came before the prompt."""
    worth = query.device.type == "cpu" and not torch.is_grad_enabled() and query.shape[2] <= min(SPLIT, past)
    return worth and mask.dtype == torch.bool and mask.shape[1] == 1 and bool(mask[..., :past].all())


def _memory_and_prompt(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scale: float) -> Tensor:
    """Attention to the past, which all queries see whole, and to the prompt, joined by their weights' logarithms."""
    batch, heads, length, width = query.shape
    shape, past = (batch, key.shape[1], -1, width), key.shape[2] - length
    own = (query.reshape(shape) @ key[:, :, past:].transpose(2, 3)).view(batch, heads, length, length)
    own = (own * scale).masked_fill(~mask[..., past:], -torch.inf)
    mixed, weight = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query.reshape(shape), key[:, :, :past], value[:, :, :past], scale=scale
    )
    weight = weight.reshape(batch, heads, length, 1)
    total = torch.logaddexp(weight, own.logsumexp(-1, keepdim=True))
    mixed = mixed.reshape(query.shape) * (weight - total).exp()
    own = (own - total).exp().view(batch, key.shape[1], -1, length) @ value[:, :, past:]
    return (mixed + own.view(query.shape)).transpose(1, 2)


AttentionInterface.register(GROUPED, grouped_attention)
AttentionMaskInterface.register(GROUPED, sdpa_mask)


def prepare_for_answers(model: Any, fuse: bool = True) -> None:
    """Set a model up for inference, in place. Parameters keep their names, shapes and values.

    fuse: layers run with as few operations as there can be, on copies of their weights with the adapters added in
    (`fused_bytes`). Training runs as before.
    """
    model.set_attn_implementation(GROUPED)
    model.trims_last_layer = True
    embedding = model.get_input_embeddings().weight
    for module in model.modules():
        if type(module) is nn.Linear and module.weight is not embedding:
            # A weight tied to the embedding stays as it is: looking up its rows would become slow.
            module.weight.data = _inputs_outermost(module.weight.data)
    for layer in model.model.layers if fuse else ():
        layer.forward = FusedLayer(layer)
    if fuse:
        model.register_forward_pre_hook(_note_what_is_kept, with_kwargs=True)
        model.register_forward_hook(_forget_what_is_kept, always_call=True)


class Product:
    """Linear maps of one input as one product per adapter, the adapter added in.

    Kept as (in, out) for single tokens and, on a CPU in float32, once more in oneDNN's own order for longer inputs,
    which it multiplies up to twice as fast; both are made when they are first needed and anew when a weight changes.
    """

    def __init__(self, modules: list[Any]):
        self.modules = modules
        self.adapted = any(isinstance(module, LoraLinear) for module in modules)
        self.kept: dict[tuple[str, bool], tuple[list[tuple[int, int]], Tensor]] = {}
        self.parts: dict[str, list[Tensor]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "kept": {}, "parts": {}}  # a copy of the model makes its own

    def weight(self, adapter: str, packed: bool = False) -> Tensor:
        """The maps side by side, (in, out), or, packed, as oneDNN wants them."""
        adapter = adapter if self.adapted else ""  # one copy serves both adapters where neither has a part in it
        parts = self.parts.get(adapter) or self._parts(adapter)
        state, known = [(part._version, part.data_ptr()) for part in parts], self.kept.get((adapter, packed))
        if known is None or known[0] != state:
            with torch.no_grad():
                rows = torch.cat([_added(module, adapter) for module in self.modules])
                rows = torch.ops.mkldnn._reorder_linear_weight(rows) if packed else rows.t().contiguous()
            known = self.kept[adapter, packed] = state, rows
        return known[1]

    def _parts(self, adapter: str) -> list[Tensor]:
        parts: list[Tensor] = []
        for module in self.modules:
            parts.append(getattr(module, "base_layer", module).weight)
            if isinstance(module, LoraLinear) and adapter in module.lora_A:
                parts += [module.lora_A[adapter].weight, module.lora_B[adapter].weight]
        self.parts[adapter] = parts
        return parts

    def __call__(self, x: Tensor, adapter: str, decodes: bool = True) -> Tensor:
        """(..., in) -> (..., out of all maps). decodes: whether a single row is worth a copy of its own."""
        if (x.numel() > x.shape[-1] or not decodes) and x.device.type == "cpu" and x.dtype == torch.float32:
            return torch.ops.mkldnn._linear_pointwise(x, self.weight(adapter, True), None, "none", [], "")
        if len(self.modules) == 1 and not isinstance(self.modules[0], LoraLinear):
            return F.linear(x, self.modules[0].weight)
        return x @ self.weight(adapter)


def _added(module: Any, adapter: str) -> Tensor:
    """The weight (out, in) of a linear map with an adapter added in, if it has it."""
    if isinstance(module, LoraLinear):
        weight = module.get_base_layer().weight
        return weight + module.get_delta_weight(adapter) if adapter in module.lora_A else weight
    return module.weight


class FusedLayer:
    """The forward pass of a decoder layer, for inference; where gradients or a layer's inner steps are wanted, its own.

    `LlamaDecoderLayer` and every module in it cost more in Python than one token does in arithmetic.
    """

    def __init__(self, layer: LlamaDecoderLayer):
        attention, mlp = layer.self_attn, layer.mlp
        self.layer = layer
        self.queries, self.memory = Product([attention.q_proj]), Product([attention.k_proj, attention.v_proj])
        self.out = Product([attention.o_proj])
        self.gates, self.down = Product([mlp.gate_proj, mlp.up_proj]), Product([mlp.down_proj])
        inside = [module for product in self.products for module in product.modules]
        self.tuned = next((module for module in inside if isinstance(module, LoraLinear)), None)
        self.plain = any(getattr(module, "base_layer", module).bias is not None for module in inside)
        self.size, self.epsilon = attention.head_dim, layer.input_layernorm.variance_epsilon
        self.act: Callable[[Tensor], Tensor] = mlp.act_fn
        self.last_only = False  # whether only the last position is asked for, as in the last layer of a prefill

    @property
    def products(self) -> tuple[Product, ...]:
        return self.queries, self.memory, self.out, self.gates, self.down

    def _whole(self) -> bool:
        """Whether nobody looks at what happens inside, or has put something else there, as `objectives.merged` does."""
        attention, tuned = self.layer.self_attn, self.tuned
        watched = attention._forward_pre_hooks or attention._forward_hooks
        changed = tuned is not None and (tuned.disable_adapters or "forward" in vars(tuned))
        return not (self.plain or torch.is_grad_enabled() or watched or changed)

    def project(self, normed: Tensor) -> Tensor:
        """Keys before RoPE and values, joined, of normed input (..., d) under the active adapter."""
        if not self._whole():
            return torch.cat([self.layer.self_attn.k_proj(normed), self.layer.self_attn.v_proj(normed)], dim=-1)
        return self.memory(normed, self._adapter(), decodes=False)

    def _adapter(self) -> str:
        return "" if self.tuned is None else self.tuned.active_adapters[0]

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], -1, self.size).transpose(1, 2)

    def __call__(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, position_ids: Tensor | None = None,
        past_key_values: Any = None, use_cache: bool | None = False, position_embeddings: Any = None, **kwargs: Any,
    ) -> Tensor:  # fmt: skip
        layer = self.layer
        if not self._whole() or kwargs.get("output_attentions"):
            return type(layer).forward(
                layer, hidden_states, attention_mask=attention_mask, position_ids=position_ids, use_cache=use_cache,
                past_key_values=past_key_values, position_embeddings=position_embeddings, **kwargs,
            )  # fmt: skip
        if isinstance(past_key_values, MemoryCache):
            past_key_values.lay_prefix(layer, hidden_states)
        adapter = self._adapter()
        normed = F.rms_norm(hidden_states, hidden_states.shape[-1:], layer.input_layernorm.weight, self.epsilon)
        cos, sin = position_embeddings[0][:, None], position_embeddings[1][:, None]
        keys, values = (self._heads(part) for part in self.memory(normed, adapter).chunk(2, dim=-1))
        keys = rotated(keys, cos, sin)
        if self.last_only and hidden_states.shape[1] > 1:
            hidden_states, normed, cos, sin = hidden_states[:, -1:], normed[:, -1:], cos[:, :, -1:], sin[:, :, -1:]
            attention_mask = None if attention_mask is None else attention_mask[:, :, -1:]
        queries = rotated(self._heads(self.queries(normed, adapter)), cos, sin)
        if past_key_values is not None:
            keys, values = past_key_values.update(keys, values, layer.self_attn.layer_idx)
        attention = layer.self_attn
        mixed, _ = grouped_attention(attention, queries, keys, values, attention_mask, scaling=attention.scaling)
        hidden_states = hidden_states + self.out(mixed.flatten(2), adapter)
        post = layer.post_attention_layernorm
        normed = F.rms_norm(hidden_states, hidden_states.shape[-1:], post.weight, self.epsilon)
        gate, up = self.gates(normed, adapter).chunk(2, dim=-1)
        return hidden_states + self.down(self.act(gate) * up, adapter)


def _note_what_is_kept(model: Any, args: tuple, kwargs: dict[str, Any]) -> None:
    """Before a forward pass: where logits of the last position alone are asked for, the last layer makes no others."""
    alone = isinstance(kwargs.get("logits_to_keep"), int) and kwargs["logits_to_keep"] == 1
    looked_at = kwargs.get("output_hidden_states") or model.config.output_hidden_states
    model.model.layers[-1].forward.last_only = alone and not looked_at


def _forget_what_is_kept(model: Any, *args: Any) -> None:
    model.model.layers[-1].forward.last_only = False


def fused_bytes(model: Any) -> int:
    """Bytes of the weights that `prepare_for_answers` keeps beside the parameters."""
    fused = [layer.forward for layer in model.model.layers if isinstance(layer.forward, FusedLayer)]
    return sum(w.nbytes for each in fused for product in each.products for _, w in product.kept.values())


def _inputs_outermost(weight: Tensor) -> Tensor:
    return weight.detach().t().contiguous().t() if weight.device.type == "cpu" else weight.detach()

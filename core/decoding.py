"""What makes writing and answering fast without changing what is computed, beside the caches.

An adapter is two more products per weight; added into a copy of the weight it is none, and neither is the scale of a
norm. Queries, keys and values are one product instead of three, as are the two halves of the MLP. On a CPU one token
more runs through a layer as one compiled function (`core.kernels`).
"""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from .attention import GROUPED, grouped_attention
from .cache import MemoryCache
from .choice import compile_choice
from .kernels import compile_kernels, decode_layer
from .laying import compile_laying
from .prefill import compile_prefill, norm_rows, prefill_keys, prefill_layer
from .prefix import PrefixLayer, rotated
from .products import Product, direct

SHORT = 128
"""Tokens of a prompt up to which a layer is one compiled function."""
NO_BIAS = np.empty(0, np.float32)


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
    if fuse and direct(embedding):
        for prepare in (compile_kernels, compile_prefill, compile_choice, compile_laying):
            prepare()


class FusedLayer:
    """The forward pass of a decoder layer, for inference; where gradients or a layer's inner steps are wanted, its own.

    `LlamaDecoderLayer` and every module in it cost more in Python than one token does in arithmetic.
    """

    def __init__(self, layer: LlamaDecoderLayer):
        attention, mlp = layer.self_attn, layer.mlp
        before, after = layer.input_layernorm, layer.post_attention_layernorm
        self.layer = layer
        self.inputs = Product([attention.q_proj, attention.k_proj, attention.v_proj], before.weight)
        self.out = Product([attention.o_proj])
        self.gates, self.down = Product([mlp.gate_proj, mlp.up_proj], after.weight), Product([mlp.down_proj])
        inside = [module for product in self.products for module in product.modules]
        self.tuned = next((module for module in inside if isinstance(module, LoraLinear)), None)
        self.plain = any(getattr(module, "base_layer", module).bias is not None for module in inside)
        self.size, self.epsilon = attention.head_dim, before.variance_epsilon
        self.floor, self.scale = np.float32(self.epsilon), np.float32(attention.scaling)
        self.num_queries = attention.config.num_attention_heads
        self.num_rotated = self.num_queries + self.num_queries // attention.num_key_value_groups
        self.act: Callable[[Tensor], Tensor] = mlp.act_fn
        self.compiles = attention.config.hidden_act == "silu"
        self.last_only = False  # whether only the last position is asked for, as in the last layer of a prefill

    @property
    def products(self) -> tuple[Product, ...]:
        return self.inputs, self.out, self.gates, self.down

    def _whole(self) -> bool:
        """Whether nobody looks at what happens inside, or has put something else there, as `objectives.merged` does."""
        attention, tuned = self.layer.self_attn, self.tuned
        watched = attention._forward_pre_hooks or attention._forward_hooks
        changed = tuned is not None and (tuned.disable_adapters or "forward" in vars(tuned))
        return not (self.plain or torch.is_grad_enabled() or watched or changed)

    def project(self, tokens: Tensor) -> Tensor:
        """Keys before RoPE and values, joined, of a layer's input (..., d) under the active adapter."""
        if not self._whole():
            normed, attention = self.layer.input_layernorm(tokens), self.layer.self_attn
            return torch.cat([attention.k_proj(normed), attention.v_proj(normed)], dim=-1)
        joined = self.inputs(self._normed(tokens), self._adapter(), decodes=False)
        return joined[..., self.num_queries * self.size :]

    def normed(self, hidden_states: Tensor) -> Tensor:
        """A layer's input (B, n, d) after the norm before its attention."""
        norm = self.layer.input_layernorm
        watched = norm._forward_pre_hooks or norm._forward_hooks
        if watched or not (self._whole() and direct(hidden_states) and hidden_states.is_contiguous()):
            return norm(hidden_states)
        scale, result = norm.weight.detach().numpy(), torch.empty_like(hidden_states)
        norm_rows(hidden_states.flatten(0, 1).numpy(), scale, self.floor, result.flatten(0, 1).numpy())
        return result

    def _adapter(self) -> str:
        return "" if self.tuned is None else self.tuned.active_adapters[0]

    def _normed(self, x: Tensor) -> Tensor:
        """x over its root mean square; the norm's weight is in the product that follows."""
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.promote_types(x.dtype, torch.float32))
        return (x * (length.square_().div_(x.shape[-1]).add_(self.epsilon).rsqrt_())).to(x.dtype)

    def __call__(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, position_ids: Any = None,
        past_key_values: Any = None, use_cache: bool | None = False, position_embeddings: Any = None, **kwargs: Any,
    ) -> Tensor:  # fmt: skip
        layer, attention = self.layer, self.layer.self_attn
        if not self._whole() or kwargs.get("output_attentions"):
            return type(layer).forward(
                layer, hidden_states, attention_mask=attention_mask, position_ids=position_ids, use_cache=use_cache,
                past_key_values=past_key_values, position_embeddings=position_embeddings, **kwargs,
            )  # fmt: skip
        if isinstance(past_key_values, MemoryCache):
            past_key_values.lay_prefix(layer, hidden_states)
            slot = cast(PrefixLayer, past_key_values.layers[attention.layer_idx])
            if self._decodes(hidden_states, attention_mask, slot):
                return self._one_token(hidden_states, slot, *position_embeddings)
            if self._is_short(hidden_states, attention_mask, past_key_values, slot):
                return self._short_prompt(hidden_states, slot, *position_embeddings)
            attention_mask = slot.biased(attention_mask, hidden_states.shape[1])
        adapter, (cos, sin) = self._adapter(), position_embeddings
        heads = self.inputs(self._normed(hidden_states), adapter)
        heads = heads.view(*hidden_states.shape[:2], -1, self.size).transpose(1, 2)
        turned = rotated(heads[:, : self.num_rotated], cos[:, None], sin[:, None])
        queries, keys, values = (
            turned[:, : self.num_queries],
            turned[:, self.num_queries :],
            heads[:, self.num_rotated :],
        )
        if self.last_only and hidden_states.shape[1] > 1:
            hidden_states, queries = hidden_states[:, -1:], queries[:, :, -1:]
            attention_mask = None if attention_mask is None else attention_mask[:, :, -1:]
        if past_key_values is not None:
            keys, values = past_key_values.update(keys, values, attention.layer_idx)
        mixed, _ = grouped_attention(attention, queries, keys, values, attention_mask, scaling=attention.scaling)
        hidden_states = hidden_states + self.out(mixed.flatten(2), adapter)
        gate, up = self.gates(self._normed(hidden_states), adapter).chunk(2, dim=-1)
        return hidden_states + self.down(self.act(gate) * up, adapter)

    def _decodes(self, hidden_states: Tensor, attention_mask: Tensor | None, slot: PrefixLayer) -> bool:
        """Whether this is one more token of one prompt, which sees all before it."""
        return hidden_states.shape[:2] == (1, 1) and attention_mask is None and self._fits(hidden_states, slot)

    def _is_short(self, hidden_states: Tensor, mask: Tensor | None, cache: MemoryCache, slot: PrefixLayer) -> bool:
        """Whether these are a few tokens of one prompt, of which each sees all before it and itself."""
        batch, length, _ = hidden_states.shape
        if not (batch == 1 and 1 < length <= SHORT and self._fits(hidden_states, slot)) or mask is None:
            return False
        if cache.checked[0] is not mask:  # all layers of a forward pass are given the same
            cache.checked = mask, _hides_what_follows(mask, slot.get_seq_length(), length)
        return cache.checked[1]

    def _fits(self, hidden_states: Tensor, slot: PrefixLayer) -> bool:
        return direct(hidden_states) and self.compiles and slot.storage is not None and len(slot.storage[0]) == 1

    def _short_prompt(self, hidden_states: Tensor, slot: PrefixLayer, cos: Any, sin: Any) -> Tensor:
        if self.last_only:
            self._keep(hidden_states[:, :-1], slot, cos, sin)
            return self._one_token(hidden_states[:, -1:], slot, cos[:, -1:], sin[:, -1:])
        adapter, result = self._adapter(), hidden_states.clone(memory_format=torch.contiguous_format)
        heads, out, gates, down = (product.weight(adapter, by_outputs=True).numpy() for product in self.products)
        all_keys, all_values, row = slot.add_positions(hidden_states.shape[1])
        keys, values = all_keys[0].numpy(), all_values[0].numpy()
        x, cos, sin = result[0].numpy(), cos[0].numpy(), sin[0].numpy()
        prefill_layer(x, heads, out, gates, down, cos, sin, keys, values, row, self.floor, self.scale, _bias(slot))
        return result

    def _keep(self, hidden_states: Tensor, slot: PrefixLayer, cos: Any, sin: Any) -> None:
        """Add only the keys and values of some tokens."""
        heads = self.inputs.weight(self._adapter(), by_outputs=True).numpy()
        all_keys, all_values, row = slot.add_positions(hidden_states.shape[1])
        x, cos, sin = hidden_states[0].contiguous().numpy(), cos[0].numpy(), sin[0].numpy()
        prefill_keys(x, heads, cos, sin, all_keys[0].numpy(), all_values[0].numpy(), row, self.floor)

    def _one_token(self, hidden_states: Tensor, slot: PrefixLayer, cos: Any, sin: Any) -> Tensor:
        adapter, result = self._adapter(), hidden_states.clone(memory_format=torch.contiguous_format)
        heads, out, gates, down = (product.by_inputs(adapter).numpy() for product in self.products)
        all_keys, all_values, row = slot.add_positions(1)
        keys, values = all_keys[0].numpy(), all_values[0].numpy()
        token, cos, sin = result.view(-1).numpy(), cos.view(-1).numpy(), sin.view(-1).numpy()
        decode_layer(token, heads, out, gates, down, cos, sin, keys, values, row, self.floor, self.scale, _bias(slot))
        return result


def _bias(slot: PrefixLayer) -> np.ndarray:
    """What is added to the attention on the first positions, (p,)."""
    return NO_BIAS if slot.bias is None else slot.bias.view(-1).numpy()


def _hides_what_follows(mask: Tensor, before: int, length: int) -> bool:
    """Whether a mask hides later tokens of a prompt of `length` from its earlier ones, and nothing else."""
    if mask.dtype != torch.bool or mask.shape != (1, 1, length, before + length):
        return False
    own = mask[..., before:]
    return bool(mask[..., :before].all()) and torch.equal(own, torch.ones_like(own).tril())


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

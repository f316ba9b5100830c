"""M+ as a Llama: what differs from transformers' classes, and nothing else.

The model knows no memory store. `write` turns a chunk into a block of memory tokens; `read` and `generate` answer
behind a prefix that a callable supplies layer by layer. `core.memory` holds what was written, `core.reading` joins
the two.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, initialization
from transformers.masking_utils import create_causal_mask
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaForCausalLM

from .cache import MemoryCache, project
from .config import MPlusConfig
from .log import TokenLog
from .prefix import Prefix, PrefixBuffer, PrefixLayer, Segment
from .retriever import QUESTION, Evidence, Keys, Retriever, certainty


class MemoryTokens(nn.Module):
    """The memory's own parameters. A submodule, because transformers never initialises loose parameters.

    bos (L, 1, d): one learned token before all memory, per layer; absent when the config says so.
    new (1, 1, d): added, before every layer, to the K positions that become memory (the new-memory embedding).
    pool (L, N, d): the checkpoint's initial θ, what `Memory.reset` returns to. Not trained by gradient.
    """

    def __init__(self, config: MPlusConfig):
        super().__init__()
        layers, d = config.num_hidden_layers, config.hidden_size
        if config.has_bos:
            self.bos = nn.Parameter(torch.empty(layers, 1, d))
        self.new = nn.Parameter(torch.empty(1, 1, d))
        self.pool: Tensor = nn.Buffer(torch.empty(layers, config.pool_size, d))


class MPlusDecoderLayer(LlamaDecoderLayer):
    """Differs from Llama in: it lays down its memory prefix before it first attends, and owns a retriever."""

    def __init__(self, config: MPlusConfig, layer_idx: int):
        super().__init__(config, layer_idx)
        if config.num_retrieved:
            self.retriever = Retriever(config)

    def forward(self, hidden_states, attention_mask=None, past_key_values=None, **kwargs):  # type: ignore[override]
        if isinstance(past_key_values, MemoryCache):
            past_key_values.lay_prefix(self, hidden_states)
            slot = cast(PrefixLayer, past_key_values.layers[self.self_attn.layer_idx])
            attention_mask = slot.biased(attention_mask, hidden_states.shape[1])
        return super().forward(hidden_states, attention_mask, past_key_values=past_key_values, **kwargs)


class MPlusForCausalLM(LlamaForCausalLM):
    """Differs from Llama in: the layers above, the memory tokens, `write`, and a prefix for `read` and `generate`."""

    config: MPlusConfig
    config_class = MPlusConfig
    _no_split_modules: ClassVar[list[str]] = ["MPlusDecoderLayer"]

    def __init__(self, config: MPlusConfig):
        super().__init__(config)
        self.model.layers = nn.ModuleList(MPlusDecoderLayer(config, i) for i in range(config.num_hidden_layers))
        self.model._init_weights = self._init_weights  # transformers asks the inner model, which knows no retriever
        self.memory = MemoryTokens(config)
        self.initial_long_term: list[TokenLog] | None = None  # Θ the checkpoint was shipped with; not a parameter
        self.initially_written = True  # False only for MemoryLLM before its first write
        self.trims_last_layer = False  # in a write, whether the last layer computes nothing but the block
        self.post_init()

    @property
    def device(self) -> torch.device:
        """Where it computes. Not where its first parameter is, the embeddings, which may be kept on the host."""
        return self.memory.new.device

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        if isinstance(module, MemoryTokens):
            if self.config.has_bos:
                initialization.normal_(module.bos)
            initialization.zeros_(module.new)
            initialization.normal_(module.pool)
        if isinstance(module, Retriever) and self.config.relevance == "block":
            initialization.constant_(module.scale, self.config.retriever_size**-0.5)

    def write(self, input_ids: Tensor, newest: Tensor | None) -> Tensor:
        """Run chunks (B, n) behind the newest blocks (L, B, K, d); return the blocks they leave, (L, B, K, d).

        Paper §3.1: the last K hidden states of every layer. A chunk shorter than K keeps the last K - n tokens of the
        newest block in play: they run through the layers too and fill up the block. `newest=None` is MemoryLLM before
        its first write: no memory and no bos, and a block of min(K, n) tokens. Use the write adapter around it.
        """
        size = self.config.block_size
        hidden = self.model.embed_tokens(input_ids)
        batch, length, _ = hidden.shape
        borrowed = 0 if newest is None else max(0, size - length)
        if newest is None:
            cache, start = None, 0
        else:
            kept = newest[:, :, : size - borrowed]
            cache = self.memory_cache(lambda layer, _: kept[layer], kept.shape[2])
            start = cache.prefix_length
        positions = start + torch.arange(borrowed + length, device=hidden.device)[None]
        mask = create_causal_mask(self.config, hidden.new_empty(batch, borrowed + length, 0), None, cache, positions)
        rope = self.model.rotary_emb(hidden, positions)
        blocks = []
        for index, layer in enumerate(self.model.layers):
            if borrowed and newest is not None:
                hidden = torch.cat([newest[index, :, size - borrowed :].to(hidden.dtype), hidden], dim=1)
            hidden = torch.cat([hidden[:, :-size], hidden[:, -size:] + self.memory.new], dim=1)
            last = index == len(self.model.layers) - 1
            if last and self.trims_last_layer and newest is not None and hidden.shape[1] > size:
                # Only the block leaves the last layer. What stands before it contributes keys and values, like memory.
                before = torch.cat([newest[index, :, : size - borrowed].to(hidden.dtype), hidden[:, :-size]], dim=1)
                cache = self.memory_cache(lambda layer, _, before=before: before, before.shape[1])
                hidden, mask = hidden[:, -size:], None if mask is None else mask[:, :, -size:]
                rope = rope[0][:, -size:], rope[1][:, -size:]
            hidden = layer(hidden, attention_mask=mask, position_embeddings=rope, past_key_values=cache)
            blocks.append(hidden[:, -size:])
            hidden = hidden[:, -length:]
        return torch.stack(blocks)

    def memory_cache(self, prefix: Prefix, num_memory: int, buffer: PrefixBuffer | None = None) -> MemoryCache:
        """A fresh cache that opens with bos, if the model has one, and the `num_memory` tokens `prefix` supplies."""

        def with_bos(layer: int, normed: Tensor) -> Sequence[Segment]:
            memory = prefix(layer, normed)
            segments = [Segment(memory)] if isinstance(memory, Tensor) else list(memory)
            return [Segment(self.memory.bos[None, layer], key="bos"), *segments] if self.config.has_bos else segments

        return MemoryCache(with_bos, num_memory + int(self.config.has_bos), self.model, buffer)

    def read(
        self, input_ids: Tensor, prefix: Prefix, num_memory: int, mask: Tensor | None = None, buffer=None, **kwargs
    ):
        """One forward pass of prompts (B, n) behind memory; `mask` (B, n) is 0 on left padding."""
        arguments = self._behind_memory(input_ids, prefix, num_memory, mask, buffer)
        if mask is not None:
            past = arguments["past_key_values"].prefix_length
            kwargs["position_ids"] = (past + mask.long().cumsum(-1) - 1).clamp(min=0)
        output: CausalLMOutputWithPast = self(input_ids, **arguments, **kwargs)
        return output

    def generate(  # type: ignore[override]
        self, input_ids, prefix: Prefix | None = None, num_memory: int = 0, attention_mask=None, buffer=None, **kwargs
    ):
        """`GenerationMixin.generate` behind a memory prefix; left-padded batches, beams and streamers all work."""
        if prefix is None:
            return super().generate(input_ids, attention_mask=attention_mask, **kwargs)  # type: ignore[misc]
        if kwargs.get("prefill_chunk_size"):
            raise ValueError("prefill_chunk_size cannot be used with memory: retrieval would see the first piece only.")
        arguments = self._behind_memory(input_ids, prefix, num_memory, attention_mask, buffer)
        return super().generate(input_ids, **arguments, **kwargs)  # type: ignore[misc]

    def _behind_memory(self, input_ids: Tensor, prefix: Prefix, num_memory: int, mask, buffer) -> dict[str, Any]:
        # With a mask of the prompt's own length `generate` would slice the prompt as if the prefix were part of it.
        cache = self.memory_cache(prefix, num_memory, buffer)
        mask = torch.ones_like(input_ids) if mask is None else mask
        return {"past_key_values": cache, "attention_mask": F.pad(mask, (cache.prefix_length, 0), value=1)}

    def memory_keys(self, layer: int, tokens: Tensor) -> Tensor:
        """Retriever keys f_k(norm(token)) of one layer's memory tokens (..., d), wherever they are: (..., r). Paper
        §3.2."""
        block = cast(MPlusDecoderLayer, self.model.layers[layer])
        return block.retriever.key(block.input_layernorm(tokens.to(self.device)))

    def memory_projections(self, blocks: Tensor) -> Tensor:
        """Keys before RoPE and values of memory tokens (L, ..., d), (L, ..., 2 · kv heads · head dim); see `project`.

        Use the read adapter around it: that is what they are read with.
        """
        return torch.stack([self.memory_projection(layer, tokens) for layer, tokens in enumerate(blocks)])

    def memory_projection(self, layer: int, tokens: Tensor) -> Tensor:
        """The same for one layer's tokens (..., d), wherever they are."""
        return project(tokens.to(self.device), cast(MPlusDecoderLayer, self.model.layers[layer]))

    def evidence(self) -> Evidence | None:
        """What is kept from layer to layer for one question, where the config wants that."""
        return Evidence() if self.config.retrieval_accumulates else None

    def certainty(self, layer: int, queries: Tensor, keys: Keys, evidence: Evidence | None = None) -> Tensor:
        """What a layer's attention gains on the memory tokens with these keys; see `core.retriever.certainty`."""
        scale = self.retriever_scale(layer, len(queries))
        return certainty(queries, keys, scale, self.config.bias_in(layer), self.config.retrieval_recency, evidence)

    def retriever_queries(self, layer: int, normed: Tensor) -> Tensor:
        """Retriever queries f_q of one layer's normed input (..., d), (..., r). Paper §3.2."""
        return cast(MPlusDecoderLayer, self.model.layers[layer]).retriever.query(normed)

    def retriever_scale(self, layer: int, count: int | Tensor) -> Tensor:
        """The factor that makes one layer's scores by the block rule log-odds of blocks, for a prompt of `count` tokens
        (), or for as many (...) as counts are given: the learned one, and for long prompts less of it (`QUESTION`)."""
        learned = cast(MPlusDecoderLayer, self.model.layers[layer]).retriever.scale
        return learned * (QUESTION / torch.as_tensor(count).clamp(min=QUESTION))

    def gradient_checkpointing_enable(self, *args, **kwargs):
        raise ValueError("Gradient checkpointing drops the memory prefix; train with smaller batches instead.")


AutoModelForCausalLM.register(MPlusConfig, MPlusForCausalLM)

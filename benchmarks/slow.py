"""M+ done literally, as the comparison: the steps the released code takes, one by one, with no regard to cost.

Every question joins bos, retrieved tokens, θ and prompt into one long sequence of hidden states in every layer and
normalises and projects all of it; the cache is concatenated for every token, and its heads are repeated for every query
head; θ is concatenated for every block, the pending pool for every write, Θ for every merge and copied once more to
leave expired tokens out; ages of all of Θ are counted up at every write; logits are made for every position. Weights,
adapters, drops and results are those of core.
"""

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.models.llama.modeling_llama import rotate_half

from core.adapters import READ, WRITE, use_adapter
from core.log import TokenLog
from core.model import MPlusForCausalLM


class SlowMPlus:
    """Model and memory in one, under the released rules with mean_sigmoid relevance, for one prompt at a time."""

    def __init__(self, model: MPlusForCausalLM, seed: int = 0):
        config = model.config
        self.model, self.config, self.random = model, config, torch.Generator().manual_seed(seed)
        layers, d, r = config.num_hidden_layers, config.hidden_size, config.retriever_size
        self.pool: Tensor = model.memory.pool.clone()  # type: ignore[operator]
        self.pool_ages = torch.zeros(layers, config.pool_size, dtype=torch.int64)
        empty = TokenLog.empty(d, r, self.pool.dtype)
        logs = model.initial_long_term or [empty] * layers
        self.long, self.keys = [log.tokens.clone() for log in logs], [log.keys.clone() for log in logs]
        self.ages, self.recall = [-log.born for log in logs], [log.recall.clone() for log in logs]
        self.pending: tuple[Tensor, Tensor, Tensor] | None = None
        self.since_merge = 0

    # ── writing ──
    @torch.no_grad()
    def write(self, ids: Tensor) -> None:
        """Write one chunk (1, n) of at least K tokens."""
        model, size = self.model, self.config.block_size
        with use_adapter(model, WRITE):
            hidden, blocks, rope = model.model.embed_tokens(ids), [], None
            for index, layer in enumerate(model.model.layers):
                joined = self._join(index, [self.pool[index, -size:]], hidden)
                joined[:, -size:] += model.memory.new
                rope = rope or self._rope(joined, 0)
                hidden = self._layer(layer, joined, rope, joined.shape[1] - ids.shape[1], None)
                blocks.append(hidden[0, -size:])
            model.lm_head(model.model.norm(hidden)).float()
        self._update(torch.stack(blocks))

    def _update(self, blocks: Tensor) -> None:
        layers, count, _ = blocks.shape
        leaving = torch.rand(self.pool_ages.shape, generator=self.random).topk(count).indices.sort().values
        dropped, dropped_ages = [], []
        for index in range(layers):
            stays = torch.ones(len(self.pool[index]), dtype=torch.bool)
            stays[leaving[index]] = False
            rest = self.pool[index][stays.nonzero().flatten()]
            dropped.append(self.pool[index][leaving[index]])
            dropped_ages.append(self.pool_ages[index][leaving[index]])
            self.pool[index] = torch.cat([rest, blocks[index]])
            new_ages = torch.arange(count - 1, -1, -1)
            self.pool_ages[index] = torch.cat([self.pool_ages[index][stays], new_ages])
            self.ages[index] = self.ages[index] + count
        keys = torch.stack([self.model.memory_keys(index, tokens) for index, tokens in enumerate(dropped)])
        new = torch.stack(dropped), keys, torch.stack(dropped_ages)
        if self.pending is not None:
            tokens, old_keys, ages = self.pending
            new = tuple(torch.cat(pair, dim=1) for pair in zip((tokens, old_keys, ages + count), new, strict=True))
        self.pending = new  # type: ignore[assignment]
        self.since_merge += 1
        if self.since_merge == self.config.merge_every:
            self._merge(*new)

    def _merge(self, tokens: Tensor, keys: Tensor, ages: Tensor) -> None:
        config = self.config
        for index in range(len(tokens)):
            fresh = torch.full((tokens.shape[1],), config.initial_recall, dtype=torch.float64)
            self.long[index] = torch.cat([self.long[index], tokens[index]])
            self.keys[index] = torch.cat([self.keys[index], keys[index]])
            self.ages[index] = torch.cat([self.ages[index], ages[index]])
            self.recall[index] = torch.cat([self.recall[index], fresh]) - config.recall_decay
            kept = (self.recall[index] > 0.01).nonzero().flatten()
            if len(kept) > config.num_retrieved:
                for columns in (self.long, self.keys, self.ages, self.recall):
                    columns[index] = columns[index][kept]
            else:
                self.recall[index] = self.recall[index] + config.recall_decay
        self.pending, self.since_merge = None, 0

    # ── reading ──
    @torch.no_grad()
    def prefill(self, ids: Tensor) -> tuple[Tensor, DynamicCache]:
        """Logits (1, n, vocabulary) of a prompt behind memory, and the cache to go on with."""
        model, cache = self.model, DynamicCache()
        with use_adapter(model, READ):
            hidden, rope = model.model.embed_tokens(ids), None
            for index, layer in enumerate(model.model.layers):
                joined = self._join(index, [self._retrieve(index, layer, hidden), self.pool[index]], hidden)
                rope = rope or self._rope(joined, 0)
                hidden = self._layer(layer, joined, rope, joined.shape[1] - ids.shape[1], cache)
            return model.lm_head(model.model.norm(hidden)).float(), cache

    @torch.no_grad()
    def step(self, ids: Tensor, cache: DynamicCache) -> Tensor:
        """Logits (1, 1, vocabulary) of one more token (1, 1)."""
        with use_adapter(self.model, READ):
            hidden = self.model.model.embed_tokens(ids)
            rope = self._rope(hidden, cache.get_seq_length())
            for layer in self.model.model.layers:
                hidden = self._layer(layer, hidden, rope, 0, cache)
            return self.model.lm_head(self.model.model.norm(hidden)).float()

    def _retrieve(self, index: int, layer, hidden: Tensor) -> Tensor:
        queries = layer.retriever.query(layer.input_layernorm(hidden[0]))
        stores = [(self.long[index], self.keys[index], self.ages[index])]
        if self.pending is not None:
            stores.append(tuple(column[index] for column in self.pending))  # type: ignore[arg-type]
        scores = torch.cat([(queries @ keys.T).sigmoid().mean(0) for _, keys, _ in stores])
        best = scores.topk(self.config.num_retrieved).indices.sort().values
        split = len(stores[0][0])
        tokens, ages = [], []
        for place, (stored, _, born) in enumerate(stores):
            rows = best[best < split] if place == 0 else best[best >= split] - split
            tokens.append(stored[rows])
            ages.append(born[rows])
        return torch.cat(tokens)[torch.cat(ages).sort(stable=True).indices.flip(0)]

    def _join(self, index: int, memory: list[Tensor], hidden: Tensor) -> Tensor:
        return torch.cat([self.model.memory.bos[index], *memory, hidden[0]])[None]  # type: ignore[index]

    def _rope(self, joined: Tensor, past: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines, made once for all layers."""
        return self.model.model.rotary_emb(joined, torch.arange(past, past + joined.shape[1])[None])

    def _layer(self, layer, joined: Tensor, rope: tuple, prefix: int, cache: DynamicCache | None) -> Tensor:
        """One decoder layer over prefix and prompt: keys and values of all, everything else of the prompt alone."""
        attention, length = layer.self_attn, joined.shape[1]
        past = cache.get_seq_length(attention.layer_idx) if cache is not None else 0
        normed = layer.input_layernorm(joined)
        shape = (1, length, -1, attention.head_dim)
        queries = attention.q_proj(normed[:, prefix:]).view(1, length - prefix, *shape[2:]).transpose(1, 2)
        keys = attention.k_proj(normed).view(shape).transpose(1, 2)
        values = attention.v_proj(normed).view(shape).transpose(1, 2)
        cos, sin = rope
        queries, keys = rotate(queries, cos[:, prefix:], sin[:, prefix:]), rotate(keys, cos, sin)
        if cache is not None:
            keys, values = cache.update(keys, values, attention.layer_idx)
        keys = keys.repeat_interleave(attention.num_key_value_groups, dim=1)
        values = values.repeat_interleave(attention.num_key_value_groups, dim=1)
        mask = torch.ones(length - prefix, past + length, dtype=torch.bool).tril(past + prefix)
        mixed = torch.nn.functional.scaled_dot_product_attention(queries, keys, values, mask)
        hidden = joined[:, prefix:] + attention.o_proj(mixed.transpose(1, 2).flatten(2))
        return hidden + layer.mlp(layer.post_attention_layernorm(hidden))


def rotate(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return heads * cos[:, None] + rotate_half(heads) * sin[:, None]

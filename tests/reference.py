"""The slow path: M+ written down literally, as the paper says it, sharing no code with core but the weights.

Hidden states are concatenated in every layer, keys and values of the whole prefix are computed anew for every token,
there is no cache, attention is two matrix products and a softmax, RoPE and LoRA are spelled out. Batch size 1.
"""

import math

import torch
from torch import Tensor


def weights(model):
    return {name: tensor.detach().double() for name, tensor in model.state_dict().items()}


class SlowMPlus:
    """One model's weights in float64, and one memory as plain lists of (token, block, slot, age rule) rows."""

    def __init__(self, model):
        self.config, self.weights = model.config, weights(model)
        self.frequencies = model.model.rotary_emb.inv_freq.double()

    # ── the network ──

    def linear(self, name: str, x: Tensor, adapter: str | None) -> Tensor:
        config = self.config
        if f"{name}.weight" in self.weights:
            return x @ self.weights[f"{name}.weight"].T
        out = x @ self.weights[f"{name}.base_layer.weight"].T
        if adapter is None:
            return out
        adapter = adapter if config.read_adapter else "write"
        down, up = (self.weights[f"{name}.lora_{part}.{adapter}.weight"] for part in "AB")
        return out + config.lora_alpha / config.lora_rank * ((x @ down.T) @ up.T)

    def norm(self, name: str, x: Tensor) -> Tensor:
        scale = torch.rsqrt((x * x).mean(-1, keepdim=True) + self.config.rms_norm_eps)
        return x * scale * self.weights[f"{name}.weight"]

    def rope(self, x: Tensor, positions: Tensor) -> Tensor:
        """x (n, heads, head dim)."""
        angle = positions[:, None].double() * self.frequencies
        cos, sin = (torch.cat([f, f], -1)[:, None] for f in (angle.cos(), angle.sin()))
        half = x.shape[-1] // 2
        return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin

    def layer(self, index: int, states: Tensor, num_queries: int, adapter: str, bias: dict | None = None) -> Tensor:
        """One decoder layer on states (m, d); only the last `num_queries` positions ask. Returns (num_queries, d).
        bias: what is added to the scores of some positions."""
        config, name = self.config, f"model.layers.{index}"
        normed = self.norm(f"{name}.input_layernorm", states)
        positions = torch.arange(len(states))
        query = self.linear(f"{name}.self_attn.q_proj", normed[-num_queries:], adapter).unflatten(
            1, (-1, config.head_dim)
        )
        key = self.linear(f"{name}.self_attn.k_proj", normed, adapter).unflatten(1, (-1, config.head_dim))
        value = self.linear(f"{name}.self_attn.v_proj", normed, adapter).unflatten(1, (-1, config.head_dim))
        query, key = self.rope(query, positions[-num_queries:]), self.rope(key, positions)
        group = config.num_attention_heads // config.num_key_value_heads
        attended = []
        for head in range(config.num_attention_heads):
            scores = query[:, head] @ key[:, head // group].T / math.sqrt(config.head_dim)
            for position, added in (bias or {}).items():
                scores[:, position] += added
            future = positions[None] > positions[-num_queries:, None]
            attended.append(scores.masked_fill(future, -torch.inf).softmax(-1) @ value[:, head // group])
        hidden = states[-num_queries:] + self.linear(f"{name}.self_attn.o_proj", torch.cat(attended, -1), adapter)
        normed = self.norm(f"{name}.post_attention_layernorm", hidden)
        gate = torch.nn.functional.silu(self.linear(f"{name}.mlp.gate_proj", normed, adapter))
        return hidden + self.linear(
            f"{name}.mlp.down_proj", gate * self.linear(f"{name}.mlp.up_proj", normed, adapter), adapter
        )

    def bos(self, layer: int) -> Tensor:
        return self.weights["memory.bos"][layer] if self.config.has_bos else torch.zeros(0, self.config.hidden_size)

    def embed(self, ids: list[int]) -> Tensor:
        return self.weights["model.embed_tokens.weight"][torch.tensor(ids)]

    def write(self, ids: list[int], newest: Tensor) -> Tensor:
        """newest (L, K, d) -> block (L, K, d)."""
        size, hidden, block = self.config.block_size, self.embed(ids), []
        for layer in range(self.config.num_hidden_layers):
            states = torch.cat([self.bos(layer), newest[layer].double(), hidden])
            queries = max(len(ids), size)
            states[-size:] = states[-size:] + self.weights["memory.new"][0]
            out = self.layer(layer, states, queries, "write")
            block.append(out[-size:])
            hidden = out[-len(ids) :]
        return torch.stack(block)

    def read(self, ids: list[int], memory_of) -> Tensor:
        """Logits (n, vocabulary) behind `memory_of(layer, prompt states)` -> (P, d), biases of the first of them."""
        hidden = self.embed(ids)
        for layer in range(self.config.num_hidden_layers):
            memory, biases = memory_of(layer, hidden)
            states = torch.cat([self.bos(layer), memory.double(), hidden])
            bias = dict(enumerate(biases, len(self.bos(layer))))
            hidden = self.layer(layer, states, len(ids), "read", bias)
        head = self.weights.get("lm_head.weight", self.weights["model.embed_tokens.weight"])
        return self.norm("model.norm", hidden) @ head.T

    def greedy(self, ids: list[int], memory_of, count: int) -> list[int]:
        """Retrieval sees the prompt only, as in the paper's inference; everything else is computed anew each token."""
        prompt, kept = len(ids), {}

        def once(layer: int, hidden: Tensor) -> Tensor:
            if layer not in kept:
                kept[layer] = memory_of(layer, hidden[:prompt])
            return kept[layer]

        out = list(ids)
        for _ in range(count):
            out.append(int(self.read(out, once)[-1].argmax()))
        return out[prompt:]

    # ── the retriever ──

    def project(self, layer: int, which: str, x: Tensor) -> Tensor:
        name = f"model.layers.{layer}.retriever.{which}"
        x = x @ self.weights[f"{name}.0.weight"].T
        if self.config.retriever_depth == 1:
            return x
        return torch.nn.functional.silu(x) @ self.weights[f"{name}.2.weight"].T

    def key(self, layer: int, token: Tensor) -> Tensor:
        return self.project(layer, "key", self.norm(f"model.layers.{layer}.input_layernorm", token.double()[None]))[0]

    def scores(self, layer: int, hidden: Tensor, rows: list[dict]) -> list[float]:
        """One score per row of Θ, by the configured rule, token by token."""
        queries = self.project(layer, "query", self.norm(f"model.layers.{layer}.input_layernorm", hidden))
        match = torch.stack([queries @ self.key(layer, row["token"]) for row in rows])  # (m, n)
        if self.config.relevance == "dot":
            return match.mean(1).tolist()
        if self.config.relevance == "mean_sigmoid":
            return match.sigmoid().mean(1).tolist()
        blocks: dict[int, float] = {}
        for block in {row["block"] for row in rows}:
            mine = match[[row["block"] == block for row in rows]]
            blocks[block] = float(mine.max(0).values.sum())
        return [blocks[row["block"]] for row in rows]


class SlowMemory:
    """θ and Θ as lists of rows per layer; drops are given. Ages are counted one write at a time."""

    def __init__(self, slow: SlowMPlus, pool: Tensor):
        self.slow, config = slow, slow.config
        self.released, size = config.rules == "released", config.pool_size
        self.pool = [
            [
                {
                    "token": pool[layer, i].double(),
                    "block": 1 + i // config.block_size,
                    "age": 0 if self.released else size - 1 - i,
                }
                for i in range(size)
            ]
            for layer in range(config.num_hidden_layers)
        ]
        self.long = [[] for _ in self.pool]
        self.pending = [[] for _ in self.pool]
        self.writes, self.next_block = 0, 1 + -(-size // config.block_size)

    def newest(self) -> Tensor:
        return torch.stack(
            [torch.stack([row["token"] for row in rows[-self.slow.config.block_size :]]) for rows in self.pool]
        )

    def write(self, ids: list[int], dropped: Tensor) -> None:
        config = self.slow.config
        block = self.slow.write(ids, self.newest())
        size = config.block_size
        self.writes += 1
        for layer, rows in enumerate(self.pool):
            for row in [*self.long[layer], *self.pending[layer], *([] if self.released else rows)]:
                row["age"] += size
            gone = set(dropped[layer].tolist())
            self.pending[layer] += [{**row, "recall": None} for i, row in enumerate(rows) if i in gone]
            fresh = [
                {"token": block[layer, slot], "block": self.next_block, "age": size - 1 - slot} for slot in range(size)
            ]
            self.pool[layer] = [row for i, row in enumerate(rows) if i not in gone] + fresh
            if not self.released:
                self.long[layer] += self.pending[layer]
                self.pending[layer] = []
                while len(self.long[layer]) > config.max_long_term:
                    ages = [row["age"] for row in self.long[layer]]
                    del self.long[layer][ages.index(max(ages))]
            elif self.writes % config.merge_every == 0:
                self._merge(layer)
        self.next_block += 1

    def _merge(self, layer: int) -> None:
        config = self.slow.config
        for row in self.pending[layer]:
            row["recall"] = config.initial_recall
        rows = self.long[layer] + self.pending[layer]
        self.pending[layer] = []
        for row in rows:
            row["recall"] -= config.recall_decay
        alive = [row for row in rows if row["recall"] > 0.01]
        if len(alive) > config.num_retrieved:
            rows = alive
        else:
            for row in rows:
                row["recall"] += config.recall_decay
        self.long[layer] = rows

    def memory_of(self, layer: int, hidden: Tensor) -> tuple[Tensor, list[float]]:
        """[retrieved, oldest first | θ] for the prompt whose states reach this layer, and what is added to the scores
        of each: bias times the log of how much less likely its block is than the likeliest, -4 at least; less what it
        loses to later blocks, which is 2 and how much likelier the likeliest of them is, from 0 to the recency. Where
        layers accumulate, how likely a block is, here and in Θ, counts over the layers so far."""
        self.heard, scale = {} if layer == 0 else self.heard, 1.0
        if self.slow.config.relevance == "block":
            scale = float(self.slow.weights[f"model.layers.{layer}.retriever.scale"]) * min(1.0, 16 / len(hidden))
        wanted, long, pending = self.slow.config.num_retrieved, self.long[layer], self.pending[layer]
        if self.released and not long:
            chosen = []
        elif self.released and len(long) < wanted:
            chosen = (long * (wanted // len(long) + 1))[-wanted:]
        else:
            rows = long + pending
            scores = self.slow.scores(layer, hidden, rows) if rows else []
            if rows and self.slow.config.retrieval_accumulates:
                scores = self.so_far("Θ", rows, [scale * score for score in scores])
            best = sorted(range(len(rows)), key=lambda i: (-scores[i], i))[:wanted]
            chosen = [rows[i] for i in sorted(best)]
        place = sorted(range(len(chosen)), key=lambda i: (chosen[i]["age"], i), reverse=True)
        laid = [chosen[i] for i in place] + self.pool[layer]
        memory, bias = torch.stack([row["token"] for row in laid]), self.slow.config.bias_in(layer)
        if not (bias and chosen):
            return memory, []
        nats = [scale * score for score in self.slow.scores(layer, hidden, laid)]
        told = self.so_far("laid", laid, nats) if self.slow.config.retrieval_accumulates else nats
        gains = [max(-4.0, bias * (its - max(told))) for its in told]
        for index, row in enumerate(laid):
            later = [other for other, its in zip(nats, laid, strict=True) if its["block"] > row["block"]]
            lead = max(later, default=-math.inf) - nats[index]
            gains[index] -= min(self.slow.config.retrieval_recency, max(0.0, lead + 2.0))
        return memory, gains

    def so_far(self, where: str, rows: list[dict], nats: list[float]) -> list[float]:
        """What this layer and those before it say of each row's block: how much less likely it is than the likeliest,
        in those before 5 nats at most and where it is not among the rows, summed over layers, over the root of their
        number."""
        heard, below = self.heard.setdefault(where, []), [its - max(nats) for its in nats]
        past = [sum(max(-5.0, one.get(row["block"], -5.0)) for one in heard) for row in rows]
        heard.append({row["block"]: its for row, its in zip(rows, below, strict=True)})
        return [(before + its) / math.sqrt(len(heard)) for before, its in zip(past, below, strict=True)]

"""SnapKV (Li et al. 2024, arXiv 2404.14469): keep of a long prompt only the keys its last tokens look at.

The votes of an observation window at the end of the prompt (attention probabilities, summed over its queries) are
max-pooled along the keys; every key head keeps the best past positions and the whole window. Positions stay true.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Cache, PreTrainedModel
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from .context import ContextReader, KeptLayer, empty_cache, num_cache_bytes, prefill, twin
from .reader import Answer


class SnapKVReader(ContextReader):
    """Full context, its cache compressed to `kept` positions per head (`core.snapkv`) before the question is asked.

    The question is run behind the compressed cache. `sees_question` lets the question vote on what is kept, as in the
    paper's experiments: that is no memory, for every question needs the whole text again. `peak_bytes` is what the
    full cache took meanwhile.
    """

    name = "snapkv"

    def __init__(self, model, tokenizer, kept: int, window: int = 32, kernel: int = 7, sees_question: bool = False):
        self.kept, self.observed, self.kernel, self.sees_question = kept, window, kernel, sees_question
        self.peak_bytes = 0
        super().__init__(model, tokenizer)

    def answer_many(self, questions: Sequence[str], *args: Any, **kwargs: Any) -> list[Answer]:
        raise ValueError(
            "SnapKV refuses left-padded batches: after compression a mask cannot tell padding; ask singly."
        )

    def _lay_context(self, ids: Tensor) -> tuple[Cache, Tensor]:
        if self.sees_question:
            whole = torch.cat([self._tensor(self.context(ids)), ids[:, :-1]], dim=1)
            self.cache, self.peak_bytes = compress(self.model, whole, self.kept, self.observed, self.kernel)
            cache, self.cache = self.cache, None  # made for this question alone
            return cache, ids[:, -1:]
        if self.cache is None:
            context = self._tensor(self.context(ids))
            self.cache, self.peak_bytes = compress(self.model, context, self.kept, self.observed, self.kernel)
        return twin(self.cache), ids


def compress(model: PreTrainedModel, ids: Tensor, kept: int, window: int = 32, kernel: int = 7) -> tuple[Cache, int]:
    """Prefill ids (1, n) and keep `kept` positions per layer and key head. Returns the cache and the full one's bytes.

    The last `window` positions are always kept. Raises ValueError if `kept` is not above `window` or `kernel` is even.
    """
    if kept <= window:
        raise ValueError(
            f"SnapKV keeps {kept} positions, its window alone has {window}; keep more or shrink the window."
        )
    if kernel % 2 == 0:
        raise ValueError(f"SnapKV's pooling kernel is {kernel}; choose an odd one, so that it has a middle.")
    length = ids.shape[1]
    if length <= kept:
        cache = prefill(model, ids, empty_cache(model))
        return cache, num_cache_bytes(cache)
    cache = prefill(model, ids[:, :-window], empty_cache(model))
    with _queries(model) as queries:
        prefill(model, ids[:, -window:], cache)
    full_bytes = num_cache_bytes(cache)
    layers = []
    held: list[Any] = cache.layers
    for layer, seen in zip(held, queries, strict=True):
        chosen = select(votes(seen, layer.keys), kept - window, kernel)
        chosen = torch.cat(
            [chosen, torch.arange(length - window, length, device=ids.device).expand(*chosen.shape[:2], -1)], -1
        )
        keys, values = (
            rows.gather(2, chosen[..., None].expand(-1, -1, -1, rows.shape[-1])) for rows in (layer.keys, layer.values)
        )
        layers.append(KeptLayer(keys, values, length - kept))
    return Cache(layers=layers), full_bytes


def votes(queries: Tensor, keys: Tensor) -> Tensor:
    """Attention that the window pays to each past key: (1, heads, w, e), (1, kv heads, n, e) -> (1, kv heads, n - w).

    Summed over the window's queries and over the query heads that share a key head.
    """
    batch, _, window, size = queries.shape
    grouped = queries.view(batch, keys.shape[1], -1, window, size)
    scores = torch.einsum("bkgqe,bkne->bkgqn", grouped.float(), keys.float()) * size**-0.5
    hidden = torch.ones(window, window, dtype=torch.bool, device=keys.device).triu(1)
    scores[..., -window:] = scores[..., -window:].masked_fill(hidden, -torch.inf)
    return scores.softmax(-1)[..., :-window].sum((2, 3))


def select(votes: Tensor, num: int, kernel: int) -> Tensor:
    """The positions of the `num` best pooled votes per head, ascending: (1, kv heads, m) -> (1, kv heads, num)."""
    pooled = F.max_pool1d(votes, kernel, stride=1, padding=kernel // 2)
    return pooled.topk(num, dim=-1).indices.sort(-1).values


@contextmanager
def _queries(model: PreTrainedModel) -> Iterator[list[Tensor]]:
    """Inside the block, the queries (1, heads, n, e) of every layer's last pass are collected, after RoPE."""
    seen: list[Tensor] = []

    def collect(attention: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        hidden, (cos, sin) = kwargs["hidden_states"], kwargs["position_embeddings"]
        queries = attention.q_proj(hidden).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)  # type: ignore
        seen.append(apply_rotary_pos_emb(queries, queries, cos, sin)[0])

    layers: Any = model.model.layers  # type: ignore[union-attr]
    hooks = [layer.self_attn.register_forward_pre_hook(collect, with_kwargs=True) for layer in layers]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()

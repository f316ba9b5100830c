"""Reading the text itself: a context in the KV cache, whole or its last tokens, and caches that know true positions.

The base model of an M+ checkpoint is its own weights without a memory prefix and with the read adapter, which is what
it was trained to answer with; a plain Llama is used as it is. Texts of several ingests are joined by line breaks.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import DynamicLayer

from .adapters import READ, use_adapter
from .answering import Answer, check_single, num_copies, num_weight_bytes, timed_answer
from .prompts import check_string, encode, encode_prompt
from .reader import OnChunk
from .sources import Receipt

PIECE = 512
"""Tokens of a context that run through the model at once."""


class KeptLayer(DynamicLayer):
    """One layer's keys and values, of which `skipped` earlier ones are gone. It reports the positions that were, so
    that whatever follows stands where it would have stood, and tells the mask which columns are left."""

    def __init__(self, keys: Tensor | None = None, values: Tensor | None = None, skipped: int = 0):
        super().__init__()
        self.skipped = skipped
        if keys is not None and values is not None:
            self.lazy_initialization(keys, values)
            self.keys, self.values = keys, values

    def get_seq_length(self) -> int:
        return super().get_seq_length() + self.skipped

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return super().get_seq_length() + query_length, self.skipped


def prefill(model: PreTrainedModel, ids: Tensor, cache: Cache) -> Cache:
    """Run ids (1, n) through the model behind `cache`, piece by piece; the cache grows by n."""
    for piece in ids.split(PIECE, dim=1) if ids.numel() else ():
        past = cache.get_seq_length()
        mask = piece.new_ones(1, past + piece.shape[1])
        model(piece, attention_mask=mask, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return cache


def empty_cache(model: PreTrainedModel) -> Cache:
    return Cache(layers=[KeptLayer() for _ in range(model.config.num_hidden_layers)])  # type: ignore[arg-type]


def twin(cache: Cache) -> Cache:
    """A cache that starts with the same tensors and can grow without touching them."""
    return Cache(layers=[KeptLayer(layer.keys, layer.values, layer.skipped) for layer in cache.layers])  # type: ignore


def num_cache_bytes(cache: Cache | None) -> int:
    layers: list[Any] = cache.layers if cache else []
    return sum(layer.keys.nbytes + layer.values.nbytes for layer in layers if layer.is_initialized)


class ContextReader:
    """The model reads the text itself: all of it, or the last `window` tokens.

    Keys and values of the context are made by the first question after an ingest and kept until the next ingest.
    """

    name = "full"

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, window: int | None = None):
        if window is not None and window < 0:
            raise ValueError(f"The window has {window} tokens; it must not be negative.")
        self.model, self.tokenizer, self.window = model, tokenizer, window
        opening = tokenizer("")["input_ids"]  # a bos token, where this tokenizer opens every text with one
        self._opening = [token for token in opening if token == tokenizer.bos_token_id][:1]
        self.reset()

    def reset(self) -> None:
        self.texts: list[str] = []
        self.ids: list[int] = []
        self.cache: Cache | None = None

    def ingest(self, text: str, on_chunk: OnChunk | None = None) -> Receipt:
        """Take a text in. Raises ValueError for an empty one."""
        check_string("text", text)
        if not text.strip():
            raise ValueError("The text is empty; give at least one sentence to remember.")
        ids, spans = encode(text + "\n", self.tokenizer)
        self.texts.append(text)
        self.ids.extend(ids)
        self.cache = None
        if on_chunk:
            on_chunk(1, 1)
        return Receipt(len(self.texts), text, tuple(spans))

    def answer(
        self,
        question: str,
        max_new_tokens: int = 32,
        on_text: Callable[[str], None] | None = None,
        stop: Callable[[], bool] | None = None,
        raw: bool = False,
        **sampling: Any,
    ) -> Answer:
        """As `MPlusReader.answer`. The seconds include reading the context, when it has not been read yet."""
        check_single(sampling)
        ids = encode_prompt(question, self.tokenizer, raw)
        return timed_answer(self, self._generate, [ids], max_new_tokens, on_text, stop, sampling)[0]

    def context(self, question: Tensor) -> list[int]:
        """Token ids to stand before this question (1, n)."""
        ids = self.ids if self.window is None else self.ids[max(0, len(self.ids) - self.window) :]
        return self._opening + ids

    @torch.no_grad()
    def _generate(self, ids: Tensor, mask: Tensor, **settings: Any) -> tuple[Tensor, list]:
        with use_adapter(self.model, READ):
            cache, rest = self._lay_context(ids)
            if (copies := num_copies(settings)) > 1 and cache.get_seq_length():
                cache.batch_repeat_interleave(copies)
            past = cache.get_seq_length()
            whole = ids.new_ones(1, past + rest.shape[1])
            out = self.model.generate(rest, attention_mask=whole, past_key_values=cache, **settings)  # type: ignore
        return torch.cat([ids.expand(len(out), -1), out[:, rest.shape[1] :]], dim=1), []

    def _lay_context(self, ids: Tensor) -> tuple[Cache, Tensor]:
        """A cache of what stands before the question, and the part of the prompt that is still to be run."""
        if self.cache is None:
            self.cache = prefill(self.model, self._tensor(self.context(ids)), empty_cache(self.model))
        return twin(self.cache), ids

    def _tensor(self, ids: list[int]) -> Tensor:
        return torch.tensor([ids], dtype=torch.int64, device=self.model.device)

    @property
    def num_bytes(self) -> dict[str, int]:
        text = sum(len(text.encode()) for text in self.texts)
        return {"weights": num_weight_bytes(self.model), "text": text, "cache": num_cache_bytes(self.cache)}

"""What M+ is compared with, behind the same `Reader` protocol, on the same weights: `make_reader(method, …)`."""

import zlib
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .bm25 import BM25Reader
from .config import MPlusConfig
from .context import ContextReader
from .memory import Memory
from .model import MPlusForCausalLM
from .reader import MPlusReader, OnChunk, Reader
from .reading import new_memory
from .retriever import Keys, Relevance
from .snapkv import SnapKVReader
from .sources import Receipt


class QuestionOnlyReader(MPlusReader):
    """M+ that is asked without having been told anything: the floor."""

    def ingest(self, text: str, on_chunk: OnChunk | None = None) -> Receipt:
        if not text.strip():
            raise ValueError("The text is empty; give at least one sentence to remember.")
        return Receipt(1, text, ())


def random_relevance(seed: int, by_block: bool) -> Relevance:
    """A retriever that guesses: random scores, one a block or one a token.

    The draw depends on the seed and the queries alone, so that a resumed run repeats it.
    """

    def relevance(queries: Tensor, keys: Keys) -> Tensor:
        draw = torch.Generator().manual_seed(seed + zlib.crc32(queries.float().numpy().tobytes()))
        if not by_block:
            return torch.rand(len(keys.blocks), generator=draw)
        return torch.rand(int(keys.blocks.max()) + 1, generator=draw)[keys.blocks]

    return relevance


METHODS = ("mplus", "memoryllm", "random-retriever", "full", "window", "snapkv", "bm25", "question-only")


def make_reader(
    method: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    budget_bytes: int | None = None,
    *,
    seed: int = 0,
    **options: Any,
) -> Reader:
    """A reader of one of `METHODS` on these weights. memoryllm: the same memory without Θ.

    budget_bytes: what the keys and values kept for a question may take; None: as many as M+ lays before a prompt, so
    that all methods are equal (2,048 tokens for a plain Llama). It bounds window, snapkv and bm25; "full" is unbounded
    by nature. options: the reader's own, for instance `sees_question=True`, or `form="hidden"` for memories.
    Raises ValueError for an unknown method, a memory method on a plain Llama, and a budget M+ cannot keep.
    """
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; choose one of {', '.join(METHODS)}.")
    config = model.config
    per_token = token_bytes(model)
    own = config.prefix_size if isinstance(config, MPlusConfig) else 2048
    budget = own if budget_bytes is None else budget_bytes // per_token
    if method in ("full", "window", "snapkv", "bm25"):
        return _context_reader(method, model, tokenizer, budget, options)
    if method == "question-only" and not isinstance(model, MPlusForCausalLM):
        reader = ContextReader(model, tokenizer, window=0)
        reader.name = method
        return reader
    if not isinstance(model, MPlusForCausalLM):
        raise ValueError(f"{method} needs an M+ or MemoryLLM checkpoint; this is a {type(model).__name__}.")
    kept = config.prefix_size - (config.num_retrieved if method == "memoryllm" else 0)
    if budget_bytes is not None and kept * per_token > budget_bytes and method != "question-only":
        raise ValueError(
            f"{method} lays {kept} tokens of {per_token} bytes before a prompt, above the budget of {budget_bytes} "
            "bytes; raise it, or leave it out to give every method what M+ takes."
        )
    kind = QuestionOnlyReader if method == "question-only" else MPlusReader
    memory_reader = kind(model, tokenizer, memory_for(method, model, seed=seed, **options))
    memory_reader.name = method
    return memory_reader


def memory_for(
    method: str, model: MPlusForCausalLM, *, seed: int = 0, form: str = "smaller", **settings: Any
) -> Memory:
    """The memory of one of the methods that have one."""
    if method == "random-retriever":
        settings["relevance"] = random_relevance(seed, model.config.relevance == "block")
    return new_memory(model, form, long_term=method != "memoryllm", seed=seed, **settings)


def token_bytes(model: PreTrainedModel) -> int:
    """Bytes of one token's keys and values in all layers."""
    config: Any = model.config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * config.num_hidden_layers * heads * width * model.dtype.itemsize


def _context_reader(method: str, model, tokenizer, budget: int, options: dict[str, Any]) -> ContextReader:
    if method == "full":
        return ContextReader(model, tokenizer, **options)
    if method == "window":
        reader = ContextReader(model, tokenizer, **{"window": budget, **options})
        reader.name = method
        return reader
    if method == "snapkv":
        return SnapKVReader(model, tokenizer, **{"kept": budget, **options})
    passage = model.config.chunk_size if isinstance(model.config, MPlusConfig) else 512
    return BM25Reader(model, tokenizer, **{"budget": budget, "passage": passage, **options})

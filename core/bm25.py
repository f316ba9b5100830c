"""BM25 and the same model: passages found by their words stand before the question as plain text."""

from typing import Any

import bm25s
import torch
from torch import Tensor

from .context import ContextReader
from .reader import Answer, OnChunk
from .sources import Receipt


class BM25Reader(ContextReader):
    """Finds the passages whose words match the question best and lets the model read those, in their order.

    passage: tokens a passage has at most. budget: tokens of all passages together.
    """

    name = "bm25"

    def __init__(self, model, tokenizer, budget: int, passage: int = 64):
        self.budget, self.passage, self.question = budget, passage, ""
        super().__init__(model, tokenizer)

    def reset(self) -> None:
        super().reset()
        self.passages: list[list[int]] = []
        self._index: bm25s.BM25 | None = None
        self._stale = True

    def ingest(self, text: str, on_chunk: OnChunk | None = None) -> Receipt:
        before = len(self.ids)
        receipt = super().ingest(text, on_chunk)
        added = self.ids[before:]
        count = -(-len(added) // self.passage)
        edges = [len(added) * i // count for i in range(count + 1)]
        self.passages += [added[edges[i] : edges[i + 1]] for i in range(count)]
        self._stale = True
        return receipt

    def answer(self, question: str, *args: Any, **kwargs: Any) -> Answer:
        self.question = last_paragraph(question) if kwargs.get("raw") else question
        self.cache = None  # other passages for every question
        return super().answer(question, *args, **kwargs)

    def context(self, question: Tensor) -> list[int]:
        if self._stale:
            texts = [str(self.tokenizer.decode(passage)) for passage in self.passages]
            self._index, self._stale = bm25_index(texts), False
        kept, used = [], 0
        for number in bm25_rank(self._index, self.question, len(self.passages)):
            used += len(self.passages[number])
            if used > self.budget:
                break
            kept.append(number)
        return self._opening + [token for number in sorted(kept) for token in self.passages[number]]


def last_paragraph(prompt: str) -> str:
    """Where a whole prompt asks its question: what is before it, in part the text itself, is nothing to search for."""
    asked = prompt.strip().removesuffix("Answer:").rstrip()
    return asked.rpartition("\n\n")[2]


def bm25_index(passages: list[str]) -> bm25s.BM25 | None:
    """An index of the passages' words; None if there are none. Frequent words weigh little by themselves."""
    words = _words(passages)
    if not any(words):
        return None
    index = bm25s.BM25()
    index.index(words, show_progress=False)
    return index


def bm25_rank(index: bm25s.BM25 | None, question: str, num: int) -> list[int]:
    """All `num` passages by number, best first; those without a word in common follow in their order."""
    return bm25_scores(index, question, num).argsort(descending=True, stable=True).tolist()


def bm25_scores(index: bm25s.BM25 | None, question: str, num: int) -> Tensor:
    """BM25 of all `num` passages (num,); 0 without a word in common."""
    known = [word for word in _words([question])[0] if index and word in index.vocab_dict]
    return torch.as_tensor(index.get_scores(known)) if index and known else torch.zeros(num)


def _words(texts: list[str]) -> list[list[str]]:
    return bm25s.tokenize(texts, stopwords=[], return_ids=False, show_progress=False)  # type: ignore[return-value]

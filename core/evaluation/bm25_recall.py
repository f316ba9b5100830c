"""Would BM25 have found the fact's text among the texts that came after it? The baseline of M+'s retriever."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ..bm25 import bm25_index, bm25_scores
from ..world import Fact


class PassageRanks:
    """Facts and distractor chunks as passages of one index; each memory competes within the passages it has read."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, chunks: Tensor, facts: Sequence[Fact]):
        self.place = {fact.fact: index for index, fact in enumerate(facts)}
        texts = list(self.place) + tokenizer.batch_decode(chunks.tolist())
        self.place = {fact: index for index, fact in enumerate(self.place)}
        self.index, self.num_texts, self.num_chunks = bm25_index(texts), len(texts), len(chunks)

    def found(self, facts: Sequence[Fact], which: int, offset: int, num_chunks: int, num_passages: int) -> int:
        """1 if the fact is among the best `num_passages` of its memory's facts and `num_chunks` distractor chunks.

        Ties go to the older passage, as a stable sort would have it.
        """
        scores = bm25_scores(self.index, facts[which].question, self.num_texts)
        own = torch.tensor([self.place[fact.fact] for fact in facts])
        following = len(self.place) + (offset + torch.arange(min(num_chunks, self.num_chunks))) % self.num_chunks
        gold = scores[own[which]]
        better = (scores[own] > gold).sum() + (scores[following] > gold).sum() + (scores[own[:which]] == gold).sum()
        return int(gold > 0 and better < num_passages)

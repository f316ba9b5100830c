"""An approximate index of retriever keys, for Θ of more than a few million tokens (extra `index`, needs faiss-cpu).

    memory.relevance = Indexed(memory.relevance)

The index proposes rows: those nearest to each question token, and the rest of their blocks where the rule scores
blocks. The rule then scores these alone, exactly. How many of the exactly best it finds is in benchmarks/README.md.
"""

from typing import Any

import torch
from torch import Tensor

from .retriever import Evidence, Keys, Relevance, block_late_interaction, dot

PROBES = 16
"""Rows by which an index tells whether it holds the first rows of some keys."""


class Indexed:
    """A `Relevance` that scores what an index proposes, and nothing else: all other rows get -inf.

    smallest: below so many rows all are scored. num_lists, num_probed: cells of the index, and how many are searched
    per question token. num_near: rows proposed per question token. Raises ValueError where faiss is not installed.
    """

    def __init__(
        self, rule: Relevance, smallest: int = 1 << 20, num_lists: int = 1024, num_probed: int = 16, num_near: int = 512
    ):
        try:
            import faiss  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise ValueError(
                "An index needs faiss; type `.venv/bin/pip install -e '.[index]'` in the clone."
            ) from error
        self._faiss: Any = faiss
        self.rule, self.smallest, self.num_lists, self.num_near = rule, smallest, num_lists, num_near
        self.num_probed = num_probed
        self._known: list[tuple[Any, Tensor, Tensor]] = []

    def __call__(self, queries: Tensor, keys: Keys, *evidence: Evidence) -> Tensor:
        if len(keys.vectors) < self.smallest:
            return self.rule(queries, keys, *evidence)
        rows = self.propose(queries, keys)
        scores = queries.new_full((len(keys.vectors),), -torch.inf)
        scores[rows] = self.rule(queries, Keys(keys.vectors[rows], keys.blocks[rows]), *evidence)
        return scores

    def propose(self, queries: Tensor, keys: Keys) -> Tensor:
        """The rows to be scored, ascending. `dot` asks for the mean of the queries, the other rules for each."""
        index = self._index(keys.vectors)
        index.nprobe = self.num_probed
        asked = queries.mean(0, keepdim=True) if self.rule is dot else queries
        near = index.search(asked.float().numpy(), self.num_near * (len(queries) if self.rule is dot else 1))[1]
        rows = torch.from_numpy(near).flatten().unique()
        rows = rows[rows >= 0]
        if self.rule is block_late_interaction:
            chosen = torch.zeros(int(keys.blocks.max()) + 1, dtype=torch.bool)
            chosen[keys.blocks[rows]] = True
            rows = chosen[keys.blocks].nonzero().flatten()
        return rows

    def _index(self, vectors: Tensor) -> Any:
        """The index of these keys: one that was made of their first rows, with the rest added, or a new one."""
        for place, (index, rows, probes) in enumerate(self._known):
            if index.ntotal <= len(vectors) and torch.equal(vectors[rows], probes):
                if index.ntotal < len(vectors):
                    index.add(vectors[index.ntotal :].float().numpy())
                    self._known[place] = (index, *_probes(vectors))
                return index
        faiss, width = self._faiss, vectors.shape[1]
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, self.num_lists, faiss.METRIC_INNER_PRODUCT)
        index.train(vectors[_spread(len(vectors), 40 * self.num_lists)].float().numpy())
        for start in range(0, len(vectors), 1 << 20):
            index.add(vectors[start : start + (1 << 20)].float().numpy())
        # One of the same keys before they were moved is asked for no more, and holds all of them once again.
        self._known = [known for known in self._known if not _any_in(known[2], vectors)]
        self._known.append((index, *_probes(vectors)))
        return index


def _spread(length: int, count: int) -> Tensor:
    """At most `count` rows of so many, the first and the last among them."""
    return torch.linspace(0, length - 1, min(length, count), dtype=torch.float64).long()


def _probes(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Rows, and what is in them. The last is one: keys of another future, as after an undo, differ there at last."""
    rows = _spread(len(vectors), PROBES)
    return rows, vectors[rows].clone()


def _any_in(probes: Tensor, vectors: Tensor) -> bool:
    """Whether one of the rows `probes` is among the rows `vectors`."""
    return any(bool((vectors[vectors[:, 0] == probe[0]] == probe).all(1).any()) for probe in probes)

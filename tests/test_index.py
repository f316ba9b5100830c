"""An index of keys finds what exact search finds, where it looks everywhere, and most of it where it does not."""

import pytest
import torch

from core.choice import select
from core.index import Indexed
from core.reading import new_memory, write
from core.retriever import RELEVANCE, Evidence, Keys
from tests.toys import toy_mplus

pytest.importorskip("faiss")
torch.set_num_threads(1)


def clustered(rows: int, r: int = 16, size: int = 8) -> Keys:
    """Keys of which those of a block lie close together."""
    generator = torch.Generator().manual_seed(0)
    blocks = torch.arange(rows) // size
    centres = torch.randn(rows // size, r, generator=generator)
    return Keys(centres[blocks] + 0.3 * torch.randn(rows, r, generator=generator), blocks)


@pytest.mark.parametrize("rule", ["dot", "mean_sigmoid", "block"])
def test_an_index_that_looks_everywhere_is_exact(rule):
    keys, queries = clustered(2000), torch.randn(5, 16, generator=torch.Generator().manual_seed(1))
    index = Indexed(RELEVANCE[rule], smallest=0, num_lists=8, num_probed=8, num_near=2000)
    exact = RELEVANCE[rule](queries, keys)
    assert torch.allclose(index(queries, keys), exact, atol=1e-5)
    assert torch.equal(select(index(queries, keys), 64), select(exact, 64))


def test_rows_that_are_added_are_found_and_other_keys_get_an_index_of_their_own():
    keys = clustered(2000)
    index = Indexed(RELEVANCE["block"], smallest=0, num_lists=16, num_probed=4, num_near=20)
    half = Keys(keys.vectors[:1000], keys.blocks[:1000])
    index(half.vectors[:3], half)
    wanted = keys.vectors[1600:1604]
    assert set(range(1600, 1608)) <= set(index.propose(wanted, keys).tolist())
    assert len(index._known) == 1 and index._known[0][0].ntotal == 2000
    other = Keys(2 * keys.vectors, keys.blocks)
    index(wanted, other)
    assert len(index._known) == 2
    index(wanted, Keys(other.vectors[8:], other.blocks[8:]))
    assert [known[0].ntotal for known in index._known] == [2000, 1992], "of keys that have moved the old one is gone"


def test_rows_of_another_future_are_not_served():
    """An index goes on with rows that were added; after an undo, others take their places, and more of them."""
    draw = torch.Generator().manual_seed(2)
    common, undone, now = (torch.randn(rows, 8, generator=draw) for rows in (100, 40, 80))
    index = Indexed(RELEVANCE["dot"], smallest=10, num_lists=2, num_probed=2, num_near=3)
    for rows in ([common], [common, undone], [common, now]):
        vectors = torch.cat(rows)
        keys = Keys(vectors, torch.arange(len(vectors)) // 8 + 1)
        wanted = 5 * (vectors[110:111] if len(rows) > 1 else vectors[50:51])
        assert int(index(wanted, keys).argmax()) == int(RELEVANCE["dot"](wanted, keys).argmax())


def test_a_small_memory_is_scored_whole_and_an_indexed_one_answers():
    model = toy_mplus(relevance="block")
    memory = new_memory(model, seed=1)
    for step in range(12):
        write(model, [memory], torch.arange(16)[None] + 3 * step)
    queries = torch.randn(4, model.config.retriever_size, generator=torch.Generator().manual_seed(1))
    exact = memory.search(0, queries)
    memory.relevance = Indexed(RELEVANCE["block"])
    assert torch.equal(memory.search(0, queries).rows, exact.rows)
    memory.relevance = Indexed(RELEVANCE["block"], smallest=1, num_lists=2, num_probed=2, num_near=100)
    assert torch.equal(memory.search(0, queries).rows, exact.rows)
    assert torch.equal(memory.search(0, queries, evidence=Evidence()).rows, exact.rows)  # no layer was before

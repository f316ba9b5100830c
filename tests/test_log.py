"""Θ's log against plain lists: eviction, deletion, compaction and forks in any order leave the rows they should."""

import random

import pytest
import torch

from core.choice import oldest_first, select
from core.log import TokenLog
from core.retriever import CHUNK, RELEVANCE, Keys


class Plain:
    """The same log as a list of (value, born, block)."""

    def __init__(self, rows=()):
        self.rows = list(rows)

    def evict(self, count):
        for _ in range(min(count, len(self.rows))):
            ages = [born for _, born, _ in self.rows]
            del self.rows[ages.index(min(ages))]

    def kill(self, block):
        self.rows = [row for row in self.rows if row[2] != block]


def add(log, plain, count, clock, random):
    rows = [(clock + i, clock - random.randrange(30), 1 + (clock + i) // 4) for i in range(count)]
    value, born, block = (torch.tensor(column) for column in zip(*rows, strict=True))
    log.append(tokens=value[:, None].float(), keys=value[:, None].float(), born=born, block=block,
               slot=value % 4, recall=torch.zeros(count, dtype=torch.float64))  # fmt: skip
    plain.rows += rows


def test_a_log_with_room_is_never_copied():
    log, plain = TokenLog.empty(1, 1, torch.float32), Plain()
    log.reserve = 64
    add(log, plain, 3, 0, random.Random(0))
    places = {name: getattr(log, name).data_ptr() for name in TokenLog.APPENDED}
    for clock in range(3, 64):
        add(log, plain, 1, clock, random.Random(clock))
    assert places == {name: getattr(log, name).data_ptr() for name in TokenLog.APPENDED}
    add(log, plain, 1, 64, random.Random(0))
    same(log, plain)


def same(log, plain):
    live = log.live
    values = zip(log.tokens[live, 0].int().tolist(), log.born[live].tolist(), log.block[live].tolist(), strict=True)
    assert list(values) == plain.rows and len(log) == len(plain.rows)


@pytest.mark.parametrize("seed", range(6))
def test_any_order_of_changes_leaves_the_rows_it_should(seed):
    choice, clock = random.Random(seed), 0
    pairs = [(TokenLog.empty(1, 1, torch.float32), Plain())]
    for _ in range(150):
        log, plain = choice.choice(pairs)
        what = choice.choice(["add", "add", "add", "evict", "kill", "fork"])
        if what == "add":
            add(log, plain, count := choice.randrange(1, 9), clock, choice)
            clock += count
        elif what == "evict":
            count = choice.randrange(1, 7)
            log.evict(count)
            plain.evict(count)
        elif what == "kill" and plain.rows:
            block = choice.choice(plain.rows)[2]
            log.kill(log.block == block)
            plain.kill(block)
        elif what == "fork" and len(pairs) < 4:
            pairs.append((log.fork(), Plain(plain.rows)))
        for each in pairs:
            same(*each)


def test_eviction_looks_at_few_rows_once_the_oldest_are_known():
    log, plain = TokenLog.empty(1, 1, torch.float32), Plain()
    add(log, plain, 50_000, 0, random.Random(0))
    log.evict(1)
    queue = log._queue
    log.evict(1)
    assert queue is not None and log._queue is not None and log._queue[1] == queue[1], "the queue was made twice"


@pytest.mark.parametrize("rule", RELEVANCE)
def test_chunked_scores_are_those_of_one_large_product(rule, monkeypatch):
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(1)
    vectors, queries = torch.randn(700, 8, generator=generator), torch.randn(90, 8, generator=generator)
    blocks = torch.randint(0, 60, (700,), generator=generator)
    matches = queries @ vectors.T
    best = torch.stack([matches[:, blocks == b].amax(1) if (blocks == b).any() else matches[:, 0] for b in range(60)])
    expected = {"dot": matches.mean(0), "mean_sigmoid": matches.sigmoid().mean(0), "block": best.sum(1)[blocks]}[rule]
    monkeypatch.setitem(CHUNK, "cpu", 1000)
    scores = RELEVANCE[rule](queries, Keys(vectors, blocks))
    assert torch.allclose(scores, expected, atol=1e-4)
    assert torch.equal(select(scores, 50), scores.sort(descending=True, stable=True).indices[:50].sort().values)


def test_what_is_dead_is_never_chosen_and_the_chosen_come_oldest_first():
    generator = torch.Generator().manual_seed(2)
    scores = torch.randint(-3, 4, (400,), generator=generator).float()
    scores[::7] = -torch.inf
    alive = torch.rand(400, generator=generator) < 0.6
    born, block, slot = (torch.randint(0, 40, (400,), generator=generator) for _ in range(3))
    for num in (0, 1, 150, 400):
        order = [row for row in scores.sort(descending=True, stable=True).indices.tolist() if alive[row]]
        rows = select(scores, num, alive)
        assert rows.tolist() == sorted(order[:num])
        found, times, blocks, slots = oldest_first(rows, born, block, slot)
        assert found.tolist() == sorted(rows.tolist(), key=lambda row: (born[row], -row))
        for column, picked in ((born, times), (block, blocks), (slot, slots)):
            assert torch.equal(column[found], picked)

"""Θ on disk behaves as Θ in memory, survives a kill, notices damage, and forgets what was deleted."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from core.reading import new_memory, read_logits, write
from core.tier import DiskTier
from tests.toys import toy_mplus

torch.set_num_threads(1)


def on_disk(model, folder, **settings):
    memory = new_memory(model, **settings)
    width, config = memory.state.pool.shape[-1], model.config
    tier = DiskTier(folder, config.num_hidden_layers, (width, config.retriever_size), memory.state.pool.dtype)
    memory.state.logs = list(tier.logs)
    return memory, tier


def feed(model, memories, writes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(writes):
        ids = torch.randint(0, 200, (1, 16), generator=generator)
        for memory in memories:
            receipt = memory.open_receipt("text", [], 1)
            write(model, [memory], ids, [(receipt.id, 0, 16)])
        yield receipt.id


def same_answers(model, one, other):
    question = torch.arange(9)[None]
    with torch.no_grad():
        logits = [read_logits(model, [memory], question)[0].logits for memory in (one, other)]
    return torch.equal(*logits)


def test_what_was_gone_back_behind_is_not_called_damaged(tmp_path):
    """As when a folder is opened after a kill between two saves of θ: it goes back to what θ knows of."""
    model = toy_mplus()
    disk, tier = on_disk(model, tmp_path)
    lengths = []
    for _ in feed(model, [disk], 6):
        tier.commit(disk.state.logs)
        lengths.append([log.length for log in tier.logs])
    again = DiskTier(tmp_path, model.config.num_hidden_layers, tier.widths, tier.dtype)
    again.go_back(lengths[3], [0] * len(lengths[3]))
    assert not again.verify()
    again.logs[0]._columns["keys"][1] += 1
    assert len(again.verify()) == 1


@pytest.mark.parametrize("most", [1000, 60])
def test_it_answers_as_a_memory_in_ram_and_after_opening_again(tmp_path, most):
    model = toy_mplus(max_long_term=most)
    plain = new_memory(model, seed=2)
    disk, tier = on_disk(model, tmp_path, seed=2)
    for _ in feed(model, [plain, disk], 20):
        tier.commit(disk.state.logs)
        assert same_answers(model, plain, disk)
    before = disk.snapshot()
    for _ in feed(model, [disk], 3, seed=5):
        tier.commit(disk.state.logs)
    disk.restore(before)  # goes back over rows that were committed, and on from there
    *_, receipt = feed(model, [plain, disk], 4, seed=6)
    tier.commit(disk.state.logs)
    assert same_answers(model, plain, disk) and not tier.verify()
    for memory in (plain, disk):
        memory.delete(receipt)
    tier.commit(disk.state.logs)
    again, reopened = on_disk(model, tmp_path)
    logs = again.state.logs
    again.state = disk.state.fork()
    again.state.logs = logs
    assert [len(log) for log in logs] == [len(log) for log in plain.state.logs]
    assert same_answers(model, plain, again)
    reopened.compact()
    again.state.logs = list(reopened.logs)
    assert same_answers(model, plain, again) and all(not log.num_dead for log in reopened.logs)


def test_an_overwritten_state_says_so(tmp_path):
    model = toy_mplus()
    memory, tier = on_disk(model, tmp_path)
    list(feed(model, [memory], 3))
    before = memory.snapshot()
    list(feed(model, [memory], 3))
    elder, twin = memory.snapshot(), memory.fork()
    memory.restore(before)
    list(feed(model, [memory], 5))
    tier.commit(memory.state.logs)
    memory.restore(elder)
    for use in (
        lambda: read_logits(model, [memory], torch.arange(5)[None]),
        lambda: list(feed(model, [memory], 1)),
        lambda: read_logits(model, [memory], torch.arange(5)[None]),  # and writing does not make it readable
        lambda: tier.commit(memory.state.logs),
    ):
        with pytest.raises(ValueError, match="written over"):
            use()
    read_logits(model, [twin], torch.arange(5)[None])  # a fork has rows of its own


def test_damage_is_found(tmp_path):
    model = toy_mplus()
    memory, tier = on_disk(model, tmp_path)
    for _ in feed(model, [memory], 5):
        tier.commit(memory.state.logs)
    assert not tier.verify()
    with next(tmp_path.glob("*/1.tokens")).open("r+b") as file:
        file.seek(2 * 8 * 64 * 4 + 5)  # in the third block
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 1]))
    assert tier.verify() == [(16, 24)]
    with pytest.raises(ValueError, match="another kind"):
        DiskTier(tmp_path, 3, (64, 8), torch.float32)


def test_a_killed_process_loses_at_most_the_unfinished_chunk(tmp_path):
    code = f"""
        import sys, torch
        from core.tier import DiskTier
        tier = DiskTier({str(tmp_path)!r}, 2, (4, 2), torch.float32)
        for step in range(10**9):
            for log in tier.logs:
                rows = torch.full((8,), step)
                log.append(tokens=rows[:, None].expand(-1, 4).float(), keys=rows[:, None].expand(-1, 2).float(),
                           born=rows, block=rows + 1, slot=torch.arange(8), recall=torch.zeros(8))
            tier.commit()
            sys.stdout.write(f"{{step}}\\n")
            sys.stdout.flush()
    """
    child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True,
                             cwd=Path(__file__).parent.parent, env={**os.environ, "OMP_NUM_THREADS": "1"})  # fmt: skip
    assert child.stdout is not None
    for line in child.stdout:
        if int(line) >= 300:
            break
    child.send_signal(signal.SIGKILL)
    last = int(([line, *child.stdout.read().split()])[-1])
    child.wait()
    tier = DiskTier(tmp_path, 2, (4, 2), torch.float32)
    assert not tier.verify()
    for log in tier.logs:
        steps = len(log) // 8
        assert len(log) % 8 == 0 and last < steps <= last + 2
        assert torch.equal(log.tokens[:, 0], torch.arange(steps).repeat_interleave(8).float())

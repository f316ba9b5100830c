"""A memory in a folder answers as one in RAM, through restarts, kills, undo, delete, reset and compaction."""

import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

import core
import core.durable
from core.commits import Commits
from core.durable import DurableReader
from core.reader import MPlusReader
from core.reading import new_memory
from tests.toys import toy_mplus, toy_tokenizer

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore:The text")


@pytest.fixture
def model():
    return toy_mplus(max_long_term=60)


def in_ram(model) -> MPlusReader:
    return MPlusReader(model, toy_tokenizer(), new_memory(model, "smaller", seed=3))


def in_folder(model, folder, **settings) -> DurableReader:
    return DurableReader(model, toy_tokenizer(), new_memory(model, "smaller", seed=3), folder, **settings)


def text(number: int, length: int = 60) -> str:
    draw = random.Random(number)
    return " ".join(str(draw.randrange(10**6)) for _ in range(length // 7))


def same(one: MPlusReader, other: MPlusReader) -> bool:
    question = "Where is 4711 now?"
    views = [reader.inspect(question) for reader in (one, other)]
    states = [reader.memory.state for reader in (one, other)]
    answers = [reader.answer(question, max_new_tokens=6).tokens for reader in (one, other)]
    return (
        answers[0] == answers[1]
        and [v.sources for v in views[0]] == [v.sources for v in views[1]]
        and torch.equal(states[0].pool, states[1].pool)
        and [len(log) for log in states[0].logs] == [len(log) for log in states[1].logs]
        and one.memory.receipts == other.memory.receipts
    )


def test_it_is_the_same_memory_in_ram_on_disk_and_after_every_restart(model, tmp_path):
    ram, disk = in_ram(model), in_folder(model, tmp_path)
    steps = [
        *(lambda reader, n=n: reader.ingest(text(n)) for n in range(8)),
        lambda reader: reader.undo(),
        lambda reader: reader.ingest(text(20, 400)),
        lambda reader: reader.delete(reader.memory.receipts[2]),
        *(lambda reader, n=n: reader.ingest(text(n)) for n in range(30, 33)),
        lambda reader: reader.reset(),
        *(lambda reader, n=n: reader.ingest(text(n)) for n in range(40, 46)),
    ]
    for number, step in enumerate(steps):
        if number % 3 == 2 and number != 8:  # an undo reaches back to before the last text, not to before a restart
            disk = in_folder(model, tmp_path)
        step(ram)
        step(disk)
        assert same(ram, disk), number
    assert same(ram, in_folder(model, tmp_path)) and not disk.tier.verify()


def test_compaction_gives_room_back_and_a_kill_amid_it_changes_nothing(model, tmp_path, monkeypatch):
    ram, disk = in_ram(model), in_folder(model, tmp_path)
    for reader in (ram, disk):
        for number in range(12):
            reader.ingest(text(number))
        reader.delete(reader.memory.receipts[1])
    dead = sum(log.num_dead for log in disk.memory.state.logs)
    monkeypatch.setattr(disk.tier, "_name_generation", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        disk.compact()
    disk = in_folder(model, tmp_path)
    assert same(ram, disk) and dead > 0 == disk.tier.generation
    disk.compact()
    assert same(ram, disk) and not any(log.num_dead for log in disk.memory.state.logs)
    for reader in (ram, disk):
        reader.ingest(text(50))
    disk = in_folder(model, tmp_path)
    assert same(ram, disk) and disk.tier.generation == 1 and len(list(tmp_path.glob("*.safetensors"))) == 1


def test_a_stopped_text_is_taken_back_on_disk_too(model, tmp_path):
    ram, disk = in_ram(model), in_folder(model, tmp_path, save_every=2)

    def stop(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    for reader in (ram, disk):
        reader.ingest(text(1))
        with pytest.raises(KeyboardInterrupt):
            reader.ingest(text(2, 1000), stop)
    assert same(ram, disk) and same(ram, in_folder(model, tmp_path))


def test_a_killed_process_loses_no_text_that_was_reported(tmp_path):
    code = f"""
        import warnings
        warnings.simplefilter("ignore")
        from tests.test_durable import in_folder, text
        from tests.toys import toy_mplus
        reader = in_folder(toy_mplus(max_long_term=60), {str(tmp_path)!r})
        print("open", flush=True)
        for number in range(1000):
            reader.ingest(text(number, 200))
            print(number, flush=True)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    root = Path(__file__).parent.parent
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=root, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert child.stdout is not None
    for line in child.stdout:
        if line.strip() == "9":
            break
    child.send_signal(signal.SIGKILL)
    reported = int((["9", *child.stdout.read().split()])[-1])
    child.wait()
    model = toy_mplus(max_long_term=60)
    disk, ram = in_folder(model, tmp_path), in_ram(model)
    whole = [receipt for receipt in disk.memory.receipts if receipt.text]
    assert [receipt.text for receipt in whole[: reported + 1]] == [text(n, 200) for n in range(reported + 1)]
    assert len(whole) <= reported + 2 and not disk.tier.verify()
    for number in range(reported + 1):
        ram.ingest(text(number, 200))
    if len(whole) == reported + 1:
        assert same(ram, disk)


def test_what_cannot_be_opened_is_told(model, tmp_path):
    reader = in_folder(model, tmp_path / "a")
    reader.ingest(text(1))
    with pytest.raises(ValueError, match="another model"):
        in_folder(toy_mplus(seed=1, max_long_term=60), tmp_path / "a")
    with pytest.raises(ValueError, match="lives in"):
        reader.load(tmp_path / "other")
    with pytest.raises(ValueError, match="belongs to a folder"):
        in_ram(model).load(reader.state_file)
    for number in range(2, 8):
        reader.ingest(text(number))
    reader.state_file.unlink()
    with pytest.raises(ValueError, match="is missing"):
        in_folder(model, tmp_path / "a")
    with pytest.raises(ValueError, match="paper's rules"):
        in_folder(toy_mplus(rules="released"), tmp_path / "b")
    with pytest.raises(ValueError, match="paper's rules"):
        DurableReader(model, toy_tokenizer(), new_memory(model, long_term=False), tmp_path / "b")
    with pytest.raises(ValueError, match="whole numbers"):
        core.load("mini", disk=tmp_path / "c", stored="int8")


def test_by_its_short_form_the_shipped_model_remembers_after_a_restart(tmp_path):
    fact = "Ilse keeps her spare key under the blue flowerpot."
    core.load("mini", disk=tmp_path).ingest(fact)
    reader = core.load("mini", disk=tmp_path)
    assert [receipt.text for receipt in reader.memory.receipts] == [fact]
    assert "flowerpot" in reader.answer("Where does Ilse keep her spare key?").text


CHANGES = {
    "ingest": lambda reader: reader.ingest(text(50, 300)),
    "undo": lambda reader: reader.undo(),
    "delete": lambda reader: reader.delete(reader.memory.receipts[1]),
    "reset": lambda reader: reader.reset(),
    "compact": lambda reader: reader.compact() if isinstance(reader, DurableReader) else None,
}


@pytest.mark.parametrize("last", range(6))
@pytest.mark.parametrize("change", CHANGES)
def test_a_kill_between_any_two_steps_leaves_the_memory_of_before_or_after(model, tmp_path, monkeypatch, change, last):
    """Steps are what is written to the disk: commits, state files, the name of the files in use, and removals."""
    before, after, disk = in_ram(model), in_ram(model), in_folder(model, tmp_path)
    for number in range(6):
        for reader in (before, after, disk):
            reader.ingest(text(number))
    CHANGES[change](after)
    steps = [0]

    def dying(step):
        def run(*args, **kwargs):
            steps[0] += 1
            if steps[0] > last:
                raise KeyboardInterrupt
            return step(*args, **kwargs)

        return run

    with monkeypatch.context() as patch:
        patch.setattr("core.durable.save_memory", dying(core.durable.save_memory))
        patch.setattr("core.disk.Commits.append", dying(Commits.append))
        patch.setattr("core.disk.os.replace", dying(os.replace))
        patch.setattr("core.disk.shutil.rmtree", dying(shutil.rmtree))
        try:
            CHANGES[change](disk)
        except KeyboardInterrupt:
            assert steps[0] > last
    again = in_folder(model, tmp_path)
    found = [same(again, reader) for reader in (before, after)]
    partly = change == "ingest" and len(again.memory.receipts) == 7  # what was saved of a text so far
    assert any(found) or partly
    again.ingest(text(60))
    assert same(again, in_folder(model, tmp_path)) and not again.tier.verify()

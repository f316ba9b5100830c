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
    (tmp_path / "000007").mkdir()  # as a process leaves it that is killed while it compacts
    (tmp_path / "000007" / "commits").write_bytes(b"half of something")
    disk.compact()
    assert same(ram, in_folder(model, tmp_path)) and [home.name for home in tmp_path.glob("0*[0-9]")] == ["000008"]


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
    with pytest.raises(ValueError, match="no memory file"):
        reader.load(tmp_path / "other")
    with pytest.raises(ValueError, match="belongs to a folder"):
        in_ram(model).load(reader.state_file)
    for number in range(2, 8):
        reader.ingest(text(number))
    reader.state_file.unlink()
    with pytest.raises(ValueError, match="is missing"):
        in_folder(model, tmp_path / "a")
    (tmp_path / "file").write_text("x")
    for folder, words in {tmp_path / "file": "cannot be made a folder", "": "is empty"}.items():
        with pytest.raises(ValueError, match=words):
            in_folder(model, folder)
    with pytest.raises(ValueError, match="save_every is 0"):
        in_folder(model, tmp_path / "b", save_every=0)
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
        patch.setattr("core.tier.Commits.append", dying(Commits.append))
        patch.setattr("core.tier.os.replace", dying(os.replace))
        patch.setattr("core.tier.shutil.rmtree", dying(shutil.rmtree))
        try:
            CHANGES[change](disk)
        except KeyboardInterrupt:
            assert steps[0] > last
    again = in_folder(model, tmp_path)
    found = [same(again, reader) for reader in (before, after)]
    partly = change == "ingest" and len(again.memory.receipts) == 7  # what was saved of a text so far
    assert any(found) or partly
    again.ingest(text(60))
    assert same(again.fork(), in_folder(model, tmp_path)) and not again.tier.verify()


def fed(model, *readers) -> None:
    for reader in readers:
        for number in range(8):
            reader.ingest(text(number))


def test_a_snapshot_of_before_a_reset_or_a_compaction_comes_back_whole(model, tmp_path):
    for change in (DurableReader.reset, DurableReader.compact):
        ram, disk = in_ram(model), in_folder(model, tmp_path / change.__name__)
        fed(model, ram, disk)
        before = disk.snapshot()
        change(disk)
        disk.ingest(text(30))
        disk.restore(before)
        assert same(ram, disk) and same(ram, in_folder(model, disk.folder)) and disk.tier.generation == 2
        disk = in_folder(model, disk.folder)
        for reader in (ram, disk):
            reader.ingest(text(31))
        assert same(ram, disk) and same(ram, in_folder(model, disk.folder)) and not disk.tier.verify()


def test_a_snapshot_that_was_written_over_is_refused_and_changes_nothing(model, tmp_path):
    ram, disk = in_ram(model), in_folder(model, tmp_path)
    fed(model, ram, disk)
    last = disk.snapshot()
    for reader in (ram, disk):
        reader.undo()
        reader.ingest(text(40))
    with pytest.raises(ValueError, match="written over"):
        disk.restore(last)
    assert same(ram, disk) and same(ram, in_folder(model, tmp_path))


def test_a_fork_and_the_folder_leave_each_other_alone(model, tmp_path):
    twin, ram, disk = in_ram(model), in_ram(model), in_folder(model, tmp_path)
    fed(model, twin, ram, disk)
    forks = [disk.fork(), disk.fork()]
    for reader in (*forks, twin):
        reader.ingest(text(50, 300))
    for reader in (disk, ram):
        reader.ingest(text(51, 300))
    forks[1].save(tmp_path / "fork.safetensors")
    twin.load(tmp_path / "fork.safetensors")
    assert same(ram, disk) and all(same(twin, fork) for fork in forks)
    assert same(ram, in_folder(model, tmp_path)) and not disk.tier.verify()


def test_a_memory_goes_from_a_folder_to_a_file_and_into_any_reader(model, tmp_path):
    ram, disk, other = in_ram(model), in_folder(model, tmp_path / "a"), in_folder(model, tmp_path / "b")
    fed(model, ram, disk)
    disk.save(tmp_path / "saved.safetensors")
    plain = in_ram(model)
    for reader in (plain, other):
        reader.ingest(text(60))
        reader.load(tmp_path / "saved.safetensors")
    assert same(ram, plain) and same(ram, other) and same(ram, in_folder(model, tmp_path / "b"))


@pytest.mark.parametrize("change", ["ingest", "undo", "delete", "reset", "compact"])
def test_what_cannot_be_written_is_not_done_in_memory_either(model, tmp_path, monkeypatch, change):
    """A full disk, at either of the two saves of a change; the next change is kept as if nothing had been."""
    for fails in (1, 2):
        ram, disk = in_ram(model), in_folder(model, tmp_path / str(fails), save_every=2)
        fed(model, ram, disk)
        steps, keep = [0], core.durable.save_memory

        def full(*args, steps=steps, keep=keep, fails=fails, **kwargs):
            steps[0] += 1
            if steps[0] == fails:
                raise OSError(28, "No space left on device")
            keep(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr("core.durable.save_memory", full)
            try:
                CHANGES[change](disk)
            except OSError:
                assert steps[0] >= fails
            else:
                CHANGES[change](ram)
                assert steps[0] < fails
        assert same(ram, disk)
        for reader in (ram, disk):
            reader.ingest(text(70))
        assert same(ram, disk) and same(ram, in_folder(model, disk.folder)) and not disk.tier.verify()


def test_a_folder_has_one_owner(model, tmp_path):
    """In one process whoever opened it last, and no other process beside it."""
    first, ram = in_folder(model, tmp_path), in_ram(model)
    fed(model, first, ram)
    second = in_folder(model, tmp_path)
    ram.ingest(text(1))
    second.ingest(text(1))
    for use in (lambda: first.ingest(text(2)), first.reset, first.compact, lambda: first.answer("Where is 1?")):
        with pytest.raises(ValueError, match="opened"):
            use()
    assert same(ram, second)
    code = f"""
        from tests.test_durable import in_folder
        from tests.toys import toy_mplus
        try:
            print(len(in_folder(toy_mplus(max_long_term=60), {str(tmp_path)!r}).memory.receipts))
        except ValueError as error:
            print(error)
    """
    command, root = [sys.executable, "-c", textwrap.dedent(code)], Path(__file__).parent.parent
    said = [subprocess.run(command, capture_output=True, text=True, cwd=root, check=True).stdout]
    second.close()
    said.append(subprocess.run(command, capture_output=True, text=True, cwd=root, check=True).stdout)
    assert "open in another process" in said[0] and said[1].strip() == "9"
    with pytest.raises(ValueError, match="opened"):
        second.answer("Where is 1?")


@pytest.mark.parametrize("name", ["000000/1.tokens", "000000/0.block", "000000/0.deaths", "tier.json"])
@pytest.mark.parametrize("damage", ["gone", "short", "nonsense"])
def test_files_that_are_missing_or_cut_short_are_refused_by_name(model, tmp_path, name, damage):
    disk = in_folder(model, tmp_path)
    fed(model, disk)
    disk.delete(disk.memory.receipts[1])
    if name == "tier.json" and damage == "gone":
        disk.compact()
    disk.close()
    name = name.replace("0.deaths", "deaths.0")
    file = tmp_path / name
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(b"[1]" if damage == "nonsense" else file.read_bytes()[:4])
    with pytest.raises(ValueError, match=name):
        in_folder(model, tmp_path)


def test_a_folder_named_from_here_stays_where_it_is(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ram, disk = in_ram(model), in_folder(model, "memory")
    monkeypatch.chdir("/")
    fed(model, ram, disk)
    assert same(ram, in_folder(model, tmp_path / "memory"))


def test_a_snapshot_of_a_folder_gives_a_reader_in_ram_rows_of_its_own(model, tmp_path):
    ram, disk, other = in_ram(model), in_folder(model, tmp_path), in_ram(model)
    fed(model, ram, disk)
    before = disk.snapshot()
    for reader in (ram, disk):
        reader.ingest(text(100))
    other.restore(before)
    other.ingest(text(101, 300))
    assert same(ram, disk) and same(ram, in_folder(model, tmp_path)) and not disk.tier.verify()


def test_half_a_record_of_a_full_disk_spoils_no_later_one(model, tmp_path):
    resource, signals = pytest.importorskip("resource"), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    ram, disk = in_ram(model), in_folder(model, tmp_path)
    fed(model, ram, disk)
    limits, file = resource.getrlimit(resource.RLIMIT_FSIZE), disk.tier._commits
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file.path.stat().st_size + file._step // 2, limits[1]))
        with pytest.raises(OSError, match=r"full|too large"):
            file.append(file.last or next(iter(file)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, signals)
    disk = in_folder(model, tmp_path)
    for number in range(110, 115):
        for reader in (ram, disk):
            reader.ingest(text(number))
    disk.close()
    assert same(ram, in_folder(model, tmp_path))


def test_room_on_the_disk_is_asked_for_before_it_is_written(model, tmp_path, monkeypatch):
    """Who writes to a map of a file that has no room is killed; a call that asks for room gets an error."""
    ram, disk = in_ram(model), in_folder(model, tmp_path)
    fed(model, ram, disk)
    monkeypatch.setattr("core.disk.ALLOTTED", 0)
    with monkeypatch.context() as patch:
        patch.setattr("core.disk.os.posix_fallocate", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
        for log in disk.memory.state.logs:
            log._allotted = log.length
        with pytest.raises(OSError, match="No space"):
            disk.ingest(text(20, 300))
    for reader in (ram, disk):
        reader.ingest(text(21))
    assert same(ram, disk) and same(ram, in_folder(model, tmp_path))


@pytest.mark.parametrize("last", range(5))
def test_a_kill_while_other_deaths_come_back_leaves_before_or_after(model, tmp_path, monkeypatch, last):
    before, after, disk = in_ram(model), in_ram(model), in_folder(model, tmp_path)
    readers = (before, after, disk)
    for reader in readers:
        for number in range(3):
            reader.ingest(text(number))
    starts = [reader.snapshot() for reader in readers]
    for reader in readers:
        reader.delete(reader.memory.receipts[0])
    ends = [reader.snapshot() for reader in readers]
    for reader, start in zip(readers, starts, strict=True):
        reader.restore(start)
        reader.delete(reader.memory.receipts[1])
    after.restore(ends[1])
    steps = [0]

    def dying(step):
        def run(*args, **kwargs):
            steps[0] += 1
            if steps[0] > last:
                raise KeyboardInterrupt
            return step(*args, **kwargs)

        return run

    with monkeypatch.context() as patch:
        for name, step in (("core.durable.save_memory", core.durable.save_memory), ("core.tier.os.replace", os.replace),
                           ("core.tier.Commits.append", Commits.append)):  # fmt: skip
            patch.setattr(name, dying(step))
        try:
            disk.restore(ends[2])
        except KeyboardInterrupt:
            assert steps[0] > last
    again = in_folder(model, tmp_path)
    assert any(same(again, reader) for reader in (before, after)) and not again.tier.verify()


def test_what_a_dropped_reader_leaves_cannot_write(model, tmp_path):
    disk = in_folder(model, tmp_path)
    fed(model, disk)
    before, memory = disk.snapshot(), disk.memory
    disk.ingest(text(100))
    late = disk.snapshot()
    disk.restore(before)
    del disk
    disk = in_folder(model, tmp_path)
    disk.ingest(text(101))
    with pytest.raises(ValueError, match="closed or opened anew"):
        disk.restore(late)
    with pytest.raises(ValueError, match="closed or opened anew"):
        MPlusReader(model, toy_tokenizer(), memory).ingest(text(102))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_is_no_owner(model, tmp_path):
    disk = in_folder(model, tmp_path)
    fed(model, disk)
    child = os.fork()
    if not child:
        try:
            disk.ingest(text(200))
        except ValueError:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    disk.ingest(text(201))
    assert same(disk.fork(), in_folder(model, tmp_path))


def test_a_folder_that_was_removed_is_locked_anew(model, tmp_path):
    disk = in_folder(model, tmp_path / "a")
    fed(model, disk)
    shutil.rmtree(tmp_path / "a")
    again = in_folder(model, tmp_path / "a")
    assert (tmp_path / "a" / "lock").is_file() and not again.memory.receipts and not disk.tier.held
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert in_folder(model, tmp_path / "b").tier.held and not again.tier.held


def test_compaction_removes_every_old_state_and_nothing_else(model, tmp_path):
    """A state file holds texts: one that a killed process left would keep what has been deleted since."""
    disk = in_folder(model, tmp_path)
    fed(model, disk)
    (tmp_path / "202411").mkdir()  # somebody's own
    (tmp_path / "000000.safetensors.old").touch()  # and this too
    for name in ("000001.safetensors", ".000001.safetensors.77.part"):
        (tmp_path / name).touch()
    (tmp_path / "000001").mkdir()
    (tmp_path / "000001" / "commits").touch()
    disk.compact()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "000000.safetensors.old", "000002", "000002.safetensors", "202411", "lock", "tier.json",
    ]  # fmt: skip


def test_closing_keeps_what_was_done_past_the_reader(model, tmp_path):
    ram, disk = in_ram(model), in_folder(model, tmp_path)
    fed(model, ram, disk)
    for reader in (ram, disk):
        reader.memory.undo()
    disk.close()
    assert same(ram, in_folder(model, tmp_path))


def test_a_memory_put_into_a_state_that_is_gone_can_be_brought_back(model, tmp_path):
    disk = in_folder(model, tmp_path)
    fed(model, disk)
    gone = disk.snapshot()
    disk.undo()
    disk.ingest(text(40, 400))
    good, twin = disk.snapshot(), disk.fork()
    disk.memory.restore(gone)
    with pytest.raises(ValueError, match="written over"):
        disk.ingest(text(41))
    disk.restore(good)
    assert same(twin, disk)

"""A kill, a full disk or a damaged file: a memory in a folder is what it was before, or after, or is refused."""

import os
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
from tests.folders import CHANGES, Kill, fed, in_folder, in_ram, same, text
from tests.toys import toy_mplus

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore:The text")


def test_a_killed_process_loses_no_text_that_was_reported(tmp_path):
    code = f"""
        import warnings
        warnings.simplefilter("ignore")
        from tests.folders import in_folder, text
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


@pytest.mark.parametrize("last", range(6))
@pytest.mark.parametrize("change", CHANGES)
def test_a_kill_between_any_two_steps_leaves_the_memory_of_before_or_after(model, tmp_path, monkeypatch, change, last):
    """Steps are what is written to the disk: commits, state files, the name of the files in use, and removals."""
    before, after, disk = in_ram(model), in_ram(model), in_folder(model, tmp_path)
    for number in range(6):
        for reader in (before, after, disk):
            reader.ingest(text(number))
    CHANGES[change](after)
    kill = Kill(last)
    with monkeypatch.context() as patch:
        patch.setattr("core.durable.save_memory", kill.at(core.durable.save_memory))
        patch.setattr("core.tier.Commits.append", kill.at(Commits.append))
        patch.setattr("core.tier.os.replace", kill.at(os.replace))
        patch.setattr("core.tier.shutil.rmtree", kill.at(shutil.rmtree))
        try:
            CHANGES[change](disk)
        except KeyboardInterrupt:
            assert kill.steps > last
    again = in_folder(model, tmp_path)
    found = [same(again, reader) for reader in (before, after)]
    partly = change == "ingest" and len(again.memory.receipts) == 7  # what was saved of a text so far
    assert any(found) or partly
    again.ingest(text(60))
    assert same(again.fork(), in_folder(model, tmp_path)) and not again.tier.verify()


def restored_until(last, disk, snapshot, monkeypatch) -> None:
    """Restore, killed after so many writes to the disk."""
    kill = Kill(last)
    with monkeypatch.context() as patch:
        for name, step in (("core.durable.save_memory", core.durable.save_memory), ("core.tier.os.replace", os.replace),
                           ("core.tier.Commits.append", Commits.append)):  # fmt: skip
            patch.setattr(name, kill.at(step))
        try:
            disk.restore(snapshot)
        except KeyboardInterrupt:
            assert kill.steps > last


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
    restored_until(last, disk, ends[2], monkeypatch)
    again = in_folder(model, tmp_path)
    assert any(same(again, reader) for reader in (before, after)) and not again.tier.verify()


@pytest.mark.parametrize("last", range(5))
def test_a_kill_while_rows_come_back_and_deaths_go_leaves_before_or_after(tmp_path, monkeypatch, last):
    """More rows and fewer deaths: neither the state file nor the commit could come first."""
    model = toy_mplus()
    before, after, disk = in_ram(model), in_ram(model), in_folder(model, tmp_path)
    readers = (before, after, disk)
    for reader in readers:
        for number in range(6):
            reader.ingest(text(number))
    ends = [reader.snapshot() for reader in readers]
    for reader in readers:
        reader.undo()
        reader.delete(reader.memory.receipts[0])
    after.restore(ends[1])
    restored_until(last, disk, ends[2], monkeypatch)
    again = in_folder(model, tmp_path)
    assert any(same(again, reader) for reader in (before, after)) and not again.tier.verify()


@pytest.mark.parametrize("change", ["ingest", "undo", "delete", "reset", "compact"])
def test_what_cannot_be_written_is_not_done_in_memory_either(model, tmp_path, monkeypatch, change):
    """A full disk, at either of the two saves of a change; the next change is kept as if nothing had been."""
    for fails in (1, 2):
        ram, disk = in_ram(model), in_folder(model, tmp_path / str(fails), save_every=2)
        fed(ram, disk)
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


def test_half_a_record_of_a_full_disk_spoils_no_later_one(model, tmp_path):
    resource, signals = pytest.importorskip("resource"), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    ram, disk = in_ram(model), in_folder(model, tmp_path)
    fed(ram, disk)
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
    fed(ram, disk)
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


@pytest.mark.parametrize("name", ["000000/1.tokens", "000000/0.block", "000000/0.deaths", "tier.json"])
@pytest.mark.parametrize("damage", ["gone", "short", "nonsense"])
def test_files_that_are_missing_or_cut_short_are_refused_by_name(model, tmp_path, name, damage):
    disk = in_folder(model, tmp_path)
    fed(disk)
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

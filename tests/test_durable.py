"""A memory in a folder answers as one in RAM, through restarts, undo, delete, reset, forks and compaction."""

import pytest
import torch

import core
import core.durable
from core.durable import DurableReader
from tests.folders import fed, in_folder, in_ram, same, text

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore:The text")


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


def test_by_its_short_form_the_shipped_model_remembers_after_a_restart(tmp_path):
    fact = "Ilse keeps her spare key under the blue flowerpot."
    core.load("mini", disk=tmp_path).ingest(fact)
    reader = core.load("mini", disk=tmp_path)
    assert [receipt.text for receipt in reader.memory.receipts] == [fact]
    assert "flowerpot" in reader.answer("Where does Ilse keep her spare key?").text


def test_a_snapshot_of_before_a_reset_or_a_compaction_comes_back_whole(model, tmp_path):
    for change in (DurableReader.reset, DurableReader.compact):
        ram, disk = in_ram(model), in_folder(model, tmp_path / change.__name__)
        fed(ram, disk)
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
    fed(ram, disk)
    last = disk.snapshot()
    for reader in (ram, disk):
        reader.undo()
        reader.ingest(text(40))
    with pytest.raises(ValueError, match="written over"):
        disk.restore(last)
    assert same(ram, disk) and same(ram, in_folder(model, tmp_path))


def test_a_fork_and_the_folder_leave_each_other_alone(model, tmp_path):
    twin, ram, disk = in_ram(model), in_ram(model), in_folder(model, tmp_path)
    fed(twin, ram, disk)
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
    fed(ram, disk)
    disk.save(tmp_path / "saved.safetensors")
    plain = in_ram(model)
    for reader in (plain, other):
        reader.ingest(text(60))
        reader.load(tmp_path / "saved.safetensors")
    assert same(ram, plain) and same(ram, other) and same(ram, in_folder(model, tmp_path / "b"))


def test_a_snapshot_of_a_folder_gives_a_reader_in_ram_rows_of_its_own(model, tmp_path):
    ram, disk, other = in_ram(model), in_folder(model, tmp_path), in_ram(model)
    fed(ram, disk)
    before = disk.snapshot()
    for reader in (ram, disk):
        reader.ingest(text(100))
    other.restore(before)
    other.ingest(text(101, 300))
    assert same(ram, disk) and same(ram, in_folder(model, tmp_path)) and not disk.tier.verify()


def test_compaction_removes_every_old_state_and_nothing_else(model, tmp_path):
    """A state file holds texts: one that a killed process left would keep what has been deleted since."""
    disk = in_folder(model, tmp_path)
    fed(disk)
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
    fed(ram, disk)
    for reader in (ram, disk):
        reader.memory.undo()
    disk.close()
    assert same(ram, in_folder(model, tmp_path))


def test_a_memory_put_into_a_state_that_is_gone_can_be_brought_back(model, tmp_path):
    disk = in_folder(model, tmp_path)
    fed(disk)
    gone = disk.snapshot()
    disk.undo()
    disk.ingest(text(40, 400))
    good, twin = disk.snapshot(), disk.fork()
    disk.memory.restore(gone)
    with pytest.raises(ValueError, match="written over"):
        disk.ingest(text(41))
    disk.restore(good)
    assert same(twin, disk)

"""A folder has one owner, and what cannot be opened is told."""

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

import core
import core.durable
from core.durable import DurableReader
from core.reader import MPlusReader
from core.reading import new_memory
from tests.folders import fed, in_folder, in_ram, same, text
from tests.toys import toy_mplus, toy_tokenizer

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore:The text")


def test_a_folder_has_one_owner(model, tmp_path):
    """In one process whoever opened it last, and no other process beside it."""
    first, ram = in_folder(model, tmp_path), in_ram(model)
    fed(first, ram)
    second = in_folder(model, tmp_path)
    ram.ingest(text(1))
    second.ingest(text(1))
    for use in (lambda: first.ingest(text(2)), first.reset, first.compact, lambda: first.answer("Where is 1?")):
        with pytest.raises(ValueError, match="opened"):
            use()
    assert same(ram, second)
    code = f"""
        from tests.folders import in_folder
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


def test_what_a_dropped_reader_leaves_cannot_write(model, tmp_path):
    disk = in_folder(model, tmp_path)
    fed(disk)
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
    fed(disk)
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
    fed(disk)
    shutil.rmtree(tmp_path / "a")
    again = in_folder(model, tmp_path / "a")
    assert (tmp_path / "a" / "lock").is_file() and not again.memory.receipts and not disk.tier.held
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert in_folder(model, tmp_path / "b").tier.held and not again.tier.held


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


def test_a_folder_named_from_here_stays_where_it_is(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ram, disk = in_ram(model), in_folder(model, "memory")
    monkeypatch.chdir("/")
    fed(ram, disk)
    assert same(ram, in_folder(model, tmp_path / "memory"))

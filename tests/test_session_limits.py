"""A session where something ends: the disk, the memory for steps, a batch of texts, the time of a page."""

import os
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from lab import branch, compare
from lab.page.lab_tab import LabTab
from lab.page.shell import spoken
from lab.registry import KEPT_SECONDS, Registry
from lab.session import Session
from lab.turns import Stopped, Turns

LONG = "The ferry to Aren leaves at nine. " * 60


def texts(session: Session) -> list[str]:
    return [receipt.text for receipt in session.texts]


@pytest.mark.parametrize("change", ["undo", "reset", "delete"])
def test_what_cannot_be_saved_is_not_changed(told, monkeypatch, change):
    before, steps, kept = texts(told), list(told.branch.moments), list(told.branch.kept)
    answer = told.branch.answer

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Session, "autosave", full)
    with pytest.raises(OSError, match="No space left") as error:
        told.delete(told.texts[0].id) if change == "delete" else getattr(told, change)()
    assert texts(told) == before and told.branch.answer is answer
    assert told.branch.moments == steps and told.branch.kept == kept
    assert "nothing was changed" in spoken(error.value).message  # type: ignore[arg-type]
    monkeypatch.undo()
    told.undo()  # the undo history is what it was, too
    assert texts(told) == before[:-1]


@pytest.mark.parametrize("move", ["fork", "switch"])
def test_a_branch_that_cannot_be_saved_is_not_moved_to(told, monkeypatch, move):
    if move == "switch":
        told.fork()
    before, held = (list(told.branches), told.current), len(told.held)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Session, "_keep_index", full)
    with pytest.raises(OSError, match="No space left"):
        told.fork() if move == "fork" else told.switch("main")
    assert (list(told.branches), told.current) == before and len(told.held) == held


def test_the_steps_of_a_long_text_do_not_fill_the_memory(told, monkeypatch):
    one = told.branch.moments[-1].num_bytes
    monkeypatch.setattr(branch, "KEPT_BYTES", 4 * one)
    told.write(LONG)
    assert 2 <= len(told.branch.moments) <= 4 and told.branch.moments[-1].writes > 10
    assert branch.newest([replace(told.branch.moments[-1], age=np.zeros(one, np.int32))] * 3)[1:]  # two at least


@pytest.mark.parametrize("change", ["reset", "fork"])
def test_a_batch_ends_with_the_memory_it_was_meant_for(told, monkeypatch, change):
    whole, written, before = Session.write, [], len(told.texts)

    def write(self, text, *args):
        if len(written) == 2:  # as if the button had been pressed between two texts
            getattr(self, change)()
        written.append(text)
        return whole(self, text, *args)

    monkeypatch.setattr(Session, "write", write)
    tab = LabTab(cast(Any, SimpleNamespace(session=lambda request: told)))
    notes = list(tab.on_distract(10, cast(Any, None)))
    assert "Stopped" in notes[-1] and len(written) == 3
    assert len(told.texts) == (0 if change == "reset" else before + 2)


def test_of_several_files_those_that_were_not_written_stay(told, tmp_path):
    tab = LabTab(cast(Any, SimpleNamespace(session=lambda request: told)))
    good, bad = tmp_path / "good.txt", tmp_path / "bad.txt"
    good.write_text("The harbour master of Aren is called Nora Lund.")
    bad.write_text(" ")
    shown = []
    with pytest.raises(Exception, match="holds no text"):
        for piece in tab.on_write("A text in the box.", [str(good), str(bad)], cast(Any, None)):
            shown.append(piece)
    assert "Text 3 of 3: bad.txt holds no text" in shown[-2][0] and "The 2 before it are written" in shown[-2][0]
    assert shown[-1][1] == [True, 1]


def test_a_session_at_work_stays_in_memory(told, registry):
    registry.idle = 0.0
    told.used = 0.0
    with told.at_work():
        registry.reap()
        assert registry.get("page") is told
    told.used = 0.0
    registry.reap()
    assert registry.totals["sessions"] == 0


def test_a_saved_session_that_cannot_be_opened_leaves_the_page_as_it_is(models, told, registry, tmp_path):
    other = registry.get("other")
    (told.folder / "main.safetensors").write_bytes(b"damaged")
    registry._live.clear()
    registry._live["other"] = other
    with pytest.raises(ValueError, match="'main' of this session") as error:
        registry.restore("other", told.key)
    assert str(tmp_path) not in str(error.value) and registry.get("other") is other
    again = Registry(models, tmp_path).get("page")  # a page that comes back to it begins anew, and the files stay
    assert again.key != told.key and again.texts == [] and (told.folder / "main.safetensors").is_file()


def test_what_is_in_use_is_not_too_old(told, registry):
    long_ago = time.time() - 2 * KEPT_SECONDS
    os.utime(told.folder / "index.json", (long_ago, long_ago))
    registry.reap()
    assert told.folder.is_dir()
    registry._live.clear()
    assert texts(registry.restore("page", told.key)) == texts(told)  # which makes it young again
    registry._live.clear()
    registry.reap()
    assert told.folder.is_dir()


def test_what_was_fetched_goes_with_the_session(told, registry):
    file = told.download(registry.parcel(told) / "memory.safetensors")
    registry.reap()
    assert file.is_file()
    registry.forget(told)
    assert not file.exists() and told.texts == []


def test_readers_of_a_comparison_are_made_in_their_turn(told, monkeypatch):
    turns, made = Turns(), []

    def make(*args, **kwargs):
        made.append(len(turns.queue))
        raise Stopped

    monkeypatch.setattr(compare, "make_reader", make)
    with pytest.raises(Stopped):
        list(compare.retention_job(told.loaded, ["mplus"], 1, [0], 0, turns, lambda: False))
    assert made == [1]

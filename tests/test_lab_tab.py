"""What the buttons of the first tab do, without a browser."""

from types import SimpleNamespace
from typing import Any, cast

import gradio as gr
import pytest

from lab.page.lab_tab import LabTab
from lab.samples import SAMPLES
from lab.session import Session


@pytest.fixture
def tab(told):
    return LabTab(cast(Any, SimpleNamespace(session=lambda request: told)))


def write(tab: LabTab, text: str, files: list[str]) -> list[tuple]:
    return list(tab.on_write(text, files, cast(Any, None)))


def test_an_example_and_files_are_written_together(tab, told, tmp_path):
    file, before = tmp_path / "extra.txt", len(told.texts)
    file.write_text("The harbour master of Aren is called Nora Lund.")
    shown = write(tab, "\n\n".join(SAMPLES[0].texts), [str(file)])
    assert [receipt.text for receipt in told.texts[before:]] == [*SAMPLES[0].texts, file.read_text()]
    assert shown[-1][1:] == ("", None)


def test_the_box_is_emptied_also_if_others_write_beside_it(tab, told, monkeypatch):
    whole = Session.write

    def beside(self, text, *args):
        whole(self, "Somebody else writes a text into this memory.")
        return whole(self, text, *args)

    monkeypatch.setattr(Session, "write", beside)
    assert write(tab, "The text that stands in the box as it is.", [])[-1][1:] == ("", None)


def test_the_box_keeps_what_was_stopped(tab, told, monkeypatch):
    monkeypatch.setattr(told, "halted", lambda: lambda: True)
    shown = write(tab, "The text that stands in the box as it is.", [])
    assert "Stopped" in shown[-1][0] and all(isinstance(part, type(gr.skip())) for part in shown[-1][1:])


def test_a_world_that_does_not_exist_fills_in_nothing(tab):
    assert tab.choose_world("nowhere at all") == (gr.skip(),) * 4

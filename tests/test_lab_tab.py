"""What the buttons of the first tab do, without a browser."""

from types import SimpleNamespace
from typing import Any, cast

import gradio as gr
import pytest

from lab.meter import Meter
from lab.page.lab_tab import LabTab
from lab.page.page import build
from lab.page.shell import Page, Selection
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


def test_an_answer_leaves_the_box_with_the_memory_it_was_asked_of(told, registry, tmp_path):
    page = Page(registry, Meter(), tmp_path)
    build(page)

    def shown() -> list:
        drawn = page.drawings["lab"](told, Selection(0, None, None, len(told.branch.moments) - 1, "lab"))
        return [value for part, value in drawn.items() if part.elem_id in ("answer", "ask-note")]

    answer = told.branch.answer.text
    assert shown()[0] == answer and "First token" in shown()[1]
    told.write("A text beside it, which takes nothing from the answer.")
    assert shown()[0] == answer
    told.fork()
    told.ask("What else is there?")
    told.switch("main")
    assert shown()[0] == answer
    told.reset()
    assert shown()[0] == "" and gr.skip() not in shown()

"""What the buttons of the first tab do, without a browser."""

import json
import shutil
import subprocess
from types import SimpleNamespace
from typing import Any, cast

import gradio as gr
import pytest

from lab import panels
from lab.ablate import LAYER
from lab.meter import Meter
from lab.page.lab_tab import CLEAR, LabTab
from lab.page.page import build
from lab.page.retrieval_tab import UNASKED, RetrievalTab
from lab.page.shell import ALL, Page, Selection
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
    assert shown[-1][1] == [True, 1]


def test_the_box_is_emptied_also_if_others_write_beside_it(tab, told, monkeypatch):
    whole = Session.write

    def beside(self, text, *args):
        whole(self, "Somebody else writes a text into this memory.")
        return whole(self, text, *args)

    monkeypatch.setattr(Session, "write", beside)
    assert write(tab, "The text that stands in the box as it is.", [])[-1][1] == [True, 0]


def test_the_box_keeps_what_was_stopped(tab, told, monkeypatch):
    monkeypatch.setattr(told, "halted", lambda: lambda: True)
    shown = write(tab, "The text that stands in the box as it is.", [])
    assert "Stopped" in shown[-2][0] and shown[-1][1] == [False, 0]


@pytest.mark.skipif(not shutil.which("node"), reason="no node to run what the browser runs")
@pytest.mark.parametrize(
    ("written", "now", "expected"),
    [
        ([True, 1], ["sent", ["a", "b"]], ["", ["b"], None]),
        ([True, 2], ["typed since", ["a", "b", "added since"]], ["typed since", ["added since"], None]),
        ([False, 0], ["sent", ["a"]], ["sent", ["a"], None]),
        (None, ["sent", []], ["sent", None, None]),
    ],
)
def test_only_what_was_written_leaves_the_box(written, now, expected):
    files = [{"path": path} for path in now[1]]
    given = json.dumps([written, now[0], files])
    code = f"globalThis.window = {{sent: ['sent', ['a', 'b']]}}; console.log(JSON.stringify(({CLEAR})(...{given})))"
    told = json.loads(subprocess.run(["node", "-e", code], capture_output=True, text=True, check=True).stdout)
    assert [told[0], told[1] and [file["path"] for file in told[1]], told[2]] == expected


def test_a_world_that_does_not_exist_fills_in_nothing(tab):
    assert tab.choose_world("nowhere at all") == (gr.skip(),) * 4


@pytest.fixture
def drawn(told, registry, tmp_path):
    """What the page shows of the session, by the name of the part."""
    page = Page(registry, Meter(), tmp_path)
    build(page)

    def draw(name: str, *parts: str) -> list:
        shown = page.drawings[name](told, Selection(0, None, None, len(told.branch.moments) - 1, name))
        found = {part.elem_id: value for part, value in shown.items()}
        return [found[part] for part in parts]

    return draw


@pytest.fixture
def shown(drawn):
    return lambda: drawn("lab", "answer", "ask-note")


def test_a_question_that_came_to_nothing_has_no_answer(tab, told, shown, drawn, monkeypatch):
    other = told.fork()
    told.switch("main")
    with pytest.raises(gr.Error, match="the limit is 4000"):
        list(tab.on_ask("x" * 4001, cast(Any, None)))
    assert shown()[0] == "" and "the limit is 4000" in shown()[1]
    monkeypatch.setattr(told, "halted", lambda: lambda: True)
    list(tab.on_ask("Where is it?", cast(Any, None)))
    assert shown()[0] == "" and "Stopped." in shown()[1]
    assert "Marked is what came back" not in drawn("lab", "provenance")[0]
    told.switch(other)
    assert shown()[0] == told.branch.answer.text
    told.switch("main")
    monkeypatch.undo()
    said = list(tab.on_ask("Where is it?", cast(Any, None)))[-1]
    assert shown() == list(said) and "First token" in said[1]


def test_a_question_that_waits_is_drawn_as_it_is(tab, told, shown):
    for piece in tab.on_ask("Where is it?", cast(Any, None)):
        assert shown() == list(piece)
    left = tab.on_ask("Where is it?", cast(Any, None))
    next(left)
    left.close()  # the page has gone
    assert shown()[0] == told.branch.answer.text


def test_a_branch_that_was_never_asked_has_no_answer(told, shown):
    told.branch.forget_question()
    told.fork()
    told.ask("What else is there?", 4)
    told.switch("main")
    assert shown()[0] == ""


@pytest.mark.parametrize("begin", ["forget", "start"])
def test_nothing_of_what_was_told_outlives_the_memory(tab, told, drawn, begin):
    list(tab.on_distract(1, cast(Any, None)))
    list(tab.on_all("Where is it?", "", None, False, cast(Any, None)))
    told.owed()
    assert "Written: 1 text" in drawn("lab", "write-note")[0] and "<table" in drawn("lab", "methods")[0]
    assert "without Θ" in drawn("retrieval", "tokens")[0]
    told.start(told.loaded) if begin == "start" else told.forget()
    assert drawn("lab", "write-note") == [panels.progress("")] and "<table" not in drawn("lab", "methods")[0]
    assert drawn("lab", "answer") == [""] and UNASKED in drawn("retrieval", "tokens")[0] and not told.compared


def test_what_compares_in_a_session_that_began_anew_is_not_its(tab, told):
    compared = tab.on_all("Where is it?", "", None, False, cast(Any, None))
    next(compared), next(compared)
    told.start(told.loaded)
    list(compared)
    assert told.compared == [] and not told.branch.notes


def test_a_layer_is_shuffled_only_if_one_is_chosen(told, registry, tmp_path):
    retrieval = RetrievalTab(Page(registry, Meter(), tmp_path))
    visitor = cast(Any, SimpleNamespace(session_hash="page"))
    for layer in ("two", ALL):
        with pytest.raises(ValueError, match="No layer is chosen"):
            retrieval.on_ablate(LAYER, 0, layer, visitor)
    assert "layer 2" in retrieval.on_ablate(LAYER, 0, "2", visitor)


def test_an_answer_leaves_the_box_with_the_memory_it_was_asked_of(told, shown):
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

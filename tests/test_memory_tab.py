"""The Memory tab: its steps played and paused, what it draws, and that it goes on when the server was restarted."""

import re
from types import SimpleNamespace

import gradio as gr
import pytest

from lab.meter import Meter
from lab.page.memory_tab import PAUSE, PLAY, MemoryTab
from lab.page.page import build
from lab.page.shell import Page, Selection
from tests.lab_page import Server, Visit


@pytest.fixture
def page(registry, tmp_path):
    return Page(registry, Meter(), tmp_path)


def test_play_pauses_and_stops_at_the_end_and_in_another_tab(told, page):
    tab, request, last = MemoryTab(page), SimpleNamespace(session_hash="page"), len(told.branch.moments) - 1
    timer, step, label = tab.on_play(PLAY, last, request)
    assert (timer.active, step, label) == (True, 0, PAUSE)
    timer, _, label = tab.on_play(PAUSE, 3, request)
    assert (timer.active, label) == (False, PLAY)
    timer, step, label = tab.on_tick(3, "memory", request)
    assert step == 4 and timer == label == gr.skip()  # a tick under way does not undo a pause
    timer, step, label = tab.on_tick(last - 1, "memory", request)
    assert (timer.active, step, label) == (False, last, PLAY)
    timer, step, label = tab.on_tick(3, "lab", request)
    assert (timer.active, step, label) == (False, gr.skip(), PLAY)


def test_an_emptied_step_is_the_last(told, page):
    request, last = SimpleNamespace(session_hash="page"), len(told.branch.moments) - 1
    assert page.at(told, None) == page.at(told, 10**6) == last and page.at(told, -1) == 0
    assert MemoryTab(page).mover(-1)(None, request)[1] == last - 1


def test_the_checkbox_of_ages_shows_how_they_are_drawn(told, page):
    build(page)
    told.choices.log_ages = True
    for expected in (True, False):
        drawn = page.drawings["memory"](told, Selection(0, None, None, 0, "memory"))
        assert [value for part, value in drawn.items() if isinstance(part, gr.Checkbox)] == [expected]
        told.forget()


@pytest.mark.browser
def test_an_open_memory_tab_keeps_what_is_to_be_deleted_and_survives_a_restart(browser, tmp_path):
    server = Server(tmp_path)
    visit = Visit(browser, server)
    page, step = visit.page, visit.page.locator(".note", has_text=re.compile(r"^Step \d+ of \d+: "))
    try:
        for number, text in enumerate(
            ("The lamp hangs in the mill.", "The key is blue.", "The barge has red sails."), 1
        ):
            visit.write(f"{text} " * 40, number)
        visit.tab("Memory")
        visit.drawn("pool-replay")
        last = int(re.search(r"of (\d+)", step.inner_text())[1])
        page.get_by_label("Text to delete").click()
        page.get_by_role("option", name="2 · ").click()
        visit.press("◀ Step back")
        visit.sees(f"Step {last - 1} of {last}:")
        assert page.get_by_label("Text to delete").input_value().startswith("2 · ")
        visit.press("Step on ▶")
        visit.sees(f"Step {last} of {last}:")
        server.kill()
        server.start()
        visit.press("Delete this text")  # which this server has not offered
        visit.sees("Text 2 is gone")
        visit.sees(f"Step {last + 1} of {last + 1}: delete of text 2")
        server.kill()
        server.start()
        visit.press("Reset memory")
        visit.sees("Step 0 of 0: reset")
        page.locator("#texts").get_by_text("No text has been written yet.").wait_for()
        assert "Traceback" not in server.log
    finally:
        visit.context.close()
        server.kill()

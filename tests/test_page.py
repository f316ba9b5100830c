"""The page in a real Chromium: the whole story, every chart, Stop, phone and dark, accessibility.

Runs on mini if it is shipped, else on the tiny untrained model. Tests that only look share one visit.
"""

import re
from pathlib import Path

import pytest

from lab.compare import ASKED
from lab.models import TINY
from tests.lab_page import CHARTS, MODEL, Visit

pytestmark = pytest.mark.browser


@pytest.fixture
def visit(browser, server):
    visit = Visit(browser, server)
    yield visit
    visit.context.close()


@pytest.fixture(scope="module")
def told(browser, server):
    """A visit that has written, asked and compared, and then looks."""
    visit = Visit(browser, server)
    visit.write_world()
    visit.ask()
    visit.press("Ask all methods")
    visit.page.locator("#methods tr").nth(len(ASKED)).wait_for()  # below the header
    yield visit
    visit.context.close()


def test_every_chart_draws_and_can_be_read_as_a_table(told):
    for tab, charts in CHARTS.items():
        told.look_at(tab)
        for chart in charts:
            shown = told.page.locator(f"#{chart}")
            assert shown.locator(".say").inner_text().endswith(".")
            button, table = shown.get_by_role("button", name=re.compile("as a table")), shown.locator(".tb tr")
            button.click()
            table.nth(1).wait_for()
            button.click()
            table.nth(1).wait_for(state="hidden")
    told.clean()


def test_a_click_on_the_map_names_the_source_and_selects(told):
    told.tab("Lab")
    told.drawn("pool")
    area = told.page.locator("#pool .nsewdrag").first
    area.scroll_into_view_if_needed()
    box = area.bounding_box()
    told.page.mouse.click(box["x"] + box["width"] - 12, box["y"] + box["height"] / 2)
    told.page.locator("#slot-source").get_by_text("written by text 13").wait_for()
    told.clean()


def test_ages_on_a_log_scale(told):
    told.look_at("Memory")
    drawn = told.page.locator("#ages .pl").get_attribute("data-drawn")
    told.page.get_by_label("Ages on a log scale").check()
    told.page.wait_for_function(
        "before => { const plot = document.querySelector('#ages .pl');"
        "return +plot.dataset.drawn > +before && plot.layout.xaxis.type === 'log' }", arg=drawn
    )  # fmt: skip
    assert told.page.evaluate("document.querySelector('#forgetting .pl').layout.xaxis.type") == "linear"
    told.page.get_by_label("Ages on a log scale").uncheck()
    told.page.wait_for_function("document.querySelector('#ages .pl').layout.xaxis.type === 'linear'")
    told.clean()


def test_a_click_on_the_score_map_opens_the_bin_and_so_does_its_number(told):
    told.look_at("Retrieval")
    area = told.page.locator("#scores .nsewdrag").first
    area.scroll_into_view_if_needed()
    box = area.bounding_box()
    told.page.mouse.click(box["x"] + box["width"] * 0.75, box["y"] + box["height"] * 0.4)
    told.page.locator("#bin td").first.wait_for()
    number = told.page.get_by_label("Bin of Θ to open")
    clicked = int(number.input_value())
    assert clicked > 0 and re.match(
        rf"Bin {clicked} of layer \d: \d+ token", told.page.locator("#bin .note").inner_text()
    )
    number.fill("0")
    number.press("Enter")
    told.page.locator("#bin").get_by_text("Bin 0 of layer").wait_for()
    told.press("Close the bin")
    told.page.locator("#bin td").first.wait_for(state="hidden")
    assert number.input_value() == ""
    told.clean()


def test_the_answer_shows_what_it_owes_to_the_memory(told):
    told.tab("Lab")
    told.tab("Retrieval")
    told.page.locator("#tokens").get_by_text(
        "likely without Θ"
    ).wait_for()  # by itself, and after a button another thing
    told.press("Retriever guesses")
    told.page.locator("#tokens").get_by_text("likely with a retriever that guesses").wait_for()
    told.press("Θ off")
    told.page.locator("#tokens").get_by_text("likely without Θ").wait_for()
    told.clean()


def test_a_press_on_the_legend_hides_its_bars(told):
    told.look_at("Compare")
    switch = told.page.locator("#bytes .lg button", has_text="weights")
    shown = "document.querySelector('#bytes .pl').data.filter((trace) => trace.visible !== false).length"
    before = told.page.evaluate(shown)
    switch.press("Enter")
    told.page.wait_for_function(f"{shown} === {before - 1}")
    for scheme in ("dark", "light"):  # draws every chart anew
        drawn = told.page.evaluate(times := "+document.querySelector('#bytes .pl').dataset.drawn")
        told.page.emulate_media(color_scheme=scheme)
        told.page.wait_for_function(f"{times} > {drawn}")
        assert told.page.evaluate("document.activeElement.textContent") == "weights, shared"
        assert told.page.evaluate(shown) == before - 1
    switch.click()
    told.page.wait_for_function(f"{shown} === {before}")
    told.clean()


def test_a_retention_job_draws_a_curve_while_it_runs_and_stops(told):
    told.tab("Compare")
    told.press("Run")
    told.drawn("retention")
    told.press("Stop")
    told.page.locator("#job-note").get_by_text("Stopped; what was measured stays.").wait_for()
    assert told.page.locator("#retention .say").inner_text().endswith(".")
    told.clean()


def faults(visit: Visit) -> list:
    """What axe finds serious on the page as it is."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(visit.page).response["violations"]
    return [
        (fault["id"], [node["html"][:160] for node in fault["nodes"]][:3])
        for fault in found
        if fault["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize(("theme", "widths"), [("light", (1920, 390)), ("dark", (390, 1280))])
def test_no_tab_scrolls_sideways_and_none_has_serious_faults(told, theme, widths):
    if theme == "dark":
        told.open(theme)
        told.press("Restore my session")
        told.sees("texts 13")
        told.tab("Lab")
        told.ask()
    for width in widths:
        told.page.set_viewport_size({"width": width, "height": 900})
        for tab in CHARTS:
            told.look_at(tab)
            assert not faults(told), (tab, width)
            assert told.page.evaluate("document.documentElement.scrollWidth") <= width, tab
    told.clean()


def test_a_panel_that_is_computed_anew_can_be_read_meanwhile(visit):
    """Held at the moment in which the server is at work, however short it is there."""
    visit.write_world()
    visit.ask()
    visit.look_at("Retrieval")
    visit.page.route("**/gradio_api/queue/join**", lambda route: None)  # asked, and never answered
    visit.press("Θ off")
    visit.page.locator("#tokens .pending").wait_for(state="attached")
    assert not [fault for fault in faults(visit) if fault[0] == "color-contrast"]


def test_stop_stops(visit):
    long = "A very long story about a quiet harbour. " * 10_000  # half a minute of writing
    visit.page.get_by_label("Text", exact=True).first.fill(long)
    visit.press("Write to memory")
    visit.page.locator("#write-note").get_by_text("chunk").wait_for()
    visit.page.get_by_role("button", name="Stop", exact=True).first.click()
    visit.page.locator("#write-note").get_by_text("Stopped. The memory holds 0").wait_for()
    visit.sees("texts 0")


def test_what_is_written_beside_an_offer_takes_nothing_away(visit):
    """Two sessions of one browser, the second begun while the first was still offered; and a second tab of it."""
    for number in (1, 2):
        visit.write(f"Text {number} of the first session.", number)
    visit.open()
    visit.write("The only text of the second session.")
    visit.press("Restore my session")
    visit.sees("texts 2")
    visit.open()
    saved = visit.page.get_by_label("Saved sessions of yours")
    assert saved.input_value().startswith("2 texts on ")
    saved.click()
    visit.page.get_by_role("option", name="1 text on ").click()
    visit.press("Restore my session")
    visit.sees("texts 1")
    saved.wait_for(state="hidden")


def test_two_tabs_share_a_session_and_know_of_each_others(visit):
    other = visit.beside()
    visit.write("A text of the one tab.")
    other.write("A text of the other tab.")
    other.write("One more text of the other tab.", 2)
    visit.open()
    assert visit.page.get_by_label("Saved sessions of yours").input_value().startswith("2 texts on ")
    visit.press("Restore my session")
    visit.sees("texts 2")
    other.write("A text that both see.", 3)
    visit.write("Another text that both see.", 4)
    visit.open()
    visit.page.get_by_label("Saved sessions of yours").click()
    visit.page.get_by_role("option", name="1 text on ").wait_for()


def test_steps_and_slots_are_selected_by_keyboard(visit):
    visit.write("The lamp of the mill hangs above the eastern stairs. " * 30)
    visit.tab("Memory")
    visit.drawn("pool-replay")
    visit.page.get_by_text("Selection: shared by every chart").click()
    shown = visit.page.get_by_text(re.compile(r"Step \d+ of \d+: write")).inner_text()
    last = int(re.match(r"Step (\d+) of", shown)[1])
    visit.page.locator("#selection input[type=range]").press("ArrowLeft")
    visit.sees(f"Step {last - 1} of {last}:")
    slot = visit.page.get_by_label("Slot of θ")
    slot.fill("0")
    visit.sees(f"At step {last - 1}: layer 0, slot 0, age ")
    number = visit.page.locator("#selection").get_by_label("number input for Step (time)")
    number.fill("0")
    number.press("Enter")
    visit.sees(f"Step 0 of {last}:")
    slot.fill("-1")
    visit.sees("Click a cell of the map to read whose it was at this step.")
    visit.clean()


@pytest.mark.skipif(MODEL == TINY, reason="no model with more layers is shipped")
def test_a_layer_that_the_next_model_lacks_is_let_go_of(visit):
    visit.write("A text that is read before another model is loaded.")
    visit.page.get_by_text("Selection: shared by every chart").click()
    layer = visit.page.get_by_label("Layer", exact=True)
    layer.click()
    visit.page.get_by_role("option", name="layer 5").click()
    visit.page.get_by_role("button", name="Model").click()
    name = visit.page.get_by_label("A shipped model")
    name.fill(TINY)
    name.press("Enter")
    visit.press("Load: a new, empty memory")
    visit.sees("texts 0")
    visit.page.wait_for_function(
        "[...document.querySelectorAll('#selection input')].some((i) => i.value === 'all layers')"
    )
    visit.write("A text for the smaller model.")
    visit.drawn("pool")
    visit.clean()
    visit.open()
    visit.page.get_by_label("Saved sessions of yours").click()
    visit.page.get_by_role("option", name=f"1 text on {MODEL}").click()
    visit.press("Restore my session")
    visit.sees(f"model {MODEL}")
    visit.sees("texts 1")


@pytest.mark.skipif(MODEL == TINY, reason="no trained model is shipped")
def test_a_training_run_starts_shows_its_curves_and_stops(visit):
    visit.tab("Training")
    visit.press("Train for two minutes")
    visit.page.locator("#training-state").get_by_text("Training for").wait_for(timeout=300_000)
    visit.drawn("quality")
    visit.press("Stop")
    visit.page.locator("#training-state").get_by_text("Stopped; what was recorded stays.").wait_for()
    visit.clean()


def test_the_whole_story_with_its_guide(visit, server):
    """The last one here: it kills the server that all of them share, and starts it again."""
    page, guide = visit.page, visit.page.locator("#guide")
    guide.get_by_text("Step 1 of 6").wait_for()
    visit.write_world()
    guide.get_by_text("Step 3 of 6").wait_for()
    visit.ask()
    guide.get_by_text("Step 4 of 6").wait_for()
    page.locator("#provenance mark").first.wait_for()
    chip = page.locator("#provenance .chips button:not([disabled])").first
    target = chip.get_attribute("data-go")
    chip.click()
    assert page.locator("#provenance mark.hit").get_attribute("data-t") == target
    visit.tab("Learn")
    page.locator("#steps").get_by_text("(done)").nth(2).wait_for()
    page.get_by_role("button", name="Take Θ away: open Retrieval").click()
    visit.drawn("scores")

    visit.tab("Memory")
    visit.drawn("flow")  # the tab has been filled in
    doomed = page.get_by_label("Text to delete")
    doomed.fill("Ilse keeps")
    doomed.press("Enter")
    page.wait_for_function("[...document.querySelectorAll('input')].some((i) => i.value.startsWith('1 · My sister'))")
    visit.press("Delete this text")
    visit.sees("Text 1 is gone")
    visit.sees("texts 12")
    visit.tab("Lab")
    visit.ask()
    page.wait_for_function("!document.querySelector(\"#provenance mark[data-t^='1-']\")")  # until the new one is shown

    visit.tab("Memory")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download memory file").click()
    assert Path(download.value.path()).stat().st_size > 10_000
    visit.clean()

    server.kill()
    server.start()
    visit.open()
    visit.press("Restore my session")
    visit.sees("texts 12")
    visit.ask()

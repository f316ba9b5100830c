"""What a chart keeps when it is drawn anew, and when the window changes: in Chromium, on Resources, drawn every 2 s."""

import pytest

from tests.lab_page import Visit

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def looked(browser, server):
    visit = Visit(browser, server)
    visit.page.locator("textarea").first.fill("The key lies under the blue flowerpot. " * 8)
    visit.press("Write to memory")
    visit.sees("texts 1")
    visit.look_at("Resources")
    yield visit
    visit.clean()
    visit.context.close()


def drawn_anew(visit: Visit, chart: str) -> None:
    """Wait for two more drawings: the first may have begun before what was just done."""
    plot = f"document.querySelector('#{chart} .pl')"
    before = visit.page.evaluate(f"+{plot}.dataset.drawn")
    visit.page.wait_for_function(f"+{plot}.dataset.drawn > {before + 1}")


def test_an_open_table_stays_open_with_the_rows_of_now(looked):
    shown = looked.page.locator("#resources")
    button, rows = shown.locator("[data-do=table]"), shown.locator(".tb tr")
    button.click()
    before = rows.count()
    drawn_anew(looked, "resources")
    assert rows.nth(1).is_visible() and rows.count() > before > 1
    assert button.get_attribute("aria-expanded") == "true"
    button.click()
    drawn_anew(looked, "resources")
    assert not rows.count() and button.get_attribute("aria-expanded") == "false"


def test_what_the_legend_hides_stays_hidden(looked):
    switch = looked.page.locator("#own-memory .lg button").first
    shown = "document.querySelector('#own-memory .pl').data.filter((trace) => trace.visible !== false).length"
    before = looked.page.evaluate(shown)
    switch.click()
    drawn_anew(looked, "own-memory")
    assert looked.page.evaluate(shown) == before - 1 and switch.get_attribute("aria-pressed") == "false"
    switch.click()
    drawn_anew(looked, "own-memory")
    assert looked.page.evaluate(shown) == before and switch.get_attribute("aria-pressed") == "true"


def test_a_solid_line_has_a_solid_swatch(looked):
    looked.tab("Compare")
    looked.drawn("measured")
    solid = "document.querySelector('#measured .pl').data.every((trace) => trace.line.dash === 'solid')"
    swatches = looked.page.locator("#measured .lg i")
    assert looked.page.evaluate(solid) and swatches.count() > 1
    assert "dash" not in {swatch.get_attribute("class") for swatch in swatches.all()}


def test_names_of_the_colours_of_a_map_are_no_switches(looked):
    looked.tab("Lab")
    looked.drawn("pool")
    legend = looked.page.locator("#pool .lg")
    assert legend.locator("> span > i").count() == 2 and not legend.locator("button").count()
    key, plot = legend.locator("> span").last, "document.querySelector('#pool .pl').dataset.drawn"
    before = looked.page.evaluate(plot)
    key.click()
    assert key.inner_text().startswith("1 · The key") and looked.page.evaluate(plot) == before


def test_a_chart_fits_the_window_that_changed_while_another_tab_was_open(looked):
    looked.tab("Compare")
    looked.drawn("measured")
    looked.tab("Learn")
    looked.page.locator("#steps").wait_for()
    looked.page.set_viewport_size({"width": 1000, "height": 900})
    looked.page.evaluate("new Promise((done) => setTimeout(done, 500))")  # plotly answers a window itself after 100 ms
    looked.tab("Compare")
    fits = "(() => { const plot = document.querySelector('#measured .pl'), line = plot.querySelector('.main-svg');"
    fits += "return plot.offsetWidth > 0 && Math.abs(line.clientWidth - plot.offsetWidth) < 2 })()"
    looked.page.wait_for_function(f"innerWidth === 1000 && {fits}", timeout=20_000)
    looked.page.set_viewport_size({"width": 1280, "height": 900})
    looked.page.wait_for_function(f"innerWidth === 1280 && {fits}", timeout=20_000)

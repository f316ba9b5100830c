"""The page in a real Chromium: `python -m benchmarks.page` measures it, `--pictures docs` takes its screenshots.

Measured from inside the page: first paint, the time until the page can be used, from a click on Ask to the first word
and to the whole answer, and from a click until the last chart of a tab that it changes is drawn anew.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import psutil
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from .sessions import ROOT, start
from .timing import command

TALLEST = 1700
QUESTION = "What is the capital of Tarn?"
TABS = ("Lab", "Memory", "Retrieval", "Compare", "Resources", "Training", "Learn")
ANSWERED = """() => new Promise((done) => {
  const box = document.querySelector('#answer textarea'), begin = performance.now(); let first = null;
  const watch = setInterval(() => {
    if (first === null && box.value) first = performance.now() - begin;
    if (document.querySelector('#ask-note').innerText.includes('First token')) {
      clearInterval(watch); done([first, performance.now() - begin]); } }, 5);
  [...document.querySelectorAll('button')].find((b) => b.innerText.trim() === 'Ask').click(); })"""
REDRAWN = """(name) => new Promise((done) => {
  const charts = [...document.querySelectorAll('.pl[data-drawn]')].filter((c) => c.offsetParent);
  const before = charts.map((c) => c.dataset.drawn), begin = performance.now(); let changed = 0, last = begin;
  const watch = setInterval(() => {
    const now = charts.filter((c, i) => c.dataset.drawn !== before[i]).length;
    if (now > changed) { changed = now; last = performance.now(); }
    if (changed && performance.now() - last > 1000) { clearInterval(watch); done([last - begin, changed]); } }, 5);
  [...document.querySelectorAll('button')].find((b) => b.innerText.trim() === name && b.offsetParent).click(); })"""
PAINT = "() => performance.getEntriesByName('first-contentful-paint')[0].startTime"


def visit(browser: Browser, address: str, width: int = 1440, theme: str = "light") -> tuple[Page, float]:
    """A new person's page, and seconds until its status line was there."""
    page = browser.new_context(viewport={"width": width, "height": 900}).new_page()
    page.set_default_timeout(120_000)
    begin = time.perf_counter()
    page.goto(f"{address}/?__theme={theme}")
    page.get_by_text("texts 0").first.wait_for()
    return page, time.perf_counter() - begin


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def tell(page: Page) -> None:
    """Write an example world and ten unrelated texts."""
    page.get_by_label("Example world").click()
    page.get_by_role("option", name="The island of Tarn").click()
    page.wait_for_function("[...document.querySelectorAll('textarea')].some((t) => t.value.includes('Wickhaven'))")
    press(page, "Write to memory")
    page.get_by_text("Written: 3 texts").wait_for()
    press(page, "Add them")
    page.get_by_text("Written: 10 texts").wait_for()
    page.get_by_text("texts 13").first.wait_for()
    page.locator("#question textarea, #question input").fill(QUESTION)


def open_tab(page: Page, name: str) -> None:
    tab = page.get_by_role("tab", name=name, exact=True)
    if tab.is_visible():
        tab.click()
    else:
        page.locator(".overflow-menu button").first.click()
        page.locator(".overflow-dropdown button", has_text=name).click()


def measure(browser: Browser, address: str, times: int) -> dict:
    paints, usable = [], []
    for _ in range(times):
        page, seconds = visit(browser, address)
        paints.append(page.evaluate(PAINT) / 1000)
        usable.append(seconds)
        page.context.close()
    answers = []
    for number in range(times):  # on pages of their own: a note that says the same again is not drawn again
        page, _ = visit(browser, address)
        tell(page)
        answers.append(page.evaluate(ANSWERED))
        page.locator("#provenance mark").first.wait_for()
        if number < times - 1:
            page.context.close()
    open_tab(page, "Memory")
    page.locator("#flow .pl[data-drawn]").wait_for()
    page.wait_for_timeout(2000)
    redraws = [page.evaluate(REDRAWN, "◀ Step back") for _ in range(times)]
    page.context.close()
    return {
        "first paint, s": summary(paints), "usable, s": summary(usable),
        "first word after the click, s": summary([first / 1000 for first, _ in answers if first is not None]),
        "whole answer after the click, s": summary([whole / 1000 for _, whole in answers]),
        "charts drawn anew, s": summary([milliseconds / 1000 for milliseconds, _ in redraws]),
        "charts": redraws[0][1],
    }  # fmt: skip


def summary(values: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(values), 3), "worst": round(max(values), 3), "n": len(values)}


def pictures(browser: Browser, address: str, folder: Path) -> None:
    """Every tab in light, in dark and on a phone; small files, the top of the page only."""
    for width, theme in ((1280, "light"), (1280, "dark"), (390, "light")):
        page, _ = visit(browser, address, width, theme)
        tell(page)
        press(page, "Ask")
        page.locator("#provenance mark").first.wait_for()
        if width > 1000:
            press(page, "Ask all methods")
            page.wait_for_function("document.querySelectorAll('#methods td.n').length >= 16")
        for tab in TABS:
            open_tab(page, tab)
            if tab == "Retrieval":
                press(page, "Θ off")
                page.locator("#tokens .tok").first.wait_for()
            if tab == "Training":
                press(page, "Look for runs")
            page.wait_for_timeout(3000)
            kind = "phone" if width < 1000 else theme
            path = folder / f"{tab.lower()}-{kind}.png"
            page.screenshot(path=path, full_page=True)
            with Image.open(path) as whole:
                shown = whole.crop((0, 0, whole.width, min(whole.height, TALLEST)))
            shown.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
        page.context.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--model")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="take screenshots instead")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs", help="whose newest run the Training tab shows")
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "results" / "page.json")
    chosen = parser.parse_args()
    chromium = subprocess.check_output(["sh", ROOT / "scripts" / "install_browser.sh", "--find"], text=True).strip()
    with tempfile.TemporaryDirectory() as name, sync_playwright() as play:
        process, address = start(Path(name), chosen.model, chosen.runs)
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        try:
            if chosen.pictures:
                chosen.pictures.mkdir(parents=True, exist_ok=True)
                pictures(browser, address, chosen.pictures)
                return
            found = measure(browser, address, chosen.times)
        finally:
            browser.close()
            process.kill()
            process.wait()
    machine = {"cores": os.cpu_count(), "load": [round(load, 1) for load in psutil.getloadavg()]}
    result = {"task": "page", "command": command(), "machine": machine, **found}
    chosen.json.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()

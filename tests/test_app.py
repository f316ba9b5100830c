"""The page in a real Chromium: the whole story, every chart, Stop, phone and dark, accessibility; and the endpoints.

Needs Chromium: `make browser` installs it or says how. Runs on mini if it is shipped, else on the tiny untrained model.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from app import arguments
from lab.models import TINY, Models

ROOT = Path(__file__).parent.parent
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MODEL = "mini" if "mini" in Models.shipped() else TINY
CHARTS = {
    "Lab": ["pool"],
    "Memory": ["pool-replay", "forgetting", "ages", "flow"],
    "Retrieval": ["scores", "provenance-chart", "histogram", "agreement"],
    "Compare": ["bytes", "seconds"],
    "Resources": ["resources", "own-memory"],
    "Training": ["loss", "quality"],
    "Learn": [],
}
needs_chromium = pytest.mark.skipif(
    not CHROMIUM, reason="no Chromium: run `make browser`, which installs it or says how"
)


def browser_only(test):
    return pytest.mark.browser(needs_chromium(test))


class Server:
    """`python app.py` as a person would start it; it can be killed and started again on the same port."""

    def __init__(self, folder: Path):
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        (folder / "runs").mkdir(exist_ok=True)
        lines = "".join(f'{{"step": {i}, "loss": {3 / i:.3f}, "recall": {i / 9:.3f}}}\n' for i in range(1, 9))
        (folder / "runs" / "metrics.jsonl").write_text(lines)
        self.start()

    def start(self) -> None:
        command = [sys.executable, "app.py", "--port", str(self.port), "--threads", "1", "--model", MODEL]
        command += ["--sessions", str(self.folder / "sessions"), "--runs", str(self.folder / "runs")]
        self.log = (self.folder / "log").open("ab")
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=self.log, stderr=self.log)
        deadline = time.time() + 120
        while True:
            try:
                urllib.request.urlopen(self.url, timeout=5).close()
                return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                assert self.process.poll() is None and time.time() < deadline, (self.folder / "log").read_text()
                time.sleep(0.25)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("lab"))
    yield server
    server.kill()
    assert "Traceback" not in (server.folder / "log").read_text()


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Visit:
    """A page of its own, which notes console errors and requests to anywhere else."""

    def __init__(self, browser, server: Server, width: int = 1280, theme: str = "light"):
        self.server, self.context = (
            server,
            browser.new_context(viewport={"width": width, "height": 900}, accept_downloads=True),
        )
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.errors, self.strangers = [], []
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", self._note)
        self.open(theme)

    def _note(self, request) -> None:
        if not request.url.startswith((self.server.url, "data:", "blob:")):
            self.strangers.append(request.url)

    def open(self, theme: str = "light") -> None:
        self.page.goto(f"{self.server.url}/?__theme={theme}")
        self.page.get_by_role("button", name="Write to memory").wait_for()
        self.page.get_by_text("texts 0").first.wait_for()

    def tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name, exact=True).click()

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def sees(self, text) -> None:
        self.page.get_by_text(text).first.wait_for()

    def write_world(self) -> None:
        self.page.get_by_label("Example world").click()
        self.page.get_by_role("option", name="Ilse's household").click()
        self.page.wait_for_function("document.querySelector('textarea').value.includes('flowerpot')")
        self.press("Write to memory")
        self.sees("Written: 3 texts")
        self.press("Add them")
        self.sees("Written: 10 texts")
        self.sees("texts 13")

    def ask(self) -> None:
        self.page.locator("#question textarea, #question input").fill("Where does Ilse keep her spare key?")
        self.press("Ask")
        self.page.locator("#ask-note").get_by_text("First token after").wait_for()

    def drawn(self, chart: str) -> None:
        self.page.locator(f"#{chart} .pl[data-drawn] .main-svg").first.wait_for()

    def clean(self) -> None:
        assert not self.errors and not self.strangers, (self.errors, self.strangers)

    def close(self) -> None:
        self.context.close()


@pytest.fixture
def visit(browser, server):
    visit = Visit(browser, server)
    yield visit
    visit.close()


@browser_only
def test_the_whole_story(visit, server):
    page = visit.page
    visit.write_world()
    visit.ask()
    page.locator("#provenance mark").first.wait_for()
    chip = page.locator("#provenance .chips button:not([disabled])").first
    target = chip.get_attribute("data-go")
    chip.click()
    assert page.locator("#provenance mark.hit").get_attribute("data-t") == target

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


@browser_only
def test_every_chart_draws_and_can_be_read_as_a_table(visit):
    visit.write_world()
    visit.ask()
    visit.press("Ask all methods")
    visit.page.locator("#methods").get_by_text("snapkv").wait_for()
    for tab, charts in CHARTS.items():
        visit.tab(tab)
        if tab == "Training":
            visit.press("Look for runs")
        for chart in charts:
            visit.drawn(chart)
            shown = visit.page.locator(f"#{chart}")
            assert shown.locator(".say").inner_text().endswith(".")
            shown.get_by_role("button", name=re.compile("as a table")).click()
            assert shown.locator(".tb tr").count() > 1
    visit.clean()


@browser_only
def test_a_click_on_the_map_names_the_source_and_selects(visit):
    visit.write_world()
    visit.drawn("pool")
    area = visit.page.locator("#pool .nsewdrag").first
    area.scroll_into_view_if_needed()
    box = area.bounding_box()
    visit.page.mouse.click(box["x"] + box["width"] - 12, box["y"] + box["height"] / 2)
    visit.page.locator("#slot-source").get_by_text("written by text 13").wait_for()
    visit.clean()


@browser_only
def test_taking_the_long_term_memory_away_moves_the_probabilities(visit):
    visit.write_world()
    visit.ask()
    visit.tab("Retrieval")
    visit.press("Θ off")
    visit.page.locator("#tokens .tok").first.wait_for()
    visit.clean()


@browser_only
def test_the_guide_advances_when_its_step_is_done_and_opens_tabs(visit):
    visit.page.locator("#guide").get_by_text("Step 1 of 6").wait_for()
    visit.write_world()
    visit.page.locator("#guide").get_by_text("Step 3 of 6").wait_for()
    visit.ask()
    visit.page.locator("#guide").get_by_text("Step 4 of 6").wait_for()
    visit.tab("Learn")
    visit.page.locator("#steps").get_by_text("(done)").nth(2).wait_for()
    visit.page.get_by_role("button", name="Take Θ away: open Retrieval").click()
    visit.drawn("scores")
    visit.clean()


@browser_only
@pytest.mark.skipif(MODEL == TINY, reason="no trained model is shipped")
def test_a_training_run_starts_shows_its_curves_and_stops(visit):
    visit.tab("Training")
    visit.press("Train for two minutes")
    visit.page.locator("#training-state").get_by_text("Training for").wait_for(timeout=300_000)
    visit.drawn("quality")
    visit.press("Stop")
    visit.page.locator("#training-state").get_by_text("Stopped; what was recorded stays.").wait_for()
    visit.clean()


@browser_only
def test_stop_stops(visit):
    visit.page.get_by_label("Text", exact=True).first.fill("A very long story about a quiet harbour. " * 2500)
    visit.press("Write to memory")
    visit.page.locator("#write-note").get_by_text("chunk").wait_for()
    visit.page.get_by_role("button", name="Stop", exact=True).first.click()
    visit.page.locator("#write-note").get_by_text("Stopped. The memory holds 0").wait_for()
    visit.sees("texts 0")


@browser_only
@pytest.mark.parametrize(("width", "theme"), [(390, "light"), (390, "dark"), (1920, "light")])
def test_no_page_scrolls_sideways_and_none_has_serious_faults(browser, server, width, theme):
    from axe_playwright_python.sync_playwright import Axe

    visit = Visit(browser, server, width, theme)
    visit.write_world()
    visit.ask()
    faults = {}
    for tab in CHARTS:
        if visit.page.get_by_role("tab", name=tab, exact=True).is_visible():
            visit.tab(tab)
        else:
            visit.page.locator(".overflow-menu button").first.click()
            visit.page.locator(".overflow-dropdown button", has_text=tab).click()
        visit.page.wait_for_timeout(1500)
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= width, tab
        for violation in Axe().run(visit.page).response["violations"]:
            if violation["impact"] in ("serious", "critical"):
                faults[tab, violation["id"]] = [node["html"][:160] for node in violation["nodes"]][:3]
    assert not faults
    visit.clean()
    visit.close()


# ── the endpoints ──
def test_the_endpoints_keep_clients_apart_and_speak_clearly(server, tmp_path):
    from gradio_client import Client, handle_file
    from gradio_client.exceptions import AppError

    one, two = (Client(server.url, verbose=False, download_files=str(tmp_path)) for _ in range(2))
    receipt = one.predict("The parrot of Vera is named Ulf and it sings at night.", api_name="/ingest")
    assert receipt["id"] == 1 and receipt["tokens"] > 1
    assert two.predict(api_name="/texts") == []
    answer = one.predict("What is the name of Vera's parrot?", 4, api_name="/ask")
    assert isinstance(answer["answer"], str) and answer["seconds"] > 0
    layers = one.predict("What is the name of Vera's parrot?", api_name="/inspect")["layers"]
    assert all(0 <= layer["chance"] <= 1 for layer in layers)
    file = one.predict(api_name="/memory_save")
    assert two.predict(handle_file(file), api_name="/memory_load") == {"texts": 1}
    assert one.predict(api_name="/reset") == {"texts": 0} and len(two.predict(api_name="/texts")) == 1
    for call, said in (
        (("", "/ingest"), "no text"),
        ((" ", "/inspect"), "no text"),
        ((99, "/delete"), "no receipt 99"),
    ):
        with pytest.raises(AppError, match=said):
            one.predict(call[0], api_name=call[1])


def test_the_lab_is_safe_by_default(capsys):
    assert arguments([]).host == "127.0.0.1" and not arguments([]).exposed
    for line, said in ((["--host", "0.0.0.0"], "--auth"), (["--auth", "nobody"], "NAME:PASSWORD")):
        with pytest.raises(SystemExit):
            arguments(line)
        assert said in capsys.readouterr().err


def test_files_of_the_machine_cannot_be_fetched(server):
    for path in ("/etc/passwd", str(ROOT / "app.py"), "../app.py"):
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(f"{server.url}/gradio_api/file={path}")
        assert error.value.code in (403, 404)

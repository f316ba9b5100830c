"""The lab as the tests meet it: `python app.py` in a process of its own, and pages of it in Chromium.

No wait is a fixed time: each is for something that must happen, with enough patience for a machine that is busy.
"""

import copy
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from lab.models import TINY, Models

ROOT = Path(__file__).parent.parent
MODEL = "mini" if "mini" in Models.shipped() else TINY
PATIENCE = 120.0
"""Seconds until a wait gives up."""
CHARTS = {
    "Lab": ["pool"],
    "Memory": ["pool-replay", "forgetting", "ages", "flow"],
    "Retrieval": ["scores", "provenance-chart", "histogram", "agreement"],
    "Compare": ["measured", "bytes", "seconds"],
    "Resources": ["resources", "own-memory"],
    "Training": ["loss", "quality"],
    "Learn": [],
}
"""The tabs, and the charts in each."""


class Server:
    """`python app.py` as a person would start it; it can be killed and started again on the same port.

    Its Training tab finds one finished run.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        (folder / "runs").mkdir(exist_ok=True)
        lines = "".join(f'{{"step": {i}, "loss": {3 / i:.3f}, "recall": {i / 9:.3f}}}\n' for i in range(1, 9))
        (folder / "runs" / "metrics.jsonl").write_text(lines)
        (folder / "runs" / "answers.jsonl").write_text('{"answer": "a measurement\'s journal, newer, and no run"}\n')
        self.start()

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def start(self) -> None:
        command = [sys.executable, "app.py", "--port", str(self.port), "--threads", "1", "--model", MODEL]
        command += ["--sessions", str(self.folder / "sessions"), "--runs", str(self.folder / "runs")]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        deadline = time.time() + PATIENCE
        while True:
            try:
                urllib.request.urlopen(self.url, timeout=5).close()
                return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                assert self.process.poll() is None and time.time() < deadline, self.log
                time.sleep(0.25)

    def kill(self) -> None:
        """As kill -9 does: without a chance to save anything."""
        self.process.kill()
        self.process.wait()


class Visit:
    """A person with a page of their own, which notes console errors and requests to anywhere else."""

    def __init__(self, browser, server: Server):
        self.server = server
        self.context = browser.new_context(
            viewport={"width": 1280, "height": 900}, accept_downloads=True, reduced_motion="reduce"
        )
        self.page = self.context.new_page()
        self.page.set_default_timeout(1000 * PATIENCE)
        self.errors, self.strangers = [], []
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", self._note)
        self.open()

    def _note(self, request) -> None:
        if not request.url.startswith((self.server.url, "data:", "blob:")):
            self.strangers.append(request.url)

    def open(self, theme: str = "light") -> None:
        """The page anew, as on a reload: it may offer the session that was there before."""
        self.page.goto(f"{self.server.url}/?__theme={theme}")
        self.sees("texts 0")

    def beside(self) -> "Visit":
        """Another tab of the same browser."""
        other = copy.copy(self)
        other.page = self.context.new_page()
        other.page.set_default_timeout(1000 * PATIENCE)
        other.open()
        return other

    def tab(self, name: str) -> None:
        """Open a tab, in the menu of those that a narrow page has no room for if need be."""
        tab = self.page.get_by_role("tab", name=name, exact=True)
        if tab.is_visible():
            tab.click()
        else:
            self.page.locator(".overflow-menu button").first.click()
            self.page.locator(".overflow-dropdown button", has_text=name).click()

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def sees(self, text) -> None:
        self.page.get_by_text(text).first.wait_for()

    def write(self, text: str, texts: int = 1) -> None:
        """Write one text, until the page tells that there are now so many: until then its selection, which follows what
        was written, would still move under a key that is pressed."""
        self.page.locator("textarea").first.fill(text)
        self.press("Write to memory")
        self.page.wait_for_function("document.querySelector('textarea').value === ''")
        self.sees(f"texts {texts}")

    def write_world(self) -> None:
        """Write an example world and ten unrelated texts."""
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

    def drawn(self, *charts: str) -> None:
        for chart in charts:
            self.page.locator(f"#{chart} .pl[data-drawn] .main-svg").first.wait_for()

    def look_at(self, tab: str) -> None:
        """Open a tab, and wait until its charts are drawn and painted."""
        self.tab(tab)
        if tab == "Training":
            self.press("Look for runs")
        self.drawn(*CHARTS[tab])
        self.page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def clean(self) -> None:
        assert not self.errors and not self.strangers, (self.errors, self.strangers)

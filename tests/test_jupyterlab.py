"""A notebook in a real JupyterLab in Chromium: it runs, its figure follows a slider, and nothing leaves the machine."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from lab.book import NOTEBOOKS, ROOT

CONFIG = ROOT / "lab" / "jupyter" / "jupyter_lab_config.py"
NOTEBOOK = "02_writing.ipynb"


@pytest.fixture
def jupyterlab(tmp_path):
    """The address of a server started as `make notebooks` does, on a copy of the notebooks."""
    for path in NOTEBOOKS:
        shutil.copy(path, tmp_path)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", str(tmp_path), f"--config={CONFIG}", "--no-browser"]
    command += [f"--port={port}", "--IdentityProvider.token=", "--allow-root"]
    private = {name: str(tmp_path / ".jupyter") for name in ("JUPYTER_CONFIG_DIR", "JUPYTERLAB_SETTINGS_DIR")}
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **private}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            address, deadline = f"http://127.0.0.1:{port}", time.time() + 120
            while True:
                try:
                    urllib.request.urlopen(f"{address}/api", timeout=5).close()
                    break
                except OSError:
                    assert process.poll() is None and time.time() < deadline, (tmp_path / "log").read_text()
                    time.sleep(0.25)
            yield address
        finally:
            process.terminate()
            process.wait(20)


@pytest.mark.browser
def test_a_slider_moves_a_figure_in_jupyterlab(browser, jupyterlab, tmp_path):
    from playwright.sync_api import expect

    page = browser.new_page(viewport={"width": 1440, "height": 1000})
    page.set_default_timeout(180_000)
    strangers: list[str] = []
    local = (jupyterlab, jupyterlab.replace("http", "ws"), "data:", "blob:")
    page.on("request", lambda request: request.url.startswith(local) or strangers.append(request.url))
    page.goto(f"{jupyterlab}/lab/tree/{NOTEBOOK}")
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()  # a run before that asks which kernel to take
    page.locator(".lm-MenuBar-itemLabel").get_by_text("Run", exact=True).click()
    page.locator('[data-command="runmenu:run-all"]').click()
    slider = page.get_by_role("slider").first
    slider.scroll_into_view_if_needed()
    slider.wait_for()
    figure = page.locator(".jp-OutputArea").filter(has=slider)
    expect(figure.locator(".js-plotly-plot .scatterlayer")).to_be_visible()
    caption, legend = figure.locator(".finding"), figure.locator(".legendtext")
    before, theory = caption.inner_text(), legend.nth(1).text_content() or ""
    assert theory.startswith("theory")  # with K and N in it
    slider.focus()
    slider.press("ArrowRight")
    expect(caption).not_to_have_text(before)
    expect(legend.get_by_text(theory, exact=True)).to_have_count(0)
    expect(legend).to_have_count(3)  # the text, theory, and the band of chance
    assert re.match(r"After \d+ more writes", caption.inner_text())
    figure.screenshot(path=tmp_path / "widget.png")
    page.screenshot(path=Path(os.environ.get("SCREENSHOTS", tmp_path)) / "jupyterlab.png")
    assert not page.get_by_text("Would you like to get notified").count()
    assert not page.locator('[data-title*="Share"]').count()
    assert not strangers
    page.close()

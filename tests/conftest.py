"""What holds for every test: one thread, no network; and for those that need them, the lab, as objects or running."""

import os
import subprocess

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything of huggingface is imported

import pytest
import torch

from lab.models import TINY, Models
from lab.registry import Registry
from lab.samples import SAMPLES, unrelated
from tests.lab_page import ROOT, Server
from tests.toys import toy_mplus

torch.set_num_threads(1)


@pytest.fixture
def model():
    """A toy whose Θ is soon full."""
    return toy_mplus(max_long_term=60)


@pytest.fixture(scope="session")
def chromium():
    """Where Chromium is. Without one the tests that need it are skipped, with a sentence on how to get it."""
    command = ["sh", str(ROOT / "scripts" / "install_browser.sh"), "--find"]
    found = subprocess.run(command, capture_output=True, text=True)
    if found.returncode:
        pytest.skip(found.stderr.strip())
    return found.stdout.strip()


@pytest.fixture(scope="module")  # a running playwright holds the thread's event loop, which notebooks need elsewhere
def browser(chromium):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """The lab, running; its log must end without a traceback."""
    server = Server(tmp_path_factory.mktemp("lab"))
    yield server
    server.kill()
    assert "Traceback" not in server.log


# ── the lab without its page ──
@pytest.fixture(scope="module")
def models():
    return Models(TINY)


@pytest.fixture
def registry(models, tmp_path):
    return Registry(models, tmp_path)


@pytest.fixture
def session(registry):
    return registry.get("page")


@pytest.fixture
def told(session):
    """A session that has read an example world, five unrelated texts, and a question."""
    for text in (*SAMPLES[0].texts, *unrelated(5, 1)):
        session.write(text)
    session.ask(SAMPLES[0].questions[0][0], 8)
    return session

"""Many people at once: `python -m benchmarks.sessions --clients 50 --questions 1000`.

Starts the lab, opens that many API clients, gives each a memory with texts nobody else has, asks until all is answered,
and checks after every answer that the client's memory holds its own texts and no others.
"""

import argparse
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from gradio_client import Client

from core.arguments import count

from .timing import save

ROOT = Path(__file__).parent.parent
PATIENCE = 180.0
"""Seconds until a client gives up; all of them start at once, on the machine that answers them."""


@contextmanager
def served(folder: Path, model: str | None = None, runs: Path | None = None) -> Iterator[tuple[subprocess.Popen, str]]:
    """`python app.py` on a free port as long as the block lasts: (process, address) once it answers. Its sessions and
    log are in `folder`."""
    process, address = start(folder, model, runs)
    try:
        yield process, address
    finally:
        process.kill()
        process.wait()


def start(folder: Path, model: str | None = None, runs: Path | None = None) -> tuple[subprocess.Popen, str]:
    """As `served`, for whoever kills it. Raises SystemExit, with the log, if it does not answer."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "app.py", "--port", str(port), "--threads", "1", "--sessions", str(folder / "sessions")]
    command += ["--model", model] if model else []
    command += ["--runs", str(runs)] if runs else []
    log = (folder / "log").open("ab")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    address, deadline = f"http://127.0.0.1:{port}", time.time() + 180
    while True:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return process, address
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            if process.poll() is not None or time.time() > deadline:
                process.kill()
                raise SystemExit((folder / "log").read_text()) from None
            time.sleep(0.25)


class Person(threading.Thread):
    """One client: its own texts, its share of the questions, and what went wrong."""

    def __init__(self, number: int, address: str, questions: int):
        super().__init__(daemon=True)
        self.number, self.address, self.questions = number, address, questions
        self.seconds: list[float] = []
        self.errors: list[str] = []
        self.crossed = 0

    def run(self) -> None:
        rng = random.Random(self.number)
        try:
            client = Client(self.address, verbose=False, httpx_kwargs={"timeout": PATIENCE})
            mine = [
                f"The secret code of person {self.number} for door {i} is {rng.randrange(10**8)}." for i in range(3)
            ]
            for text in mine:
                client.predict(text, api_name="/ingest")
        except Exception as error:
            self.errors.append(f"start: {error}")
            return
        for _ in range(self.questions):
            begin = time.perf_counter()
            try:
                client.predict(f"What is the secret code of person {self.number}?", 8, api_name="/ask")
                self.seconds.append(time.perf_counter() - begin)
                held = [text["text"] for text in client.predict(api_name="/texts")]
                self.crossed += held != mine
            except Exception as error:
                self.errors.append(str(error)[:200])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=count, default=50)
    parser.add_argument("--questions", type=count, default=1000)
    parser.add_argument("--model")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, served(Path(name), chosen.model) as (process, address):
        memory = psutil.Process(process.pid).memory_info
        before = peak = memory().rss
        begin = time.perf_counter()
        each, rest = divmod(chosen.questions, chosen.clients)
        people = [Person(i, address, each + (i < rest)) for i in range(chosen.clients)]
        for person in people:
            person.start()
        while any(person.is_alive() for person in people):
            peak = max(peak, memory().rss)
            time.sleep(0.2)
        times = sorted(second for person in people for second in person.seconds)
        result = {
            "clients": chosen.clients, "answered": len(times), "errors": sum(len(p.errors) for p in people),
            "crossed": sum(p.crossed for p in people), "wall_s": round(time.perf_counter() - begin, 1),
            "median_s": round(statistics.median(times), 3) if times else None,
            "p95_s": round(times[int(0.95 * (len(times) - 1))], 3) if times else None,
            "rss_start_mib": before // 2**20, "rss_peak_mib": peak // 2**20,
            "first_errors": [error for person in people for error in person.errors][:3],
            "traceback_in_log": "Traceback" in (Path(name) / "log").read_text(),
        }  # fmt: skip
    print(json.dumps(result, indent=1))
    print(save("sessions", result))
    sys.exit(bool(result["errors"] or result["crossed"]))


if __name__ == "__main__":
    main()

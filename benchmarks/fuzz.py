"""Nonsense through the API: `python -m benchmarks.fuzz --inputs 2000`. Counts hangs, tracebacks and leaked paths."""

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from gradio_client import Client
from gradio_client.exceptions import AppError

from core.arguments import count

from .sessions import ROOT, served
from .timing import save

NAMES = ("/ingest", "/ask", "/inspect", "/delete", "/texts", "/reset", "/memory_load", "/memory_save")
LONGEST = 60.0


def nonsense(rng: random.Random) -> Any:
    """One strange value."""
    letters = "".join(
        chr(rng.choice((rng.randrange(32), rng.randrange(32, 127), rng.randrange(0x300, 0xD7FF)))) for _ in range(40)
    )
    return rng.choice([
        "", " ", "\x00", "\x00\x01\x02\x1b[31m", letters, "a", "😀" * rng.randrange(1, 60), "مرحبا بالعالم " * 5,
        "\u202e\u2066evil",        "x" * rng.choice((5_000, 50_000)), "../../../../etc/passwd", "file:///etc/passwd", "C:\\Windows\\win.ini",  # noqa: E501
        "{{7*7}}",        "<script>alert(1)</script>", "'; drop table texts; --", "%s%n%x", "\ud800", None, True, -1, 0, 10**30, 1.5,  # noqa: E501
        float("1e308"),        [], [[[]]], {}, {"path": "/etc/passwd"}, {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}},  # noqa: E501
        {"path": str(ROOT / "app.py"), "meta": {"_type": "gradio.FileData"}}, ["a"] * 50,
        {"__type__": "update", "value": 3},        "NaN", "A plain sentence about a lamp in the hall.",
    ])  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=count, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model")
    chosen = parser.parse_args()
    rng, counts = random.Random(chosen.seed), {"fine": 0, "refused": 0, "refused by the client": 0}
    hangs: list[str] = []
    leaks: list[str] = []
    with tempfile.TemporaryDirectory() as name, served(Path(name), chosen.model) as (process, address):
        client = Client(address, verbose=False, download_files=name)
        slowest = 0.0
        for number in range(chosen.inputs):
            endpoint = rng.choice(NAMES)
            values = [nonsense(rng) for _ in range(rng.choice((0, 1, 1, 1, 1, 2)))]
            begin = time.perf_counter()
            try:
                job = client.submit(*values, api_name=endpoint)
                job.result(timeout=LONGEST)
                counts["fine"] += 1
            except AppError as error:
                counts["refused"] += 1
                if "Traceback" in str(error) or str(ROOT) in str(error) or "site-packages" in str(error):
                    leaks.append(f"{number} {endpoint} {values!r:.80}: {error!s:.200}")
            except TimeoutError:
                hangs.append(f"{number} {endpoint} {values!r:.80}")
            except Exception as error:
                counts["refused by the client"] += 1
                if str(ROOT / "lab") in str(error):
                    leaks.append(f"{number} {endpoint}: {error!s:.200}")
            slowest = max(slowest, time.perf_counter() - begin)
        alive = process.poll() is None
        works = alive and "answer" in client.predict("Does it still answer?", 4, api_name="/ask")
        log = (Path(name) / "log").read_text()
    result = {"inputs": chosen.inputs, **counts, "hangs": hangs, "leaks": leaks, "slowest_s": round(slowest, 2),
              "server_alive": alive, "still_answers": works,
              "unexpected_in_log": log.count("unexpected\nTraceback")}  # fmt: skip
    print(json.dumps(result, indent=1))
    print(save("fuzz", result))
    sys.exit(bool(hangs or leaks or not works))


if __name__ == "__main__":
    main()

"""Pulling the plug: `python -m benchmarks.kill --times 200`.

A process restores one session, writes texts into it and reports each one when `Session.write` has returned; it is
killed with SIGKILL at a random moment, and the next process restores. Every text that was reported must be there.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import torch

from core.arguments import count
from lab.models import TINY, Models
from lab.registry import Registry

from .timing import save

KEY = "a-session-that-is-killed"


def live(models: Models, folder: Path, pipe: int) -> None:
    """Restore, say what is there, then write, sometimes delete, and report, for ever."""

    def say(**event) -> None:
        os.write(pipe, (json.dumps(event) + "\n").encode())

    registry = Registry(models, folder)
    session = registry.restore("page", KEY) if registry.saved(KEY) else registry.get("page")
    if session.key != KEY:
        session.key, session.folder = KEY, folder / KEY
    say(held=[receipt.text for receipt in session.texts])
    number = 0
    while True:
        number += 1
        text = f"Text {number} by process {os.getpid()}: the lamp number {number} hangs in the hall of the old mill."
        session.write(text)
        say(wrote=text)
        if len(session.texts) > 30:
            for receipt in session.texts[:10]:
                say(deleting=receipt.text)
                session.delete(receipt.id)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=count, default=200)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    rng, models, folder = random.Random(chosen.seed), Models(TINY), Path(tempfile.mkdtemp())
    kills = 0
    models.get(TINY)
    expected: set[str] = set()
    lost: list[str] = []
    unreadable = total = 0
    for _ in range(chosen.times):
        read, write = os.pipe()
        process = os.fork()
        if process == 0:
            os.close(read)
            try:
                live(models, folder, write)
            finally:
                os._exit(1)
        os.close(write)
        stream = os.fdopen(read, "rb")
        first = stream.readline()
        if not first:
            unreadable += 1
            os.waitpid(process, 0)
            break
        kills += 1
        held = set(json.loads(first)["held"])
        lost += sorted(expected - held)
        expected = held
        time.sleep(rng.uniform(0.0, 1.5))
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        for line in stream.read().decode().splitlines(keepends=True):
            event = json.loads(line) if line.endswith("\n") else {}  # the last line may have been cut
            if "wrote" in event:
                expected.add(event["wrote"])
                total += 1
            expected.discard(event.get("deleting", ""))
    drafts = len(list((folder / KEY).glob(".*.part")))
    result = {
        "kills": kills,
        "texts_reported": total,
        "lost": len(lost),
        "unreadable": unreadable,
        "drafts": drafts,
    }
    shutil.rmtree(folder)
    print(json.dumps(result))
    print(save("kill", result))
    sys.exit(bool(lost or unreadable))


if __name__ == "__main__":
    main()

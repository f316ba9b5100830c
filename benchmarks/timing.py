"""Timing of alternatives on a machine that other programs use too: they take turns, and medians are compared.

On one thread the processor's time is taken and not the wall's: it leaves out the waiting for other programs.
"""

import json
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


def seconds(run: Callable[[], Any]) -> float:
    """Time of one call; on a GPU until its work is done."""
    begin = now()
    run()
    return now() - begin


def now() -> float:
    """The clock: processor time where one thread does everything, else wall time."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def in_turns(
    runs: dict[str, Callable[[], Any]], rounds: int = 7, warm: int = 1, of=statistics.median
) -> dict[str, Any]:
    """Median seconds of each, measured in turns, so that what else the machine does meets all of them alike.

    of: what is made of the list of seconds instead, for instance `list`.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(warm + rounds):
        for name, run in runs.items():
            spent = seconds(run)
            if turn >= warm:
                times[name].append(spent)
    return {name: of(values) for name, values in times.items()}


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "cpu": processor(), "instructions": torch.backends.cpu.get_cpu_capability(), "cores": os.cpu_count(),
        "threads": torch.get_num_threads(), "torch": torch.__version__,
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }  # fmt: skip


def processor() -> str:
    """The processor's own name where the system tells it, else its kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def command() -> str:
    """The command line that runs, as one would type it."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return shlex.join(["python", *(["-m", spec.name] if spec else sys.argv[:1]), *sys.argv[1:]])


def save(name: str, result: dict[str, Any], whole: bool = True) -> Path:
    """Write a result, with its command and the machine it was measured on, to results/<name>.json.

    whole: until it is, what there is goes to <name>.part.json, so that a trial that is stopped costs no older result.
    """
    RESULTS.mkdir(exist_ok=True)
    path, part = RESULTS / f"{name}.json", RESULTS / f"{name}.part.json"
    content = {"command": command(), "machine": machine(), **result}
    (path if whole else part).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if whole:
        part.unlink(missing_ok=True)
    return path if whole else part

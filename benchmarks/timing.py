"""Timing of alternatives on a machine that other programs use too: they take turns, and medians are compared.

On one thread the processor's time is taken and not the wall's: it leaves out the waiting for other programs.
"""

import json
import platform
import statistics
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
    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"cpu": platform.machine(), "threads": torch.get_num_threads(), "torch": torch.__version__, "cuda": cuda}


def save(name: str, result: dict[str, Any]) -> Path:
    """Write a result, with the machine it was measured on, to results/<name>.json."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"machine": machine(), **result}, indent=1) + "\n", encoding="utf-8")
    return path

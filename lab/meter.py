"""Memory in use, sampled once a second while the lab runs: the process on the CPU, and the GPU if there is one."""

import time
from collections import deque

import psutil
import torch

from .clock import every


class Meter:
    """The last `length` samples: (seconds since the start, {name: bytes})."""

    def __init__(self, seconds: float = 1.0, length: int = 900):
        self.begin = time.time()
        self.samples: deque[tuple[float, dict[str, int]]] = deque(maxlen=length)
        self._process = psutil.Process()
        self._sample()
        every(seconds, self, Meter._sample)

    @property
    def note(self) -> str:
        """What is measured, and how."""
        cpu = "process: resident set size of this Python (psutil)"
        if torch.cuda.is_available():
            name = torch.cuda.get_device_name()
            return f"{name}: allocated, reserved and peak by torch, used by all programs by the driver; {cpu}."
        return f"This machine has no GPU: CPU memory is shown. {cpu[0].upper()}{cpu[1:]}."

    def _sample(self) -> None:
        values = {"process": self._process.memory_info().rss}
        if torch.cuda.is_available():
            free, total = torch.cuda.mem_get_info()
            values |= {
                "GPU allocated": torch.cuda.memory_allocated(),
                "GPU reserved": torch.cuda.memory_reserved(),
                "GPU peak": torch.cuda.max_memory_allocated(),
                "GPU used by all": total - free,
            }
        self.samples.append((time.time() - self.begin, values))

    def lines(self) -> tuple[list[float], dict[str, list[float]]]:
        """(seconds, {name: bytes}) ready to draw."""
        samples = list(self.samples)
        return [t for t, _ in samples], {name: [float(v[name]) for _, v in samples] for name in samples[-1][1]}

"""One training run at a time, started from the page: a process of its own, which the page can watch and stop."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from core.run_folder import METRICS

MINUTES = 2.0
ROOT = Path(__file__).parent.parent


class Trainer:
    """Starts `python -m lab.short_run` in a new folder under `runs`; the process runs at low priority, offline."""

    def __init__(self, runs: Path):
        self.runs = Path(runs)
        self.run = ""
        self.began = 0.0
        self.stopped = False
        self._process: subprocess.Popen | None = None
        self._lock = threading.Lock()

    def start(self, model: str, minutes: float = MINUTES) -> str:
        """Start a run; the metrics file, relative to `runs`. Raises ValueError if one is running."""
        with self._lock:
            if self.running:
                raise ValueError(f"{self.run} is still training; stop it first, or wait for its end.")
            name = time.strftime("two-minutes-%Y%m%d-%H%M%S")
            folder = self.runs / name
            folder.mkdir(parents=True, exist_ok=True)
            command = [sys.executable, "-m", "lab.short_run", "--model", model, "--out", str(folder.resolve())]
            command += ["--minutes", str(minutes)]
            offline = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
            with (folder / "log").open("wb") as log:
                self._process = subprocess.Popen(
                    ["nice", "-n", "5", *command] if os.name == "posix" else command,
                    cwd=ROOT, env=os.environ | offline, stdout=log, stderr=log, start_new_session=True,
                )  # fmt: skip
            self.run, self.began, self.stopped = f"{name}/{METRICS}", time.time(), False
            return self.run

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self) -> bool:
        """End the run that is going on, if any; what it has recorded stays. Whether there was one."""
        with self._lock:
            if not self.running:
                return False
            assert self._process is not None
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self.stopped = True
            return True

    def state(self) -> str:
        """How it stands, in one sentence; empty if no run has been started."""
        if self._process is None:
            return ""
        passed = time.time() - self.began
        if self.running:
            if not (self.runs / self.run).is_file():
                return f"Starting: the model is being loaded and facts are being made up ({passed:.0f} s)."
            return f"Training for {passed:.0f} s of about {60 * MINUTES + 20:.0f} s; the curves follow."
        if self.stopped:
            return "Stopped; what was recorded stays."
        if self._process.returncode:
            return f"The run failed: {self._reason()}"
        return "The run is over; its checkpoint lies beside its metrics."

    def _reason(self) -> str:
        lines = (self.runs / self.run).with_name("log").read_text(errors="replace").strip().splitlines()
        said = [line for line in lines if line.startswith("Error: ")]
        return said[-1].removeprefix("Error: ") if said else "its log file says why."

"""The folder of a training run: a whole checkpoint that a resume goes on from, and records of what was learned."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

METRICS = "metrics.jsonl"


def checkpoints(out: Path) -> list[Path]:
    """Whole checkpoints under a folder, oldest first."""
    return sorted(path for path in out.glob("checkpoint-*") if path.suffix != ".partial")


@dataclass
class RunFolder:
    """path: it is made if it is not there."""

    path: Path
    processes: Accelerator

    def __post_init__(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)

    def keep(self, total: int, export: Callable[[Path], None], shared: dict, own: dict) -> None:
        """Make this the one checkpoint. A kill at any moment leaves it or the one before.

        total: steps so far, by which it is called. export: writes the model into a folder. shared: what the first
        process has to keep besides; own: what each has. All processes call it together.
        """
        folder = self.path / f"checkpoint-{total:08d}"
        draft, aside = folder.with_suffix(".partial"), folder.with_suffix(".old.partial")
        if self.processes.is_main_process:
            shutil.rmtree(draft, ignore_errors=True)
            export(draft)
            torch.save(shared, draft / "training.pt")
        self.processes.wait_for_everyone()
        torch.save(own, draft / f"rank{self.processes.process_index}.pt")
        self.processes.wait_for_everyone()
        if self.processes.is_main_process:
            if folder.exists():
                shutil.rmtree(aside, ignore_errors=True)
                os.replace(folder, aside)
            os.replace(draft, folder)
            for old in (aside, *checkpoints(self.path)):
                if old != folder:
                    shutil.rmtree(old, ignore_errors=True)
        self.processes.wait_for_everyone()

    def read(self, checkpoint: Path) -> tuple[dict[str, Any], dict[str, Any]]:
        """(shared, own) of a checkpoint. Raises ValueError if it was written by another number of processes."""
        count = len(list(checkpoint.glob("rank*.pt")))
        if count != self.processes.num_processes:
            raise ValueError(
                f"{checkpoint} was written by {count} processes and is resumed by {self.processes.num_processes}; "
                "start as many as before."
            )
        shared, own = (
            torch.load(checkpoint / name, weights_only=True, map_location="cpu")
            for name in ("training.pt", f"rank{self.processes.process_index}.pt")
        )
        return shared, own

    def note(self, record: dict[str, Any]) -> None:
        if self.processes.is_main_process:
            with (self.path / METRICS).open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")

    def forget_behind(self, total: int) -> None:
        """Records of later steps will be written again."""
        path = self.path / METRICS
        if self.processes.is_main_process and path.exists():
            lines = path.read_text(encoding="utf-8").splitlines()
            kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= total]
            path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")

"""The training loop: any practice, any plan of phases, one process or many, and a run that survives being killed."""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from safetensors.torch import load_model
from torch import nn
from transformers import PreTrainedTokenizerBase

from .checkpoint import save_model
from .model import MPlusForCausalLM
from .processes import first_says, first_weights, mean_figures, mean_weights

MEMORY_OF_FIGURES = 0.95  # running means: what a step leaves of the mean before it
AGREE_EVERY = 10  # steps between two exchanges of figures among processes


class Phase(Protocol):
    """A stage or lesson of `core.curriculum`."""

    @property
    def name(self) -> str: ...

    def rates(self, step: int) -> dict[str, float]: ...

    def finished(self, step: int, figures: Mapping[str, float]) -> bool: ...


@dataclass
class TrainState:
    """How far a run has come. step counts within the phase, total over all; figures are running means,
    agreed the same over all processes: what is decided by them must be decided alike."""

    phase: int = 0
    step: int = 0
    total: int = 0
    seconds: float = 0.0
    figures: dict[str, float] = field(default_factory=dict)
    agreed: dict[str, float] = field(default_factory=dict)


class Training:
    """Runs `practice(phase) -> (loss, figures)` through a plan.

    practice: a module that holds `.model`, counts `.tokens`, may change the model in `prepare(phase)` before a phase,
    and has `progress` and `load_progress` for what it carries from step to step. Parameter groups are called by the
    names that a phase's `rates` gives rates for. before_export(practice, phase) runs before a phase's model is kept.
    local_steps: how many steps several processes take each for itself before they average their weights (local SGD);
    with 1 they average gradients at every step, and wait for each other as often.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        practice: nn.Module,
        plan: Sequence[Phase],
        optimizers: Sequence[torch.optim.Optimizer],
        tokenizer: PreTrainedTokenizerBase,
        out: Path,
        clip: float | None = None,
        before_export: Callable[[Any, Any], None] | None = None,
        local_steps: int = 1,
    ):
        self.accelerator, self.practice, self.plan, self.tokenizer = accelerator, practice, plan, tokenizer
        self.out, self.clip, self.state, self.before_export = out, clip, TrainState(), before_export
        if local_steps < 1:
            raise ValueError(f"local_steps is {local_steps}; processes average their weights after 1 step or more.")
        self.local_steps = local_steps
        self.wrapped, *self.optimizers = accelerator.prepare(practice, *optimizers)
        self.wrapped.train()
        out.mkdir(parents=True, exist_ok=True)

    @property
    def model(self) -> MPlusForCausalLM:
        return self.practice.model  # type: ignore[return-value]

    def run(self, log_every: int = 20, save_minutes: float = 3.0, max_steps: int | None = None) -> Iterator[dict]:
        """Train to the end of the plan, or for `max_steps`; yields a record every `log_every` steps.

        Saves every few minutes, after each phase, and when it is interrupted. Raises ValueError if the loss is not a
        number any more.
        """
        saved, started, tokens = time.monotonic(), time.monotonic(), int(self.practice.tokens)  # type: ignore
        ended = None if max_steps is None else self.state.total + max_steps
        try:
            while self.state.phase < len(self.plan) and self.state.total != ended:
                phase = self.plan[self.state.phase]
                if not self.state.step:
                    self.practice.prepare(phase)  # type: ignore[operator]
                    first_weights(self.accelerator, self.model)  # it may have changed them, each by chance of its own
                loss = self._step(phase)
                if self.state.total % log_every == 0:
                    passed = time.monotonic() - started
                    self.state.seconds += passed
                    speed = (int(self.practice.tokens) - tokens) / passed  # type: ignore[arg-type]
                    yield self._record(phase, loss, speed)
                    started, tokens = time.monotonic(), int(self.practice.tokens)  # type: ignore[arg-type]
                if phase.finished(self.state.step, self.state.agreed):
                    self._finish(phase)
                    saved = time.monotonic()
                elif self._together and first_says(self.accelerator, time.monotonic() - saved > 60 * save_minutes):
                    self.save()
                    saved = time.monotonic()
        except KeyboardInterrupt:
            self.save()
            raise
        self.save()

    def _step(self, phase: Phase) -> float:
        rates = phase.rates(self.state.step)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rates[group["name"]]
        with self.accelerator.no_sync(self.wrapped) if self.local_steps > 1 else nullcontext():
            value, figures = self._gradients(phase)
        for optimizer in self.optimizers:
            if self.clip:
                parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
                self.accelerator.clip_grad_norm_(parameters, self.clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.state.step += 1
        self.state.total += 1
        if self._together:
            self._average()
        for name, figure in {"loss": value, **figures}.items():
            before = self.state.figures.get(name, figure)
            self.state.figures[name] = MEMORY_OF_FIGURES * before + (1 - MEMORY_OF_FIGURES) * figure  # type: ignore
        if self.state.total % max(AGREE_EVERY, self.local_steps) == 0:
            self.state.agreed = mean_figures(self.accelerator, self.state.figures)
        return value

    def _gradients(self, phase: Phase) -> tuple[float, dict[str, float]]:
        """The loss of one step, whose gradients are left with the parameters, and figures."""
        loss, figures = self.wrapped(phase)
        value = float(loss.detach())
        if value != value or abs(value) == float("inf"):
            raise ValueError(
                f"The loss of step {self.state.total} ({phase.name}) is {value}; resume from the last checkpoint with "
                "a lower learning rate, or look for broken documents."
            )
        self.accelerator.backward(loss)
        return value, figures

    def _finish(self, phase: Phase) -> None:
        self._average()
        name = getattr(phase, "saves", "") or (phase.name if phase.name.startswith("stage") else "")
        if name and self.accelerator.is_main_process:
            if self.before_export:
                self.before_export(self.practice, phase)
            self.export(self.out / name)
        self.state.phase, self.state.step = self.state.phase + 1, 0
        self.state.figures, self.state.agreed = {}, {}
        self.save()

    @property
    def _together(self) -> bool:
        return self.state.total % self.local_steps == 0  # all processes have, or are to have, the same weights

    def _average(self) -> None:
        if self.local_steps > 1:
            mean_weights(self.accelerator, self.model)

    def _record(self, phase: Phase, loss: float, speed: float) -> dict[str, Any]:
        mean = mean_figures(self.accelerator, self.state.figures)
        figures = {name: round(figure, 5) for name, figure in mean.items()}
        speed *= self.accelerator.num_processes
        record = {
            "step": self.state.total, "phase": phase.name, "phase_step": self.state.step,
            "seconds": round(self.state.seconds, 2), "tokens_per_second": round(speed, 1), **figures,
        }  # fmt: skip
        if self.accelerator.is_main_process:
            with (self.out / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        return record

    # ── files ──

    def export(self, folder: Path) -> None:
        """A checkpoint that `core.load` takes: weights, configuration, tokenizer."""
        save_model(self.model, folder)
        self.tokenizer.save_pretrained(folder)

    def save(self) -> None:
        """Write everything a resume needs under `out`; a kill at any moment leaves the last whole checkpoint."""
        self._average()
        folder = self.out / f"checkpoint-{self.state.total:08d}"
        partial = folder.with_suffix(".partial")
        if self.accelerator.is_main_process:
            shutil.rmtree(partial, ignore_errors=True)
            self.export(partial)
            optimizers = [optimizer.state_dict() for optimizer in self.optimizers]
            torch.save({"state": asdict(self.state), "optimizers": optimizers}, partial / "training.pt")
        self.accelerator.wait_for_everyone()
        torch.save(self.practice.progress, partial / f"rank{self.accelerator.process_index}.pt")
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            if folder.exists():
                shutil.rmtree(folder)
            os.replace(partial, folder)
            for old in checkpoints(self.out)[:-1]:
                shutil.rmtree(old)
        self.accelerator.wait_for_everyone()

    def resume(self) -> bool:
        """Go on from the newest checkpoint under `out`; False where there is none.

        Raises ValueError if it was written by another number of processes.
        """
        found = checkpoints(self.out)
        if not found:
            return False
        load_model(self.model, str(found[-1] / "model.safetensors"))
        rank = found[-1] / f"rank{self.accelerator.process_index}.pt"
        if len(list(found[-1].glob("rank*.pt"))) != self.accelerator.num_processes:
            raise ValueError(
                f"{found[-1]} was written by {len(list(found[-1].glob('rank*.pt')))} processes and is resumed by "
                f"{self.accelerator.num_processes}; start as many as before."
            )
        saved = torch.load(found[-1] / "training.pt", weights_only=True, map_location="cpu")
        for optimizer, state in zip(self.optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        self.state = TrainState(**saved["state"])
        under_way = self.plan[self.state.phase] if self.state.step else None
        progress = torch.load(rank, weights_only=True, map_location="cpu")
        self.practice.load_progress(progress, under_way)  # type: ignore[operator]
        self._forget_records()
        return True

    def _forget_records(self) -> None:
        """Records behind the checkpoint will be written again."""
        path = self.out / "metrics.jsonl"
        if self.accelerator.is_main_process and path.exists():
            lines = path.read_text(encoding="utf-8").splitlines()
            kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= self.state.total]
            path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def checkpoints(out: Path) -> list[Path]:
    """Whole checkpoints under a folder, oldest first."""
    return sorted(path for path in out.glob("checkpoint-*") if path.suffix != ".partial")

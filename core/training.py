"""The training loop: any practice, any plan of phases, one process or many, and a run that survives being killed."""

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
from .processes import any_of, first_weights, held_interrupts, mean_figures, mean_weights
from .run_folder import RunFolder, checkpoints

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
        self.folder, self.clip, self.state = RunFolder(out, accelerator), clip, TrainState()
        self.before_export, self._saved = before_export, None
        if local_steps < 1:
            raise ValueError(f"local_steps is {local_steps}; processes average their weights after 1 step or more.")
        self.local_steps = local_steps
        self.wrapped, *self.optimizers = accelerator.prepare(practice, *optimizers)
        self.wrapped.train()

    @property
    def model(self) -> MPlusForCausalLM:
        return self.practice.model  # type: ignore[return-value]

    def run(self, log_every: int = 20, save_minutes: float = 3.0, max_steps: int | None = None) -> Iterator[dict]:
        """Train to the end of the plan, or for `max_steps`; yields a record every `log_every` steps.

        Saves every few minutes, after each phase, and when it is interrupted: of several processes, at the next step
        after which they have the same weights. Raises ValueError if the loss is not a number any more.
        """
        with held_interrupts(self.accelerator) as interrupted:
            try:
                yield from self._run(log_every, save_minutes, max_steps, interrupted)
            except KeyboardInterrupt:
                self.save()
                raise

    def _run(
        self, log_every: int, save_minutes: float, max_steps: int | None, interrupted: Callable[[], bool]
    ) -> Iterator[dict]:
        saved, started, tokens = time.monotonic(), time.monotonic(), int(self.practice.tokens)  # type: ignore
        ended = None if max_steps is None else self.state.total + max_steps
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
            if self._together:
                due = time.monotonic() - saved > 60 * save_minutes
                due, stopped = any_of(self.accelerator, due, interrupted())
                if stopped:
                    raise KeyboardInterrupt
                if due:
                    self.save()
                    saved = time.monotonic()
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
            self.export(self.folder.path / name, getattr(phase, "retrieves", True))
        first_weights(self.accelerator, self.model)  # which may be other ones since, as of a θ that was filled anew
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
        self.folder.note(record)
        return record

    # ── what outlives the process ──

    def export(self, folder: Path, retrieves: bool = True) -> None:
        """A checkpoint that `core.load` takes: weights, configuration, tokenizer. See `save_model`."""
        save_model(self.model, folder, retrieves)
        self.tokenizer.save_pretrained(folder)

    def save(self) -> None:
        """Write everything a resume needs under `out`, unless this moment has been saved."""
        self._average()
        moment = self.state.phase, self.state.total
        if moment == self._saved:
            return
        optimizers = [optimizer.state_dict() for optimizer in self.optimizers]
        shared: dict[str, Any] = {"plan": self._names, "state": asdict(self.state)}
        own = {"progress": self.practice.progress, "figures": self.state.figures}
        (own if self.local_steps > 1 else shared)["optimizers"] = optimizers  # going on alone, each has its own
        self.folder.keep(self.state.total, self.export, shared, own)
        self._saved = moment

    def resume(self) -> bool:
        """Go on from the newest checkpoint under `out`; False where there is none.

        Raises ValueError if it is of another plan, model or kind of data, or of another number of processes.
        """
        found = checkpoints(self.folder.path)
        if not found:
            return False
        shared, own = self.folder.read(found[-1])
        if shared["plan"] != self._names:
            raise ValueError(
                f"{found[-1]} is of a training in {', '.join(shared['plan'])}, and this one is in "
                f"{', '.join(self._names)}; resume with the line it was started by, or name another --out."
            )
        try:
            load_model(self.model, str(found[-1] / "model.safetensors"))
        except RuntimeError as error:
            raise ValueError(
                f"{found[-1]} holds a model of another shape; resume with the line it was started by, or name another "
                "--out."
            ) from error
        for optimizer, state in zip(self.optimizers, {**shared, **own}["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        self.state = TrainState(**{**shared["state"], "figures": own["figures"]})
        under_way = self.plan[self.state.phase] if self.state.step else None
        self.practice.load_progress(own["progress"], under_way)  # type: ignore[operator]
        self.folder.forget_behind(self.state.total)
        self._saved = self.state.phase, self.state.total
        return True

    @property
    def _names(self) -> list[str]:
        return [phase.name for phase in self.plan]

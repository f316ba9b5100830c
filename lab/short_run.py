"""Two minutes of real training: `python -m lab.short_run --out runs/two-minutes`.

Of the shipped model: a moment of the reading practice that it comes from; then its retriever is thrown away and learned
anew, first from random weights, then from the start in closed form that the recipe gives it. Loss, accuracy and every
layer's recall go to `metrics.jsonl`, as in any run.
"""

import argparse
import os
import signal
import sys
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

import core
from core.curriculum import Lesson, Task
from core.practice import Practice
from core.processes import accelerator
from core.recipe import recipe_optimizers, recipe_practice
from core.training import Training

READING = (Task("blocks", 1.0, 4, chunks=(1, 3)),)
RETRIEVER = (Task("retriever", 1.0, 4, chunks=(6,), questions=4, num_blocks=(10,), long_term=True, far=1.0),)


@dataclass(frozen=True)
class Timed(Lesson):
    """A lesson that ends after `seconds`, counted from its first step. start: it begins with the closed form."""

    seconds: float = 60.0
    start: bool = False

    def finished(self, step: int, figures: Mapping[str, float]) -> bool:
        if step <= 1:
            _began[self.name] = time.monotonic()
        return time.monotonic() - _began[self.name] > self.seconds


_began: dict[str, float] = {}


def plan(minutes: float) -> tuple[Timed, ...]:
    """A fifth of the time for reading, the rest for the retriever."""
    seconds = 60 * minutes
    return (
        Timed("reading practice", 0, READING, scale=0.02, warm_up=1, seconds=seconds / 5),
        Timed("retriever, from random", 0, RETRIEVER, scale=0.5, warm_up=5, seconds=seconds * 2 / 5),
        Timed("retriever, closed form", 0, RETRIEVER, scale=0.1, warm_up=5, seconds=seconds * 2 / 5, start=True),
    )


class ShortPractice(Practice):
    """The recipe's practice, where each lesson says how its retriever begins."""

    def prepare(self, lesson: Lesson) -> None:
        self.retriever_started = not (isinstance(lesson, Timed) and lesson.start)
        super().prepare(lesson)


@torch.no_grad()
def forget_retriever(model: core.MPlusForCausalLM, seed: int) -> None:
    """Give every layer's retriever the random weights of a fresh model."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        fresh = core.MPlusForCausalLM(model.config).state_dict()
    for name, parameter in model.named_parameters():
        if "retriever" in name:
            parameter.copy_(fresh[name])


def prepare(model_name: str, out: Path, minutes: float, seed: int) -> Training:
    """The run, ready to go. Raises ValueError if the model cannot be had."""
    reader = core.load(model_name)
    model = reader.model
    if not model.config.num_retrieved:
        raise ValueError(f"{model_name} has no long-term memory and no retriever to train; choose another model.")
    forget_retriever(model, seed)
    model.requires_grad_(True)
    recipe = recipe_practice(model, reader.tokenizer, [], seed)  # type: ignore[arg-type]
    practice = ShortPractice(model, recipe.lessons, seed, recipe.repeat)
    processes = accelerator("no", cpu=not torch.cuda.is_available())
    return Training(processes, practice, plan(minutes), recipe_optimizers(model), reader.tokenizer, out, clip=1.0)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lab.short_run", description=__doc__)
    parser.add_argument("--model", default="mini", help="a shipped name or a folder")
    parser.add_argument("--out", type=Path, required=True, help="folder for metrics.jsonl and the checkpoint")
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    warnings.filterwarnings("ignore")
    parent = os.getppid()
    try:
        for record in prepare(args.model, args.out, args.minutes, args.seed).run(log_every=2, save_minutes=60):
            print(record, flush=True)
            if os.getppid() != parent:  # the page that started this is gone
                raise KeyboardInterrupt
    except ValueError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

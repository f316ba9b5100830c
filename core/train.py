"""Train from the command line.

python -m core.train --recipe mini --data novels/ --out runs/mini               a small M+ from nothing
python -m core.train --stage 1 --base meta-llama/Llama-3.1-8B --out runs/one    a stage of the paper on any Llama
accelerate launch -m core.train …                  the same on many GPUs; on a CPU: torchrun --nproc-per-node 2 -m …
torchrun -m core.train … --local-steps 50    processes average their weights now and then, not gradients every step
python -m core.train --recipe wide --lessons 5 --base mini --data novels/ --out runs/more    some lessons of it, on top
python -m core.train --refit-retrievers mini --data novels/ --out runs/refit    only the retrievers, anew

Interrupted or killed, `--resume` goes on where the last checkpoint stands.
"""

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from tqdm import tqdm
from transformers import AutoTokenizer

from .arguments import count
from .checkpoint import find, load_model, save_model
from .config import MPlusConfig
from .curriculum import FINEWEB, GEOMETRY, MINI, PAPER, SHAPES, SLIMPAJAMA, Lesson
from .document_practice import DocumentPractice, stage_optimizers
from .practice import Practice
from .processes import accelerator
from .rare_tokens import redraw_rare_tokens
from .recipe import fill_pool, find_sources, recipe_model, recipe_optimizers, recipe_practice, recipe_tokenizer
from .refit import refit_retrievers
from .run_folder import checkpoints
from .training import Training
from .widening import is_narrower, widened


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m core.train", description="Train M+.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--recipe", choices=sorted(SHAPES), help="a small model from nothing, all stages")
    what.add_argument("--stage", type=int, choices=(1, 2, 3), help="a stage of the paper, on top of --base")
    what.add_argument("--refit-retrievers", metavar="MODEL", help="fit only the retrievers of a small model anew")
    parser.add_argument("--base", help="checkpoint to start from: M+, widened if need be; for a stage also any Llama")
    parser.add_argument("--lessons", help="of the recipe these alone, on top of --base: 4, or 4-5; they count from 1")
    parser.add_argument("--steps", type=count, help="of each of these lessons, instead of as many as the plan says")
    parser.add_argument("--longer", type=float, default=1.0, help="times the steps of every lesson of a recipe")
    parser.add_argument(
        "--rate", type=float, default=1.0, help="times the learning rates of these lessons, or of the stage"
    )
    parser.add_argument("--keep-retrievers", action="store_true", help="those of --base are good: do not fit them anew")
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE", help="settings of a fresh base's memory")
    parser.add_argument("--data", nargs="*", default=[], help="files, folders or hub names of documents")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and metrics.jsonl")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint under --out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=count, default=1, help="independent memories a step, of a stage")
    parser.add_argument(
        "--local-steps", type=count, default=1, help="of several processes: steps between two averagings"
    )
    parser.add_argument("--max-steps", type=count, help="stop after so many steps; --resume goes on")
    parser.add_argument("--refit-steps", type=count, default=100, help="steps of --refit-retrievers for each layer")
    parser.add_argument("--precision", choices=("bf16", "no"), default="bf16")
    parser.add_argument("--save-minutes", type=float, default=3.0)
    parser.add_argument("--log-every", type=count, default=20, help="steps between two records")
    return parser.parse_args(argv)


def start_recipe(args: argparse.Namespace, processes: Accelerator) -> Training:
    """The model, its practice and its optimizers, ready to run."""
    plan = lessons_of(args.lessons, args.base, args.steps, args.rate, args.longer)
    sources = find_sources(args.data)
    found = checkpoints(args.out) if args.resume else []
    with processes.main_process_first():  # the others read what the first has made
        folder = found[-1] if found else args.out / "tokenizer"
        if not found and args.base:
            folder = find(args.base)
        elif not found and processes.is_main_process:
            recipe_tokenizer(sources, SHAPES[args.recipe]["vocab_size"], args.seed).save_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
    if args.base:
        model = load_model(args.base, processes.device, **settings_of(args))
        if is_narrower(model.config, SHAPES[args.recipe]):
            model = widened(model, SHAPES[args.recipe], args.seed)
        if model.config.tie_word_embeddings:
            redraw_rare_tokens(model, args.seed)
    else:
        model = recipe_model(MPlusConfig(**GEOMETRY, **SHAPES[args.recipe]), args.seed).to(processes.device)
    if any(lesson.retrieves for lesson in plan) and not model.config.num_retrieved:
        raise ValueError(f"{args.base} retrieves nothing, a lesson on Θ needs it to; give --set num_retrieved=320.")
    practice = recipe_practice(model, tokenizer, sources, args.seed, processes.process_index, processes.num_processes)
    if args.keep_retrievers:
        practice.retriever_started = True
    optimizers = recipe_optimizers(model)
    return Training(processes, practice, plan, optimizers, tokenizer, args.out, 1.0, settle, args.local_steps)


def lessons_of(
    wanted: str | None, base: str | None, steps: int | None = None, rate: float = 1.0, longer: float = 1.0
) -> tuple[Lesson, ...]:
    """The recipe's lessons, or some: "4" or "4-5", of `steps` each if given, at so many times their learning rates.

    longer: times the plan's steps. Raises ValueError for others, and for some without a base.
    """
    if (wanted is None) != (base is None):
        raise ValueError("--lessons and --base of a recipe go together: which lessons, and on top of what.")
    if steps is not None and (wanted is None or steps < 1):
        raise ValueError(f"--steps {steps} goes with --lessons, and a lesson has at least 1.")
    if rate <= 0 or (rate != 1 and wanted is None):
        raise ValueError(f"--rate {rate} goes with --lessons, and is more than 0.")
    if longer <= 0 or (longer != 1 and steps):
        raise ValueError(f"--longer {longer} is more than 0, and instead of --steps.")
    plan = tuple(replace(each, steps=steps or max(1, round(longer * each.steps))) for each in MINI)
    if wanted is None:
        return plan
    first, _, last = wanted.partition("-")
    if not (first.isdigit() and (last or first).isdigit() and 1 <= int(first) <= int(last or first) <= len(MINI)):
        raise ValueError(f"--lessons is {wanted!r}; write one number of 1 to {len(MINI)}, or two as in 4-5.")
    return tuple(replace(each, scale=rate * each.scale) for each in plan[int(first) - 1 : int(last or first)])


def settings_of(args: argparse.Namespace) -> dict[str, Any]:
    """The fields of the memory that --set names. Raises ValueError for what is not FIELD=VALUE."""
    found = {}
    for setting in args.set:
        name, _, value = setting.partition("=")
        try:
            found[name] = json.loads(value)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"--set {setting!r} cannot be read; write FIELD=VALUE, for instance num_blocks=40."
            ) from error
    return found


def start_stage(args: argparse.Namespace, processes: Accelerator) -> Training:
    """A stage of the paper on `--base`, with short and long documents from `--data` or from the hub."""
    if not args.base:
        raise ValueError("A stage needs a model to start from; name it with --base.")
    if args.rate <= 0:
        raise ValueError(f"--rate is {args.rate}; it is more than 0.")
    model = load_model(args.base, processes.device, **settings_of(args))
    tokenizer = AutoTokenizer.from_pretrained(find(args.base))
    stage = PAPER[args.stage - 1]
    if stage.long_term and not model.config.num_retrieved:
        raise ValueError(f"Stage 3 retrieves from Θ, but {args.base} has num_retrieved 0; give it with --set.")
    practice = DocumentPractice(
        model, tokenizer, args.data or [FINEWEB, SLIMPAJAMA], args.seed, args.batch,
        processes.process_index, processes.num_processes,
    )  # fmt: skip
    at_once = args.batch * (processes.num_processes if args.local_steps == 1 else 1)  # memories of one step
    stage = stage.times(args.rate * at_once)
    optimizers, leave = stage_optimizers(model), lambda practice, _: practice.leave_memory()
    return Training(processes, practice, [stage], optimizers, tokenizer, args.out, None, leave, args.local_steps)


def settle(practice: Practice, lesson: Lesson) -> None:
    """A checkpoint starts from memory of its own writing, not from noise."""
    fill_pool(practice.model, practice.lessons.prose, practice.generator)


def refit(args: argparse.Namespace) -> None:
    """Fit the retrievers of a model with generated facts and prose from `--data`, and keep it under `--out`."""
    model = load_model(args.refit_retrievers)
    if not model.config.num_retrieved or model.config.relevance != "block":
        raise ValueError(f"{args.refit_retrievers} has no retriever of the block rule; choose a model that has.")
    tokenizer = AutoTokenizer.from_pretrained(find(args.refit_retrievers))
    practice = recipe_practice(model, tokenizer, find_sources(args.data), args.seed)
    found = refit_retrievers(model, practice.lessons, practice.generator, args.refit_steps)
    save_model(model, args.out)
    tokenizer.save_pretrained(args.out)
    shares = ", ".join(f"{share:.0%}" for share in found)
    print(f"Of held-out questions, layer by layer, the right block would be retrieved for {shares}.")


def main(argv: list[str] | None = None) -> int:
    """Run one command line; returns what the process exits with: 1 after an error, which is told in a sentence."""
    args = arguments(argv)
    try:
        if args.refit_retrievers:
            refit(args)
            return 0
        if not args.resume and checkpoints(args.out):
            raise ValueError(f"{args.out} holds a training already; go on with --resume, or name another --out.")
        start = start_recipe if args.recipe else start_stage
        training = start(args, accelerator(args.precision))
        if args.resume and not training.resume():
            raise ValueError(f"There is no checkpoint under {args.out} to resume; start without --resume.")
        return show(training, args)
    except (ValueError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted before there was anything to save.", file=sys.stderr)
        return 130


def show(training: Training, args: argparse.Namespace) -> int:
    """Run behind a progress bar over the steps of the present phase; 0, or 130 if it was interrupted, and saved."""
    try:
        run(training, args)
    except KeyboardInterrupt:
        training.save()  # unless it has been
        if training.accelerator.is_main_process:
            print(f"Interrupted; everything is saved under {args.out}, --resume goes on.", file=sys.stderr)
        return 130
    return 0


def run(training: Training, args: argparse.Namespace) -> None:
    if training.state.phase == len(training.plan):
        print(f"The training under {args.out} is at its end; name another --out for a new one.")
    main_process, phase = training.accelerator.is_main_process, -1
    bar = tqdm(disable=not main_process or not sys.stderr.isatty())
    started = time.monotonic()
    for record in training.run(args.log_every, args.save_minutes, args.max_steps):
        if training.state.phase != phase and training.state.phase < len(training.plan):
            phase = training.state.phase
            bar.reset(training.plan[phase].steps)  # type: ignore[attr-defined]
        bar.n = record["phase_step"]
        figures = {name: f"{value:.3f}" for name, value in record.items() if isinstance(value, float)}
        bar.set_description(record["phase"], refresh=False)
        bar.set_postfix(figures)
        if main_process and bar.disable:
            minutes = (time.monotonic() - started) / 60
            print(f"{minutes:.1f} min, step {record['step']}, {record['phase']}: {figures}", flush=True)
    bar.close()


if __name__ == "__main__":
    sys.exit(main())

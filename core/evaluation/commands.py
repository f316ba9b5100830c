"""From the arguments of a command to its result: one function a task, which returns the table to be shown."""

import argparse
import hashlib
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from ..baselines import METHODS, make_reader
from ..checkpoint import find, load_model
from ..decoding import prepare_for_answers
from ..model import MPlusForCausalLM
from ..official import is_official
from . import babilong, cost, dialogue, examples, longbench, longbook, own_words, ruler
from .plots import plot_bars
from .records import Journal, Row, check_journal, markdown, write_json
from .texts import load_stream, names, numbers

Say = Callable[[str], None]
"""Takes a sentence for the person at the terminal."""


def load_any(name: str, device: str | None = None, dtype: str = "float32", **settings: Any) -> tuple[Any, Any]:
    """Model and tokenizer: M+ and MemoryLLM checkpoints as such, any other causal model as the plain model it is."""
    folder, kind = find(name), getattr(torch, dtype)
    theirs = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if theirs.get("model_type") == "mplus" or is_official(theirs):
        model: Any = load_model(folder, device, kind, **settings)
        prepare_for_answers(model)
    else:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=kind)
        model.to(torch.device(device or "cpu")).eval()
    return model, AutoTokenizer.from_pretrained(folder)


def weights(name: str) -> str:
    """Which weights a checkpoint has: the hub's commit, or the first 12 digits of a SHA-256 over them and the config.

    It is among a run's settings: answers of weights that were exchanged since, or read in another way
    (`retrieval_bias` and others are the config's), are not taken for the new ones'.
    """
    folder = find(name)
    if folder.parent.name == "snapshots":
        return folder.name[:12]
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config.pop("transformers_version", None)  # of the library that saved it, not of the model
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for path in sorted((*folder.glob("*.safetensors"), *folder.glob("*.bin"))):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:12]


def digest_of(*sources: str | None) -> str:
    """Which texts a run reads: 12 digits of a SHA-256 over sizes and both ends of the files, "" where none is a file.

    It is among a run's settings, as the weights are: a file that was changed since is another question.
    """
    digest, files = hashlib.sha256(), 0
    for source in filter(None, sources):
        folder = Path(source)
        for path in sorted(folder.rglob("*")) if folder.is_dir() else [folder]:
            if path.is_file():
                files += 1
                with path.open("rb") as file:
                    size = file.seek(0, 2)
                    digest.update(f"{path.name} {size} ".encode())
                    for place in (0, max(0, size - EDGE)):
                        file.seek(place)
                        digest.update(file.read(EDGE))
    return digest.hexdigest()[:12] if files else ""


EDGE = 2**22
"""Bytes of a file's beginning and end that tell it from others; most are read whole."""


def journal_path(args: argparse.Namespace, part: str = "") -> Path:
    """Where the answers go, or a part of them: beside the result. With --no-resume an earlier journal is removed.

    Raises ValueError if something else lies there, which would be lost.
    """
    args.json = args.json or str(Path(args.out) / f"{args.task}.json")
    path = Path(args.json).with_suffix(".jsonl")
    path = path.with_name(f"{path.stem}{part}{path.suffix}")
    check_journal(path)
    if not args.resume:
        path.unlink(missing_ok=True)
    return path


def finish(args: argparse.Namespace, content: Row, table: str) -> str:
    """Write the result and its table; returns the table."""
    command = {"task": args.task, "command": "python -m core.evaluate " + " ".join(map(portable, args.arguments))}
    write_json(args.json, command | {name: portable(value) for name, value in content.items()})
    Path(args.json).with_suffix(".md").write_text(table + "\n", encoding="utf-8")
    return table


def portable(value: Any) -> Any:
    """A result is to be shown elsewhere: of a path out of the working folder the name, of one into it the rest."""
    if not isinstance(value, str) or not (Path(value).is_absolute() or value.startswith("..")):
        return value
    path = Path(value)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else path.name


def texts_of(args: argparse.Namespace) -> str:
    """A digest of all texts that a command names."""
    return digest_of(*(getattr(args, name, None) for name in ("facts", "data", "distractors", "book", "events")))


def report_problems(problems: Sequence[str], say: Say) -> None:
    if problems:
        shown = "\n  ".join(problems[:10]) + ("\n  …" if len(problems) > 10 else "")
        say(f"Skipped {len(problems)} malformed rows:\n  {shown}")


def benchmark(args: argparse.Namespace, say: Say) -> str:
    """Any task that comes down to examples: texts, questions, scores."""
    model, tokenizer = load_any(args.model, args.device, args.dtype)
    window = model.config.prompt_window if isinstance(model, MPlusForCausalLM) else 2048
    loaded, problems = args.load(args, tokenizer, window)
    report_problems(problems, say)
    methods = names(args.methods, METHODS, "method")
    told = {key: getattr(args, key) for key in vars(args) if key not in NOT_SETTINGS}
    told |= {"weights": weights(args.model), "texts": texts_of(args)}
    journal = Journal(journal_path(args), told, examples.KEYS)
    make = partial(make_reader, model=model, tokenizer=tokenizer, budget_bytes=args.budget_bytes, seed=args.seed)
    examples.run_examples(loaded, methods, make, journal, args.over)
    lines = examples.summary(journal, methods)
    if args.plot:
        plot_bars(args.plot, lines, "group", "method", f"{args.task}, {args.model}")
    return finish(args, {**told, "skipped": len(problems), "rows": lines}, markdown(lines, "method", "group"))


def load_facts_file(args: argparse.Namespace, tokenizer: Any, window: int):
    lengths = numbers(args.lengths)
    stream = load_stream(args.distractors, tokenizer, max(lengths) + 1)
    return own_words.load(args.data, tokenizer, stream, lengths, args.num, args.seed, args.metric)


def load_longbench(args: argparse.Namespace, tokenizer: Any, window: int):
    if args.data.endswith(".json"):
        return longbench.build(Path(args.data), tokenizer, args.length, window, args.num or 100, args.seed)
    sets = names(args.sets, tuple(longbench.SETS), "set")
    return longbench.load(args.data, sets, tokenizer, args.length, window, args.num)


def load_babilong(args: argparse.Namespace, tokenizer: Any, window: int):
    tasks = names(args.tasks, tuple(babilong.LABELS), "task")
    if not args.book and Path(args.data).is_file():
        if len(tasks) > 1:
            raise ValueError(f"{args.data} is one file, of one task; name that one with --tasks.")
        return babilong.load(args.data, tasks[0], "", args.num)
    if not args.book:
        parts = [babilong.load(args.data, name, length, args.num) for name in tasks
                 for length in args.lengths.split(",")]  # fmt: skip
    else:
        built = partial(babilong.build, book=Path(args.book), tokenizer=tokenizer, lengths=numbers(args.lengths))
        parts = [built(stories_file(args.data, name), task=name, num=args.num or 100, seed=args.seed)
                 for name in tasks]  # fmt: skip
    return [example for part in parts for example in part[0]], [line for part in parts for line in part[1]]


def stories_file(data: str, task: str) -> Path:
    """The bAbI test file of a task in a folder, or the file that was named."""
    found = sorted(Path(data).glob(f"{task}_*_test.txt"))
    return found[0] if found else Path(data)


def load_ruler(args: argparse.Namespace, tokenizer: Any, window: int):
    if args.data:
        path = Path(args.data)  # RULER writes TASK/validation.jsonl
        name = path.parent.name if path.stem in ("validation", "test") and path.parent.name else path.stem
        return ruler.load(args.data, name, tokenizer, window, args.num)
    if not args.book:
        raise ValueError("Name RULER's rows with --data, or a book to hide needles in with --book.")
    built = ruler.build(Path(args.book), tokenizer, numbers(args.lengths), args.num or 100, args.seed, args.needles)
    return built, []


def load_longbook(args: argparse.Namespace, tokenizer: Any, window: int):
    if args.data.endswith(".json"):
        return longbook.build_book(Path(args.data), tokenizer, args.length, args.num, args.seed)
    return longbook.load_books(args.data, args.num)


def load_eventqa(args: argparse.Namespace, tokenizer: Any, window: int):
    if not args.events and not args.data.endswith(".txt"):
        return longbook.load_events(args.data, args.num)
    text = longbook.beginning(Path(args.data), tokenizer, args.length)
    listed = Path(args.events).read_text(encoding="utf-8").splitlines() if args.events else longbook.find_events(text)
    events = [line.strip() for line in listed if line.strip()]
    return [longbook.build_events(Path(args.data).stem, text, events, args.num or 10**9, args.seed)], []


def load_dialogue(args: argparse.Namespace, tokenizer: Any, window: int):
    if args.data:
        return dialogue.load(args.data, args.num)
    return dialogue.build(args.num or 50, args.sessions, args.seed), []


def run_cost(args: argparse.Namespace, say: Say) -> str:
    model, tokenizer = load_any(args.model, args.device, args.dtype)
    methods, lengths = names(args.methods, METHODS, "method"), numbers(args.lengths)
    stream = load_stream(args.data, tokenizer, max(lengths))
    told = {key: getattr(args, key) for key in vars(args) if key not in (*NOT_SETTINGS, "lengths")}
    told["weights"] = weights(args.model)
    journal = Journal(journal_path(args), told, cost.KEYS)
    make = partial(make_reader, model=model, tokenizer=tokenizer, budget_bytes=args.budget_bytes, seed=args.seed)

    def text(length: int) -> str:
        return tokenizer.decode((stream * (1 + length // len(stream)))[:length])

    rows = cost.run_cost(text, lengths, methods, make, journal, model.device, over=args.over)
    return finish(args, {**told, "rows": rows}, cost.table(rows))


NOT_SETTINGS = (
    "run", "load", "task", "json", "out", "plot", "resume", "threads", "methods", "arguments", "shelf", "minutes",
    "over",
)  # fmt: skip
"""Arguments that do not decide what an answer is."""

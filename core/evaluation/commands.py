"""From the arguments of a command to its result: one function a task, which returns the table to be shown."""

import argparse
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
from . import babilong, cost, curves, dialogue, examples, gate_runs, longbench, longbook, loss, own_words, ruler
from .items import POSITIONS, Plan
from .plots import plot_bars, plot_curves
from .records import Journal, Row, markdown, summarise, write_json
from .texts import load_facts, load_stream, names, numbers, pack

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


def journal_path(args: argparse.Namespace) -> Path:
    """Where the answers go: beside the result. Without --resume an earlier journal is removed."""
    args.json = args.json or str(Path(args.out) / f"{args.task}.json")
    path = Path(args.json).with_suffix(".jsonl")
    if not args.resume:
        path.unlink(missing_ok=True)
    return path


def finish(args: argparse.Namespace, content: Row, table: str) -> str:
    """Write the result and its table; returns the table."""
    command = {"task": args.task, "command": "python -m core.evaluate " + " ".join(args.arguments)}
    write_json(args.json, command | content)
    Path(args.json).with_suffix(".md").write_text(table + "\n", encoding="utf-8")
    return table


def report_problems(problems: Sequence[str], say: Say) -> None:
    if problems:
        shown = "\n  ".join(problems[:10]) + ("\n  …" if len(problems) > 10 else "")
        say(f"Skipped {len(problems)} malformed rows:\n  {shown}")


def retention(args: argparse.Namespace, say: Say) -> str:
    settings = {} if args.max_long_term is None else {"max_long_term": args.max_long_term}
    model, tokenizer = load_any(args.model, args.device, args.dtype, **settings)
    plan = Plan(
        distances=tuple(sorted(numbers(args.distances))),
        methods=tuple(names(args.methods, curves.CURVE_METHODS, "method")),
        seeds=tuple(numbers(args.seeds)),
        asked=args.asked, lead=args.lead, batch=args.batch, max_new_tokens=args.max_new_tokens,
        position=names(args.position, POSITIONS, "position")[0],
    )  # fmt: skip
    facts, problems = load_facts(args.facts, args.num_facts)
    report_problems(problems, say)
    stream = load_stream(args.distractors, tokenizer, max(plan.distances) + 4096)
    told: Row = {
        "model": args.model, "facts": args.facts, "num_facts": len(facts), "distractors": args.distractors, **settings,
    }  # fmt: skip
    content = curves.run_retention(
        model, tokenizer, facts, stream, plan, numbers(args.live), journal_path(args), told, say, args.shelf
    )
    lines = [line | {"method": curves.curve_name(line)} for line in content["rows"]]
    if args.plot:
        curves.plot_retention(Path(args.plot), content, f"Retention of {args.model}")
    return finish(args, {**told, "skipped": len(problems), **content}, markdown(lines, "method", "distance"))


def compression(args: argparse.Namespace, say: Say) -> str:
    """The same passages at several ratios of text to memory: the chunk grows, the block stays."""
    stream, lines, told = None, [], {}
    ratios, out = sorted(numbers(args.ratios)), journal_path(args)
    for ratio in ratios:
        model, tokenizer = load_any(args.model, args.device, args.dtype)
        size = model.config.block_size
        model, tokenizer = load_any(args.model, args.device, args.dtype, chunk_size=ratio * size)
        facts, problems = load_facts(args.facts, args.num_facts)
        passages = pack(facts, tokenizer, max(ratios) * size)
        plan = Plan(
            distances=tuple(sorted(numbers(args.distances))), seeds=tuple(numbers(args.seeds)), batch=args.batch,
            methods=tuple(names(args.methods, curves.CURVE_METHODS, "method")),
        )  # fmt: skip
        stream = stream or load_stream(args.distractors, tokenizer, max(plan.distances) + 4096)
        told = {"model": args.model, "facts": args.facts, "num_facts": len(passages), "distractors": args.distractors}
        journal = out.with_name(f"{out.stem}-{ratio}{out.suffix}")
        content = curves.run_retention(model, tokenizer, passages, stream, plan, [1], journal, told, say)
        lines += [{"ratio": ratio, **line} for line in content["rows"]]
    named = [line | {"method": f"{line['method']} {line['ratio']}x"} for line in lines]
    if args.plot:
        plot_curves(args.plot, named, "distance", "accuracy", "method", f"Compression, {args.model}")
    return finish(args, {**told, "skipped": len(problems), "rows": lines}, markdown(named, "method", "distance"))


def gates(args: argparse.Namespace, say: Say, parse: Callable[[Sequence[str]], argparse.Namespace]) -> str:
    own_words = Path(__file__).parents[2] / "tests" / "data" / "own_words.jsonl"
    fill = {"text": args.data, "words": args.words or str(own_words), "ladder": args.ladder or args.model}
    less = {"num-facts": args.num_facts, "seeds": args.seeds}
    model, _ = load_any(args.model, args.device, args.dtype)
    if not curves.can_replay(model):
        raise ValueError(f"{args.model} cannot be measured so far out: the gates need an M+ under the paper's rules.")
    allowed, shelf = [run.name for run in gate_runs.RUNS], {}

    def start(line: list[str]) -> None:
        inner = parse([*line, *([] if args.resume else ["--no-resume"])])
        inner.arguments, inner.shelf = line, shelf
        say(inner.run(inner, say))

    wanted = names(args.only or ",".join(allowed), allowed, "run")
    fill |= {"less": " ".join(f"--{name} {value}" for name, value in less.items() if value)}
    return gate_runs.run_gates(wanted, args.quick, args.model, Path(args.out), fill, start, say)


def benchmark(args: argparse.Namespace, say: Say) -> str:
    """Any task that comes down to examples: texts, questions, scores."""
    model, tokenizer = load_any(args.model, args.device, args.dtype)
    window = model.config.prompt_window if isinstance(model, MPlusForCausalLM) else 2048
    loaded, problems = args.load(args, tokenizer, window)
    report_problems(problems, say)
    methods = names(args.methods, METHODS, "method")
    told = {key: getattr(args, key) for key in vars(args) if key not in NOT_SETTINGS}
    journal = Journal(journal_path(args), told, examples.KEYS)
    make = partial(make_reader, model=model, tokenizer=tokenizer, budget_bytes=args.budget_bytes, seed=args.seed)
    examples.run_examples(loaded, methods, make, journal)
    lines = examples.summary(journal, methods)
    if args.plot:
        plot_bars(args.plot, lines, "group", "method", f"{args.task}, {args.model}")
    return finish(args, {**told, "skipped": len(problems), "rows": lines}, markdown(lines, "method", "group"))


def load_facts_file(args: argparse.Namespace, tokenizer: Any, window: int):
    lengths = numbers(args.lengths)
    stream = load_stream(args.distractors, tokenizer, max(lengths) + 1)
    return own_words.load(args.data, tokenizer, stream, lengths, args.num, args.seed)


def load_longbench(args: argparse.Namespace, tokenizer: Any, window: int):
    sets = names(args.sets, tuple(longbench.SETS), "set")
    return longbench.load(args.data, sets, tokenizer, args.length, window, args.num)


def load_babilong(args: argparse.Namespace, tokenizer: Any, window: int):
    names(args.tasks, tuple(babilong.LABELS), "task")
    if not args.book:
        parts = [babilong.load(args.data, name, length, args.num) for name in args.tasks.split(",")
                 for length in args.lengths.split(",")]  # fmt: skip
    else:
        built = partial(babilong.build, book=Path(args.book), tokenizer=tokenizer, lengths=numbers(args.lengths))
        parts = [built(stories_file(args.data, name), task=name, num=args.num or 100, seed=args.seed)
                 for name in args.tasks.split(",")]  # fmt: skip
    return [example for part in parts for example in part[0]], [line for part in parts for line in part[1]]


def stories_file(data: str, task: str) -> Path:
    """The bAbI test file of a task in a folder, or the file that was named."""
    found = sorted(Path(data).glob(f"{task}_*_test.txt"))
    return found[0] if found else Path(data)


def load_ruler(args: argparse.Namespace, tokenizer: Any, window: int):
    if args.data:
        return ruler.load(args.data, Path(args.data).stem, tokenizer, window, args.num)
    if not args.book:
        raise ValueError("Name RULER's rows with --data, or a book to hide needles in with --book.")
    built = ruler.build(Path(args.book), tokenizer, numbers(args.lengths), args.num or 100, args.seed, args.needles)
    return built, []


def load_longbook(args: argparse.Namespace, tokenizer: Any, window: int):
    return longbook.load_books(args.data, args.num)


def load_eventqa(args: argparse.Namespace, tokenizer: Any, window: int):
    if not args.events:
        return longbook.load_events(args.data, args.num)
    events = [line.strip() for line in Path(args.events).read_text(encoding="utf-8").splitlines() if line.strip()]
    return [longbook.build_events(Path(args.data), events, args.num or 10**9, args.seed)], []


def load_dialogue(args: argparse.Namespace, tokenizer: Any, window: int):
    if args.data:
        return dialogue.load(args.data, args.num)
    return dialogue.build(args.num or 50, args.sessions, args.seed), []


def run_loss(args: argparse.Namespace, say: Say) -> str:
    models = args.model.split(",")
    methods, positions = names(args.methods, loss.METHODS, "method"), numbers(args.positions)
    told = {key: getattr(args, key) for key in vars(args) if key not in (*NOT_SETTINGS, "model", "positions")}
    journal = Journal(journal_path(args), told, loss.KEYS)
    for name in models:
        model, tokenizer = load_any(name, args.device, args.dtype)
        if not curves.can_replay(model):
            raise ValueError(f"{name} cannot be measured by position: it needs an M+ under the paper's rules.")
        stream = load_stream(args.data, tokenizer, max(positions) + args.passage)
        loss.run_loss(
            model, name, stream, positions, methods, args.documents, args.passage, args.batch, args.seed, journal
        )
    rows = [loss.label(row) for row in journal if row["model"] in models and row["method"] in methods]
    lines = summarise(rows, ("curve", "position"), name="loss")
    if args.plot:
        plot_curves(args.plot, lines, "position", "loss", "curve", "Loss by position, nats a token")
    return finish(args, {**told, "rows": lines}, markdown(lines, "curve", "position", "loss", percent=False))


def run_cost(args: argparse.Namespace, say: Say) -> str:
    model, tokenizer = load_any(args.model, args.device, args.dtype)
    methods, lengths = names(args.methods, METHODS, "method"), numbers(args.lengths)
    stream = load_stream(args.data, tokenizer, max(lengths))
    told = {key: getattr(args, key) for key in vars(args) if key not in (*NOT_SETTINGS, "lengths")}
    journal = Journal(journal_path(args), told, cost.KEYS)
    make = partial(make_reader, model=model, tokenizer=tokenizer, budget_bytes=args.budget_bytes, seed=args.seed)

    def text(length: int) -> str:
        return tokenizer.decode((stream * (1 + length // len(stream)))[:length])

    rows = cost.run_cost(text, lengths, methods, make, journal, model.device)
    return finish(args, {**told, "rows": rows}, cost.table(rows))


NOT_SETTINGS = ("run", "load", "task", "json", "out", "plot", "resume", "threads", "methods", "arguments", "shelf")
"""Arguments that do not decide what an answer is."""

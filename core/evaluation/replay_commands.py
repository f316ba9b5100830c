"""The commands whose memories are replayed: retention, compression, loss by position, and all gates together."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from . import curves, gate_runs, loss, paper_runs
from .commands import NOT_SETTINGS, Say, finish, journal_path, load_any, portable, report_problems, texts_of, weights
from .items import POSITIONS, Plan
from .plots import plot_curves
from .records import Journal, Row, clock, markdown, summarise
from .texts import load_facts, load_stream, names, numbers, pack


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
    if args.packed:
        facts, settings = pack(facts, tokenizer, args.packed), {**settings, "packed": args.packed}
    stream = load_stream(args.distractors, tokenizer, max(plan.distances) + 4096)
    told: Row = {
        "model": args.model, "facts": args.facts, "num_facts": len(facts), "distractors": args.distractors,
        "weights": weights(args.model), "texts": texts_of(args), "dtype": args.dtype, **settings,
    }  # fmt: skip
    content = curves.run_retention(
        model, tokenizer, facts, stream, plan, numbers(args.live, 1), journal_path(args), told, say,
        args.shelf, args.over,
    )  # fmt: skip
    lines = [line | {"method": curves.curve_name(line)} for line in content["rows"]]
    if args.plot:
        curves.plot_retention(Path(args.plot), content, f"Retention of {args.model}")
    return finish(args, {**told, "skipped": len(problems), **content}, markdown(lines, "method", "distance"))


def compression(args: argparse.Namespace, say: Say) -> str:
    """The same passages at several ratios of text to memory: the chunk grows, the block stays, no chunks overlap."""
    stream, lines, told = None, [], {}
    ratios = sorted(numbers(args.ratios, 1))
    for ratio in ratios:
        model, tokenizer = load_any(args.model, args.device, args.dtype)
        size = model.config.block_size
        settings = {"chunk_size": ratio * size, "overlapped": 0}
        model, tokenizer = load_any(args.model, args.device, args.dtype, **settings)
        facts, problems = load_facts(args.facts, args.num_facts)
        passages = pack(facts, tokenizer, max(ratios) * size)
        plan = Plan(
            distances=tuple(sorted(numbers(args.distances))), seeds=tuple(numbers(args.seeds)), batch=args.batch,
            methods=tuple(names(args.methods, curves.CURVE_METHODS, "method")),
        )  # fmt: skip
        stream = stream or load_stream(args.distractors, tokenizer, max(plan.distances) + 4096)
        told = {
            "model": args.model, "facts": args.facts, "num_facts": len(passages), "distractors": args.distractors,
            "weights": weights(args.model), "texts": texts_of(args), "dtype": args.dtype,
        }  # fmt: skip
        journal = journal_path(args, f"-{ratio}")
        content = curves.run_retention(
            model, tokenizer, passages, stream, plan, [1], journal, told, say, over=args.over
        )
        lines += [{"ratio": ratio, **line} for line in content["rows"]]
    named = [line | {"method": f"{line['method']} {line['ratio']}x"} for line in lines]
    if args.plot:
        plot_curves(args.plot, named, "distance", "accuracy", "method", f"Compression, {args.model}")
    return finish(args, {**told, "skipped": len(problems), "rows": lines}, markdown(named, "method", "distance"))


def ladder(args: argparse.Namespace, say: Say) -> str:
    """Retention of several models, each as it is, in one plot (paper Figures 3 and 5): with Θ where it has one."""
    lines, told = [], {"model": args.model, "facts": args.facts}
    facts, problems = load_facts(args.facts, args.num_facts)
    for name in args.model.split(","):
        model, tokenizer = load_any(name, args.device, args.dtype)
        if not curves.can_replay(model):
            raise ValueError(f"{name} is no M+ or MemoryLLM under the paper's rules; leave it out of --model.")
        plan = Plan(
            distances=tuple(sorted(numbers(args.distances))), seeds=tuple(numbers(args.seeds)), batch=args.batch,
            methods=("mplus" if model.config.num_retrieved else "memoryllm",),
        )  # fmt: skip
        stream = load_stream(args.distractors, tokenizer, max(plan.distances) + 4096)
        journal = journal_path(args, f"-{Path(name).name}")
        settings = told | {"model": name, "num_facts": len(facts), "distractors": args.distractors}
        settings |= {"weights": weights(name), "texts": texts_of(args), "dtype": args.dtype}
        content = curves.run_retention(
            model, tokenizer, facts, stream, plan, [1], journal, settings, say, over=args.over
        )
        lines += [{"model": Path(name).name, **line} for line in content["rows"]]
    told["weights"] = ",".join(map(weights, args.model.split(",")))
    if args.plot:
        plot_curves(args.plot, lines, "distance", "accuracy", "model", "Retention by stage of the ladder")
    told |= {"num_facts": len(facts), "distractors": args.distractors}
    return finish(args, {**told, "skipped": len(problems), "rows": lines}, markdown(lines, "model", "distance"))


def run_loss(args: argparse.Namespace, say: Say) -> str:
    models = args.model.split(",")
    methods, positions = names(args.methods, loss.METHODS, "method"), numbers(args.positions)
    told = {key: getattr(args, key) for key in vars(args) if key not in (*NOT_SETTINGS, "model", "positions")}
    told |= {"weights": ",".join(map(weights, models)), "texts": texts_of(args), "longest": max(positions)}
    journal = Journal(journal_path(args), told, loss.KEYS)
    for name in models:
        model, tokenizer = load_any(name, args.device, args.dtype)
        if not curves.can_replay(model):
            raise ValueError(f"{name} cannot be measured by position: it needs an M+ under the paper's rules.")
        stream = load_stream(args.data, tokenizer, max(positions) + args.passage)
        loss.run_loss(
            model, name, stream, positions, methods, args.documents, args.passage, args.batch, args.seed, journal,
            args.over,
        )  # fmt: skip
    rows = [loss.label(row) for row in journal if row["model"] in models and row["method"] in methods]
    lines = summarise(rows, ("curve", "position"), name="loss")
    if args.plot:
        plot_curves(args.plot, lines, "position", "loss", "curve", "Loss by position, nats a token")
    return finish(args, {**told, "rows": lines}, markdown(lines, "curve", "position", "loss", percent=False))


def gates(args: argparse.Namespace, say: Say, parse: Callable[[Sequence[str]], argparse.Namespace]) -> str:
    if not Path(args.data).is_file():
        raise ValueError(f"There is no text {args.data}; name a .txt file that the model was not trained on.")
    kept = Path(__file__).parents[2] / "tests" / "data"
    fill = {
        "text": args.data,
        "words": args.words or str(kept / "own_words.jsonl"),
        "ladder": args.ladder or args.model,
    }
    fill |= {"updates": str(kept / "own_words_several.jsonl"), "untouched": str(kept / "own_words_fresh.jsonl")}
    less = {"num-facts": args.num_facts, "seeds": args.seeds}
    model, _ = load_any(args.model, args.device, args.dtype)
    if not curves.can_replay(model):
        raise ValueError(f"{args.model} cannot be measured so far out: the gates need an M+ under the paper's rules.")
    allowed, shelf = [run.name for run in gate_runs.RUNS], {}

    def start(line: list[str]) -> None:
        inner = parse([*line, *([] if args.resume else ["--no-resume"])])
        inner.device, inner.dtype = args.device, args.dtype
        inner.arguments, inner.shelf, inner.over = line, shelf, args.over
        say(inner.run(inner, say))

    wanted = names(args.only or ",".join(allowed), allowed, "run")
    fill |= {"less": " ".join(f"--{name} {value}" for name, value in less.items() if value)}
    return gate_runs.run_gates(wanted, args.quick, args.model, weights(args.model), Path(args.out), fill, start, say)


def paper(args: argparse.Namespace, say: Say, parse: Callable[[Sequence[str]], argparse.Namespace]) -> str:
    book = Path(args.book)
    if not book.is_file():
        raise ValueError(f"There is no book {book}; name a .txt file that the model was not trained on.")
    fill = paper_runs.find_data(Path(args.data))
    fill |= {"book": str(book.resolve()), "ladder": args.ladder or args.model}
    fill["filler"] = fill.get("squad_train", fill["book"])
    allowed, shelf = [run.name for run in paper_runs.RUNS], {}
    wanted = names(args.only or ",".join(allowed), allowed, "run")

    def start(line: list[str], minutes: float | None) -> None:
        inner = parse([*line, *([] if args.resume else ["--no-resume"])])
        inner.device, inner.dtype = args.device, args.dtype
        inner.arguments, inner.shelf, inner.over = line, shelf, clock(minutes)
        inner.run(inner, say)

    command = "python -m core.evaluate " + " ".join(str(portable(str(part))) for part in args.arguments)
    return paper_runs.run_paper(
        wanted, args.model, weights(args.model), Path(args.out), fill, args.num, args.minutes, start, say, command
    )

"""`python -m core.evaluate TASK --model NAME …`: the paper's measurements, one command each, on any checkpoint.

Every run resets all memory for every item, decodes greedily, writes each answer to a journal as it comes (start it
again to go on after an interruption) and ends with a table, a JSON file and, if asked, a picture.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from .checkpoint import find, load_model
from .evaluation import curves
from .evaluation.records import Row, markdown, write_json
from .evaluation.retention import Plan
from .evaluation.texts import load_facts, load_stream, names, numbers
from .official import is_official


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def load_any(name: str, args: argparse.Namespace, **settings: Any) -> tuple[Any, Any]:
    """Model and tokenizer: M+ and MemoryLLM checkpoints as such, any other causal model as the plain model it is."""
    folder, dtype = find(name), getattr(torch, args.dtype)
    theirs = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if theirs.get("model_type") == "mplus" or is_official(theirs):
        model: Any = load_model(folder, args.device, dtype, **settings)
    else:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
        model.to(torch.device(args.device or "cpu")).eval()
    return model, AutoTokenizer.from_pretrained(folder)


def journal_path(args: argparse.Namespace) -> Path:
    """Where the answers go: beside the JSON file. Without --resume an earlier journal is removed."""
    path = Path(args.json).with_suffix(".jsonl")
    if not args.resume:
        path.unlink(missing_ok=True)
    return path


def report_problems(problems: Sequence[str]) -> None:
    if problems:
        shown = "\n  ".join(problems[:10]) + ("\n  …" if len(problems) > 10 else "")
        say(f"Skipped {len(problems)} malformed rows:\n  {shown}")


def retention(args: argparse.Namespace) -> None:
    settings = {} if args.max_long_term is None else {"max_long_term": args.max_long_term}
    model, tokenizer = load_any(args.model, args, **settings)
    plan = Plan(
        distances=tuple(sorted(numbers(args.distances))),
        methods=tuple(names(args.methods, curves.CURVE_METHODS, "method")),
        seeds=tuple(numbers(args.seeds)),
        asked=args.asked, lead=args.lead, batch=args.batch, max_new_tokens=args.max_new_tokens,
    )  # fmt: skip
    facts, problems = load_facts(args.facts, args.num_facts)
    report_problems(problems)
    stream = load_stream(args.distractors, tokenizer, max(plan.distances) + 4096)
    told: Row = {
        "model": args.model, "facts": args.facts, "num_facts": len(facts), "distractors": args.distractors, **settings,
    }  # fmt: skip
    content = curves.run_retention(
        model, tokenizer, facts, stream, plan, numbers(args.live), journal_path(args), told, say
    )
    content = {"task": "retention", **told, "skipped": len(problems), "command": " ".join(sys.argv[1:]), **content}
    write_json(args.json, content)
    lines = [line | {"method": curves.curve_name(line)} for line in content["rows"]]
    print(markdown(lines, "method", "distance"))
    if args.plot:
        curves.plot_retention(Path(args.plot), content, f"Retention of {args.model}")


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m core.evaluate", description=(__doc__ or "").split("\n\n")[1])
    tasks = top.add_subparsers(dest="task", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--model", default="mini", help="a shipped name, a folder or a hub name")
    common.add_argument("--json", required=True, metavar="OUT", help="the result; the answers go to OUT with .jsonl")
    common.add_argument("--plot", metavar="PICTURE", help="a picture of the result, .png, .svg or .pdf")
    common.add_argument("--resume", action=argparse.BooleanOptionalAction, default=True, help="go on from the journal")
    common.add_argument("--device", help="for instance cuda; the default is the CPU")
    common.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    common.add_argument("--threads", type=int, help="CPU threads; the default is torch's")

    task = tasks.add_parser("retention", parents=[common], help="a fact is asked for after ever more other text")
    task.set_defaults(run=retention)
    task.add_argument("--facts", required=True, help=".jsonl of fact, question, answer, or generated: facts:SEED")
    task.add_argument("--distractors", required=True, help=".txt file, a folder of them, or generated: facts:SEED")
    task.add_argument("--distances", default="0,2000,5000,10000,20000,40000,80000,160000", help="tokens in between")
    task.add_argument("--methods", default="mplus,memoryllm,random-retriever,question-only",
                      help=f"of {', '.join(curves.CURVE_METHODS)}")  # fmt: skip
    task.add_argument("--seeds", default="0,1,2")
    task.add_argument("--num-facts", type=int, help="the first so many of the file; generated facts: 500 by default")
    task.add_argument("--live", default="1", help="facts that one memory holds at once, for instance 1,10,100,1000")
    task.add_argument("--asked", type=int, default=10, help="questions for each memory of several live facts")
    task.add_argument("--lead", type=int, default=8, help="chunks each item writes for itself before shared text")
    task.add_argument("--batch", type=int, default=32, help="items side by side")
    task.add_argument("--max-new-tokens", type=int, default=16)
    task.add_argument("--max-long-term", type=int, help="another M than the checkpoint's, for very long distances")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    transformers_logging.set_verbosity_error()
    if args.threads:
        torch.set_num_threads(args.threads)
    try:
        args.run(args)
    except ValueError as error:
        say(f"core.evaluate: {error}")
        return 2
    except KeyboardInterrupt:
        say("Interrupted; the answers so far are kept, start again to go on.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

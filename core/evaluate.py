"""`python -m core.evaluate TASK --model NAME …`: the paper's measurements, one command each, on any checkpoint.

Every run resets all memory for every item, decodes greedily, writes each answer to a journal as it comes (start it
again to go on after an interruption) and ends with a table, a JSON file and, if asked, a picture.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from transformers.utils import logging as transformers_logging

from .arguments import count, picture
from .baselines import METHODS
from .evaluation import commands, longbench, own_words, replay_commands, retriever_table
from .evaluation.curves import CURVE_METHODS
from .evaluation.gate_runs import RUNS
from .evaluation.loss import METHODS as LOSS_METHODS
from .evaluation.paper_runs import RUNS as PAPER_RUNS
from .evaluation.records import clock, never
from .recipe import find_sources, recipe_practice


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def lessons(model: Any, tokenizer: Any, data: list[str], seed: int) -> Any:
    """What retrievers learn from: generated facts, and documents or else generated prose."""
    return recipe_practice(model, tokenizer, find_sources(data) if data else [], seed).lessons


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m core.evaluate", description=(__doc__ or "").split("\n\n")[1])
    tasks = top.add_subparsers(dest="task", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--model", default="mini", help="a shipped name, a folder or a hub name")
    common.add_argument("--out", metavar="FOLDER", default="runs/evaluate", help="for TASK.json, .jsonl and .md")
    common.add_argument("--json", metavar="FILE", help="the result, instead of a file in --out")
    common.add_argument("--plot", metavar="PICTURE", type=picture, help="a picture of the result, .png, .svg or .pdf")
    common.add_argument("--resume", action=argparse.BooleanOptionalAction, default=True, help="go on from the journal")
    common.add_argument("--device", help="for instance cuda; the default is the CPU")
    common.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    common.add_argument("--minutes", type=float, help="report what was answered in this time; start again to go on")
    common.set_defaults(shelf=None, over=never)
    common.add_argument("--threads", type=count, help="CPU threads; the default is torch's")

    def add(name: str, run: Any, help: str, methods: str, load: Any = None, data: str | None = None):
        task = tasks.add_parser(name, parents=[common], help=help)
        task.set_defaults(run=run, load=load)
        known = {"retention": CURVE_METHODS, "compression": CURVE_METHODS, "loss": LOSS_METHODS}.get(name, METHODS)
        task.add_argument("--methods", default=methods, help=f"a list, of {', '.join(known)}; by default {methods}")
        if name not in ("retention", "compression"):
            task.add_argument("--seed", type=int, default=0)
            task.add_argument("--data", required=data is not None and "optional" not in data, help=data)
        if load:
            task.add_argument("--num", type=count, help="examples at most (of each set, task or length)")
        if load or name == "cost":
            task.add_argument("--budget-bytes", type=count, help="of keys and values before a prompt; as M+ by default")
        return task

    task = tasks.add_parser("gates", parents=[common], help="everything a mini is judged by, in one table")
    task.set_defaults(
        run=partial(replay_commands.gates, parse=lambda line: parser().parse_args(line)), out="runs/gates"
    )
    task.add_argument("--data", metavar="TEXT", required=True, help="a .txt file that the model was not trained on")
    task.add_argument("--quick", action="store_true", help="the same runs on few facts and short distances: minutes")
    task.add_argument("--only", metavar="RUNS", help=f"a list, of {', '.join(run.name for run in RUNS)}")
    task.add_argument("--num-facts", type=count, help="fewer facts than 500 in the two long runs")
    task.add_argument("--seeds", help="fewer seeds than 0,1,2 in the two long runs")
    task.add_argument("--words", metavar="FILE", help="facts in a person's own words; the project's by default")
    task.add_argument(
        "--ladder",
        metavar="MODELS",
        help="models of the three stages, for `loss` and `ladder`; the model alone by default",
    )

    task = tasks.add_parser("paper", parents=[common], help="every table of the paper, with the data at hand")
    task.set_defaults(
        run=partial(replay_commands.paper, parse=lambda line: parser().parse_args(line)), out="runs/paper"
    )
    task.add_argument("--data", metavar="FOLDER", required=True, help="where the data sets lie, found by their names")
    task.add_argument("--book", metavar="TEXT", required=True, help="a .txt file that the model was not trained on")
    task.add_argument("--only", metavar="RUNS", help=f"a list, of {', '.join(run.name for run in PAPER_RUNS)}")
    task.add_argument("--num", type=count, help="examples of every row; by default 20 to 100")
    task.add_argument("--ladder", metavar="MODELS", help="models whose loss is compared, the model by default")

    compared = "mplus,memoryllm,random-retriever,question-only"
    task = add("retention", replay_commands.retention, "a fact is asked for after ever more other text", compared)
    task.add_argument("--facts", required=True, help=".jsonl of fact, question, answer; SQuAD; or facts:SEED")
    task.add_argument("--distractors", required=True, help=".txt file, a folder of them, or generated: facts:SEED")
    task.add_argument("--distances", default="0,2000,5000,10000,20000,40000,80000,160000", help="tokens in between")
    task.add_argument("--seeds", default="0,1,2")
    task.add_argument("--num-facts", type=count, help="the first so many of the file; generated facts: 500 by default")
    task.add_argument("--packed", type=count, help="facts are told in texts of several, of up to so many tokens")
    task.add_argument("--live", default="1", help="facts that one memory holds at once, for instance 1,10,100,1000")
    task.add_argument("--asked", type=count, default=10, help="questions for each memory of several live facts")
    task.add_argument("--position", default="begin", help="of the facts in the text: begin, end or random")
    task.add_argument("--lead", type=int, default=4, help="chunks each item writes for itself before shared text")
    task.add_argument("--batch", type=count, default=32, help="items side by side")
    task.add_argument("--max-new-tokens", type=count, default=16)
    task.add_argument("--max-long-term", type=count, help="another M than the checkpoint's, for very long distances")

    task = add(
        "compression", replay_commands.compression, "passages at several ratios of text to memory", "mplus,memoryllm"
    )
    task.add_argument("--facts", required=True, help="as in retention; neighbours are joined to passages")
    task.add_argument("--distractors", required=True, help="as in retention")
    task.add_argument("--ratios", default="2,4,8", help="tokens of text for one memory token and layer")
    task.add_argument("--distances", default="0,2000", help="tokens in between")
    task.add_argument("--seeds", default="0")
    task.add_argument("--num-facts", type=count, help="as in retention")
    task.add_argument("--batch", type=count, default=32, help="items side by side")

    task = tasks.add_parser("ladder", parents=[common], help="retention of several models in one plot")
    task.set_defaults(run=replay_commands.ladder, load=None)
    task.add_argument("--facts", required=True, help="as in retention")
    task.add_argument("--distractors", required=True, help="as in retention")
    task.add_argument("--distances", default="0,2000,8000,40000,160000", help="tokens in between")
    task.add_argument("--seeds", default="0")
    task.add_argument("--num-facts", type=count, help="as in retention")
    task.add_argument("--batch", type=count, default=32, help="items side by side")

    task = tasks.add_parser("retrievers", parents=[common], help="all kinds of retrievers on the same memory")
    task.set_defaults(run=partial(retriever_table.retrievers, make=lessons))
    retriever_table.arguments(task)

    texts = "mplus,memoryllm,full,window,snapkv,bm25"
    load, run, more = commands, commands.benchmark, f"{texts},question-only"
    task = add("facts", run, "facts in a person's own words", more, load.load_facts_file, "rows of fact or facts")
    task.add_argument("--distractors", default="facts:1", help="as in retention")
    task.add_argument("--lengths", default="0,2000", help="tokens between facts and question")
    task.add_argument("--metric", choices=own_words.SCORES, default=own_words.SCORES[0],
                      help="a hit and nothing outdated, or SQuAD's F1 or exact match")  # fmt: skip
    task = add(
        "longbench", run, "six question-answering sets", more, load.load_longbench,
        "a folder of SET.jsonl, the hub's name, or a SQuAD .json to build the form from",
    )  # fmt: skip
    task.add_argument("--sets", default=",".join(longbench.SETS))
    task.add_argument("--length", type=count, default=8192, help="tokens a prompt is truncated to, in its middle")
    task = add("babilong", run, "bAbI stories hidden in books", more, load.load_babilong, "rows, or bAbI with --book")
    task.add_argument("--book", help="a .txt file to hide the stories of a bAbI file or folder in")
    task.add_argument("--tasks", default="qa1")
    task.add_argument("--lengths", default="0,1000,4000,16000", help="tokens; without --book the hub's names (16k)")
    task = add("ruler", run, "needles in a haystack", more, load.load_ruler, "its rows (optional)")
    task.add_argument("--book", help="a .txt file to hide needles in")
    task.add_argument("--lengths", default="1000,4000,16000", help="tokens")
    task.add_argument("--needles", type=count, default=1)
    told = "its rows, or a SQuAD .json to make a book of"
    task = add("longbook", run, "InfiniteBench's questions about books", more, load.load_longbook, told)
    task.add_argument("--length", type=count, help="tokens of a book that is made; all of them by default")
    told = "its rows, or a novel as .txt"
    task = add("eventqa", run, "which event of a novel comes next?", more, load.load_eventqa, told)
    task.add_argument("--events", help="the novel's events in order, one a line; found by rule if not given")
    task.add_argument("--length", type=count, help="tokens of the novel, from its beginning; all of them by default")
    task = add("dialogue", run, "what was said in many sessions", more, load.load_dialogue, "its rows (optional)")
    task.add_argument("--sessions", type=count, default=20, help="sessions of a generated conversation")

    measured = "mplus,memoryllm,question-only"
    task = add("loss", replay_commands.run_loss, "loss by position on long documents", measured, data="a text")
    task.add_argument("--positions", default="0,1024,2048,4096,8192,16384", help="tokens")
    task.add_argument("--documents", type=count, default=32)
    task.add_argument("--passage", type=count, default=128, help="tokens read at a position; the second half counts")
    task.add_argument("--batch", type=count, default=16)
    task = add("cost", commands.run_cost, "seconds and bytes by method and length", texts, data="a text")
    task.add_argument("--lengths", default="1000,4000,16000", help="tokens")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; returns what the process exits with: 2 after an error, which is told in a sentence."""
    args = parser().parse_args(arguments)
    args.arguments = list(sys.argv[1:] if arguments is None else arguments)
    transformers_logging.set_verbosity_error()
    if args.threads:
        torch.set_num_threads(args.threads)
    args.over = clock(args.minutes)
    try:
        print(args.run(args, say))
    except (ValueError, OSError) as error:
        say(f"core.evaluate: {error}")
        return 2
    except KeyboardInterrupt:
        say("Interrupted; the answers so far are kept, start again to go on.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Every table of the paper on one model, with the data that is at hand: `python -m core.evaluate paper`.

Each row is an ordinary command of `core.evaluate` with its own JSON and journal, so what was interrupted, or cut short
by `--minutes`, goes on when the command is started again. A row whose data is not at hand is told, not left out.
"""

import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .paper_table import Absent, write_table
from .records import Row

ALL = "mplus,memoryllm,full,window,snapkv,bm25,question-only"
FAR = "mplus,memoryllm,window,bm25,question-only"  # without those that hold the keys and values of a whole book
REPLAYED, READING = "mplus,memoryllm,random-retriever,question-only,oracle", "full,window,snapkv,bm25"


@dataclass(frozen=True)
class Run:
    """A row, or several. what: its name for people; runs of one name share their rows. paper: its figures, a key of
    `core.evaluation.paper.PAPER`, or None for what the paper does not report. line: arguments, {…} filled in with
    files. num: the option for the number of examples, and how many. share: of the time, relative to other runs.
    """

    name: str
    what: str
    paper: str | None
    line: str
    num: tuple[str, int] | None
    share: float = 1.0


DATA: dict[str, tuple[tuple[str, ...], str]] = {
    "squad": (("dev-v*.json", "*squad*.json", "xquad.en.json"), "SQuAD's dev-v2.0.json, or another file in its form"),
    "squad_train": (("train-v*.json",), "SQuAD's train-v2.0.json"),
    "natural_questions": (("*nq*dev*.jsonl", "*natural*questions*.jsonl"), "v1.0-simplified_nq-dev-all.jsonl"),
    "longbench": (("hotpotqa.jsonl",), "LongBench's hotpotqa.jsonl and its five sisters in one folder"),
    "longbook": (("longbook_qa_eng.jsonl",), "InfiniteBench's longbook_qa_eng.jsonl"),
    "eventqa": (("*eventqa*.jsonl", "Accurate_Retrieval*.parquet"), "MemoryAgentBench's Accurate_Retrieval"),
    "longmemeval": (("longmemeval*.json",), "longmemeval_s.json"),
    "babi": (("qa1_*_test.txt",), "bAbI's qa1_single-supporting-fact_test.txt"),
}
"""What a row may need: how its files are called, and what to look for when it is not there."""
FOLDERS_NAMED = re.compile(r"(?<!\w)/(?:[^\s/:;,]+/)+")  # a table is to be shown elsewhere
FOLDERS = ("longbench", "babi")  # given by the folder their files lie in

RUNS = (
    Run("squad", "SQuAD's form, text after", "squad",
        f"retention --facts {{squad}} --distractors {{filler}} --methods {REPLAYED} --seeds 0 "
        "--distances 0,2000,8000,40000,160000", ("--num-facts", 60), 2),
    Run("squad-text", "SQuAD's form, text after", "squad",
        f"retention --facts {{squad}} --distractors {{filler}} --methods {READING} --seeds 0 --distances 0,2000,8000",
        ("--num-facts", 20), 3),
    Run("facts", "generated facts, text after", None,
        f"retention --facts facts:77 --distractors {{book}} --methods {REPLAYED} --seeds 0 "
        "--distances 0,2000,8000,40000,160000", ("--num-facts", 100), 2),
    Run("facts-text", "generated facts, text after", None,
        f"retention --facts facts:77 --distractors {{book}} --methods {READING} --seeds 0 --distances 0,2000,8000",
        ("--num-facts", 20), 3),
    Run("natural-questions", "NaturalQuestions, text after", "natural-questions",
        f"retention --facts {{natural_questions}} --distractors {{filler}} --methods {REPLAYED} --seeds 0 "
        "--distances 0,2000,8000,40000,160000", ("--num-facts", 100), 2),
    Run("longbench-8192", "LongBench, prompts of 8k", "longbench-8192",
        f"longbench --data {{longbench}} --length 8192 --methods {ALL}", ("--num", 50), 4),
    Run("longbench-16384", "LongBench, prompts of 16k", "longbench-16384",
        f"longbench --data {{longbench}} --length 16384 --methods {ALL}", ("--num", 50), 4),
    Run("longbench-form", "LongBench's form from SQuAD's paragraphs", None,
        f"longbench --data {{squad}} --length 8192 --methods {ALL}", ("--num", 20), 2),
    Run("longbook", "LongBook-QA", "longbook", f"longbook --data {{longbook}} --methods {FAR}", ("--num", 50), 4),
    Run("longbook-form", "LongBook-QA's form from SQuAD's paragraphs", None,
        f"longbook --data {{squad}} --length 16000 --methods {ALL}", ("--num", 40), 1),
    Run("eventqa", "EventQA", "eventqa", f"eventqa --data {{eventqa}} --methods {FAR}", ("--num", 5), 4),
    Run("eventqa-form", "EventQA's form, a novel's beginning", None,
        f"eventqa --data {{book}} --length 16000 --methods {ALL}", ("--num", 40), 1),
    Run("eventqa-novel", "EventQA's form, a whole novel", None,
        f"eventqa --data {{book}} --methods {FAR}", ("--num", 40), 1),
    Run("loss", "loss", "loss",
        "loss --model {ladder} --data {book} --methods mplus,memoryllm,question-only --positions 0,2048,8192",
        ("--documents", 32), 1),
    Run("babilong", "bAbI in a novel", None,
        f"babilong --data {{babi}} --book {{book}} --tasks qa1,qa2 --lengths 0,1000,8000 --methods {ALL}",
        ("--num", 20), 3),
    Run("ruler", "a number in a novel", None, f"ruler --book {{book}} --lengths 1000,8000 --methods {ALL}",
        ("--num", 20), 2),
    Run("dialogue", "conversations", None, f"dialogue --sessions 20 --methods {ALL}", ("--num", 5), 2),
    Run("longmemeval", "LongMemEval, without its judge", None,
        f"dialogue --data {{longmemeval}} --methods {FAR}", ("--num", 50), 3),
    Run("cost", "cost", "cost", "cost --data {book} --lengths 1000,4000,16000 "
        "--methods mplus,memoryllm,full,window,snapkv,bm25", None, 1),
)  # fmt: skip
"""From what the paper is about to what it does not report."""


def find_data(folder: Path) -> dict[str, str]:
    """The data of `DATA` that lies anywhere below a folder. Raises ValueError if it is no folder."""
    if not folder.is_dir():
        raise ValueError(f"There is no folder {folder}; name the one that the data sets lie in.")
    found: dict[str, str] = {}
    for name, (patterns, _) in DATA.items():
        files = [path for pattern in patterns for path in sorted(folder.rglob(pattern))]
        if files:
            found[name] = str((files[0].parent if name in FOLDERS else files[0]).resolve())
    return found


def needed(run: Run, fill: dict[str, str]) -> str | None:
    """Why a run cannot be made, or None."""
    missing = [name for name in DATA if f"{{{name}}}" in run.line and name not in fill]
    return f"the data is not at hand: {', '.join(DATA[name][1] for name in missing)}" if missing else None


def arguments(run: Run, model: str, out: Path, fill: dict[str, str], num: int | None) -> list[str]:
    """The command line of a run, without its program."""
    parts = [part.format(**fill) for part in run.line.split()]
    named = [] if "--model" in parts else ["--model", model]
    many = [run.num[0], str(num or run.num[1])] if run.num else []
    return [*parts, *many, *named, "--json", str(out / "paper" / f"{run.name}.json")]


def run_paper(
    names: Sequence[str], model: str, stamp: str, out: Path, fill: dict[str, str], num: int | None,
    minutes: float | None, start: Callable[[list[str], float | None], object], say: Callable[[str], None],
    command: str,
) -> str:  # fmt: skip
    """Make these runs, each in its share of the minutes, and show all that `out` holds; returns the table.

    `start` makes a run from its command line in so many minutes. A run that ends early leaves its time to the others.
    stamp: the weights; answers of others are dropped. paper.json and paper.md are brought up to date after every run.
    """
    end = None if minutes is None else time.monotonic() + 60 * minutes
    chosen = [run for run in RUNS if run.name in names and not needed(run, fill)]
    failed: dict[str, str] = {}
    for number, run in enumerate(chosen, 1):
        line, begin = arguments(run, model, out, fill, num), time.monotonic()
        left = None if end is None else max(0.0, end - begin) / 60
        share = None if left is None else left * run.share / sum(later.share for later in chosen[number - 1 :])
        told = "" if left is None or share is None else f", {share:.1f} of {left:.1f} minutes left"
        say(f"[{number}/{len(chosen)}{told}] python -m core.evaluate {' '.join(line)}")
        _drop_foreign(Path(line[-1]), stamp, say)
        try:
            start(line, share)
        except ValueError as error:
            failed[run.name] = FOLDERS_NAMED.sub("", str(error))
            say(f"{run.name}: {error}")
        say(f"{run.name}: {time.monotonic() - begin:.0f} s")
        show(model, stamp, out, fill, failed, command)
    return show(model, stamp, out, fill, failed, command)


def _drop_foreign(result: Path, stamp: str, say: Callable[[str], None]) -> None:
    journal = result.with_suffix(".jsonl")
    if journal.is_file():
        with journal.open(encoding="utf-8") as file:
            first = file.readline()
        if stamp not in first:
            say(f"{journal.name} is of other weights; all of it is asked anew.")
            journal.unlink()


def show(model: str, stamp: str, out: Path, fill: dict[str, str], failed: dict[str, str], command: str) -> str:
    """The table from the results that `out` holds of these weights."""
    results: list[tuple[Run, Row]] = []
    absent: list[Absent] = []
    for run in RUNS:
        path = out / "paper" / f"{run.name}.json"
        content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if stamp in str(content.get("weights", "")) and run.name not in failed:  # what failed left an older result
            results.append((run, content))
        else:
            why = needed(run, fill) or failed.get(run.name) or "not asked for"
            absent.append(Absent(run.what, run.paper, why))
    return write_table(out, Path(model).name, stamp, results, absent, command)

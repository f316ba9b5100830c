"""All measurements a mini is judged by, one command: `python -m core.evaluate gates --model NAME --data TEXT`.

Each run is an ordinary command of `core.evaluate` with its own JSON and journal, so what was interrupted goes on, and
any figure can be had again by itself.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from .gates import table, verdicts
from .records import Row, write_json

FOUR = "mplus,memoryllm,random-retriever,question-only"


@dataclass(frozen=True)
class Run:
    """A command: `full` and `quick` are its arguments, in which {text}, {words}, {ladder} and others are filled in."""

    name: str
    task: str
    common: str
    full: str
    quick: str


RUNS = (
    Run(
        "prose", "retention", f"--facts facts:77 --distractors {{text}} --methods {FOUR}",
        "--num-facts 500 --seeds 0,1,2 --distances 0,2000,8000,20000,40000,80000,160000",
        "--num-facts 20 --seeds 0 --distances 0,2000,8000",
    ),
    Run(
        "generated", "retention", f"--facts facts:77 --distractors facts:78 --methods {FOUR},unweighted",
        "--num-facts 500 --seeds 0,1,2 --distances 0,2000,8000,20000,40000,80000,160000",
        "--num-facts 20 --seeds 0 --distances 0,2000,8000",
    ),
    Run(
        "words", "facts", "--data {words} --distractors {text} --methods mplus,question-only", "--lengths 0,2000",
        "--lengths 0 --num 20",
    ),
    Run(
        "untouched", "facts", "--data {untouched} --distractors {text} --methods mplus,question-only",
        "--lengths 0,2000", "--lengths 0 --num 20",
    ),
    Run(
        "updates", "facts", "--data {updates} --distractors {text} --methods mplus,question-only", "--lengths 0,2000",
        "--lengths 0",
    ),
    Run(
        "changed", "facts", "--data updates:86 --distractors {text} --methods mplus,question-only",
        "--num 200 --lengths 0,2000", "--num 12 --lengths 0",
    ),
    Run(
        "uses", "retention",
        "--facts facts:79 --distractors {text} "
        "--methods mplus,memoryllm,random-retriever,zeroed,scrambled,foreign,question-only,oracle",
        "--num-facts 200 --seeds 0 --distances 0,2000,20000,160000", "--num-facts 20 --seeds 0 --distances 0,2000",
    ),
    Run(
        "million", "retention",
        "--facts facts:80 --distractors {text} --methods mplus,question-only --max-long-term 600000",
        "--num-facts 100 --seeds 0 --distances 320000,1000000", "--num-facts 5 --seeds 0 --distances 200000",
    ),
    Run(
        "several", "retention", "--facts facts:81 --distractors {text} --methods mplus,memoryllm --asked 50",
        "--num-facts 1000 --seeds 0 --live 10,100,1000 --distances 0,8000",
        "--num-facts 20 --seeds 0 --live 1,10,20 --distances 0,2000",
    ),
    Run(
        "texts", "retention", "--facts facts:85 --packed 160 --distractors {text} --methods mplus,memoryllm",
        "--num-facts 800 --seeds 0 --distances 0,8000,160000", "--num-facts 16 --seeds 0 --distances 0",
    ),
    Run(
        "compression", "compression", "--facts facts:82 --distractors {text} --methods mplus,memoryllm",
        "--num-facts 200 --seeds 0 --ratios 2,4,8 --distances 0,2000",
        "--num-facts 16 --seeds 0 --ratios 2,4 --distances 0",
    ),
    Run(
        "loss", "loss", "--model {ladder} --data {text} --methods mplus,memoryllm,question-only",
        "--documents 64 --positions 0,1024,2048,4096,8192,16384", "--documents 4 --positions 0,1024",
    ),
    Run(
        "ladder", "ladder", "--model {ladder} --facts facts:84 --distractors {text}",
        "--num-facts 100 --seeds 0 --distances 0,1000,2000,4000,8000,20000,40000,160000",
        "--num-facts 8 --seeds 0 --distances 0,1000",
    ),
    Run(
        "ten-million", "retention",
        "--facts facts:83 --distractors {text} --methods mplus --max-long-term 5200000",
        "--num-facts 12 --seeds 0 --distances 10000000", "--num-facts 2 --seeds 0 --distances 400000",
    ),
)  # fmt: skip
"""From the most important to the least, so that a run that is stopped has measured what matters most."""


def arguments(run: Run, quick: bool, model: str, out: Path, fill: dict[str, str]) -> list[str]:
    """The command line of a run, without its program."""
    line = f"{run.task} {run.common} {run.quick if quick else run.full}"
    if run.name in ("prose", "generated"):  # the two long ones; the table of gates says how many items there were
        line += f" {fill['less']}"
    parts = [part.format(**fill) for part in line.split()]
    named = [] if "--model" in parts else ["--model", model]
    drawn = run.task != "facts" and run.name != "ten-million"
    picture = ["--plot", str(out / f"{run.name}.png")] if drawn else []
    return [*parts, *named, "--json", str(out / f"{run.name}.json"), *picture]


def run_gates(
    names: Sequence[str], quick: bool, model: str, weights: str, out: Path, fill: dict[str, str],
    start: Callable[[list[str]], object], say: Callable[[str], None],
) -> str:  # fmt: skip
    """Make these runs in order of importance and judge all runs of these weights that `out` holds; returns the table.

    `start` makes one run from its command line. gates.json and gates.md are brought up to date after every run. A run
    that cannot be made is told, there and once more at the end, and its gate says that nothing was measured.
    """
    failed = []
    chosen = [run for run in RUNS if run.name in names]
    for number, run in enumerate(chosen, 1):
        line, begin = arguments(run, quick, model, out, fill), time.perf_counter()
        say(f"[{number}/{len(chosen)}] python -m core.evaluate {' '.join(line)}")
        try:
            start(line)
        except ValueError as error:
            failed.append(f"{run.name}: {error}")
            say(failed[-1])
        else:
            say(f"{run.name}: {time.perf_counter() - begin:.0f} s")
        shown = judge(out, model, weights, quick)
    return "\n".join([shown, *(["", "Not made:", *failed] if failed else [])])


def judge(out: Path, model: str, weights: str, quick: bool) -> str:
    """The table of gates from what `out` holds of these weights, which is also written there."""
    files = {run.name: out / f"{run.name}.json" for run in RUNS}
    results: dict[str, Row] = {
        name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items() if file.is_file()
    }
    lines = verdicts({name: row for name, row in results.items() if weights in row.get("weights", "").split(",")})
    write_json(
        out / "gates.json", {"model": Path(model).name, "quick": quick, "gates": [asdict(line) for line in lines]}
    )
    shown = table(lines)
    (out / "gates.md").write_text(shown + "\n", encoding="utf-8")
    return shown

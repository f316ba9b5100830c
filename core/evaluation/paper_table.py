"""The results of `core.evaluation.paper_runs` as one table: a line a row of the paper, a column a method, at the end
the paper's own figures; below it what was not run, and why."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from .paper import LONGBENCH, NOT_COMPARABLE, PAPER, SETS, Reported, longbench
from .records import Row, markdown_table, write_json

COLUMNS = (
    "mplus", "memoryllm", "random-retriever", "full", "window", "snapkv", "bm25", "question-only", "oracle",
)  # fmt: skip
HEADER = ("measured here", *COLUMNS, "n", "the paper (8B)")


class Described(Protocol):
    """What the table needs to know of a run."""

    @property
    def what(self) -> str: ...
    @property
    def paper(self) -> str | None: ...


@dataclass(frozen=True)
class Absent:
    """A row that was not run, and why."""

    what: str
    paper: str | None
    why: str


@dataclass
class Line:
    """cells: by method, as shown. counts: answers behind each cell. scores: the cells that are scores, as numbers."""

    what: str
    reported: Reported | None
    cells: dict[str, str] = field(default_factory=dict)
    counts: set[int] = field(default_factory=set)
    scores: list[Row] = field(default_factory=list)

    def shown(self) -> tuple[str, ...]:
        counts = sorted(self.counts)
        num = "" if not counts else str(counts[0]) if len(counts) == 1 else f"{counts[0]}-{counts[-1]}"
        return (self.what, *(self.cells.get(name, "") for name in COLUMNS), num, str(self.reported or "no such row"))


def write_table(
    out: Path, model: str, weights: str, results: Sequence[tuple[Described, Row]], absent: Sequence[Absent],
    command: str,
) -> str:  # fmt: skip
    """Write paper.json and paper.md; returns the Markdown."""
    lines: dict[str, Line] = {}
    for run, content in results:
        for line in read(run, content):
            kept = lines.setdefault(line.what, line)
            kept.cells |= line.cells
            kept.counts |= line.counts
            kept.scores += line.scores if kept is not line else []
    left = [(one.what, str(PAPER[one.paper]) if one.paper else "no such row", one.why) for one in absent]
    table, said = [], ""
    for line in lines.values():
        *cells, reported = line.shown()
        table.append([*cells, "as above" if reported == said and line.reported else reported])
        said = reported
    head = (
        f"{model}, weights {weights}: percent of the score with 95 % bootstrap intervals, other units as named. "
        f"{NOT_COMPARABLE}"
    )
    shown = "\n\n".join(
        [head, markdown_table(HEADER, table), "Not run:", markdown_table(("what", "the paper (8B)", "why"), left),
         f"```bash\n{command}\n```"]
    )  # fmt: skip
    write_json(
        out / "paper.json",
        {
            "task": "paper", "command": command, "model": model, "weights": weights, "note": NOT_COMPARABLE,
            "rows": [score for line in lines.values() for score in line.scores],
            "table": {"header": HEADER, "lines": table},
            "not_run": [{"what": what, "paper": paper, "why": why} for what, paper, why in left],
        },
    )  # fmt: skip
    (out / "paper.md").write_text(shown + "\n", encoding="utf-8")
    return shown


def read(run: Described, content: Row) -> Iterator[Line]:
    """The lines of one result."""
    task = content["task"]
    reported = PAPER[run.paper] if run.paper else None
    if task == "cost":
        yield from _cost(run, content, reported)
    elif task == "loss":
        yield from _loss(run, content, reported)
    else:
        yield from _scores(run, content, reported)
        if task == "retention":
            yield from _retrieval(run, content)


def _scores(run: Described, content: Row, reported: Reported | None) -> Iterator[Line]:
    lines: dict[Any, Line] = {}
    for row in content["rows"]:
        key = row["distance"] if "distance" in row else row["group"]
        what = f"{run.what}: {key:,} tokens" if isinstance(key, int) else f"{run.what}: {key}"
        line = lines.setdefault(key, Line(what, _of_the_set(run, key) or reported))
        low, score, high = (100 * row[name] for name in ("low", "accuracy", "high"))
        line.cells[row["method"]] = f"{score:.1f}" + (f" ({low:.0f}-{high:.0f})" if key != "mean" else "")
        line.counts |= {row["n"]} if key != "mean" else set()
        line.scores.append({"group": what} | {name: row[name] for name in ("method", "accuracy", "low", "high", "n")})
    yield from lines.values()


def _of_the_set(run: Described, group: Any) -> Reported | None:
    length = (run.paper or "").removeprefix("longbench-")
    return longbench(length, group) if length in LONGBENCH and group in SETS else None


def _retrieval(run: Described, content: Row) -> Iterator[Line]:
    """What the retriever finds of the fact's tokens, behind the longest text."""
    found = [line for line in content.get("retrieval", []) if None not in line["recall"] and line["recall"]]
    if found:
        last = found[-1]
        cells = {"mplus": sum(last["recall"]) / len(last["recall"]), "random-retriever": last["chance"]}
        cells |= {"bm25": last["bm25"]} if last.get("bm25") is not None else {}
        told = {method: f"{100 * share:.1f}" for method, share in cells.items()}
        what = f"true tokens retrieved ({run.what} {last['distance']:,} tokens)"
        yield Line(what, PAPER["retrieval"], told, {last["n"]})


def _loss(run: Described, content: Row, reported: Reported | None) -> Iterator[Line]:
    lines: dict[tuple[str, int], Line] = {}
    for row in content["rows"]:
        model, _, method = row["curve"].rpartition(" ")
        what = f"{run.what}, nats a token, {Path(model).name} after {row['position']:,} tokens"
        line = lines.setdefault((model, row["position"]), Line(what, reported))
        line.cells[method] = f"{row['loss']:.3f} ({row['low']:.2f}-{row['high']:.2f})"
        line.counts.add(row["n"])
    yield from lines.values()


def _cost(run: Described, content: Row, reported: Reported | None) -> Iterator[Line]:
    lines: dict[int, Line] = {}
    for row in content["rows"]:
        what = f"{run.what}, {row['length']:,} tokens: seconds to read and answer once, MB held beside the weights"
        line = lines.setdefault(row["length"], Line(what, reported))
        seconds = row["ingest_seconds"] + row["first_token_seconds"]
        held = (row["held_bytes"] - row["num_bytes"]["weights"]) / 1e6
        line.cells[row["method"]] = f"{seconds:.1f} s, {held:.1f} MB"
        line.counts.add(1)
    yield from lines.values()

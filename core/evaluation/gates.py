"""What a mini M+ promises: a gate reads the JSON of one run and says what was wanted, what was measured, and whether
that is enough. A gate whose run was not made with these weights (`core.evaluation.gate_runs`) is reported as such.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from .records import Row, markdown_table

LIFT, FLOOR_POINTS = 50, 0.03


@dataclass(frozen=True)
class Verdict:
    """One line of the table. met is None where nothing is promised, or nothing was measured."""

    gate: str
    what: str
    wanted: str
    measured: str
    met: bool | None


@dataclass(frozen=True)
class Gate:
    """judge: takes the run's JSON and yields (what, wanted, measured, met)."""

    number: str
    run: str
    judge: Callable[[Row], Iterator[tuple[str, str, str, bool | None]]]


def value(content: Row, method: str, distance: int) -> Row | None:
    return next((r for r in content["rows"] if r["method"] == method and r["distance"] == distance), None)


def shown(row: Row) -> str:
    return f"{100 * row['accuracy']:.1f} % ({100 * row['low']:.1f}-{100 * row['high']:.1f}, n {row['n']})"


def distances(content: Row) -> list[int]:
    return sorted({row["distance"] for row in content["rows"]})


def at_the_end(name: str, least: float | None) -> Callable[[Row], Iterator]:
    def judge(content: Row) -> Iterator:
        far = distances(content)[-1]
        if row := value(content, "mplus", far):
            wanted = "" if least is None else f"≥ {100 * least:.0f} %"
            met = None if least is None else row["accuracy"] >= least
            yield f"M+ after {far:,} tokens of {name}", wanted, shown(row), met

    return judge


def retention(name: str) -> Callable[[Row], Iterator]:
    def judge(content: Row) -> Iterator:
        yield from at_the_end(name, 0.9)(content)
        far = distances(content)[-1]
        pool, floor = value(content, "memoryllm", far), value(content, "question-only", far)
        if pool and floor:
            apart = abs(pool["accuracy"] - floor["accuracy"])
            yield (
                f"pool alone (MemoryLLM) and floor after {far:,} tokens of {name}",
                f"within {100 * FLOOR_POINTS:.0f} points", f"{100 * apart:.1f} points", apart <= FLOOR_POINTS,
            )  # fmt: skip
        both = [(d, value(content, "mplus", d), value(content, "memoryllm", d)) for d in distances(content)]
        ahead = [(m["accuracy"] - p["accuracy"], d) for d, m, p in both if m and p]
        if ahead:
            least, where = min(ahead)
            told = f"{100 * least:+.1f} points, at {where:,} tokens"
            yield f"M+ less the pool alone, at its least, {name}", "never below 0", told, least >= 0

    return judge


def retrieval(content: Row) -> Iterator:
    for line in content.get("retrieval", []):
        if line["distance"] != distances(content)[-1] or None in line["recall"]:
            continue
        lift, far = sum(line["lift"]) / len(line["lift"]), f"{line['distance']:,}"
        layers = ", ".join(f"{100 * share:.0f}" for share in line["recall"])
        yield f"retrieval's lift over chance after {far} tokens", f"≥ {LIFT}", f"{lift:.0f}", lift >= LIFT
        yield f"recall of the fact's tokens, layer by layer, after {far} tokens", "", f"{layers} %", None
        if line.get("bm25") is not None:
            mean = sum(line["recall"]) / len(line["recall"])
            told = f"{100 * mean:.1f} % against {100 * line['bm25']:.1f} %"
            yield f"mean recall against BM25's on the texts after {far} tokens", "not below", told, mean >= line["bm25"]


def uses(content: Row) -> Iterator:
    near = distances(content)[min(1, len(distances(content)) - 1)]
    for method in dict.fromkeys(row["method"] for row in content["rows"]):
        if (row := value(content, method, near)) and method != "question-only":
            yield f"{method} after {near:,} tokens", "", shown(row), None
    if row := value(content, "question-only", near):
        chance = content.get("chance", 0.0)
        yield "question only", f"at chance, {100 * chance:.1f} %", shown(row), row["low"] <= chance <= row["high"]


def words(content: Row) -> Iterator:
    for row in content["rows"]:
        kind, _, length = row["group"].rpartition(" ")
        if row["method"] != "mplus" or not kind:
            continue
        wanted = kind.endswith("fact")  # "untouched" and "independent" ones no model was developed on
        met = row["accuracy"] >= 0.8 if wanted else None
        what = kind if kind.startswith("generated") else f"own words, {kind}"
        yield f"{what}, after {int(length):,} tokens", "≥ 80 %" if wanted else "", shown(row), met


def reported(what: str) -> Callable[[Row], Iterator]:
    """M+ in every row, with nothing promised. what: named by the row's own fields."""

    def judge(content: Row) -> Iterator:
        for row in content["rows"]:
            if row["method"] == "mplus":
                told = what.format(**{"live": 1, **row})
                yield f"{told}, after {row['distance']:,} tokens", "", shown(row), None

    return judge


def loss(content: Row) -> Iterator:
    last = max(row["position"] for row in content["rows"])
    for row in content["rows"]:
        if row["position"] == last:
            yield f"loss at {last:,} tokens, {row['curve']}", "", f"{row['loss']:.3f} nats a token", None


def ladder(content: Row) -> Iterator:
    for row in content["rows"]:
        yield f"{row['model']} after {row['distance']:,} tokens", "", shown(row), None


GATES = (
    Gate("1, 2", "prose", retention("prose")),
    Gate("1, 2", "generated", retention("generated facts")),
    Gate("3", "million", at_the_end("prose", 0.85)),
    Gate("3", "ten-million", at_the_end("prose", None)),
    Gate("4", "prose", retrieval),
    Gate("5", "uses", uses),
    Gate("6", "words", words),
    Gate("6", "untouched", words),
    Gate("6", "updates", words),
    Gate("6", "changed", words),
    Gate("7", "ladder", ladder),
    Gate("7", "loss", loss),
    Gate("7", "compression", reported("{ratio}x compression")),
    Gate("8", "texts", reported("one of several facts of one text")),
    Gate("8", "several", reported("{live:,} live facts")),
)


def verdicts(results: dict[str, Row]) -> list[Verdict]:
    """Every gate whose run is there, and one line for each gate whose run is not."""
    lines = []
    for gate in GATES:
        if gate.run in results:
            lines += [Verdict(gate.number, *line) for line in gate.judge(results[gate.run])]
        else:
            lines.append(Verdict(gate.number, f"run {gate.run!r}", "", "not measured", None))
    return lines


def table(lines: Sequence[Verdict]) -> str:
    met = {True: "yes", False: "**no**", None: ""}
    rows = [(line.gate, line.what, line.wanted, line.measured, met[line.met]) for line in lines]
    return markdown_table(("gate", "what", "wanted", "measured (95 % band)", "met"), rows)

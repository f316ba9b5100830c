"""The figures that README and the model card tell are those of the results beside them."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results" / "mini"
README, CARD = (ROOT / name for name in ("README.md", "models/mini/README.md"))
WITHIN = (0, 2_000, 8_000, 20_000, 40_000, 80_000, 160_000)
LADDER = (0, 1_000, 2_000, 4_000, 8_000, 40_000, 160_000)


def result(name: str) -> dict:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def told(path: Path) -> str:
    return " ".join(path.read_text(encoding="utf-8").split())


def line(rows: list[dict], distances: tuple[int, ...], **which: str) -> str:
    """Shares by distance as the cells of a table."""
    held = {row["distance"]: row["accuracy"] for row in rows if all(row[key] == value for key, value in which.items())}
    return " | ".join(f"{100 * held[distance]:.0f} %" for distance in distances)


def row_of(start: str) -> str:
    """The one row of README's tables that begins so."""
    (found,) = [line for line in README.read_text(encoding="utf-8").splitlines() if line.startswith(f"| {start}")]
    return found


def measured(what: str) -> float:
    """The figure that gates.json has for what begins so."""
    (found,) = [gate["measured"] for gate in result("gates")["gates"] if gate["what"].startswith(what)]
    return float(found.split()[0])


def test_the_card_has_every_gate_as_it_was_measured():
    card = told(CARD)
    for gate in result("gates")["gates"]:
        if gate["measured"] != "not measured":
            cells = " | ".join((gate["what"], gate["wanted"], gate["measured"]))
            assert " ".join(cells.split()) in card


@pytest.mark.parametrize("path", [README, CARD])
@pytest.mark.parametrize("name", ["prose", "generated"])
def test_retention_is_told_as_measured(name, path):
    rows = result(name)["rows"]
    assert line(rows, WITHIN, method="mplus") in told(path)
    if path == CARD or name == "prose":
        assert line(rows, WITHIN, method="memoryllm") in told(path)


def test_the_ladder_is_told_as_measured():
    rows = result("ladder")["rows"]
    for model in sorted({row["model"] for row in rows}):
        assert f"| {model} | {line(rows, LADDER, model=model)} |" in told(README)


FAR, NEAR = "after 160,000 tokens", ("after 0 tokens", "after 2,000 tokens")


@pytest.mark.parametrize(
    ("row", "cells", "gates"),
    [
        ("after 160,000 tokens of prose, of similar facts", "{:.0f} %, {:.0f} %",
         [f"M+ {FAR} of prose", f"M+ {FAR} of generated facts"]),
        ("after a million tokens of prose", "{:.0f} %", ["M+ after 1,000,000 tokens of prose"]),
        ("70 facts in a person's own words", "{:.0f} %, {:.0f} %", [f"own words, fact, {when}" for when in NEAR]),
        ("80 such facts that were not looked at", "{:.0f} %, {:.0f} %",
         [f"own words, untouched fact, {when}" for when in NEAR]),
        ("80 such facts by an author", "**{:.1f} %, {:.1f} %: missed**",
         [f"own words, independent fact, {when}" for when in NEAR]),
        ("80 such facts by a second such author", "**{:.1f} %, {:.1f} %: missed**",
         [f"own words, second independent fact, {when}" for when in NEAR]),
        ("one of several facts told in one text", "{:.0f} %, {:.0f} %",
         [f"one of several facts of one text, {when}" for when in (NEAR[0], FAR)]),
    ],
)  # fmt: skip
def test_the_aims_are_told_as_measured(row, cells, gates):
    assert row_of(row).endswith(f" | {cells.format(*map(measured, gates))} |")


def test_the_recipe_is_told_as_measured():
    """In its own card, in mini's and in README."""
    rows = {name: json.loads((RESULTS.parent / "mini-recipe" / f"{name}.json").read_text())["rows"]
            for name in ("prose", "generated", "words", "untouched")}  # fmt: skip
    card = told(ROOT / "models" / "mini-recipe" / "README.md")
    for name in ("prose", "generated"):
        for method in ("mplus", "memoryllm", "random-retriever", "question-only"):
            assert line(rows[name], WITHIN, method=method) in card
    far = [100 * row["accuracy"] for name in ("prose", "generated") for row in rows[name]
           if row["distance"] == 160_000 and row["method"] == "mplus"]  # fmt: skip
    assert f"160,000 tokens of prose {far[0]:.0f} %, of similar facts {far[1]:.0f}" in told(README)
    assert f"160,000 tokens of prose {far[0]:.0f} %, of similar facts {far[1]:.0f}" in told(CARD)
    for name, group, start in (
        ("words", "fact", "own words, at once and after 2,000 tokens"),
        *(("untouched", f"{who} fact", who) for who in ("untouched", "independent", "second independent")),
    ):  # fmt: skip
        found = [100 * row["accuracy"] for row in rows[name]
                 if row["method"] == "mplus" and row["group"] in (f"{group} 0", f"{group} 2000")]  # fmt: skip
        assert len(found) == 2 and "{:.1f}, {:.1f} %".format(*found) in card.partition(f"| {start} |")[2][:60]


def test_ten_million_tokens_are_told_as_measured():
    (row,) = result("ten-million")["rows"]
    assert row_of("after ten million").endswith(f" | {round(row['accuracy'] * row['n'])} of {row['n']} |")


@pytest.mark.parametrize(
    ("retriever", "sentence"),
    [
        ("released: mean sigmoid, balanced loss", "| the released code's rule | {:.1f} % |"),
        ("paper: dot product, balanced loss", "| the paper's inner product | {:.0f} % |"),
        ("late interaction, loss over blocks", "| block-wise late interaction, from random weights | {:.0f} % |"),
        (
            "closed form, late interaction, loss over blocks",
            "in closed form; that start alone | {:.0f} %;",
        ),
        ("closed form, late interaction", "that start alone | 95 %; {:.0f} % |"),
        ("shipped", "66 and 43 in the last two) | {:.0f} % |"),
        ("shipped, layers decide together", "as in this table alone | {:.0f} % |"),
    ],
)
def test_retrievers_are_told_as_measured(retriever, sentence):
    (row,) = [row for row in result("retrievers")["rows"] if row["retriever"] == retriever]
    assert sentence.format(100 * row["tokens"]["accuracy"]) in told(README)

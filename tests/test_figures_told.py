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


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("M+ after 1,000,000 tokens of prose", "after a million tokens of prose: {} %"),
        ("own words, fact, after 0 tokens", "{} % of seventy that were looked at"),
        ("own words, fact, after 2,000 tokens", "{} % of them after 2,000 tokens"),
        ("own words, untouched fact, after 0 tokens", "{} % of eighty that were not looked at"),
        ("own words, independent fact, after 0 tokens", "not looked at, {} and "),
        ("own words, second independent fact, after 0 tokens", " and {} % of eighty each by an author"),
        ("one of several facts of one text, after 0 tokens", "up to 160 tokens: {} % at once"),
        ("one of several facts of one text, after 160,000 tokens", "at once, {} % after 160,000 tokens"),
    ],
)
def test_sentences_of_the_readme_are_told_as_measured(what, sentence):
    assert sentence.format(f"{measured(what):.0f}") in told(README)


@pytest.mark.parametrize(
    ("retriever", "sentence"),
    [
        ("released: mean sigmoid, balanced loss", "released rule retrieves {:.1f} %"),
        ("paper: dot product, balanced loss", "paper's inner product {:.0f} %"),
        ("late interaction, loss over blocks", "block-wise late interaction {:.0f} %"),
        ("closed form, late interaction, loss over blocks", "closed form {:.0f} %"),
        ("shipped", "shipped retriever {:.0f} %"),
    ],
)
def test_retrievers_are_told_as_measured(retriever, sentence):
    (row,) = [row for row in result("retrievers")["rows"] if row["retriever"] == retriever]
    assert sentence.format(100 * row["tokens"]["accuracy"]) in told(README)

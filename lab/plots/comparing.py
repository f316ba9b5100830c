"""Methods beside each other: right answers, bytes and seconds (C10, C12, C13)."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from .look import finish, method_colour, method_name, share_of


def retention(rows: Sequence[Mapping]) -> go.Figure:
    """C10. Rows {method, distance, right, asked}: share of right answers by tokens written after the fact.

    The bars are 95 % Wilson intervals.
    """
    figure = go.Figure()
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = sorted(
            (row for row in rows if row["method"] == method and row["asked"]), key=lambda row: row["distance"]
        )
        right, n = (np.array([row[key] for row in mine], float) for key in ("right", "asked"))
        p, z2 = right / np.maximum(1, n), 1.96**2
        middle = (p + z2 / (2 * n)) / (1 + z2 / n)
        half = 1.96 * np.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
        figure.add_scatter(
            x=[row["distance"] for row in mine], y=p, name=method_name(method), mode="lines+markers",
            line={"color": method_colour(method), "width": 2}, marker={"size": 7},
            error_y={"array": middle + half - p, "arrayminus": p - middle + half, "thickness": 1, "width": 3},
            hovertemplate="%{y:.0%} right after %{x:,} tokens<extra>" + method_name(method) + "</extra>",
        )  # fmt: skip
    asked = sum(row["asked"] for row in rows)
    return finish(figure, f"{asked:,} questions answered so far; the bars are 95 % intervals.",
                  "tokens in between", "right answers", 340,
                  yaxis={"tickformat": ".0%", "range": [-0.03, 1.05]})  # fmt: skip


def byte_bars(rows: Sequence[Mapping]) -> go.Figure:
    """C12. Rows {method, bytes: {part: count}}: what each method holds, measured after its answer, weights left out."""
    parts = dict.fromkeys(p for row in rows for p, count in row["bytes"].items() if p != "weights" and count)
    colours = {"short": "#0072B2", "long": "#E69F00", "buffer": "#56B4E9", "cache": "#D55E00", "text": "#009E73"}
    said = {
        "short": "θ",
        "long": "Θ on the CPU",
        "buffer": "θ as keys and values",
        "cache": "KV cache",
        "text": "the text",
    }
    figure = go.Figure()
    methods = [method_name(row["method"]) for row in rows]
    for part in parts:
        figure.add_bar(y=methods, x=[row["bytes"].get(part, 0) / 2**20 for row in rows],
                       orientation="h", name=said.get(part, part),
                       marker={"color": colours.get(part, "#808890")})  # fmt: skip
    totals = {row["method"]: sum(v for k, v in row["bytes"].items() if k != "weights") for row in rows}
    least = min(totals, key=lambda m: totals[m])
    finding = f"{method_name(least)} holds the least, {totals[least] / 2**20:.2f} MiB besides the shared weights."
    return finish(figure, finding, "MiB, weights left out", "", 120 + 34 * len(rows), yaxis={"autorange": "reversed"})


def second_bars(rows: Sequence[Mapping]) -> go.Figure:
    """C13. Rows {method, seconds: {part: s}}: where each method's time went, measured."""
    figure = go.Figure()
    colours = {"write": "#0072B2", "first token": "#E69F00", "further tokens": "#56B4E9"}
    methods = [method_name(row["method"]) for row in rows]
    for part in dict.fromkeys(p for row in rows for p in row["seconds"]):
        figure.add_bar(y=methods, x=[row["seconds"].get(part, 0.0) for row in rows], name=part,
                       orientation="h", marker={"color": colours.get(part, "#808890")})  # fmt: skip
    totals = {row["method"]: sum(row["seconds"].values()) for row in rows}
    quick = min(totals, key=lambda m: totals[m])
    finding = f"{method_name(quick)} was the quickest from text to answer: {totals[quick]:.2f} s."
    return finish(figure, finding, "seconds", "", 120 + 34 * len(rows), yaxis={"autorange": "reversed"})  # fmt: skip


def measured(rows: Sequence[Mapping]) -> go.Figure | None:
    """Rows of an evaluation {method, distance or group, accuracy, low, high, n}: curves by distance, or bars by group.

    None if the rows are of another kind.
    """
    key = next((key for key in ("distance", "length", "group") if all(key in row for row in rows)), None)
    if not rows or key is None or not all("accuracy" in row and "method" in row for row in rows):
        return None
    figure = go.Figure()
    for method, live in dict.fromkeys((row["method"], row.get("live", 1)) for row in rows):
        mine = [row for row in rows if row["method"] == method and row.get("live", 1) == live]
        name = method_name(method) + (f", {live} facts held" if live != 1 else "")
        y = np.array([row["accuracy"] for row in mine])
        band = {
            "array": np.maximum(0, [row.get("high", row["accuracy"]) for row in mine] - y),
            "arrayminus": np.maximum(0, y - [row.get("low", row["accuracy"]) for row in mine]),
            "thickness": 1, "width": 3,
        }  # fmt: skip
        x, hue = [row[key] for row in mine], method_colour(method)
        if key == "group":
            figure.add_bar(x=[str(v) for v in x], y=y, name=name, marker={"color": hue}, error_y=band)
        else:
            figure.add_scatter(
                x=x, y=y, name=name, mode="lines+markers", marker={"size": 7}, error_y=band,
                line={"color": hue, "width": 2, "dash": "solid" if live == 1 else "dot"},
            )  # fmt: skip
    best = max((row for row in rows if row["method"] == "mplus"), key=lambda row: row[key], default=None)
    finding = f"{sum(row.get('n', 0) for row in rows):,} answers scored; the bars are 95 % intervals."
    if best is not None and key == "distance":
        finding = f"M+ answers {share_of(best['accuracy'])} after {best[key]:,} tokens. {finding}"
    titles = {"distance": "tokens in between", "length": "tokens", "group": ""}
    return finish(figure, finding, titles[key], "right answers", 340, barmode="group",
                  yaxis={"tickformat": ".0%", "range": [-0.03, 1.05]})  # fmt: skip

"""Methods beside each other: right answers, bytes and seconds (C10, C12, C13)."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from .look import MANY, curve_colours, finish, method_name, share_of


def retention(rows: Sequence[Mapping]) -> go.Figure:
    """C10. Rows {method, distance, right, asked}: share of right answers by tokens written after the fact.

    The bars are 95 % Wilson intervals.
    """
    figure, methods = go.Figure(), list(dict.fromkeys(row["method"] for row in rows))
    for method, hue in zip(methods, curve_colours(methods), strict=True):
        mine = sorted(
            (row for row in rows if row["method"] == method and row["asked"]), key=lambda row: row["distance"]
        )
        right, n = (np.array([row[key] for row in mine], float) for key in ("right", "asked"))
        p, z2 = right / np.maximum(1, n), 1.96**2
        middle = (p + z2 / (2 * n)) / (1 + z2 / n)
        half = 1.96 * np.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
        figure.add_scatter(
            x=[row["distance"] for row in mine], y=p, name=method_name(method), mode="lines+markers",
            line={"color": hue, "width": 2}, marker={"size": 7},
            error_y={"array": middle + half - p, "arrayminus": p - middle + half, "thickness": 1, "width": 3},
            hovertemplate="%{y:.0%} right after %{x:,} tokens<extra>" + method_name(method) + "</extra>",
        )  # fmt: skip
    asked = sum(row["asked"] for row in rows)
    return finish(figure, f"{asked:,} questions answered so far; the bars are 95 % intervals.",
                  "tokens in between", "right answers", 340,
                  yaxis={"tickformat": ".0%", "range": [-0.03, 1.05]})  # fmt: skip


PARTS = {
    "short": ("θ", "#0072B2"),
    "long": ("Θ on the CPU", "#E69F00"),
    "buffer": ("θ as keys and values", "#56B4E9"),
    "cache": ("KV cache", "#D55E00"),
    "text": ("the text", "#009E73"),
    "weights": ("weights, shared", "#A9B0B8"),
    "activations": ("peak activations, estimated", "#CC79A7"),
}
"""What holds bytes: its name and colour, in the order of the bars."""


def byte_bars(rows: Sequence[Mapping]) -> go.Figure:
    """C12. Rows {method, bytes: {part: count}, activations?: count}: what each method holds, measured after its answer.

    activations: the most that one layer needs for a moment, by `core.cost`'s estimate; they are never held.
    """
    held = [{**row["bytes"], "activations": row.get("activations", 0)} for row in rows]
    known = dict.fromkeys([*PARTS, *(part for parts in held for part in parts)])
    figure, methods = go.Figure(), [method_name(row["method"]) for row in rows]
    for part in (part for part in known if any(parts.get(part) for parts in held)):
        name, hue = PARTS.get(part, (part, MANY))
        figure.add_bar(y=methods, x=[parts.get(part, 0) / 2**20 for parts in held], orientation="h", name=name,
                       marker={"color": hue}, hovertemplate="%{x:,.2f} MiB<extra>" + name + "</extra>")  # fmt: skip
    own = {row["method"]: sum(v for k, v in row["bytes"].items() if k != "weights") for row in rows}
    least = min(own, key=lambda m: own[m])
    weights = max(parts.get("weights", 0) for parts in held)
    finding = f"{method_name(least)} holds the least, {own[least] / 2**20:.2f} MiB"
    finding += f" besides the {weights / 2**20:.2f} MiB of weights that all share." if weights else "."
    return finish(figure, finding, "MiB", "", 120 + 34 * len(rows), yaxis={"autorange": "reversed"})


STEPS = {"write": "#0072B2", "retrieve": "#E69F00", "copy": "#D55E00", "prefill": "#56B4E9", "decode": "#009E73"}
"""Where time goes, in the order of the bars."""


def second_bars(rows: Sequence[Mapping]) -> go.Figure:
    """C13. Rows {method, seconds: {step: s}, decoded?: tokens after the first}: where the time went, measured.

    What a method does not do has no bar; decoding is also told per token.
    """
    figure, methods = go.Figure(), [method_name(row["method"]) for row in rows]
    each = [row["seconds"].get("decode", 0.0) / n if (n := row.get("decoded", 0)) else None for row in rows]
    known = dict.fromkeys([*STEPS, *(step for row in rows for step in row["seconds"])])
    for step in (step for step in known if any(row["seconds"].get(step) for row in rows)):
        notes = [f"<br>{1000 * s:.1f} ms a token" if step == "decode" and s else "" for s in each]
        name = "decode (further tokens)" if step == "decode" else step
        figure.add_bar(y=methods, x=[row["seconds"].get(step, 0.0) for row in rows], name=name, orientation="h",
                       marker={"color": STEPS.get(step, MANY)}, customdata=notes,
                       hovertemplate="%{x:.3f} s%{customdata}<extra>" + name + "</extra>")  # fmt: skip
    totals = {row["method"]: sum(row["seconds"].values()) for row in rows}
    quick = min(totals, key=lambda m: totals[m])
    finding = f"{method_name(quick)} was the quickest from text to answer: {totals[quick]:.2f} s."
    told = [f"{name} {1000 * s:.1f} ms" for name, s in zip(methods, each, strict=True) if s]
    finding += f" Per further token: {', '.join(told)}." if told else ""
    return finish(figure, finding, "seconds", "", 120 + 34 * len(rows), yaxis={"autorange": "reversed"})  # fmt: skip


def _series(row: Mapping) -> tuple:
    """What rows of one curve have in common: model, method, live facts, ratio of compression."""
    return row.get("model"), row["method"], row.get("live", 1), row.get("ratio")


def measured(rows: Sequence[Mapping]) -> go.Figure | None:
    """Rows of an evaluation {method, distance or group, accuracy, low, high, n}: curves by distance, or bars by group.

    None if the rows are of another kind.
    """
    key = next((key for key in ("distance", "length", "group") if all(key in row for row in rows)), None)
    if not rows or key is None or not all("accuracy" in row and "method" in row for row in rows):
        return None
    figure = go.Figure()
    kinds = list(dict.fromkeys(map(_series, rows)))
    several, hues, told = len({model for model, *_ in kinds}) > 1, curve_colours([kind[1] for kind in kinds]), []
    for kind, hue in zip(kinds, hues, strict=True):
        model, method, live, ratio = kind
        mine = [row for row in rows if _series(row) == kind]
        name = str(model) if several else method_name(method)
        name += (f", {live} facts held" if live != 1 else "") + (f", {ratio}x compressed" if ratio else "")
        y = np.array([row["accuracy"] for row in mine])
        band = {
            "array": np.maximum(0, [row.get("high", row["accuracy"]) for row in mine] - y),
            "arrayminus": np.maximum(0, y - [row.get("low", row["accuracy"]) for row in mine]),
            "thickness": 1, "width": 3,
        }  # fmt: skip
        x = [row[key] for row in mine]
        if key == "group":
            figure.add_bar(x=[str(v) for v in x], y=y, name=name, marker={"color": hue}, error_y=band)
        else:
            figure.add_scatter(
                x=x, y=y, name=name, mode="lines+markers", marker={"size": 7}, error_y=band,
                line={"color": hue, "width": 2, "dash": "solid" if live == 1 else "dot"},
            )  # fmt: skip
        if method == "mplus" and key == "distance":
            last = max(mine, key=lambda row: row[key])
            told.append(f"{name} answers {share_of(last['accuracy'])} after {last[key]:,} tokens")
    scored = sum(row.get("n", 0) for row in rows if row.get("group") != "mean")  # of a mean it is the groups
    finding = f"{scored:,} answers scored; the bars are 95 % intervals."
    if told:
        finding = f"{'; '.join(told)}. {finding}"
    titles = {"distance": "tokens in between", "length": "tokens", "group": ""}
    return finish(figure, finding, titles[key], "right answers", 340, barmode="group",
                  yaxis={"tickformat": ".0%", "range": [-0.03, 1.05]})  # fmt: skip

"""Plain charts for teaching, where no figure of `lab.plots` fits: lines, stacked bars, histograms, a step's scores."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from .plots import PALETTE, finish


def _hue(index: int) -> str:
    return PALETTE[(index + 4) % len(PALETTE)]


def lines(
    x: Sequence[float], ys: Mapping[str, Sequence[float]], finding: str, x_title: str = "", y_title: str = "",
    log: str = "",
) -> go.Figure:  # fmt: skip
    """One line per name over a common x; names that begin with "theory" are dotted. log: axes on a log scale, "xy"."""
    figure = go.Figure()
    for index, (name, y) in enumerate(ys.items()):
        theory = name.startswith("theory")
        figure.add_scatter(
            x=list(x), y=list(y), name=name, mode="lines" if theory else "lines+markers", marker={"size": 6},
            line={"color": "#808890" if theory else _hue(index), "width": 2, "dash": "dot" if theory else "solid"},
        )  # fmt: skip
    finish(figure, finding, x_title, y_title, 320)
    for axis in log:
        figure.update_layout({f"{axis}axis": {"type": "log"}})
    return figure


def parts(rows: Mapping[str, Mapping[str, float]], finding: str, x_title: str = "") -> go.Figure:
    """Stacked horizontal bars: row name -> {part: value}."""
    figure = go.Figure()
    names = dict.fromkeys(part for row in rows.values() for part in row)
    for index, part in enumerate(names):
        values = [row.get(part, 0.0) for row in rows.values()]
        figure.add_bar(y=list(rows), x=values, name=part, orientation="h", marker={"color": _hue(index)})
    return finish(figure, finding, x_title, "", 130 + 38 * len(rows), yaxis={"autorange": "reversed"})


def histograms(groups: Mapping[str, np.ndarray], finding: str, x_title: str = "", bins: int = 40) -> go.Figure:
    """Overlaid histograms, each as a share of its own group, with common edges."""
    together = np.concatenate([np.asarray(values, float) for values in groups.values()])
    edges, figure = np.histogram_bin_edges(together, bins), go.Figure()
    centres = (edges[:-1] + edges[1:]) / 2
    for index, (name, values) in enumerate(groups.items()):
        share = np.histogram(values, edges)[0] / max(1, len(values))
        figure.add_bar(
            x=centres, y=share, name=name, opacity=0.65, width=edges[1] - edges[0], marker={"color": _hue(index)}
        )
    return finish(
        figure, finding, x_title, "share of its group", 300, barmode="overlay", bargap=0, yaxis={"tickformat": ".0%"}
    )

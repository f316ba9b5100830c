"""Pictures of results: curves with bands, and clusters of bars; png, svg or pdf by the name's ending."""

import os
from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.figure import Figure

from .records import Row


def plot_curves(
    path: str | os.PathLike, lines: Sequence[Row], x: str, value: str, label: str, title: str,
    extra: Callable[[Any], None] | None = None,
) -> None:  # fmt: skip
    """Curves with their bands to a picture (png, svg, pdf by the name's ending); `extra` may draw on the axes."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name in dict.fromkeys(line[label] for line in lines):
        points = sorted((line for line in lines if line[label] == name), key=lambda line: line[x])
        where = [point[x] for point in points]
        axes.plot(where, [point[value] for point in points], marker="o", markersize=3, label=name)
        axes.fill_between(where, [p["low"] for p in points], [p["high"] for p in points], alpha=0.2)
    if extra:
        extra(axes)
    axes.set(xlabel=x, ylabel=value, title=title)
    axes.grid(alpha=0.3)
    _legend(figure)
    figure.savefig(path, dpi=150)


def plot_bars(path: str | os.PathLike, lines: Sequence[Row], group: str, label: str, title: str) -> None:
    """One cluster of bars a `group`, one bar a `label`, with its band."""
    groups = list(dict.fromkeys(line[group] for line in lines))
    labels = list(dict.fromkeys(line[label] for line in lines))
    figure = Figure(figsize=(max(6.0, 1.4 * len(groups)), 4), layout="constrained")
    axes = figure.subplots()
    for number, name in enumerate(labels):
        own = {line[group]: line for line in lines if line[label] == name}
        places = [place + 0.8 * (number + 0.5) / len(labels) - 0.4 for place, one in enumerate(groups) if one in own]
        found = [own[one] for one in groups if one in own]
        below = [line["accuracy"] - line["low"] for line in found]
        above = [line["high"] - line["accuracy"] for line in found]
        axes.bar(places, [line["accuracy"] for line in found], 0.8 / len(labels), yerr=[below, above], label=name)
    axes.set_xticks(range(len(groups)), groups, rotation=20)
    axes.set(ylabel="score", title=title)
    _legend(figure)
    figure.savefig(path, dpi=150)


def _legend(figure: Figure) -> None:
    """Below the axes: nine curves leave no room between them."""
    figure.legend(loc="outside lower center", ncols=3, fontsize="small")

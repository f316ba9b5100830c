"""What all figures share: colours, names, the finding in words, and how a map stays small."""

from collections.abc import Mapping, Sequence
from itertools import count

import numpy as np
import plotly.graph_objects as go

PALETTE = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#0072B2", "#D55E00", "#F0E442", "#8C6BB1")
PATTERNS = ("", "/", ".", "x", "-", "+", "|", "\\")
INITIAL = "#A9B0B8"
MANY = "#808890"
"""The grey of what has no colour of its own."""
WHOLE = "the checkpoint's own"
METHOD_NAMES = {"mplus": "M+", "memoryllm": "MemoryLLM", "window": "window", "snapkv": "SnapKV", "bm25": "BM25",
                "full": "full context", "random-retriever": "M+, guessing retriever",
                "unweighted": "M+, certainty left out",
                "question-only": "no text at all"}  # fmt: skip
METHOD_COLOURS = {"mplus": "#0072B2", "memoryllm": "#56B4E9", "window": "#E69F00", "snapkv": "#D55E00",
                  "bm25": "#009E73", "unweighted": "#F0E442",
                  "full": "#8C6BB1", "random-retriever": "#CC79A7", "question-only": "#A9B0B8"}  # fmt: skip
LARGEST_MAP = 512
MOST_DROPPED = 6
UNKNOWN, OTHERS = -1, -2  # instead of a text
Names = Mapping[int, str]


def colour(text: int) -> str:
    """The colour of a text, by its number: eight hues, then darker, then paler; grey is the checkpoint's own memory."""
    if not text:
        return INITIAL
    turn, place = divmod(text - 1, len(PALETTE))
    mixed, share = ((0, 0.0), (0, 0.42), (255, 0.5))[turn % 3]
    parts = [int(PALETTE[place][i : i + 2], 16) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(part + (mixed - part) * share):02X}" for part in parts)


def method_name(method: str) -> str:
    """What a method is called on the page."""
    name, _, how = method.partition(" (")
    return METHOD_NAMES.get(name, name) + (f" ({how}" if how else "")


def method_colour(method: str) -> str:
    return METHOD_COLOURS.get(method.split(" ")[0].rstrip(","), MANY)


def curve_colours(methods: Sequence[str]) -> list[str]:
    """A colour for every curve of a chart: its method's own, or one that no other curve has."""
    hues = [method_colour(method) for method in methods]
    own = {hue for hue in hues if hues.count(hue) == 1} - {MANY}
    free = (hue for hue in map(colour, count(1)) if hue not in own)
    return [hue if hue in own else next(free) for hue in hues]


def pattern(text: int) -> str:
    """After eight texts colours come again; a pattern tells them apart."""
    return PATTERNS[(text - 1) // len(PALETTE) % len(PATTERNS)] if text else ""


def name_of(text: int, names: Names) -> str:
    return names.get(text, f"text {text} (deleted)") if text else WHOLE


def finish(figure: go.Figure, finding: str, x: str = "", y: str = "", height: int = 280, **layout) -> go.Figure:
    """The look all figures share, and the finding in words."""
    figure.update_layout(
        height=height, meta={"finding": finding}, margin={"l": 52, "r": 12, "t": 8, "b": 40}, template="none",
        uirevision="keep", hoverlabel={"align": "left"}, font={"size": 12}, barmode=layout.pop("barmode", "stack"),
    )  # fmt: skip
    figure.update_xaxes(title={"text": x, "standoff": 8}, automargin=True, zeroline=False)
    figure.update_yaxes(title={"text": y, "standoff": 6}, automargin=True, zeroline=False)
    figure.update_layout(**layout)
    return figure


def share_of(part: float) -> str:
    return f"{100 * part:.0f} %" if part >= 0.0995 or part == 0 else f"{100 * part:.1f} %"


def layer_axis(axis: str, count: int) -> dict:
    return {f"{axis}axis": {"tickmode": "array", "tickvals": list(range(0, count, max(1, count // 8)))}}


def legend(figure: go.Figure, texts: Sequence[int], names: Names) -> None:
    for text in list(texts)[:12]:
        figure.add_scatter(
            x=[None], y=[None], mode="markers", name=name_of(text, names), hoverinfo="skip",
            marker={"symbol": "square", "size": 11, "color": colour(text)},
        )  # fmt: skip


def binned(values: np.ndarray, bins: int) -> np.ndarray:
    """(L, N) with every `N / bins` columns reduced to the first of them, so that a map stays small."""
    count = values.shape[1]
    return values if count <= bins else values[:, np.linspace(0, count - 1, bins).astype(int)]

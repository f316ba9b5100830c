"""Curves over time: what the machine holds (C11), and a training run."""

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from .look import colour, finish


def resources(
    times: Sequence[float], lines: Mapping[str, Sequence[float]], marks: Sequence[tuple[float, str]]
) -> go.Figure:
    """C11. Bytes over time: lines {name: bytes}, and marks (second, event)."""
    figure = go.Figure()
    for index, (name, values) in enumerate(lines.items()):
        figure.add_scatter(x=list(times), y=[v / 2**20 for v in values], name=name, mode="lines",
                           line={"shape": "hv", "color": colour(index + 1), "width": 2})  # fmt: skip
    for number, (second, event) in enumerate(list(marks)[-12:]):
        if times and second >= times[0]:
            figure.add_vline(
                x=second,
                line={"width": 1, "dash": "dot"},
                annotation={"text": event, "font": {"size": 10}, "yshift": -14 * (number % 4)},
            )
    last = ", ".join(f"{name} {values[-1] / 2**20:,.1f} MiB" for name, values in lines.items() if values)
    return finish(figure, f"Now: {last}.", "seconds", "MiB", 320)


def curves(rows: Sequence[Mapping], x: str, names: Mapping[str, str], y: str) -> go.Figure:
    """Training metrics: rows of a JSONL, lines by `x`; names: figure -> what it is called. Phases stand apart."""
    figure, last = go.Figure(), {}
    for index, (name, said) in enumerate(names.items()):
        points: list[tuple] = []
        phase = None
        for row in rows:
            if isinstance(row.get(name), int | float) and x in row:
                if points and phase != _phase(row):
                    points.append((None, None))  # no line from one phase into the next
                phase, last[said] = _phase(row), row[name]
                points.append((row[x], row[name]))
        if points:
            figure.add_scatter(x=[p[0] for p in points], y=[p[1] for p in points], name=said,
                               mode="lines" if len(points) > 40 else "lines+markers", marker={"size": 4},
                               line={"color": colour(index + 1), "width": 2})  # fmt: skip
    phase, count = None, 0
    for row in rows:
        if x in row and _phase(row) != phase:
            phase, count = _phase(row), count + 1
            words = {"text": f" {phase}", "font": {"size": 10}, "xanchor": "left", "yref": "paper",
                     "y": 1.0 + 0.07 * (count % 3)}  # fmt: skip
            figure.add_vline(x=row[x], line={"width": 1, "dash": "dot"}, annotation=words)
    told = ", ".join(f"{said} {value:.3g}" for said, value in last.items())
    finding = f"Last: {told}." if last else "No values yet."
    return finish(figure, finding, x, y, 340, margin={"l": 52, "r": 12, "t": 56, "b": 40})


def _phase(row: Mapping) -> str:
    return str(row.get("phase", row.get("stage", "")))

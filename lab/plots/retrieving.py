"""The read side: what a question found, layer by layer (C5 to C8)."""

import numpy as np
import plotly.graph_objects as go

from ..views import LayerFound, Retrieval
from .look import LARGEST_MAP, MANY, OTHERS, Names, colour, finish, layer_axis, name_of, pattern, share_of

MOST_TEXTS = 12


def num_bins(seen: Retrieval) -> int:
    """Columns of the score map: one a token of Θ, or `LARGEST_MAP` of many each."""
    return max(1, min(LARGEST_MAP, max((len(found.scores) for found in seen.layers), default=0)))


def bin_of(found: LayerFound, bins: int) -> np.ndarray:
    """(m,) The column of the score map that each token of Θ falls in."""
    return np.arange(len(found.scores)) * bins // max(1, len(found.scores))


def score_map(seen: Retrieval, layer: int | None = None, opened: int | None = None) -> go.Figure:
    """C5. Every layer's scores over Θ, old to new, scaled per layer and max-pooled; the strip under a layer shows what
    it took. opened: the column that is looked into."""
    count, bins = len(seen.layers), num_bins(seen)
    width = max((len(found.scores) for found in seen.layers), default=0)
    z = np.full((2 * count, bins), np.nan, np.float32)  # two rows a layer: what was taken, and the scores
    took = np.full((2 * count, bins), np.nan, np.float32)
    text = np.zeros((2 * count, bins), np.int32)
    for index, found in enumerate(seen.layers):
        if not len(found.scores):
            continue
        low, high = float(found.scores.min()), float(found.scores.max())
        scaled = (found.scores - low) / max(1e-9, high - low)
        place = bin_of(found, bins)
        row = np.full(bins, -1, np.float32)
        np.maximum.at(row, place, scaled.astype(np.float32))
        z[2 * index + 1] = np.where(row < 0, np.nan, row)
        order = np.argsort(found.scores, kind="stable")  # of a bin the last one stays: the text whose score is shown
        taken = order[np.isin(order, found.chosen)]
        text[2 * index + 1, place[order]] = text[2 * index, place[order]] = found.owner[order]
        took[2 * index, place[taken]] = 1
        text[2 * index, place[taken]] = found.owner[taken]
    edges = np.array([edge for i in range(count) for edge in (i - 0.5, i - 0.26)] + [count - 0.5])
    x = np.arange(bins)
    figure = go.Figure(
        go.Heatmap(z=z, x=x, y=edges, colorscale="Cividis", customdata=text, zmin=0, zmax=1,
                   colorbar={"thickness": 10, "tickvals": [0, 1], "ticktext": ["low", "high"]}, name="score",
                   hovertemplate="bin %{x} · text %{customdata} · score %{z:.2f} of the layer's range<extra></extra>",
                   hoverongaps=False)
    )  # fmt: skip
    figure.add_heatmap(z=took, x=x, y=edges, colorscale=[[0, "#D55E00"], [1, "#D55E00"]], customdata=text, zmin=0,
                       zmax=1, showscale=False, name="retrieved", hoverongaps=False,
                       hovertemplate="bin %{x} · retrieved · text %{customdata}<extra></extra>")  # fmt: skip
    if layer is not None:
        figure.add_hrect(y0=layer - 0.5, y1=layer + 0.5, line={"width": 2}, fillcolor="rgba(0,0,0,0)")
    if opened is not None:
        figure.add_vline(x=opened, line={"width": 2, "dash": "dot"})
    taken = int(np.mean([len(found.got_owner) for found in seen.layers]))
    finding = f"For “{seen.question}” every layer took {taken:,} of {width:,} tokens of Θ (the orange strips)."
    if not width:
        finding = "Θ holds no more tokens than a question may take: all of it was used, nothing had to be scored."
    figure.update_layout(yaxis={"range": [-0.55, count - 0.45]})
    return finish(
        figure, finding, f"Θ, old → new ({bins} bins)", "layer", 130 + max(90, 36 * count), showlegend=False,
        **layer_axis("y", count),
    )  # fmt: skip


def score_histogram(found: LayerFound, layer: int, names: Names) -> go.Figure:
    """C6. One layer's scores by text, and the score of the last token taken."""
    if not len(found.scores):
        return finish(go.Figure(), f"Layer {layer} used all of Θ: nothing had to be scored.", "score", "tokens of Θ")
    edges = np.histogram_bin_edges(found.scores, 40)
    centres, figure = (edges[:-1] + edges[1:]) / 2, go.Figure()
    texts, counts = np.unique(found.owner, return_counts=True)
    for t, members in _grouped([int(t) for t in texts[np.argsort(-counts)]]).items():
        name, hue, shape = _look(t, members, names)
        values = found.scores[np.isin(found.owner, members)]
        figure.add_bar(x=centres, y=np.histogram(values, edges)[0], name=name, width=edges[1] - edges[0],
                       marker={"color": hue, "pattern": {"shape": shape}}, customdata=np.full(40, t))  # fmt: skip
    cut = float(np.nanmin(found.got_score))
    above_bars = {"text": " cut-off", "yref": "paper", "y": 1.12, "xanchor": "left"}
    figure.add_vline(x=cut, line={"dash": "dash", "width": 2}, annotation=above_bars)
    above = (found.scores >= cut).mean()
    finding = f"Layer {layer}: the cut-off is {cut:.3g}; {share_of(float(above))} of Θ scores at least that."
    return finish(figure, finding, "score", "tokens of Θ", bargap=0, margin={"l": 52, "r": 12, "t": 26, "b": 40})


def _grouped(texts: list[int]) -> dict[int, list[int]]:
    """A bar for each of the first texts; two or more that are left share one, under OTHERS."""
    if len(texts) <= MOST_TEXTS + 1:
        return {t: [t] for t in texts}
    return {t: [t] for t in texts[:MOST_TEXTS]} | {OTHERS: texts[MOST_TEXTS:]}


def _look(text: int, members: list[int], names: Names) -> tuple[str, str, str]:
    """The name, colour and pattern of a bar."""
    if text == OTHERS:
        return f"{len(members)} other texts", MANY, ""
    return name_of(text, names), colour(text), pattern(text)


def provenance(seen: Retrieval, names: Names, layer: int | None = None) -> go.Figure:
    """C7. Which texts each layer's retrieved tokens came from, beside each text's share of Θ (chance)."""
    count, figure = len(seen.layers), go.Figure()
    rows = ["chance", *[str(index) for index in range(count)]]
    texts = sorted({int(t) for found in seen.layers for t in np.unique(found.got_owner)} | set(seen.long_counts))
    order = sorted(texts, key=lambda t: (not t, -seen.shares(layer).get(t, 0)))
    bars = _grouped([t for t in order if t])  # the texts from the left, so that they align
    bars |= {t: [t] for t in order if not t}
    for t, members in bars.items():
        name, hue, shape = _look(t, members, names)
        shares = [sum(seen.long_counts.get(member, 0.0) for member in members)]
        shares += [float(np.isin(found.got_owner, members).mean()) if len(found.got_owner) else 0.0
                   for found in seen.layers]  # fmt: skip
        source = name if t == OTHERS else f"text {t}"
        figure.add_bar(y=rows, x=shares, orientation="h", name=name, customdata=np.full(len(rows), t),
                       marker={"color": hue, "pattern": {"shape": shape}, "line": {"width": 0}},
                       hovertemplate=f"layer %{{y}}: %{{x:.1%}} from {source}<extra></extra>")  # fmt: skip
    finding = "Nothing was retrieved."
    best = max((t for t in texts if t), key=lambda t: seen.shares(layer).get(t, 0), default=0)
    if best:
        share, chance = seen.shares(layer).get(best, 0.0), seen.long_counts.get(best, 0.0)
        times = f", {share / chance:.1f} times its share of Θ" if chance else ""
        finding = f"“{name_of(best, names)}” supplied {share_of(share)} of what was retrieved{times}."
    return finish(figure, finding, "share of the retrieved tokens", "layer", 90 + 22 * len(rows),
                  xaxis={"tickformat": ".0%", "range": [0, 1]}, yaxis={"type": "category"})  # fmt: skip


def agreement(seen: Retrieval) -> go.Figure:
    """C8. Do layers take the same blocks? Overlap (Jaccard) of the source blocks of every two layers."""
    sets = [set(found.got_block.tolist()) for found in seen.layers]
    z = np.array([[len(a & b) / max(1, len(a | b)) for b in sets] for a in sets], np.float32)
    figure = go.Figure(
        go.Heatmap(z=z, colorscale="Cividis", zmin=0, zmax=1, colorbar={"thickness": 10},
                   hovertemplate="layers %{x} and %{y}: %{z:.0%}<extra></extra>")
    )  # fmt: skip
    off = z[~np.eye(len(z), dtype=bool)].mean() if len(z) > 1 else 1.0
    finding = f"Two layers share {share_of(float(off))} of the blocks they took, on average."
    return finish(figure, finding, "layer", "layer", height=300, **layer_axis("x", len(z)))

"""The write side: θ and Θ as they are, and where the tokens of a step went (C1 to C4)."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from ..views import Moment
from .look import (
    LARGEST_MAP,
    MOST_DROPPED,
    OTHERS,
    UNKNOWN,
    Names,
    binned,
    colour,
    finish,
    layer_axis,
    legend,
    name_of,
    share_of,
)


def pool_map(
    moment: Moment, names: Names, text: int = 0, layer: int | None = None, slot: int | None = None
) -> go.Figure:
    """C1. θ, layer by slot, old to new; the colour is the text that wrote the slot. A chosen text stands out."""
    owner = binned(moment.owner, LARGEST_MAP)
    places = np.linspace(0, moment.owner.shape[1] - 1, owner.shape[1]).astype(int)
    texts = np.unique(owner)
    rank = np.searchsorted(texts, owner).astype(np.uint8 if len(texts) < 256 else np.int16)
    faded = [colour(int(t)) if not text or t == text else "rgba(150,150,150,.28)" for t in texts]
    edges = np.linspace(0, 1, len(texts) + 1)
    scale = [[edge, c] for i, c in enumerate(faded) for edge in (edges[i], edges[i + 1])]
    figure = go.Figure(
        go.Heatmap(
            z=rank, x=places, y=np.arange(len(owner)), customdata=owner.astype(np.int32), colorscale=scale, zmin=-0.5,
            zmax=len(texts) - 0.5, showscale=False, ygap=1,
            hovertemplate="layer %{y} · slot %{x} · text %{customdata}<extra></extra>",
        )
    )  # fmt: skip
    legend(figure, [int(t) for t in texts], names)
    if layer is not None:
        figure.add_hrect(y0=layer - 0.5, y1=layer + 0.5, line={"width": 2}, fillcolor="rgba(0,0,0,0)")
    if slot is not None:
        figure.add_vline(x=slot, line={"width": 2, "dash": "dot"})
    shares = {int(t): float((moment.owner == t).mean()) for t in texts}
    told = sorted(((s, t) for t, s in shares.items() if t), reverse=True)[:3]
    listed = "; ".join(f"{name_of(t, names)} holds {share_of(s)}" for s, t in told) or "no text has been written yet"
    finding = f"θ has {moment.owner.shape[1]:,} slots a layer: {listed}."
    return finish(figure, finding, "slot of θ, old → new", "layer", **layer_axis("y", len(owner)))


def forgetting(moments: Sequence[Moment], block: int, names: Names, text: int = 0) -> go.Figure:
    """C2. Share of each text's tokens still in θ, and in θ or Θ, by the writes since; beside (1 - K/N)^t.

    block: K. Without a chosen text, the four oldest are drawn. The first text drawn also shows every layer as a thin
    line and the band in which chance leaves 95 % of the layers: a slot outlives t writes with p = (1 - K/N)^t, so of n
    slots n p ± 1.96 √(n p (1 - p)) are left (binomial; drawing without replacement makes the true band narrower),
    summed over the chunks of the text, of which the earlier ones have seen more writes.
    """
    figure = go.Figure()
    first: dict[int, int] = {}
    chunks: dict[int, list[int]] = {}
    for index, moment in enumerate(moments):
        if moment.event == "write":
            first[moment.receipt] = index  # the last chunk of a text: all of it has been written by then
            chunks.setdefault(moment.receipt, []).append(moment.writes)
    chosen = [text] if text in first else list(first)[:4]
    stays = 1 - block / moments[-1].owner.shape[1]
    finding = ""
    for t in chosen:
        rows = [m for m in moments[first[t] :] if m.event != "undo"]
        counts = np.array([(m.owner == t).sum(1) for m in rows], float)
        kept = np.array(
            [[(o == t).sum() for o in m.long_owner] if m.long_owner else np.zeros(len(m.owner)) for m in rows], float
        )
        total = max(block * len(chunks[t]), (counts[0] + kept[0]).max())
        x = np.array([m.writes - rows[0].writes for m in rows])
        in_pool, in_all = counts / total, (counts + kept) / total
        c = colour(t)
        if t == chosen[0]:
            waited = rows[0].writes - np.array(chunks[t])
            theory, inside = _chance(figure, x, waited, block, total, stays, in_pool)
            for layer, shares in enumerate(in_pool.T if len(x) > 1 else ()):
                figure.add_scatter(x=x, y=shares, mode="lines", line={"color": c, "width": 0.7}, opacity=0.7,
                                   name=f"{t} in θ, layer {layer}", showlegend=False, hoverinfo="skip")  # fmt: skip
            finding = (
                f"After {int(x[-1])} more writes {share_of(in_pool[-1].mean())} of “{name_of(t, names)}” is left in θ "
                f"(theory {share_of(theory)}; {inside} of {in_pool.shape[1]} layers lie "
                f"in the band of chance), {share_of(in_all[-1].mean())} in θ and Θ together."
            )
        figure.add_scatter(x=x, y=in_pool.mean(1), mode="lines+markers", line={"color": c, "width": 2},
                           name=f"{name_of(t, names)} in θ", marker={"size": 5},
                           customdata=np.full(len(x), t))  # fmt: skip
        if kept.any():
            figure.add_scatter(x=x, y=in_all.mean(1), mode="lines", line={"color": c, "width": 2, "dash": "dash"},
                               name=f"{t} in θ or Θ", customdata=np.full(len(x), t))  # fmt: skip
    return finish(figure, finding or "Write a text to see it fade.", "writes since the text was written",
                  "share of its tokens", yaxis={"range": [-0.02, 1.05], "tickformat": ".0%"}, height=320)  # fmt: skip


def _chance(
    figure: go.Figure, x: np.ndarray, waited: np.ndarray, block: int, total: float, stays: float, shares: np.ndarray
) -> tuple[float, int]:
    """Draw what chance leaves of a text whose chunks had seen `waited` writes at x = 0: (share at the end of x, layers
    that end in the band)."""
    t = np.arange(max(4, int(x[-1])) + 1)
    p = stays ** (t[:, None] + waited)
    middle = block * p.sum(1) / total
    spread = 1.96 * np.sqrt(block * (p * (1 - p)).sum(1)) / total
    low, high = np.maximum(0, middle - spread), np.minimum(1, middle + spread)
    edge = {"color": "#808890", "width": 0}
    figure.add_scatter(x=t, y=high, mode="lines", line=edge, name="chance, upper edge", showlegend=False,
                       hoverinfo="skip")  # fmt: skip
    figure.add_scatter(x=t, y=low, mode="lines", line=edge, fill="tonexty", fillcolor="rgba(128,136,144,.24)",
                       name="95 % of layers, by chance", hoverinfo="skip")  # fmt: skip
    figure.add_scatter(x=t, y=middle, mode="lines", line={"color": "#808890", "dash": "dot"},
                       name=f"theory (1 - {block}/{round(block / (1 - stays))})ᵗ")  # fmt: skip
    end, slack = int(x[-1]), 1e-9
    inside = (shares[-1] >= low[end] - slack) & (shares[-1] <= high[end] + slack)
    return float(middle[end]), int(inside.sum())


def ages(moment: Moment, text: int = 0, log: bool = False) -> go.Figure:
    """C3. How old what is kept is: a histogram over all layers, θ and Θ stacked. log: ages on a log scale, from 1."""
    mine = (lambda a, o: a[o == text]) if text else (lambda a, o: a)
    pool = mine(moment.age.ravel(), moment.owner.ravel())
    long = np.concatenate([mine(a, o) for a, o in zip(moment.long_age, moment.long_owner, strict=True)] or [[]])
    top = float(max([pool.max(initial=1), long.max(initial=1)])) + 1
    edges = np.geomspace(1, top, 41) if log else np.linspace(min(0, pool.min(initial=0)), top, 41)
    centres, figure = (edges[:-1] + edges[1:]) / 2, go.Figure()
    for values, name, c in ((pool, "θ", "#0072B2"), (long, "Θ", "#E69F00")):
        counts = np.histogram(values.clip(edges[0]), edges)[0]
        figure.add_bar(x=centres, y=counts, name=name, marker={"color": c}, width=np.diff(edges))
    layers = len(moment.owner)
    finding = (
        f"θ: {len(pool) / layers:,.0f} tokens a layer, median age {np.median(pool) if len(pool) else 0:,.0f}; Θ: "
        + (f"{len(long) / layers:,.0f}, median age {np.median(long):,.0f}." if len(long) else "empty.")
    )
    return finish(figure, finding, "age in memory tokens", "tokens, all layers", bargap=0,
                  xaxis={"type": "log" if log else "linear"})  # fmt: skip


def losses(before: Moment, moment: Moment) -> dict[int, float]:
    """Text -> tokens of it that left θ in the step between two moments, mean over the layers."""
    counts = {int(t): 0.0 for t in np.union1d(before.owner, moment.owner)}
    for t in counts:
        counts[t] = float((before.owner == t).sum() - (moment.owner == t).sum()) / len(moment.owner)
    counts[moment.receipt] = counts.get(moment.receipt, 0.0) + moment.written
    return {t: count for t, count in counts.items() if count > 0}


def flow(moment: Moment, names: Names, keeps: bool, before: Moment | None = None) -> go.Figure:
    """C4. Where the tokens of one write went, per layer; from `before`, whose tokens were thrown out. keeps: there is a
    Θ."""
    kept = moment.moved if keeps else 0.0
    labels, colours = [name_of(moment.receipt, names), "θ"], [colour(moment.receipt), "#0072B2"]
    links: list[tuple[int, int, float, str]] = [(0, 1, moment.written, colour(moment.receipt))]

    def node(label: str, hue: str) -> int:
        labels.append(label)
        colours.append(hue)
        return len(labels) - 1

    left = {t: n for t, n in (losses(before, moment) if before else {}).items()} or {UNKNOWN: float(moment.dropped)}
    onward = "Θ, pending" if moment.pending and keeps else "Θ"
    place = node(onward, "#E69F00") if kept else node("gone for good", "#D55E00")
    ranked = sorted(left.items(), key=lambda item: -item[1])
    if len(ranked) > MOST_DROPPED + 1:  # more would be threads that nobody can read
        ranked = [*ranked[:MOST_DROPPED], (OTHERS, sum(count for _, count in ranked[MOST_DROPPED:]))]
    for t, count in ranked:
        hue = colour(t) if t >= 0 else "#808890"
        said = f"{len(left) - MOST_DROPPED} other texts" if t == OTHERS else name_of(t, names)
        own = node(f"dropped: {said}" if t != UNKNOWN else "dropped", hue)
        links += [(1, own, count, hue), (own, place, count, hue)]
    if kept and moment.evicted:
        links.append((place, node("gone for good", "#D55E00"), moment.evicted, "#D55E00"))
    links = [link for link in links if link[2] > 0]
    source, target, value, hues = (list(column) for column in zip(*links, strict=True)) if links else ([], [], [], [])
    figure = go.Figure(
        go.Sankey(
            node={"label": labels, "color": colours, "pad": 14, "thickness": 16},
            link={"source": source, "target": target, "value": value,
                  "color": [f"rgba({','.join(str(int(hue[i : i + 2], 16)) for i in (1, 3, 5))},.4)" for hue in hues]},
            valueformat=".1f",
        )
    )  # fmt: skip
    went = f"{moment.dropped:,} random old ones left θ" + (
        f", {kept:,.0f} of them for Θ" if keeps else " for good (there is no Θ)"
    )
    gone = f"; {moment.evicted:,.0f} were evicted from Θ" if moment.evicted else ""
    finding = (
        f"{moment.written:,} tokens a layer came in; {went}{gone}." if moment.written else "This step wrote nothing."
    )
    return finish(figure, finding, height=170 + 18 * len(ranked), margin={"l": 8, "r": 8, "t": 8, "b": 8})

"""The figures, as pure functions from what happened (`lab.views`) to plotly figures; the page and the notebooks share
them. No torch here. Every figure says its finding in words (`layout.meta["finding"]`), and one text has one colour in
all of them.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from .views import LayerFound, Moment, Retrieval

PALETTE = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#0072B2", "#D55E00", "#F0E442", "#8C6BB1")
PATTERNS = ("", "/", ".", "x", "-", "+", "|", "\\")
INITIAL = "#A9B0B8"
WHOLE = "the checkpoint's own"
METHOD_NAMES = {"mplus": "M+", "memoryllm": "MemoryLLM", "window": "window", "snapkv": "SnapKV", "bm25": "BM25",
                "full": "full context", "random-retriever": "M+, guessing retriever",
                "question-only": "no text at all"}  # fmt: skip
METHOD_COLOURS = {"mplus": "#0072B2", "memoryllm": "#56B4E9", "window": "#E69F00", "snapkv": "#D55E00",
                  "bm25": "#009E73",
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
    return METHOD_COLOURS.get(method.split(" ")[0].rstrip(","), "#808890")


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


def _share(part: float) -> str:
    return f"{100 * part:.0f} %" if part >= 0.0995 or part == 0 else f"{100 * part:.1f} %"


def _layers(axis: str, count: int) -> dict:
    return {f"{axis}axis": {"tickmode": "array", "tickvals": list(range(0, count, max(1, count // 8)))}}


def _legend(figure: go.Figure, texts: Sequence[int], names: Names) -> None:
    for text in list(texts)[:12]:
        figure.add_scatter(
            x=[None], y=[None], mode="markers", name=name_of(text, names), hoverinfo="skip",
            marker={"symbol": "square", "size": 11, "color": colour(text)},
        )  # fmt: skip


def _binned(values: np.ndarray, bins: int) -> np.ndarray:
    """(L, N) with every `N / bins` columns reduced to the first of them, so that a map stays small."""
    count = values.shape[1]
    return values if count <= bins else values[:, np.linspace(0, count - 1, bins).astype(int)]


# ── writing ──
def pool_map(
    moment: Moment, names: Names, text: int = 0, layer: int | None = None, slot: int | None = None
) -> go.Figure:
    """C1. θ, layer by slot, old to new; the colour is the text that wrote the slot. A chosen text stands out."""
    owner = _binned(moment.owner, LARGEST_MAP)
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
    _legend(figure, [int(t) for t in texts], names)
    if layer is not None:
        figure.add_hrect(y0=layer - 0.5, y1=layer + 0.5, line={"width": 2}, fillcolor="rgba(0,0,0,0)")
    if slot is not None:
        figure.add_vline(x=slot, line={"width": 2, "dash": "dot"})
    shares = {int(t): float((moment.owner == t).mean()) for t in texts}
    told = sorted(((s, t) for t, s in shares.items() if t), reverse=True)[:3]
    listed = "; ".join(f"{name_of(t, names)} holds {_share(s)}" for s, t in told) or "no text has been written yet"
    finding = f"θ has {moment.owner.shape[1]:,} slots a layer: {listed}."
    return finish(figure, finding, "slot of θ, old → new", "layer", **_layers("y", len(owner)))


def forgetting(
    moments: Sequence[Moment], block: int, names: Names, text: int = 0, step: int | None = None
) -> go.Figure:
    """C2. Share of each text's tokens still in θ, and in θ or Θ, by the writes since; beside (1 - K/N)^t.

    block: K. The band spans the layers. Without a chosen text, the four oldest are drawn.
    """
    figure = go.Figure()
    first: dict[int, int] = {}
    for index, moment in enumerate(moments):
        if moment.event == "write":
            first[moment.receipt] = index  # the last chunk of a text: all of it has been written by then
    chosen = [text] if text in first else list(first)[:4]
    size = moments[-1].owner.shape[1]
    longest, finding = 0, ""
    for t in chosen:
        rows = [m for m in moments[first[t] :] if m.event != "undo"]
        start = rows[0].writes
        counts = np.array([(m.owner == t).sum(1) for m in rows], float)
        kept = np.array(
            [[(o == t).sum() for o in m.long_owner] if m.long_owner else np.zeros(len(m.owner)) for m in rows], float
        )
        total = np.maximum(1, counts[0] + kept[0])
        x = np.array([m.writes - start for m in rows])
        longest = max(longest, int(x[-1]))
        in_pool, in_all = counts / total, (counts + kept) / total
        c = colour(t)
        if len(x) > 1:
            figure.add_scatter(
                x=np.concatenate([x, x[::-1]]), y=np.concatenate([in_pool.max(1), in_pool.min(1)[::-1]]), fill="toself",
                fillcolor=c, opacity=0.18, line={"width": 0}, hoverinfo="skip", showlegend=False,
                name=f"text {t} layers",
            )  # fmt: skip
        figure.add_scatter(x=x, y=in_pool.mean(1), mode="lines+markers", line={"color": c, "width": 2},
                           name=f"{name_of(t, names)} in θ", marker={"size": 5},
                           customdata=np.full(len(x), t))  # fmt: skip
        if kept.any():
            figure.add_scatter(x=x, y=in_all.mean(1), mode="lines", line={"color": c, "width": 2, "dash": "dash"},
                               name=f"{t} in θ or Θ", customdata=np.full(len(x), t))  # fmt: skip
        if not finding:
            finding = (
                f"After {int(x[-1])} more writes {_share(in_pool[-1].mean())} of “{name_of(t, names)}” is left in θ "
                f"(theory {_share((1 - block / size) ** x[-1])}), {_share(in_all[-1].mean())} in θ and Θ together."
            )
    t = np.arange(max(longest, 4) + 1)
    figure.add_scatter(x=t, y=(1 - block / size) ** t, mode="lines", line={"color": "#808890", "dash": "dot"},
                       name=f"theory (1 - {block}/{size})ᵗ")  # fmt: skip
    return finish(figure, finding or "Write a text to see it fade.", "writes since the text was written",
                  "share of its tokens", yaxis={"range": [-0.02, 1.05], "tickformat": ".0%"}, height=320)  # fmt: skip


def ages(moment: Moment, text: int = 0) -> go.Figure:
    """C3. How old what is kept is: a histogram over all layers, θ and Θ stacked."""
    mine = (lambda a, o: a[o == text]) if text else (lambda a, o: a)
    pool = mine(moment.age.ravel(), moment.owner.ravel())
    long = np.concatenate([mine(a, o) for a, o in zip(moment.long_age, moment.long_owner, strict=True)] or [[]])
    top = float(max([pool.max(initial=1), long.max(initial=1)]))
    edges = np.linspace(min(0, pool.min(initial=0)), top + 1, 41)
    centres, figure = (edges[:-1] + edges[1:]) / 2, go.Figure()
    for values, name, c in ((pool, "θ", "#0072B2"), (long, "Θ", "#E69F00")):
        figure.add_bar(
            x=centres, y=np.histogram(values, edges)[0], name=name, marker={"color": c}, width=edges[1] - edges[0]
        )
    layers = len(moment.owner)
    finding = (
        f"θ: {len(pool) / layers:,.0f} tokens a layer, median age {np.median(pool) if len(pool) else 0:,.0f}; Θ: "
        + (f"{len(long) / layers:,.0f}, median age {np.median(long):,.0f}." if len(long) else "empty.")
    )
    return finish(figure, finding, "age in memory tokens", "tokens, all layers", bargap=0)


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


# ── retrieving ──
def score_map(seen: Retrieval, layer: int | None = None) -> go.Figure:
    """C5. Every layer's scores over Θ, old to new, scaled per layer and max-pooled; the strip under a layer shows what
    it took."""
    count = len(seen.layers)
    width = max((len(found.scores) for found in seen.layers), default=0)
    bins = max(1, min(LARGEST_MAP, width))
    z = np.full((2 * count, bins), np.nan, np.float32)  # two rows a layer: what was taken, and the scores
    took = np.full((2 * count, bins), np.nan, np.float32)
    text = np.zeros((2 * count, bins), np.int32)
    for index, found in enumerate(seen.layers):
        if not len(found.scores):
            continue
        low, high = float(found.scores.min()), float(found.scores.max())
        scaled = (found.scores - low) / max(1e-9, high - low)
        place = np.arange(len(scaled)) * bins // len(scaled)
        row = np.full(bins, -1, np.float32)
        np.maximum.at(row, place, scaled.astype(np.float32))
        z[2 * index + 1] = np.where(row < 0, np.nan, row)
        text[2 * index + 1, place] = text[2 * index, place] = found.owner
        took[2 * index, place[found.chosen]] = 1
        text[2 * index, place[found.chosen]] = found.owner[found.chosen]
    edges = np.array([edge for i in range(count) for edge in (i - 0.5, i - 0.26)] + [count - 0.5])
    x = np.arange(bins)
    figure = go.Figure(
        go.Heatmap(z=z, x=x, y=edges, colorscale="Cividis", customdata=text, zmin=0, zmax=1,
                   colorbar={"thickness": 10, "tickvals": [0, 1], "ticktext": ["low", "high"]}, name="score",
                   hovertemplate="text %{customdata} · score %{z:.2f} of the layer's range<extra></extra>",
                   hoverongaps=False)
    )  # fmt: skip
    figure.add_heatmap(z=took, x=x, y=edges, colorscale=[[0, "#D55E00"], [1, "#D55E00"]], customdata=text, zmin=0,
                       zmax=1, showscale=False, name="retrieved", hoverongaps=False,
                       hovertemplate="retrieved · text %{customdata}<extra></extra>")  # fmt: skip
    if layer is not None:
        figure.add_hrect(y0=layer - 0.5, y1=layer + 0.5, line={"width": 2}, fillcolor="rgba(0,0,0,0)")
    taken = int(np.mean([len(found.got_owner) for found in seen.layers]))
    finding = f"For “{seen.question}” every layer took {taken:,} of {width:,} tokens of Θ (the orange strips)."
    if not width:
        finding = "Θ holds no more tokens than a question may take: all of it was used, nothing had to be scored."
    figure.update_layout(yaxis={"range": [-0.55, count - 0.45]})
    return finish(
        figure, finding, f"Θ, old → new ({bins} bins)", "layer", 130 + max(90, 36 * count), showlegend=False,
        **_layers("y", count),
    )  # fmt: skip


def score_histogram(found: LayerFound, layer: int, names: Names) -> go.Figure:
    """C6. One layer's scores by text, and the score of the last token taken."""
    if not len(found.scores):
        return finish(go.Figure(), f"Layer {layer} used all of Θ: nothing had to be scored.", "score", "tokens of Θ")
    edges = np.histogram_bin_edges(found.scores, 40)
    centres, figure = (edges[:-1] + edges[1:]) / 2, go.Figure()
    texts, counts = np.unique(found.owner, return_counts=True)
    shown = [int(t) for t in texts[np.argsort(-counts)][:9]]
    for t in shown:
        values = found.scores[found.owner == t]
        figure.add_bar(x=centres, y=np.histogram(values, edges)[0], name=name_of(t, names), width=edges[1] - edges[0],
                       marker={"color": colour(t), "pattern": {"shape": pattern(t)}},
                       customdata=np.full(40, t))  # fmt: skip
    cut = float(np.nanmin(found.got_score))
    above_bars = {"text": " cut-off", "yref": "paper", "y": 1.12, "xanchor": "left"}
    figure.add_vline(x=cut, line={"dash": "dash", "width": 2}, annotation=above_bars)
    above = (found.scores >= cut).mean()
    finding = f"Layer {layer}: the cut-off is {cut:.3g}; {_share(float(above))} of Θ scores at least that."
    return finish(figure, finding, "score", "tokens of Θ", bargap=0, margin={"l": 52, "r": 12, "t": 26, "b": 40})


def provenance(seen: Retrieval, names: Names, layer: int | None = None) -> go.Figure:
    """C7. Which texts each layer's retrieved tokens came from, beside each text's share of Θ (chance)."""
    count, figure = len(seen.layers), go.Figure()
    rows = ["chance", *[str(index) for index in range(count)]]
    texts = sorted({int(t) for found in seen.layers for t in np.unique(found.got_owner)} | set(seen.long_counts))
    order = sorted(texts, key=lambda t: (not t, -seen.shares(layer).get(t, 0)))
    order = [*[t for t in order if t][:12], *[t for t in order if not t]]  # the texts from the left, so that they align
    for t in order:
        shares = [seen.long_counts.get(t, 0.0)]
        shares += [float((found.got_owner == t).mean()) if len(found.got_owner) else 0.0 for found in seen.layers]
        figure.add_bar(y=rows, x=shares, orientation="h", name=name_of(t, names), customdata=np.full(len(rows), t),
                       marker={"color": colour(t), "pattern": {"shape": pattern(t)}, "line": {"width": 0}},
                       hovertemplate="layer %{y}: %{x:.1%} from text %{customdata}<extra></extra>")  # fmt: skip
    finding = "Nothing was retrieved."
    best = max((t for t in texts if t), key=lambda t: seen.shares(layer).get(t, 0), default=0)
    if best:
        share, chance = seen.shares(layer).get(best, 0.0), seen.long_counts.get(best, 0.0)
        times = f", {share / chance:.1f} times its share of Θ" if chance else ""
        finding = f"“{name_of(best, names)}” supplied {_share(share)} of what was retrieved{times}."
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
    finding = f"Two layers share {_share(float(off))} of the blocks they took, on average."
    return finish(figure, finding, "layer", "layer", height=300, **_layers("x", len(z)))


# ── comparing ──
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
        finding = f"M+ answers {_share(best['accuracy'])} after {best[key]:,} tokens. {finding}"
    titles = {"distance": "tokens in between", "length": "tokens", "group": ""}
    return finish(figure, finding, titles[key], "right answers", 340, barmode="group",
                  yaxis={"tickformat": ".0%", "range": [-0.03, 1.05]})  # fmt: skip


# ── resources and training ──
def resources(
    times: Sequence[float], lines: Mapping[str, Sequence[float]], marks: Sequence[tuple[float, str]]
) -> go.Figure:
    """C11. Bytes over time: lines {name: bytes}, and marks (second, event)."""
    figure = go.Figure()
    for index, (name, values) in enumerate(lines.items()):
        figure.add_scatter(x=list(times), y=[v / 2**20 for v in values], name=name, mode="lines",
                           line={"shape": "hv", "color": PALETTE[index % len(PALETTE)], "width": 2})  # fmt: skip
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
                               line={"color": PALETTE[index % len(PALETTE)], "width": 2})  # fmt: skip
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

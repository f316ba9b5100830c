"""Pieces of HTML that the page shows: status, progress, provenance, tables, diagrams. Everything foreign is escaped."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import NamedTuple

import numpy as np

from core.sources import Receipt

from .plots import colour
from .views import Retrieval, title

MOST_CHIPS = 240
MOST_IN_BIN = 60
AROUND = 1200


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1024
    return f"{count:,.2f} GiB"


def strip(pairs: Mapping[str, str]) -> str:
    items = "".join(f"<span>{escape(name)} <b>{escape(value)}</b></span>" for name, value in pairs.items())
    return f'<div class="strip" role="status">{items}</div>'


def banner(warning: str) -> str:
    return f'<div class="warn" role="alert">{escape(warning)}</div>' if warning else ""


def progress(words: str, share: float | None = None) -> str:
    bar = "" if share is None else f'<div class="bar"><i style="width:{100 * share:.0f}%"></i></div>'
    return f'<div class="note" role="status">{escape(words)}{bar}</div>'


def _marked(receipt: Receipt, hits: np.ndarray, layers: int) -> tuple[str, set[str]]:
    """A text with its retrieved tokens marked, the stronger the more layers took them, and the names of these marks.

    Of a long text it is what stands around the strongest mark, so not every token has one.
    """
    names: set[str] = set()
    if not len(hits) or not hits.any():
        return escape(receipt.text[:AROUND]) + ("…" if len(receipt.text) > AROUND else ""), names
    spans = receipt.spans
    best = spans[int(hits.argmax())][0]
    low, high = max(0, best - AROUND), best + AROUND
    parts, place = ["…" if low else ""], low
    by_start = sorted(range(len(spans)), key=lambda i: spans[i])
    for i in by_start:
        begin, end = spans[i]
        if not hits[i] or begin < place or begin >= high or end <= begin:
            continue
        strength = 18 + 62 * hits[i] / layers
        names.add(name := f"{receipt.id}-{begin}")  # by place: short texts are written several times over
        parts += [
            escape(receipt.text[place:begin]),
            f'<mark data-t="{name}" style="--s:{strength:.0f}" title="{hits[i]} of {layers} layers">',
            escape(receipt.text[begin:end]),
            "</mark>",
        ]
        place = end
    parts += [escape(receipt.text[place:high]), "…" if high < len(receipt.text) else ""]
    return "".join(parts), names


def provenance(seen: Retrieval | None, texts: Sequence[Receipt], layer: int | None = None) -> str:
    """Where an answer came from: the texts with what was retrieved marked, and the retrieved tokens as buttons."""
    if seen is None:
        return '<div class="prov"><h3>Where the answer came from</h3><p>Write a text, then ask: the passages that each layer retrieved are marked here.</p></div>'  # noqa: E501
    if not seen.layers:
        return '<div class="prov"><h3>Where the answer came from</h3><p>Nothing was retrieved: the answer rests on θ alone. In M+ every write drops tokens of θ into Θ; a MemoryLLM model has no Θ.</p></div>'  # noqa: E501
    shares, known = seen.shares(layer), {receipt.id: receipt for receipt in texts}
    where = "all layers" if layer is None else f"layer {layer}"
    layers = len(seen.layers) if layer is None else 1
    parts = ['<div class="prov"><h3>Where the answer came from</h3>']
    sure = seen.sure(layer)
    says = any(sure.values())
    best = sorted((id for id in shares if id in known), key=lambda id: (-sure[id], -shares[id]))[:4]
    initial = shares.get(0, 0.0)
    words = f"Marked is what came back from Θ in {where}; the darker, the more layers took it."
    if initial:
        words += f" {100 * initial:.0f} % of it is the checkpoint's own memory."
    words += " All of θ is read besides: the map below tells whose text it holds."
    if not best:
        words += " No text of yours is among it: the answer rests on θ."
    parts.append(f"<p>{words}</p>")
    marks: set[str] = set()
    for id in best:
        receipt, chance = known[id], seen.long_counts.get(id, 0.0)
        text, names = _marked(receipt, seen.hits(receipt, layer), layers)
        marks |= names
        told = f"The retriever is {100 * sure[id]:.0f} % sure of it. " if says else ""
        parts.append(
            f'<h4><span class="sw" style="--c:{colour(id)}"></span>{escape(title(receipt, 60))}</h4><p>'
            f"{told}{100 * shares[id]:.0f} % of the retrieved tokens; its share of Θ is {100 * chance:.0f} % (chance)."
            "</p>"
            f'<div class="src" style="--c:{colour(id)}" tabindex="0" role="region" aria-label="text {id}">'
            f"{text}</div>"
        )
    shown = layer if layer is not None else best_layer(seen, best)
    parts.append(f"<h4>Tokens that layer {shown} retrieved, oldest first</h4>" + _chips(seen, known, shown, marks))
    return "".join(parts) + "</div>"


def best_layer(seen: Retrieval, texts: Sequence[int]) -> int:
    """The layer that is most of one mind: the highest share from the first of these texts."""
    if not texts:
        return 0
    return int(
        np.argmax([(found.got_owner == texts[0]).mean() if len(found.got_owner) else 0 for found in seen.layers])
    )


def _chips(seen: Retrieval, known: Mapping[int, Receipt], layer: int, marks: set[str]) -> str:
    found, buttons = seen.layers[layer], []
    for owner, position, age in zip(found.got_owner, found.got_position, found.got_age, strict=True):
        id, place = int(owner), int(position)
        if id in known and 0 <= place < known[id].num_tokens:
            begin, end = known[id].spans[place]
            words = known[id].text[begin:end].replace("\n", "⏎").replace(" ", "␣") or "∅"
            target = f'data-go="{id}-{begin}"' if f"{id}-{begin}" in marks else "disabled"
            buttons.append(
                f'<button type="button" {target} style="--c:{colour(id)}" aria-pressed="false" '
                f'aria-label="token {escape(words)} of text {id}, age {age}">{escape(words)}</button>'
            )
    count, rest = len(buttons), len(found.got_owner) - len(buttons)
    more = f"<p>{count - MOST_CHIPS} more are not shown.</p>" if count > MOST_CHIPS else ""
    other = f"<p>{rest} tokens come from the checkpoint's own memory or the block before.</p>" if rest else ""
    shown_buttons = "".join(buttons[:MOST_CHIPS])
    return f'<div class="chips" role="group" aria-label="retrieved tokens">{shown_buttons}</div>{more}{other}'


GO = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-go]'); if (!button) return;
  element.querySelectorAll('[aria-pressed=true]').forEach((b) => b.setAttribute('aria-pressed', 'false'));
  element.querySelectorAll('mark.hit').forEach((m) => m.classList.remove('hit'));
  button.setAttribute('aria-pressed', 'true');
  const mark = element.querySelector(`mark[data-t="${button.dataset.go}"]`);
  if (mark) { mark.classList.add('hit'); mark.scrollIntoView({block: 'nearest', inline: 'nearest'}); }
  trigger('select', {index: 0, value: button.dataset.go});
});
"""
"""Script of the provenance panel: a click on a retrieved token marks its place in the text."""


def table(header: Iterable[str], rows: Iterable[Sequence], numbers: set[int] = frozenset()) -> str:  # type: ignore[assignment]
    """A plain table; cells are escaped, `numbers` are the columns aligned to the right."""
    head = "".join(f"<th{' class=n' if i in numbers else ''}>{escape(cell)}</th>" for i, cell in enumerate(header))
    body = "".join(
        "<tr>"
        + "".join(f"<td{' class=n' if i in numbers else ''}>{escape(str(cell))}</td>" for i, cell in enumerate(row))
        + "</tr>"
        for row in rows
    )
    return f'<div class="grid" tabindex="0" role="region" aria-label="table"><table><tr>{head}</tr>{body}</table></div>'


def slot_source(receipt: Receipt | None, chunk: int | None, position: int | None, place: str) -> str:
    """The source of one memory token: its chunk, with the token marked."""
    if receipt is None or chunk is None:
        return f'<div class="prov"><p>{escape(place)}: from the memory the checkpoint was shipped with.</p></div>'
    span = receipt.chunks[chunk]
    begin, end = receipt.spans[span.start][0], receipt.spans[max(span.start, span.end - 1)][1]
    parts = escape(receipt.text[begin:end])
    if position is not None:
        a, b = receipt.spans[position]
        if begin <= a and b <= end:
            parts = (
                escape(receipt.text[begin:a])
                + f'<mark class="hit" style="--s:60">{escape(receipt.text[a:b])}</mark>'
                + escape(receipt.text[b:end])
            )
    words = f"{place}: written by text {receipt.id}, chunk {chunk + 1} of {len(receipt.chunks)}"
    words += ", the head that a short chunk borrowed" if position is None else f", token {position + 1}"
    hue = colour(receipt.id)
    return f'<div class="prov"><p>{escape(words)}.</p><div class="src" style="--c:{hue}">{parts}</div></div>'


class LongToken(NamedTuple):
    """A token of Θ. place: its row, oldest first; receipt, position: its text and where in it (None: not known)."""

    place: int
    receipt: Receipt | None
    position: int | None
    score: float
    taken: bool


def bin_tokens(where: str, tokens: Sequence[LongToken]) -> str:
    """C5. The tokens of Θ in one column of the score map, each with the words around it."""
    if not tokens:
        return progress(f"{where} holds no token of Θ.")
    rows = []
    for token in tokens[:MOST_IN_BIN]:
        word, around = "-", "the checkpoint's own memory"
        if token.receipt is not None:
            around = title(token.receipt)
            if token.position is not None:
                text, (begin, end) = token.receipt.text, token.receipt.spans[token.position]
                word = " ".join(text[begin:end].split()) or "␣"
                low, high = max(0, begin - 30), min(len(text), end + 30)
                around = f"{'…' if low else ''}{text[low:begin]}[{text[begin:end]}]{text[end:high]}"
                around += "…" if high < len(text) else ""
        owner = token.receipt.id if token.receipt else 0
        rows.append([f"{token.place:,}", word, around, owner or "", f"{token.score:.3g}", "yes" if token.taken else ""])
    count, taken = len(tokens), sum(token.taken for token in tokens)
    words = f"{where}: {count:,} token{'s' if count > 1 else ''} of Θ, {taken:,} retrieved."
    if count > MOST_IN_BIN:
        words += f" The {MOST_IN_BIN} best are shown."
    return progress(words) + table(
        ["row of Θ", "token", "where it stood", "text", "score", "retrieved"], rows, {0, 3, 4}
    )


def answer_tokens(tokens: Sequence[str], with_all: Sequence[float], changed: Sequence[float], what: str) -> str:
    """C9. The answer's tokens, coloured by how much likelier the untouched memory makes them than the changed one."""
    spans = []
    for token, a, b in zip(tokens, with_all, changed, strict=True):
        gain = a - b
        hue = "#0072B2" if gain >= 0 else "#D55E00"
        strength = min(60.0, 14 * abs(gain))
        spans.append(
            f'<span class="tok" tabindex="0" style="background:color-mix(in srgb,{hue} {strength:.0f}%,transparent);'
            f'border-color:{hue if abs(gain) > 0.1 else "transparent"}" title="log p {a:.2f} with everything, {b:.2f} '
            f'{escape(what)}: {gain:+.2f}">{escape(token)}</span>'
        )
    gain = sum(with_all) - sum(changed)
    times = f"{np.exp(min(50.0, abs(gain))):,.3g}"
    how = "as likely" if times == "1" else f"{times} times {'less' if gain >= 0 else 'more'} likely"
    words = f"The whole answer is {how} {escape(what)} (log p {sum(with_all):.2f} → {sum(changed):.2f})."
    listed = table(
        ["token", "log p with everything", f"log p {what}", "difference"],
        [(t, f"{a:.2f}", f"{b:.2f}", f"{a - b:+.2f}") for t, a, b in zip(tokens, with_all, changed, strict=True)],
        {1, 2, 3},
    )
    return (
        f'<div class="prov"><h3>Answer tokens: which needed it?</h3><p>{words} Blue: the memory helped; orange: it '
        f"stood in the way.</p>"
        f'<p style="font-size:1.1rem">{"".join(spans)}</p><details><summary>As a table</summary>{listed}'
        "</details></div>"
    )

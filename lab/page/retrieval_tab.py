"""The read side: what the last question found in each layer, and what the answer owes to it."""

from functools import partial
from typing import Any

import gradio as gr
import numpy as np

from .. import panels, plots
from ..ablate import LAYER, LONG_TERM, RETRIEVER, TEXT, Ablation
from ..session import Session
from ..views import Retrieval
from .chart import chart
from .shell import DRAW, MODEL, QUIET, Page, Selection, figure, guarded

UNASKED = "Ask a question in the Lab: the words of its answer that needed Θ are marked here."
NO_LONG_TERM = "This model is a MemoryLLM: it has no Θ that an answer could have needed. A text can be deleted."
EMPTY = "Write a text in the Lab and ask a question to see this. It shows Θ, which a MemoryLLM model has not."


class RetrievalTab:
    def __init__(self, page: Page):
        self.page = page

    def build(self) -> None:
        page = self.page
        self.scores = chart("scores", "Where does each layer look in Θ?", EMPTY, 260)
        with gr.Row(elem_classes="level"):
            self.bin = gr.Number(None, label="Bin of Θ to open", precision=0, minimum=0, min_width=150)
            self.shut = gr.Button("Close the bin", min_width=120)
        self.opened = gr.HTML(padding=False, elem_id="bin")
        with gr.Row():
            with gr.Column(min_width=320):
                self.provenance = chart("provenance-chart", "Which text came back, beyond chance?", EMPTY, 280)
            with gr.Column(min_width=320):
                self.histogram = chart("histogram", "Does the retriever separate?", EMPTY, 280)
        with gr.Row():
            with gr.Column(min_width=320):
                self.agreement = chart("agreement", "Do the layers agree?", EMPTY, 300)
            with gr.Column(min_width=320):
                gr.Markdown(
                    "### Which words needed the memory?\nThe answer stays; its probabilities are computed again without Θ, or "
                    "with another thing taken away. Layer and text are those of Selection. Nothing is changed in your memory."
                )
                with gr.Row():
                    self.buttons = {
                        LONG_TERM: gr.Button("Θ off", min_width=120),
                        RETRIEVER: gr.Button("Retriever guesses", min_width=140),
                        LAYER: gr.Button("Shuffle the layer's Θ", min_width=150),
                        TEXT: gr.Button("Delete the text", min_width=130),
                    }
                self.tokens = gr.HTML(panels.progress(UNASKED), padding=False, elem_id="tokens")
        self.details = gr.HTML(padding=False)
        self.of_theta = [self.buttons[kind] for kind in (LONG_TERM, RETRIEVER, LAYER)]
        shown = [self.scores, self.bin, self.opened, self.provenance, self.histogram, self.agreement, self.details]
        page.add("retrieval", [*shown, self.tokens, *self.of_theta], self.draw)

    def wire(self) -> None:
        page = self.page
        page.linked(self.provenance, page.pick_cell)
        page.linked(self.scores, self.pick_bin)
        for event in (
            self.bin.submit(guarded(self.on_bin), self.bin, None, **QUIET),
            self.bin.blur(guarded(self.on_bin), self.bin, None, **QUIET),
            self.shut.click(guarded(self.on_shut), None, None, **QUIET),
        ):
            event.then(guarded(page.draw), page.selectors, page.drawn, **DRAW)
        page.tab.change(guarded(self.on_look), page.tab, self.tokens, show_progress="minimal", **MODEL)
        page.linked(self.histogram, page.pick)
        for kind, button in self.buttons.items():
            button.click(guarded(partial_method(self.on_ablate, kind)), [page.text, page.layer], self.tokens,
                         show_progress="minimal", **MODEL)  # fmt: skip

    def on_ablate(self, kind: str, text: int, layer: str, request: gr.Request) -> str:
        session = self.page.session(request)
        last, chosen = session.branch.last, self.page.select(session, text, layer, None, None, "retrieval")
        if kind == LAYER and chosen.layer is None:
            raise ValueError("No layer is chosen; choose one in Selection, above the tabs.")
        text = chosen.text
        if kind == TEXT and not text and last is not None:
            shares = {id: share for id, share in last.shares().items() if id}
            text = max(shares, key=lambda id: shares[id], default=0) or (session.texts[-1].id if session.texts else 0)
        result = session.take_away(kind, text if kind == TEXT else chosen.layer or 0)
        session.did("ablate")
        return owes(session, result)

    def on_look(self, tab: str, request: gr.Request):
        """What was last taken away; at first Θ, as soon as somebody looks: the answer need not wait for those passes."""
        if tab != "retrieval":
            return gr.skip()
        session = self.page.session(request)
        return owes(session, session.owed())

    # ── one column of the score map ──
    def pick_bin(self, event: gr.SelectData, request: gr.Request) -> dict:
        """A click on the score map selects text and layer and opens the column."""
        x = (event._data or {}).get("x")
        if isinstance(x, int | float):
            self.on_bin(x, request)
        return self.page.pick_cell(event, request)

    def on_bin(self, bin: float | None, request: gr.Request) -> None:
        self.page.session(request).choices.bin = None if bin is None else int(bin)

    def on_shut(self, request: gr.Request) -> None:
        self.on_bin(None, request)

    def draw(self, session: Session, chosen: Selection) -> dict:
        branch, names = session.branch, self.page.names(session)
        last = branch.last
        seen = last if last and last.layers else None
        has_theta = bool(session.loaded.model.config.num_retrieved)  # of a MemoryLLM only a text can be taken away
        allowed: dict[Any, Any] = {button: gr.Button(interactive=has_theta) for button in self.of_theta}
        uncounted = branch.answer is not None and branch.owed is None  # `on_look` is about to tell
        allowed[self.tokens] = gr.skip() if uncounted else owes(session, branch.owed)
        if seen is None:
            return allowed | {
                self.scores: None,
                self.bin: None,
                self.opened: "",
                self.provenance: None,
                self.histogram: None,
                self.agreement: None,
                self.details: "",
            }
        best = panels.best_layer(seen, sorted((t for t in seen.shares() if t), key=lambda t: -seen.shares()[t]))
        layer = best if chosen.layer is None else chosen.layer
        rows = []
        for index, found in enumerate(seen.layers):
            shares = seen.shares(index)
            top = max((t for t in shares if t), key=lambda t: shares[t], default=0)
            rows.append([index, len(found.got_owner), f"{100 * found.chance:.1f} %", plots.name_of(top, names),
                         f"{100 * shares.get(top, 0):.0f} %", f"{100 * seen.long_counts.get(top, 0):.0f} %"])  # fmt: skip
        bin = session.choices.bin
        if bin is not None:
            bin = max(0, min(bin, plots.num_bins(seen) - 1))
        header = ["layer", "retrieved", "of Θ", "mostly from", "share", "chance"]
        return allowed | {
            self.scores: figure(plots.score_map(seen, chosen.layer, bin)),
            self.bin: bin,
            self.opened: bin_panel(session, seen, layer, bin),
            self.provenance: figure(plots.provenance(seen, names, chosen.layer)),
            self.histogram: figure(plots.score_histogram(seen.layers[layer], layer, names)),
            self.agreement: figure(plots.agreement(seen)),
            self.details: panels.table(header, rows, {0, 1, 2, 4, 5}),
        }


def owes(session: Session, owed: Ablation | None) -> str:
    if owed is None:
        return panels.progress(UNASKED if session.loaded.model.config.num_retrieved else NO_LONG_TERM)
    return panels.answer_tokens(owed.tokens, owed.before, owed.after, owed.what)


def bin_panel(session: Session, seen: Retrieval, layer: int, bin: int | None) -> str:
    """The tokens of Θ in one column of the score map, in one layer, best score first."""
    if bin is None:
        return panels.progress("Click a cell of the map, or give the number of a bin, to read the tokens of Θ in it.")
    found, state = seen.layers[layer], session.reader.memory.state
    inside = np.flatnonzero(plots.bin_of(found, plots.num_bins(seen)) == bin)
    inside = inside[np.argsort(-found.scores[inside], kind="stable")]
    taken, tokens = set(found.chosen.tolist()), []
    for place in inside.tolist():
        source = session.reader.memory.source(int(found.block[place]), int(found.slot[place]))
        receipt = state.receipts.get(source.receipt) if source.receipt else None
        tokens.append(panels.LongToken(place, receipt, source.position, float(found.scores[place]), place in taken))
    return panels.bin_tokens(f"Bin {bin} of layer {layer}", tokens)


def partial_method(method, kind: str):
    """`partial` with a signature gradio can read."""
    bound = partial(method, kind)

    def handler(text: int, layer: str, request: gr.Request) -> str:
        return bound(text, layer, request)

    return handler

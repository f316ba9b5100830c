"""The read side: what the last question found in each layer, and what the answer owes to it."""

from functools import partial

import gradio as gr

from .. import panels, plots
from ..ablate import LAYER, LONG_TERM, RETRIEVER, TEXT, ablate
from ..session import Session
from .chart import chart
from .shell import ALL, MODEL, Page, Selection, figure, guarded

EMPTY = "Ask a question in the Lab to see this. Θ must hold tokens: add unrelated texts until some leave θ."


class RetrievalTab:
    def __init__(self, page: Page):
        self.page = page

    def build(self) -> None:
        page = self.page
        self.scores = chart("scores", "Where does each layer look in Θ?", EMPTY, 260)
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
                    "### Take one thing away\nThe answer stays, its probabilities are computed again. Nothing is changed in your memory."
                )
                with gr.Row():
                    self.buttons = {
                        LONG_TERM: gr.Button("Θ off", min_width=120),
                        RETRIEVER: gr.Button("Retriever guesses", min_width=140),
                        LAYER: gr.Button("Shuffle the layer's Θ", min_width=150),
                        TEXT: gr.Button("Delete the text", min_width=130),
                    }
                self.tokens = gr.HTML(panels.progress("Layer and text are those of Selection, above the tabs."), padding=False,
                                      elem_id="tokens")  # fmt: skip
        self.details = gr.HTML(padding=False)
        page.add("retrieval", [self.scores, self.provenance, self.histogram, self.agreement, self.details], self.draw)

    def wire(self) -> None:
        page = self.page
        for one in (self.scores, self.provenance):
            page.linked(one, page.pick_cell)
        page.linked(self.histogram, page.pick)
        for kind, button in self.buttons.items():
            button.click(guarded(partial_method(self.on_ablate, kind)), [page.text, page.layer], self.tokens,
                         show_progress="minimal", **MODEL)  # fmt: skip

    def on_ablate(self, kind: str, text: int, layer: str, request: gr.Request) -> str:
        session = self.page.session(request)
        with session.lock:
            last, answer = session.branch.last, session.branch.answer
            if last is None or answer is None or not answer.tokens:
                raise ValueError("There is no answer yet; ask a question in the Lab first.")
            if kind == TEXT and not text:
                shares = {id: share for id, share in last.shares().items() if id}
                text = max(shares, key=lambda id: shares[id], default=0) or (
                    session.texts[-1].id if session.texts else 0
                )
            which = int(text) if kind == TEXT else 0 if layer == ALL else int(layer)
            with session.turns.take():
                result = ablate(session.reader, last.question, answer.tokens, kind, which)
            session.did("ablate")
        return panels.answer_tokens(result.tokens, result.before, result.after, result.what)

    def draw(self, session: Session, chosen: Selection) -> dict:
        last, names = session.branch.last, self.page.names(session)
        seen = last if last and last.layers else None
        if seen is None:
            return {
                self.scores: None,
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
        header = ["layer", "retrieved", "of Θ", "mostly from", "share", "chance"]
        return {
            self.scores: figure(plots.score_map(seen, chosen.layer)),
            self.provenance: figure(plots.provenance(seen, names, chosen.layer)),
            self.histogram: figure(plots.score_histogram(seen.layers[layer], layer, names)),
            self.agreement: figure(plots.agreement(seen)),
            self.details: panels.table(header, rows, {0, 1, 2, 4, 5}),
        }


def partial_method(method, kind: str):
    """`partial` with a signature gradio can read."""
    bound = partial(method, kind)

    def handler(text: int, layer: str, request: gr.Request) -> str:
        return bound(text, layer, request)

    return handler

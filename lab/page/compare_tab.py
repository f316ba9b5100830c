"""Methods against each other: retention by distance as a running job, bytes and seconds of the last comparison."""

from collections.abc import Iterator

import gradio as gr

from core.baselines import METHODS

from .. import panels, plots
from ..compare import DISTANCES, retention_job
from ..session import Session
from ..turns import follow
from .chart import chart
from .shell import MODEL, QUIET, Page, Selection, figure, guarded


class CompareTab:
    def __init__(self, page: Page):
        self.page = page

    def build(self) -> None:
        page = self.page
        gr.Markdown("### Retention: how long is a fact remembered?\nA fact is written, then other facts, then the first one is asked for. "
                    "Every method has the same weights and the same bytes of keys and values as M+.")  # fmt: skip
        with gr.Row(elem_classes="level"):
            self.methods = gr.CheckboxGroup(
                list(METHODS), value=["mplus", "memoryllm", "window", "random-retriever"], label="Methods"
            )
        with gr.Row(elem_classes="level"):
            self.items = gr.Slider(1, 50, value=5, step=1, label="Facts", min_width=140)
            self.distances = gr.CheckboxGroup(["0", "512", "2048", "4096", "8192", "16384"], value=[str(d) for d in DISTANCES],
                                              label="Distances, tokens", min_width=260)  # fmt: skip
            self.seed = gr.Number(0, label="Seed", precision=0, min_width=80)
        with gr.Row():
            self.run = gr.Button("Run", variant="primary", min_width=100)
            self.stop = gr.Button("Stop", min_width=80)
        self.note = gr.HTML(panels.progress(""), padding=False, elem_id="job-note")
        self.retention = chart(
            "retention", "Right answers by distance", "Press Run; the lines grow while the job runs.", 320
        )
        with gr.Row():
            with gr.Column(min_width=320):
                self.bytes = chart(
                    "bytes", "Bytes held, by method", "Press “Ask all methods” in the Lab to measure this.", 240
                )
            with gr.Column(min_width=320):
                self.seconds = chart(
                    "seconds", "Seconds, by method", "Press “Ask all methods” in the Lab to measure this.", 240
                )
        page.add("compare", [self.bytes, self.seconds], self.draw)

    def wire(self) -> None:
        job = self.run.click(guarded(self.on_run), [self.methods, self.items, self.distances, self.seed],
                             [self.retention, self.note], show_progress="hidden", **MODEL)  # fmt: skip
        self.stop.click(
            lambda: panels.progress("Stopped; what was measured stays."), None, self.note, cancels=[job], **QUIET
        )

    def on_run(
        self, methods: list[str], items: float, distances: list[str], seed: float, request: gr.Request
    ) -> Iterator:
        session = self.page.session(request)
        if not methods or not distances:
            raise ValueError("Choose at least one method and one distance.")
        steps = sorted(int(d) for d in distances)
        total = len(methods) * len(steps) * int(items)
        yield None, panels.progress(f"0 of {total} questions", 0.0)

        def work(emit, stop):
            for step in retention_job(session.loaded, methods, int(items), steps, int(seed or 0), session.turns, stop):
                emit(step)

        for asked, rows in follow(work):
            if asked % max(1, total // 40) == 0 or asked == total:
                yield figure(plots.retention(rows)), panels.progress(f"{asked} of {total} questions", asked / total)
        session.did("retention")
        yield gr.skip(), panels.progress(f"Done: {total} questions with {session.loaded.name}, seed {int(seed or 0)}.")

    def draw(self, session: Session, chosen: Selection) -> dict:
        rows = session.compared
        return {
            self.bytes: figure(plots.byte_bars(rows)) if rows else None,
            self.seconds: figure(plots.second_bars(rows)) if rows else None,
        }

"""Methods against each other: what was measured before, retention by distance as a running job, and the bytes and
seconds of the last comparison."""

from collections.abc import Iterator
from html import escape

import gradio as gr

from core.baselines import METHODS

from .. import panels, plots, results
from ..compare import DISTANCES, possible, retention_job
from ..session import Session
from ..turns import follow
from .chart import chart
from .shell import MODEL, QUIET, Page, Selection, figure, guarded, stoppable


class CompareTab:
    def __init__(self, page: Page):
        self.page = page

    def build(self) -> None:
        page = self.page
        gr.Markdown(
            "### Measured before\nResults that came with the project, with the command that made each where its file has one."
        )
        found = list(self.found())
        self.preset = gr.Dropdown(found, value=found[0] if found else None, label="Measurement", min_width=240)
        self.measured = chart(
            "measured", "Right answers, measured", "This measurement has no curve: its numbers are in the table.", 320
        )
        with gr.Accordion("All its numbers, and the command", open=False):
            self.numbers = gr.HTML(padding=False, elem_id="measured-numbers")
        gr.Markdown("### Retention: how long is a fact remembered?\nA fact is written, then other facts, then the first one is asked for. "
                    "Every method has the same weights and the same bytes of keys and values as M+.")  # fmt: skip
        with gr.Row(elem_classes="level"):
            self.methods = gr.CheckboxGroup(
                [(plots.method_name(method), method) for method in METHODS],
                value=["mplus", "memoryllm", "window", "random-retriever"],
                label="Methods",
            )
        with gr.Row(elem_classes="level"):
            self.items = gr.Slider(1, 50, value=5, step=1, label="Facts", min_width=140)
            self.distances = gr.CheckboxGroup(["0", "512", "2048", "4096", "8192", "16384"], value=[str(d) for d in DISTANCES],
                                              label="Distances, tokens", min_width=260)  # fmt: skip
            self.seed = gr.Number(0, label="Seed", precision=0, min_width=80)
        with gr.Row(elem_classes="acts"):
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
        page.add("compare", [self.bytes, self.seconds, self.preset, self.measured, self.numbers], self.draw)

    def found(self) -> dict[str, results.Result]:
        return results.find(self.page.results)

    def wire(self) -> None:
        shown = [self.measured, self.numbers]
        self.preset.input(guarded(self.on_choose), self.preset, shown, **QUIET)
        page = self.page
        self.run.click(guarded(self.on_run), [self.methods, self.items, self.distances, self.seed],
                             [self.retention, self.note], show_progress="hidden", **MODEL)  # fmt: skip
        self.stop.click(guarded(page.on_stop), None, None, **QUIET)

    def on_run(
        self, methods: list[str], items: float, distances: list[str], seed: float, request: gr.Request
    ) -> Iterator:
        session = self.page.session(request)
        if not methods or not distances:
            raise ValueError("Choose at least one method and one distance.")
        methods = possible(session.loaded, methods) or methods  # of those that cannot be alone, the job says why
        steps = sorted(int(d) for d in distances)
        total = len(methods) * len(steps) * int(items)
        yield None, panels.progress(f"0 of {total} questions", 0.0)

        def work(emit, stop):
            for step in retention_job(session.loaded, methods, int(items), steps, int(seed or 0), session.turns, stop):
                emit(step)

        with session.at_work():
            for step in stoppable(follow(work, session.halted())):
                if step is None:
                    yield gr.skip(), panels.progress("Stopped; what was measured stays.")
                    return
                asked, rows = step
                if asked % max(1, total // 40) == 0 or asked == total:
                    yield figure(plots.retention(rows)), panels.progress(f"{asked} of {total} questions", asked / total)
        session.did("retention")
        yield gr.skip(), panels.progress(f"Done: {total} questions with {session.loaded.name}, seed {int(seed or 0)}.")

    def on_choose(self, name: str | None, request: gr.Request) -> tuple[str | None, str]:
        self.page.session(request).choices.preset = name or ""
        return self.shown(name)

    def shown(self, name: str | None) -> tuple[str | None, str]:
        """The chart and the numbers of one measurement."""
        result = self.found().get(name or "")
        if result is None:
            return None, panels.progress("There is no measurement yet: run python -m core.evaluate retention --help.")
        header, rows = results.cells(result)
        numbers = {i for i in range(len(header)) if rows and all(_is_number(row[i]) for row in rows)}
        model = f" of {result.content['model']}" if "model" in result.content else ""
        made = f"<p>Task {escape(result.task)}{escape(model)}.</p>"
        if result.command:
            made += f'<pre class="cmd">{escape(result.command)}</pre>'
        curve = None if result.is_table else figure(plots.measured(result.rows))
        return curve, made + panels.table(header, rows, numbers)

    def draw(self, session: Session, chosen: Selection) -> dict:
        rows, names = session.compared, list(self.found())
        picked = session.choices.preset if session.choices.preset in names else names[0] if names else None
        chart_value, numbers = self.shown(picked)
        return {
            self.preset: gr.update(choices=names, value=picked),
            self.measured: chart_value,
            self.numbers: numbers,
            self.bytes: figure(plots.byte_bars(rows)) if rows else None,
            self.seconds: figure(plots.second_bars(rows)) if rows else None,
        }


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True

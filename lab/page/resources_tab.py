"""Memory in use, live; and a planner that predicts it for any shape, beside the paper's table."""

import time

import gradio as gr

from .. import panels, plots
from ..planner import PAPER_MB, SHAPES, plan
from ..registry import KEPT_SECONDS
from ..session import Session
from .chart import chart
from .shell import QUIET, Page, Selection, figure, guarded

SAID = {"weights": "weights, shared by all", "short": "θ", "long": "Θ, with keys and sources",
        "buffer": "θ as keys and values"}  # fmt: skip
WIDTHS = {"bfloat16": 2, "float32": 4}


class ResourcesTab:
    def __init__(self, page: Page):
        self.page = page

    def build(self) -> None:
        page = self.page
        self.chart = chart("resources", "Memory of the whole process", "Measuring …", 320)
        self.mine = chart("own-memory", "Your memory: θ, Θ, keys and values", "Write a text to see it grow.", 280)
        self.held = gr.HTML(padding=False)
        with gr.Row(elem_classes="acts"):
            self.forget = gr.Button("Forget everything of mine now", min_width=220)
            self.note = gr.HTML(panels.progress(""), padding=False)
        self.timer = gr.Timer(2.0, active=False)
        gr.Markdown("### Planner: what would a memory of this shape take?")
        with gr.Row(elem_classes="level"):
            self.shape = gr.Dropdown(list(SHAPES), value="Llama-3.1-8B", label="Model", min_width=150)
            self.dtype = gr.Dropdown(list(WIDTHS), value="bfloat16", label="Numbers", min_width=110)
            self.block = gr.Number(256, label="K", precision=0, min_width=80)
            self.blocks = gr.Number(40, label="N / K", precision=0, min_width=80)
            self.retrieved = gr.Number(2560, label="K0", precision=0, min_width=80)
            self.longest = gr.Number(150_000, label="M", precision=0, min_width=100)
            self.prompt = gr.Number(2048, label="Prompt tokens", precision=0, min_width=100)
            self.offload = gr.Checkbox(False, label="θ offloaded, layer by layer", min_width=150)
        self.planned = gr.HTML(padding=False, elem_id="planned")
        inputs = [
            self.shape,
            self.dtype,
            self.block,
            self.blocks,
            self.retrieved,
            self.longest,
            self.prompt,
            self.offload,
        ]
        self.inputs = inputs
        page.add("resources", [self.chart, self.mine, self.held, self.timer], self.draw)

    def wire(self) -> None:
        page = self.page
        for one in self.inputs:
            one.change(guarded(self.on_plan), self.inputs, self.planned, **QUIET)
        shown = [self.chart, self.mine, self.held, self.timer]
        self.timer.tick(guarded(self.on_tick), page.tab, shown, queue=False, **QUIET)
        page.then_redraw(self.forget.click(guarded(self.on_forget), None, self.note, **QUIET))

    def on_plan(self, shape, dtype, block, blocks, retrieved, longest, prompt, offload) -> str:
        block, blocks, retrieved, longest, prompt = (int(v or 0) for v in (block, blocks, retrieved, longest, prompt))
        try:
            made = plan(SHAPES[shape], block, blocks, retrieved, longest, WIDTHS[dtype], prompt, bool(offload))
        except ValueError as refused:  # in the place of the table, which was of other numbers
            return panels.banner(str(refused))
        away = (", θ" if offload else "") + (", input embeddings" if made.embeddings else "")
        rows = [
            ("weights", panels.size(made.weights), ""),
            ("θ" + (", one layer at a time" if offload else ""), panels.size(made.pool), ""),
            ("keys and values of memory and prompt", panels.size(made.kv), ""),
            ("activations, at the widest", panels.size(made.activations), ""),
            ("Θ, with its keys" + away, "", panels.size(made.long)),
            ("together", panels.size(made.gpu), panels.size(made.host)),
        ]
        paper = [(name, f"{mb:,.0f} MB") for name, mb in PAPER_MB.items()]
        return (
            panels.table(["predicted from the shapes", "GPU", "host"], rows, {1, 2})
            + "<p><b>The paper's Table 1</b>: peak GPU memory, measured by its authors on 8B models</p>"
            + panels.table(["method", "GPU"], paper, {1})
        )

    def on_tick(self, tab: str, request: gr.Request):
        if tab != "resources":
            return gr.skip(), gr.skip(), gr.skip(), gr.Timer(active=False)
        session = self.page.session(request)
        return self._figure(session), self._mine(session), self._held(session), gr.skip()

    def on_forget(self, request: gr.Request) -> str:
        self.page.registry.forget(self.page.session(request))
        return panels.progress("Everything of this session is gone, from the memory and from the disk.")

    def _figure(self, session: Session) -> str | None:
        times, lines = self.page.meter.lines()
        marks = [(when - self.page.meter.begin, what) for what, when in session.done.items()]
        return figure(plots.resources(times, lines, marks))

    def _mine(self, session: Session) -> str | None:
        """What this session's memory took after each change, and takes now."""
        samples, begin = list(session.held), self.page.meter.begin
        if not samples:
            return None
        times = [*(when - begin for when, _ in samples), time.time() - begin]
        now = session.reader.num_bytes
        parts = {part: [*(held.get(part, 0) for _, held in samples), now.get(part, 0)]
                 for part in dict.fromkeys(part for _, held in samples for part in held)}  # fmt: skip
        return figure(plots.resources(times, {SAID.get(part, part): values for part, values in parts.items()}, ()))

    def _held(self, session: Session) -> str:
        rows = [(SAID.get(part, part), panels.size(count)) for part, count in session.reader.num_bytes.items()]
        rows.append(("all branches and the history of this session", panels.size(session.num_bytes)))
        totals = self.page.registry.totals
        count = totals["sessions"]
        rows.append((f"{count} session{'s' * (count != 1)} in memory, together", panels.size(totals["bytes"])))
        idle = self.page.registry.idle - (time.time() - session.used)
        days = KEPT_SECONDS // 86400
        note = f"{self.page.meter.note} Unused for {max(0, idle) / 60:.0f} more minutes, this session leaves the memory; it stays on the disk for {days} days."
        return panels.table(["held now (bytes of the tensors)", ""], rows, {1}) + panels.progress(note)

    def draw(self, session: Session, chosen: Selection) -> dict:
        return {
            self.chart: self._figure(session),
            self.mine: self._mine(session),
            self.held: self._held(session),
            self.timer: gr.Timer(active=True),
        }

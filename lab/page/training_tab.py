"""Training, live: the curves of any run under the folder of runs; and a short run of one's own."""

import json
from pathlib import Path

import gradio as gr

from core.run_folder import METRICS

from .. import panels, plots
from ..models import TINY
from ..session import Session
from ..trainer import Trainer
from .chart import chart
from .shell import QUIET, Page, Selection, figure, guarded

LARGEST_TAIL = 2 * 2**20
READ = {"context": "right, text in sight", "blocks": "right, from blocks", "memory": "right, from memory"}


def metrics(path: Path) -> list[dict]:
    """The rows of a JSONL file, of a long one the last 2 MiB; a line that is just being written is left out."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LARGEST_TAIL))
        lines = file.read().decode("utf-8", "replace").splitlines()
    rows = []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def said(name: str) -> str:
    """What a figure of a run is called, or "" for one that is no share of anything."""
    if name.startswith("found_"):
        return f"recall, layer {name.removeprefix('found_')}"
    if name in READ:
        return READ[name]
    return name if any(word in name for word in ("acc", "recall", "hit", "right", "exact", "qa")) else ""


class TrainingTab:
    def __init__(self, page: Page):
        self.page = page
        self.trainer = Trainer(page.runs)

    def build(self) -> None:
        page = self.page
        gr.Markdown(
            "### Two minutes of training\nThe shipped model's retriever is thrown away and learned anew, on a copy: "
            "first from random weights, then from its start in closed form. Watch every layer's recall."
        )
        with gr.Row(elem_classes="acts"):
            self.start = gr.Button("Train for two minutes", variant="primary", min_width=180)
            self.stop = gr.Button("Stop", min_width=80)
        self.state = gr.HTML(panels.progress(""), padding=False, elem_id="training-state")
        gr.Markdown("### Watch a run\nThe curves follow the metrics file while it grows; one stage after the other.")
        with gr.Row(elem_classes="level"):
            self.run = gr.Dropdown(
                [], label="Run (a metrics file under runs/)", allow_custom_value=True, min_width=240
            )  # custom, because a run that has just begun has no file yet
            self.again = gr.Button("Look for runs", min_width=120)
        self.note = gr.HTML(padding=False)
        empty = "Press “Train for two minutes”, or choose a run of python -m core.train above."
        with gr.Row():
            with gr.Column(min_width=320):
                self.loss = chart("loss", "Loss", empty, 300)
            with gr.Column(min_width=320):
                self.quality = chart("quality", "Accuracy and recall", empty, 300)
        self.timer = gr.Timer(3.0, active=False)
        page.add("training", [self.run, self.timer, self.state], self.draw)

    def wire(self) -> None:
        page = self.page
        shown = [self.loss, self.quality, self.note]
        self.start.click(guarded(self.on_start), None, [self.run, self.state, self.timer], **QUIET)
        self.stop.click(guarded(self.on_stop), None, self.state, **QUIET)
        self.run.change(guarded(self.on_look), self.run, shown, queue=False, **QUIET)
        self.timer.tick(
            guarded(self.on_tick), [self.run, page.tab], [*shown, self.state, self.timer], queue=False, **QUIET
        )
        self.again.click(guarded(self.on_find), None, self.run, **QUIET)

    def found(self) -> list[str]:
        folder = Path(self.page.runs)
        # Not any .jsonl: measurements keep their journals of answers there too.
        files = sorted(folder.rglob(METRICS), key=lambda path: -path.stat().st_mtime) if folder.is_dir() else []
        return [str(path.relative_to(folder)) for path in files[:100]]

    def on_start(self, request: gr.Request):
        models = self.page.registry.models
        name = self.page.session(request).loaded.name
        name = name if name in models.shipped() else next(iter(models.shipped()), TINY)
        if name == TINY:
            raise ValueError("No trained model is shipped here; train one with python -m core.train --recipe mini.")
        run = self.trainer.start(name)
        return (
            gr.update(choices=[run, *self.found()], value=run),
            panels.progress(self.trainer.state()),
            gr.Timer(active=True),
        )

    def on_stop(self) -> str:
        self.trainer.stop()
        return panels.progress(self.trainer.state() or "Nothing is running.")

    def on_find(self):
        found = self.found()
        return gr.update(choices=found, value=found[0] if found else None)

    def on_tick(self, run: str | None, tab: str):
        if tab != "training":
            return gr.skip(), gr.skip(), gr.skip(), gr.skip(), gr.Timer(active=False)
        return *self.on_look(run), panels.progress(self.trainer.state()), gr.skip()

    def on_look(self, run: str | None):
        if run and run == self.trainer.run and run not in self.found():
            return None, None, panels.progress("No record yet.")
        if not run or run not in self.found():
            return None, None, panels.progress("")
        rows = metrics(Path(self.page.runs) / run)
        x = next((name for name in ("step", "global_step", "samples") if any(name in row for row in rows)), "")
        if not x:
            return None, None, panels.progress(f"{run} has {len(rows)} lines, but none with a step.")
        names = dict.fromkeys(key for row in rows for key, value in row.items() if isinstance(value, int | float))
        losses = {name: name.replace("_", " ") for name in names if "loss" in name}
        shares = {name: said(name) for name in names if said(name)}
        last = rows[-1]
        speed = f", {last['tokens_per_second']:,.0f} tokens a second" if "tokens_per_second" in last else ""
        where = f", {last['phase']}" if "phase" in last else ""
        return (
            figure(plots.curves(rows, x, losses, "loss")) if losses else None,
            figure(plots.curves(rows, x, shares, "share")) if shares else None,
            panels.progress(f"{len(rows):,} records; {x} {last.get(x, '?')}{where}{speed}."),
        )

    def draw(self, session: Session, chosen: Selection) -> dict:
        found = self.found()
        new = [self.trainer.run] if self.trainer.run and self.trainer.run not in found else []
        return {
            self.run: gr.update(choices=[*new, *found]),
            self.timer: gr.Timer(active=True),
            self.state: panels.progress(self.trainer.state()),
        }

"""The write side: θ and Θ step by step, the list of texts, and what can be done to them."""

import gradio as gr

from .. import panels, plots
from ..session import Session
from .chart import chart
from .lab_tab import slot_panel
from .shell import DRAW, MODEL, QUIET, RAW, Page, Selection, figure, guarded

FETCH = """() => setTimeout(() => {
  const file = document.querySelector('#memory-file'); (file.matches('a,button') ? file : file.querySelector('a,button')).click(); }, 150)"""
"""A download button fetches what it held before the click: the file is made first, then an unseen one is pressed."""
PLAY, PAUSE = "▶ Play", "❚❚ Pause"
EMPTY = "Write a text in the Lab to see this."


class MemoryTab:
    def __init__(self, page: Page):
        self.page = page

    def build(self) -> None:
        page = self.page
        with gr.Row(elem_classes="acts"):
            self.back = gr.Button("◀ Step back", min_width=100)
            self.play = gr.Button(PLAY, min_width=90)
            self.forth = gr.Button("Step on ▶", min_width=100)
            self.when = gr.HTML(padding=False, min_height=20)
        self.timer = gr.Timer(0.7, active=False)
        self.pool = chart("pool-replay", "θ, layer by slot", EMPTY, 250)
        self.slot = gr.HTML(padding=False)
        with gr.Row():
            with gr.Column(min_width=320):
                self.forgetting = chart("forgetting", "Forgetting, against (1 - K/N)ᵗ", EMPTY, 300)
            with gr.Column(min_width=320):
                self.ages = chart("ages", "How old is what is kept?", EMPTY, 260)
                self.log = gr.Checkbox(False, label="Ages on a log scale", container=False)
        self.flow = chart("flow", "Where the tokens of this step went", EMPTY, 220)
        gr.Markdown("### Texts in this memory")
        self.list = gr.HTML(padding=False, elem_id="texts")
        with gr.Row(elem_classes="level"):
            self.doomed = gr.Dropdown([], label="Text to delete", min_width=180)
            self.delete = gr.Button("Delete this text", min_width=130)
            self.undo = gr.Button("Undo last write", min_width=130)
            self.reset = gr.Button("Reset memory", min_width=120)
        with gr.Row(elem_classes="level"):
            self.fork = gr.Button("Fork here", min_width=110)
            self.branch = gr.Dropdown(["main"], value="main", label="Branch", min_width=150)
            self.save = gr.Button("Download memory file", min_width=170)
            self.file = gr.DownloadButton("memory file", elem_id="memory-file", elem_classes="unseen")
            self.load = gr.UploadButton("Upload memory file", file_types=[".safetensors"], min_width=170)
        self.note = gr.HTML(panels.progress(""), padding=False, elem_id="memory-note")
        page.add("memory", [self.pool, self.slot, self.forgetting, self.ages, self.log, self.flow, self.list, self.doomed,
                            self.branch, self.when], self.draw)  # fmt: skip

    def wire(self) -> None:
        page = self.page
        page.linked(self.pool, page.pick_slot)
        page.linked(self.forgetting, page.pick)
        change = self.log.input(guarded(self.on_log), self.log, None, **QUIET)
        change.then(guarded(page.draw), page.selectors, page.drawn, **DRAW)
        for button, handler, inputs in (
            (self.delete, self.on_delete, [self.doomed]),
            (self.undo, self.on_undo, []),
            (self.reset, self.on_reset, []),
            (self.fork, self.on_fork, []),
        ):
            event = button.click(guarded(handler), inputs, self.note, show_progress="hidden", preprocess=False, **MODEL)
            page.then_redraw(event)
        page.then_redraw(self.branch.input(guarded(self.on_branch), self.branch, self.note, **RAW))
        page.then_redraw(self.load.upload(guarded(self.on_load), self.load, self.note, show_progress="hidden", **MODEL))
        self.save.click(guarded(self.on_save), None, self.file, **QUIET).then(None, None, None, js=FETCH)
        played = [self.timer, page.step, self.play]
        for event in (
            self.back.click(guarded(self.mover(-1)), page.step, played, **RAW),
            self.forth.click(guarded(self.mover(1)), page.step, played, **RAW),
            self.play.click(guarded(self.on_play), [self.play, page.step], played, **RAW),
            self.timer.tick(guarded(self.on_tick), [page.step, page.tab], played, queue=False, **RAW),
        ):
            event.then(guarded(page.draw), page.selectors, page.drawn, **DRAW)
        # What is to be deleted is selected everywhere; a redraw would go back to the newest text.
        doomed = self.doomed.input(None, self.doomed, page.text, js="(text) => text")
        doomed.then(guarded(page.draw), page.selectors, page.drawn, **DRAW)
        chosen = [page.step.release, page.step.input]
        gr.on(chosen, lambda: (gr.Timer(active=False), PLAY), None, [self.timer, self.play], queue=False, **QUIET)

    # ── time ──
    def mover(self, by: int):
        def move(step: float | None, request: gr.Request):
            session = self.page.session(request)
            return gr.Timer(active=False), self.page.at(session, self.page.at(session, step) + by), PLAY

        return move

    def on_play(self, label: str, step: float | None, request: gr.Request):
        if label == PAUSE:
            return gr.Timer(active=False), gr.skip(), PLAY
        session = self.page.session(request)
        step = self.page.at(session, step)
        return gr.Timer(active=True), 0 if step == self.page.at(session, None) else step, PAUSE

    def on_tick(self, step: float | None, tab: str, request: gr.Request):
        session = self.page.session(request)
        step, last = self.page.at(session, step) + 1, self.page.at(session, None)
        if tab != "memory" or step >= last:
            return gr.Timer(active=False), last if tab == "memory" else gr.skip(), PLAY
        return gr.skip(), step, gr.skip()  # nothing that would go on after a pause meanwhile

    def on_log(self, log: bool, request: gr.Request) -> None:
        self.page.session(request).choices.log_ages = bool(log)

    # ── changes ──
    def on_delete(self, doomed: int | None, request: gr.Request) -> str:
        if not doomed:
            raise ValueError("No text is chosen; choose the text to delete.")
        count = self.page.session(request).delete(int(doomed))
        return panels.progress(f"Text {doomed} is gone: {count:,} tokens were removed from θ and Θ, over all layers.")

    def on_undo(self, request: gr.Request) -> str:
        self.page.session(request).undo()
        return panels.progress("The last write is taken back.")

    def on_reset(self, request: gr.Request) -> str:
        self.page.session(request).reset()
        return panels.progress("The memory is the checkpoint's own again.")

    def on_fork(self, request: gr.Request) -> str:
        name = self.page.session(request).fork()
        return panels.progress(f"You are on {name} now; what you write here does not touch the branch it came from.")

    def on_branch(self, name: str, request: gr.Request) -> str:
        self.page.session(request).switch(name)
        return panels.progress(f"You are on {name} now.")

    def on_save(self, request: gr.Request) -> str:
        session = self.page.session(request)
        folder = self.page.registry.parcel(session)
        return str(session.download(folder / f"mplus-{session.current.replace(' ', '-')}.safetensors"))

    def on_load(self, file: str, request: gr.Request) -> str:
        session = self.page.session(request)
        session.upload(file)
        return panels.progress(f"Loaded: {len(session.texts)} texts.")

    # ── drawing ──
    def draw(self, session: Session, chosen: Selection) -> dict:
        branch, names = session.branch, self.page.names(session)
        moment, config = branch.moments[chosen.step], session.loaded.model.config
        before = branch.moments[chosen.step - 1] if chosen.step else None
        texts = session.texts
        some = len(branch.moments) > 1 or bool(texts)
        wrote = any(m.event == "write" for m in branch.moments)
        choices = [(f"{names[r.id]}", r.id) for r in texts]
        keeps = bool(config.num_retrieved)
        seen = (
            "the start"
            if moment.event == "start"
            else f"{moment.event} of text {moment.receipt}"
            if moment.receipt
            else moment.event
        )
        return {
            self.pool: figure(plots.pool_map(moment, names, chosen.text, chosen.layer, chosen.slot)) if some else None,
            self.slot: slot_panel(session, chosen, names),
            self.forgetting: figure(plots.forgetting(branch.moments, config.block_size, names, chosen.text))
            if wrote
            else None,
            self.ages: figure(plots.ages(moment, chosen.text, session.choices.log_ages)) if some else None,
            self.log: session.choices.log_ages,
            self.flow: figure(plots.flow(moment, names, keeps, before)) if moment.written else None,
            self.list: texts_table(session),
            self.doomed: gr.update(choices=choices, value=chosen.text or (choices[-1][1] if choices else None)),
            self.branch: gr.update(choices=list(session.branches), value=session.current),
            self.when: panels.progress(
                f"Step {chosen.step} of {len(branch.moments) - 1}: {seen}, {moment.writes} chunks written."
            ),
        }


def texts_table(session: Session) -> str:
    """Every text with where its tokens are now."""
    texts, moment = session.texts, session.branch.moments[-1]
    if not texts:
        return panels.progress("No text has been written yet.")
    layers, rows = len(moment.owner), []
    for receipt in texts:
        pool = (moment.owner == receipt.id).sum() / layers
        long = sum((owner == receipt.id).sum() for owner in moment.long_owner) / layers
        words = " ".join(receipt.text.split())
        rows.append([receipt.id, words[:90] + ("…" if len(words) > 90 else ""), f"{receipt.text_tokens:,}",
                     len(receipt.chunks), f"{pool:,.0f}", f"{long:,.0f}"])  # fmt: skip
    return panels.table(["", "text", "tokens", "chunks", "in θ, a layer", "in Θ, a layer"], rows, {2, 3, 4, 5})

"""The first tab: write, add unrelated text, ask, and see where the answer came from."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import gradio as gr

from core.reader import Answer
from core.sources import Receipt

from .. import panels, plots
from ..branch import Branch
from ..compare import ASKED, possible, side_by_side
from ..files import KINDS, read_text
from ..samples import SAMPLES, unrelated
from ..session import Session
from ..turns import Stopped, follow
from ..views import Moment
from .chart import chart
from .shell import MODEL, QUIET, Page, Selection, figure, guarded, spoken, stoppable

EVERY = 0.12
"""Seconds between two updates of a progress line."""
SEND = "(text, files) => { window.sent = [text, (files || []).map((file) => file.path)]; return [text, files]; }"
CLEAR = """(written, text, files) => {
  const [told, count] = written || [false, 0], [sent, paths] = window.sent, gone = paths.slice(0, count);
  const left = (files || []).filter((file) => !gone.includes(file.path));
  return [told && text === sent ? '' : text, left.length ? left : null, null]; }"""
"""What was written is not to be written again; what was not, as after a stop, may be wanted, and so is what was put there
meanwhile: only the browser knows that."""
ALL_METHODS = "Ask all methods: M+, MemoryLLM, a sliding window and SnapKV read the same texts."


class LabTab:
    def __init__(self, page: Page):
        self.page = page

    def build(self) -> None:
        page = self.page
        with gr.Row():
            with gr.Column(scale=5, min_width=320):
                gr.Markdown("### 1 · Tell it something")
                self.world = gr.Dropdown(
                    [sample.name for sample in SAMPLES],
                    value=None,
                    label="Example world (fills in texts and questions)",
                )
                self.told = gr.Textbox(
                    label="Text", lines=5, max_lines=12, placeholder="Paste a text, or choose an example …"
                )
                self.files = gr.File(label="or files", file_count="multiple", file_types=list(KINDS), height=110)
                with gr.Row():
                    self.write = gr.Button("Write to memory", variant="primary", min_width=140)
                    self.stop_write = gr.Button("Stop", min_width=80)
                with gr.Row(elem_classes="level"):
                    self.amount = gr.Slider(1, 50, value=10, step=1, label="Unrelated texts", min_width=160)
                    self.distract = gr.Button("Add them", min_width=100)
                self.note = gr.HTML(panels.progress(""), padding=False, elem_id="write-note")
                self.written = gr.JSON(visible="hidden")  # (is the text in the box written, how many files are)
                gr.Markdown("### 2 · Ask")
                self.example = gr.Dropdown([], value=None, label="A question of this world", visible=False)
                self.question = gr.Textbox(
                    label="Question", lines=1, placeholder="Ask about what you wrote …", elem_id="question"
                )
                with gr.Row():
                    self.ask = gr.Button("Ask", variant="primary", min_width=90)
                    self.all = gr.Button("Ask all methods", min_width=140)
                    self.stop_ask = gr.Button("Stop", min_width=80)
                self.answer = gr.Textbox(label="Answer", lines=2, interactive=False, elem_id="answer")
                self.ask_note = gr.HTML(panels.progress(""), padding=False, elem_id="ask-note")
            with gr.Column(scale=7, min_width=320):
                self.provenance = gr.HTML(
                    panels.provenance(None, ()), padding=False, js_on_load=panels.GO, elem_id="provenance"
                )
                self.pool = chart("pool", "Whose text is in θ now?", "Write a text to fill θ.", 250)
                self.slot = gr.HTML(padding=False, elem_id="slot-source")
        with gr.Accordion("All methods at one budget of bytes", open=False) as self.methods_box:
            with gr.Row():
                self.expected = gr.Textbox(label="Expected answer (optional, to score)", min_width=200)
                self.budget = gr.Number(
                    0, label="Budget, MiB of keys and values (0: what M+ takes)", minimum=0, min_width=200
                )
                self.cheat = gr.Checkbox(False, label="SnapKV may see the question", min_width=160)
            self.table = gr.HTML(panels.progress(ALL_METHODS), padding=False, elem_id="methods")
        page.add(
            "lab",
            [self.provenance, self.pool, self.slot, self.answer, self.ask_note, self.note, self.table],
            self.draw,
        )

    def wire(self) -> None:
        page = self.page
        page.linked(self.pool, page.pick_slot)
        self.world.input(
            guarded(self.choose_world), self.world, [self.told, self.example, self.question, self.expected], **QUIET
        )
        self.example.input(
            guarded(self.choose_question), [self.world, self.example], [self.question, self.expected], **QUIET
        )
        box = [self.told, self.files]
        write = self.write.click(guarded(self.on_write), box, [self.note, self.written], js=SEND,
                                 show_progress="hidden", **MODEL)  # fmt: skip
        write.then(None, [self.written, *box], [*box, self.written], js=CLEAR)
        distract = self.distract.click(
            guarded(self.on_distract), self.amount, self.note, show_progress="hidden", **MODEL
        )
        asked = [self.answer, self.ask_note]
        ask = gr.on([self.ask.click, self.question.submit], guarded(self.on_ask), self.question, asked,
                    show_progress="hidden", **MODEL)  # fmt: skip
        every = self.all.click(lambda: gr.update(open=True), None, self.methods_box, **QUIET).then(
            guarded(self.on_all), [self.question, self.expected, self.budget, self.cheat], self.table,
            show_progress="hidden", **MODEL,
        )  # fmt: skip
        for event in (write, distract, ask, every):
            page.then_redraw(event)
        for button in (self.stop_write, self.stop_ask):
            button.click(guarded(page.on_stop), None, None, **QUIET)

    # ── choosing ──
    def choose_world(self, name: str):
        sample = next((sample for sample in SAMPLES if sample.name == name), None)
        if sample is None:  # typed, and none of ours
            return (gr.skip(),) * 4
        questions = [question for question, _ in sample.questions]
        return (
            "\n\n".join(sample.texts), gr.update(choices=questions, value=questions[0], visible=True), questions[0],
            sample.questions[0][1],
        )  # fmt: skip

    def choose_question(self, name: str, question: str):
        sample = next((sample for sample in SAMPLES if sample.name == name), None)
        return question, dict(sample.questions).get(question, "") if sample else ""

    # ── writing ──
    def on_write(self, text: str, files: list[str] | None, request: gr.Request) -> Iterator:
        session, receipts = self.page.session(request), list[Receipt]()
        worlds = {"\n\n".join(sample.texts): sample.texts for sample in SAMPLES}  # an example is several texts
        pasted = worlds.get(text, [text] if text and text.strip() else [])
        sources = [
            *(lambda text=text: text for text in pasted),
            *(lambda file=file: read_text(file) for file in files or []),
        ]
        if not sources:
            raise ValueError("There is nothing to write: paste a text, choose an example or add a file.")

        def done() -> tuple:
            return gr.skip(), [len(receipts) >= len(pasted), max(0, len(receipts) - len(pasted))]

        try:
            for note in kept(session.branch, "write", self._written(session, sources, "write", receipts)):
                yield note, gr.skip()
        except Exception:
            yield done()
            raise
        yield done()

    def on_distract(self, amount: float, request: gr.Request) -> Iterator:
        session = self.page.session(request)
        texts = unrelated(int(amount), seed=session.reader.memory.state.clock)
        lines = self._written(session, [lambda text=text: text for text in texts], "distract", [])
        yield from kept(session.branch, "write", lines)

    def _written(
        self, session: Session, sources: list[Callable[[], str]], what: str, receipts: list[Receipt]
    ) -> Iterator[str]:
        """Progress lines while texts are written one after the other into the memory it began in; `receipts` takes
        those of what was written. What fails is told in the last line, and raised."""
        begin, warned, last = time.perf_counter(), "", 0.0
        halted, branch, count = session.halted(), session.branch, len(sources)

        def work(emit, stop):
            gone = lambda: stop() or session.branch is not branch  # noqa: E731
            for source in sources:
                emit(session.write(source(), lambda *place: emit(place), emit, gone))

        yield panels.progress("Writing …", 0.0)
        try:
            with session.at_work():
                for item in follow(work, halted):
                    number = len(receipts) + 1
                    which = f"Text {number} of {count}" if count > 1 else "Writing"
                    if isinstance(item, int):
                        yield panels.progress(f"Waiting: {item} ahead of you.")
                    elif isinstance(item[0], int):
                        done, total = item
                        share = (number - 1 + done / total) / count
                        if time.perf_counter() - last > EVERY:
                            last = time.perf_counter()
                            known = done >= 3 or number > 3
                            rest = f", about {(last - begin) / share * (1 - share):.0f} s left" if known else ""
                            yield panels.progress(f"{which}: chunk {done} of {total}{rest}", share)
                    else:
                        receipts.append(item[0])
                        warned = item[1] or warned
        except Stopped:
            whole = f"{len(session.texts)} whole texts"
            yield panels.progress(f"Stopped. The memory holds {whole}; nothing is half written.")
            return
        except Exception as error:
            which = f"Text {len(receipts) + 1} of {count}: " if count > 1 else "Not written: "
            verb = "is" if len(receipts) == 1 else "are"
            before = f" The {len(receipts)} before it {verb} written." if receipts else ""
            told = spoken(error)
            yield panels.progress(f"{which}{told.message}{before}")
            raise told from None
        session.did(what)
        tokens = sum(receipt.text_tokens for receipt in receipts)
        seconds = time.perf_counter() - begin
        yield panels.progress(
            f"Written: {count} text{'s' * (count > 1)}, {tokens:,} tokens in {seconds:.1f} s. {warned}"
        )

    # ── asking ──
    def on_ask(self, question: str, request: gr.Request) -> Iterator:
        session = self.page.session(request)
        if not (question or "").strip():
            raise ValueError("The question is empty; ask something about what you wrote.")
        yield from kept(session.branch, "ask", self._answered(session, question))

    def _answered(self, session: Session, question: str) -> Iterator[tuple[str, str]]:
        """The answer as it comes, and a note; of the memory it is asked of, or of none."""
        answer, halted, branch = "", session.halted(), session.branch
        yield "", panels.progress("Asking …")

        def work(emit, stop):
            gone = lambda: stop() or session.branch is not branch  # noqa: E731
            emit(
                session.ask(
                    question, 32, lambda piece: emit(("text", piece)), lambda ahead: emit(("wait", ahead)), gone
                )
            )

        try:
            with session.at_work():
                for item in stoppable(follow(work, halted)):
                    if item is None:
                        yield "", panels.progress("Stopped.")
                    elif isinstance(item, tuple) and item[0] == "wait":
                        yield "", panels.progress(f"Waiting: {item[1]} ahead of you.")
                    elif isinstance(item, tuple):
                        answer += item[1]
                        yield answer, panels.progress("Asking …")
                    else:
                        yield answered(item)
                        branch.notes.pop("ask", None)
        except Exception as error:
            told = spoken(error)
            yield "", panels.progress(told.message)
            raise told from None

    def on_all(
        self, question: str, expected: str, budget: float | None, cheat: bool, request: gr.Request
    ) -> Iterator[str]:
        session = self.page.session(request)
        if not (question or "").strip():
            raise ValueError("The question is empty; ask something about what you wrote.")
        texts = [receipt.text for receipt in session.texts]
        if not texts:
            raise ValueError("No text has been written yet; every method needs something to read.")
        limit, asked = int(budget * 2**20) if budget else None, possible(session.loaded, ASKED)

        def work(emit, stop):
            for row in side_by_side(
                session.loaded, texts, question, expected or "", asked, limit, session.turns, stop, cheat
            ):
                emit(row)

        yield from kept(session.branch, "methods", self._compared(session, texts, asked, work))

    def _compared(self, session: Session, texts: list[str], asked: list[str], work) -> Iterator[str]:
        rows, compared = list[dict](), session.compared  # those of a session that begins anew are others

        yield panels.progress(f"Writing {len(texts)} texts into {len(asked)} methods …", 0.0)
        with session.at_work():
            for row in stoppable(follow(work, session.halted())):
                if row is None:
                    yield methods_table(rows) + panels.progress("Stopped; what was measured stays.")
                    break
                rows.append(row)
                waiting = panels.progress(f"{len(rows)} of {len(asked)} methods", len(rows) / len(asked))
                yield methods_table(rows) + (waiting if len(rows) < len(asked) else "")
        compared[:] = [row for row in rows if "answer" in row]
        if len(rows) == len(asked):
            session.did("compare")

    # ── drawing ──
    def draw(self, session: Session, chosen: Selection) -> dict:
        branch = session.branch
        moment, names = branch.moments[chosen.step], self.page.names(session)
        unanswered = branch.notes.get("ask")
        last = answered(branch.answer) if branch.answer else ("", panels.progress(""))
        said = unanswered or last
        return {
            self.provenance: panels.provenance(None if unanswered else branch.last, session.texts, chosen.layer),
            self.pool: figure(plots.pool_map(moment, names, chosen.text, chosen.layer, chosen.slot))
            if session.texts
            else None,
            self.slot: slot_panel(session, chosen, names),
            self.answer: said[0],
            self.ask_note: said[1],
            self.note: branch.notes.get("write", panels.progress("")),
            self.table: branch.notes.get("methods", panels.progress(ALL_METHODS)),
        }


def kept(branch: Branch, kind: str, lines: Iterable[Any]) -> Iterator[Any]:
    """The same lines, each kept for when this branch is drawn: a page shows what goes on in it, or what came of that."""
    try:
        for line in lines:
            branch.notes[kind] = line
            yield line
    except GeneratorExit:  # the page is gone, and with it the work
        branch.notes.pop(kind, None)
        raise


def answered(answer: Answer) -> tuple[str, str]:
    """An answer for its box, and what it took."""
    held = sum(count for part, count in answer.num_bytes.items() if part != "weights")
    told = (
        f"First token after {answer.first_token_seconds:.2f} s, all {len(answer.tokens)} after {answer.seconds:.2f} s"
    )
    return (
        answer.text or "(the model ended at once: an empty answer)",
        panels.progress(f"{told}; this memory holds {panels.size(held)}."),
    )


def methods_table(rows: list[dict]) -> str:
    lines = []
    for row in rows:
        if "problem" in row:
            lines.append([plots.method_name(row["method"]), row["problem"], "", "", "", "", ""])
            continue
        held = sum(count for part, count in row["bytes"].items() if part != "weights")
        right = {None: "", True: "right", False: "wrong"}[row["right"]]
        seconds = row["seconds"]
        lines.append([plots.method_name(row["method"]), row["answer"] or "(empty)", right, f"{seconds['write']:.2f} s",
                      f"{sum(seconds.values()) - seconds['write']:.2f} s", panels.size(held), f"{row['kept']:,}"])  # fmt: skip
    header = ["method", "answer", "", "to write", "to answer", "bytes held", "tokens kept"]
    return panels.table(header, lines, {3, 4, 5, 6})


def slot_panel(session: Session, chosen: Selection, names: plots.Names) -> str:
    """The source text of the selected slot of θ; of an earlier step, whose the slot was then."""
    if chosen.step < len(session.branch.moments) - 1:
        return slot_then(session.branch.moments[chosen.step], chosen, names)
    if chosen.slot is None:
        return panels.progress(
            "Click a cell of the map, or open Selection and give a layer and a slot, to read its source."
        )
    layer, memory = chosen.layer or 0, session.reader.memory
    source = memory.source(int(memory.state.block[layer, chosen.slot]), int(memory.state.slot[layer, chosen.slot]))
    receipt = memory.state.receipts.get(source.receipt) if source.receipt else None
    age = int(memory.ages[layer, chosen.slot])
    return panels.slot_source(receipt, source.chunk, source.position, f"Layer {layer}, slot {chosen.slot}, age {age:,}")


def slot_then(moment: Moment, chosen: Selection, names: plots.Names) -> str:
    """Whose the selected slot was at an earlier step. Steps keep texts and ages, not which token it was."""
    if chosen.slot is None:
        return panels.progress("Click a cell of the map to read whose it was at this step.")
    layer = chosen.layer or 0
    whose = plots.name_of(int(moment.owner[layer, chosen.slot]), names)
    age = int(moment.age[layer, chosen.slot])
    return panels.progress(
        f"At step {chosen.step}: layer {layer}, slot {chosen.slot}, age {age:,}: {whose}. The last step shows the token too."
    )

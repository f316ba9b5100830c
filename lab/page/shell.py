"""What all tabs share: sessions, the linked selection, one way to redraw, and errors that speak to the person."""

import errno
import functools
import inspect
import itertools
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr
import plotly.graph_objects as go

from .. import guide, panels
from ..branch import KEPT_MOMENTS
from ..meter import Meter
from ..plots import Names
from ..registry import Registry
from ..session import Session
from ..turns import Stopped
from ..views import title

ALL = "all"
MODEL: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 24, "api_visibility": "private"}
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
RAW: dict[str, Any] = {**QUIET, "preprocess": False}
"""Values as the browser holds them, for handlers that judge them: gradio refuses what it did not offer since it began,
as after a restart, and fails on an emptied number."""
DRAW: dict[str, Any] = {**RAW, "concurrency_id": "draw", "concurrency_limit": 8, "trigger_mode": "always_last"}
KEEP = """(last) => {
  const keys = JSON.parse(localStorage.getItem('mplus-sessions') || '[]').filter((key) => key !== last);
  if (last) keys.push(last);
  localStorage.setItem('mplus-sessions', JSON.stringify(keys.slice(-50)));
  return [keys]; }"""
"""This browser's sessions, newest last. No tab knows what the others wrote, so the list is read as it is added to."""
logger = logging.getLogger("lab")


def spoken(error: Exception) -> gr.Error:
    """An error as a person may read it. Only a ValueError speaks for itself; anything else goes to the log."""
    if isinstance(error, gr.Error):
        return error
    if isinstance(error, Stopped):
        return gr.Error("Stopped; nothing was changed.", print_exception=False)
    if isinstance(error, ValueError):
        return gr.Error(str(error)[:600], print_exception=False)
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return gr.Error(
            "There is not enough memory for this; reset the session or choose a smaller model.", print_exception=False
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        logger.exception("a full disk", exc_info=error)
        return gr.Error(
            f"It cannot be saved ({error.strerror}), and nothing was changed; make room on the disk and try again.",
            print_exception=False,
        )
    logger.exception("unexpected", exc_info=error)
    return gr.Error(
        "Something went wrong here that should not have; the log has the details. Try again.", print_exception=False
    )


def guarded(handler: Callable) -> Callable:
    """A handler whose errors are fit to be shown."""
    if inspect.isgeneratorfunction(handler):

        @functools.wraps(handler)
        def stream(*args, **kwargs):
            try:
                yield from handler(*args, **kwargs)
            except Exception as error:
                raise spoken(error) from None

        return stream

    @functools.wraps(handler)
    def call(*args, **kwargs):
        try:
            return handler(*args, **kwargs)
        except Exception as error:
            raise spoken(error) from None

    return call


def stoppable(items: Iterable[Any]) -> Iterator[Any]:
    """The same items; None as the last one if the person stopped the work."""
    try:
        yield from items
    except Stopped:
        yield None


@dataclass(frozen=True)
class Selection:
    """What is selected on the whole page: a text (0: all), a layer and a slot (None: all), a step, an open tab."""

    text: int
    layer: int | None
    slot: int | None
    step: int
    tab: str


Drawing = Callable[[Session, Selection], dict[Any, Any]]


@dataclass
class Page:
    """The running lab and the shared parts of its page. Tabs add a drawing each, by the name of their tab."""

    registry: Registry
    meter: Meter
    runs: Path
    results: tuple[Path, ...] = ()
    drawings: dict[str, Drawing] = field(default_factory=dict)
    outputs: dict[str, list] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _shown: dict[str, int] = field(default_factory=dict)
    """By page: the number of the newest drawing that it was given."""
    _order: threading.Lock = field(default_factory=threading.Lock)

    def session(self, request: gr.Request) -> Session:
        return self.registry.get(request.session_hash or "direct")

    def leave(self, request: gr.Request) -> None:
        """A page was closed."""
        self.registry.leave(request.session_hash or "direct")
        self._shown.pop(request.session_hash or "direct", None)

    def on_stop(self, request: gr.Request) -> None:
        """Stop what this page has running. By a signal of our own: gradio's `cancels` waits for other handlers."""
        self.session(request).halt()

    # ── the parts above the tabs ──
    def build_top(self) -> None:
        self.key = gr.BrowserState("", storage_key="mplus-session", secret="mplus-lab")
        gr.HTML(
            '<div class="top"><h1>M+ Lab</h1><p>A language model with a latent memory: write texts into it, ask, and watch '
            "which memory tokens of which layer brought the answer back.</p></div>",
            padding=False,
        )
        self.banner = gr.HTML(padding=False, visible=False)
        with gr.Row(visible=False, elem_classes="level") as self.restore_row:
            self.saved = gr.Dropdown([], label="Saved sessions of yours", min_width=200)
            self.restore = gr.Button("Restore my session", variant="primary", size="sm", min_width=160)
            self.start_new = gr.Button("Start anew", size="sm", min_width=120)
        self.status = gr.HTML(padding=False)
        self.guide = gr.HTML(padding=False, js_on_load=guide.GO, elem_id="guide")
        # In the browser, not a State of the server's: one that was restarted has to know which tab is open.
        self.tab = gr.Textbox("lab", max_lines=1, visible="hidden")

    def build_selection(self) -> None:
        with gr.Accordion("Selection: shared by every chart", open=False, elem_id="selection"), gr.Row():
            # Bounded by `select`, not by gradio, which would refuse what an earlier model or server allowed, for good.
            free: dict[str, Any] = {"allow_custom_value": True}
            self.text = gr.Dropdown([("all texts", 0)], value=0, label="Text", min_width=180, **free)
            self.layer = gr.Dropdown([("all layers", ALL)], value=ALL, label="Layer", min_width=120, **free)
            self.slot = gr.Number(None, label="Slot of θ", precision=0, min_width=110)
            self.step = gr.Slider(0, KEPT_MOMENTS, value=0, step=1, label="Step (time)", min_width=200)
            self.clear = gr.Button("Select nothing", size="sm", min_width=120)

    @property
    def selectors(self) -> list:
        return [self.text, self.layer, self.slot, self.step, self.tab]

    @property
    def shared(self) -> list:
        """Components that every change of the memory touches."""
        return [self.banner, self.status, self.text, self.layer, self.step, self.key]

    # ── drawing ──
    def add(self, tab: str, outputs: list, drawing: Drawing) -> None:
        self.outputs[tab], self.drawings[tab] = outputs, drawing

    @property
    def drawn(self) -> list:
        return [self.guide, *(component for outputs in self.outputs.values() for component in outputs)]

    def draw(self, text, layer, slot, step, tab, request: gr.Request) -> dict:
        """Redraw the open tab, unless a drawing that was begun later is there already: what a page does in turn is drawn
        side by side, and a slow drawing of what was selected before must not cover what is selected now."""
        number, session = next(self._numbers), self.session(request)
        chosen = self.select(session, text, layer, slot, step, tab)
        if (
            chosen.slot is not None and session.texts
        ):  # by a click on a map or by its number: the same step of the guide
            session.did("slot")
        drawn = self.drawings[tab](session, chosen)
        with self._order:
            page = request.session_hash or "direct"
            if self._shown.get(page, 0) > number:
                return gr.skip()
            self._shown[page] = number
        strip = guide.strip(session.done, bool(session.loaded.model.config.num_retrieved))
        return drawn | {self.guide: gr.HTML(strip, visible=bool(strip))}

    def select(self, session: Session, text, layer, slot, step, tab) -> Selection:
        count = session.loaded.model.config.num_hidden_layers
        layer = int(layer) if str(layer) in map(str, range(count)) else None
        slot = None if slot is None or not 0 <= int(slot) < session.loaded.model.config.pool_size else int(slot)
        known = {receipt.id for receipt in session.texts}
        return Selection(int(text) if text in known else 0, layer, slot, self.at(session, step), tab)

    def at(self, session: Session, step: float | None) -> int:
        """A step that there is; the last one if the box was emptied."""
        last = len(session.branch.moments) - 1
        return last if step is None else max(0, min(int(step), last))

    def refresh(self, text, layer, request: gr.Request) -> dict:
        """The shared parts after a change."""
        session = self.session(request)
        text = text if text in {receipt.id for receipt in session.texts} else 0
        last = max(1, len(session.branch.moments) - 1)
        layers = [str(i) for i in range(session.loaded.model.config.num_hidden_layers)]
        layer = layer if layer in layers else ALL
        choices = [("all layers", ALL), *[(f"layer {i}", i) for i in layers]]
        return {
            self.banner: gr.HTML(panels.banner(session.loaded.warning), visible=bool(session.loaded.warning)),
            self.status: panels.strip(self.facts(session)),
            self.text: gr.update(choices=[("all texts", 0), *[(title(r), r.id) for r in session.texts]], value=text),
            self.layer: gr.update(choices=choices, value=layer),
            self.step: gr.update(maximum=last, value=last),
            self.key: session.key if session.texts else gr.skip(),
        }

    def facts(self, session: Session) -> dict[str, str]:
        config, memory = session.loaded.model.config, session.reader.memory
        long = len(memory.state.logs[0]) if memory.state.logs else 0
        device = session.loaded.model.device.type.upper()
        return {
            "model": session.loaded.name,
            "on": device,
            "θ": f"{config.num_hidden_layers} × {config.pool_size:,}",
            "Θ": f"{long:,} of {config.max_long_term:,}" if config.num_retrieved else "none",
            "retrieves": f"{memory.num_retrieved:,} a layer",
            "texts": str(len(session.texts)),
            "branch": session.current,
            "memory": panels.size(session.num_bytes),
        }

    def names(self, session: Session) -> Names:
        return {receipt.id: title(receipt, 24) for receipt in session.texts}

    def then_redraw(self, event) -> Any:
        """After an event: the shared parts, then the open tab."""
        return event.then(guarded(self.refresh), [self.text, self.layer], self.shared, **DRAW).then(
            guarded(self.draw), self.selectors, self.drawn, **DRAW
        )

    def pick(self, event: gr.SelectData, request: gr.Request) -> dict:
        """A click on a chart becomes the page's selection: the text that was hit."""
        value = (event._data or {}).get("value")
        while isinstance(value, list):
            value = value[0] if value else None
        known = {receipt.id for receipt in self.session(request).texts}
        return {self.text: int(value) if isinstance(value, int | float) and int(value) in known else gr.skip()}

    def pick_cell(self, event: gr.SelectData, request: gr.Request) -> dict:
        """A click on a map of layers: text and layer."""
        y, layers = (event._data or {}).get("y"), self.session(request).loaded.model.config.num_hidden_layers
        try:  # a map gives the middle of the cell, a bar chart the name of the row
            layer = round(float(y))  # type: ignore[arg-type]
        except (TypeError, ValueError):
            layer = -1
        chosen = str(layer) if 0 <= layer < layers else gr.skip()
        return self.pick(event, request) | {self.layer: chosen}

    def pick_slot(self, event: gr.SelectData, request: gr.Request) -> dict:
        """A click on the pool map: text, layer and slot."""
        x = (event._data or {}).get("x")
        return self.pick_cell(event, request) | {self.slot: int(x) if isinstance(x, int | float) else gr.skip()}

    def linked(self, chart: gr.HTML, how: Callable) -> None:
        """Clicks on this chart select, and everything open follows."""
        event = chart.select(guarded(how), None, [self.text, self.layer, self.slot], **QUIET)
        event.then(guarded(self.draw), self.selectors, self.drawn, **DRAW)


def figure(made: go.Figure | None) -> str | None:
    """A figure in the form a chart takes."""
    return None if made is None else str(made.to_json())

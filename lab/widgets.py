"""What the notebooks show and ask: figures, live controls, exercises. Everything is drawn offline.

A figure is shown as data (plotly's MIME type), so that JupyterLab draws it with the plotly.js it has and `lab.book`
with the one beside the page. What a control changes is updated in place: no widget state has to be saved.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

import ipywidgets
from IPython.display import DisplayHandle, display

PLOTLY = "application/vnd.plotly.v1+json"
CONFIG = {"displaylogo": False, "showSendToCloud": False, "responsive": True}
STYLE = """<style>
.mplus{--edge:var(--jp-border-color2,#c8ccd0);font-family:var(--jp-content-font-family,inherit);line-height:1.5}
.mplus .prov{border:1px solid var(--edge);border-radius:8px;padding:.5rem .8rem}.mplus .prov h4{margin:.6rem 0 .2rem}
.mplus .prov h3{margin:0 0 .2rem;font-size:1rem}.mplus .prov p{margin:.1rem 0 .3rem}
.mplus .src{border-left:5px solid var(--c,#999);padding:.2rem .6rem;max-height:220px;overflow:auto}
.mplus .src mark{color:inherit;background:color-mix(in srgb,var(--c) calc(var(--s)*1%),transparent);border-radius:3px}
.mplus .sw{display:inline-block;width:.8em;height:.8em;border-radius:2px;background:var(--c);margin-right:.35em}
.mplus .chips{display:flex;flex-wrap:wrap;gap:.2rem;max-height:130px;overflow:auto}
.mplus .chips button{font:inherit;font-size:.78rem;border:1px solid var(--edge);border-left:5px solid var(--c,#999);
 background:none;color:inherit;white-space:pre;padding:0 .4rem}
.mplus .tok{padding:.1em .15em;border-radius:3px;border-bottom:3px solid transparent}
.mplus table{border-collapse:collapse;margin:0}.mplus th,.mplus td{text-align:left;padding:.15rem .6rem;
 border-bottom:1px solid var(--edge)}.mplus td.n{text-align:right}.mplus .grid{overflow-x:auto}
.mplus .mark{padding:.35rem .7rem;border-left:5px solid var(--c)}.mplus .finding{color:var(--jp-ui-font-color1,#444)}
</style>"""


def html(content: str) -> dict[str, str]:
    """A piece of HTML (`lab.panels` makes them) in the notebooks' style, as something to display."""
    return {"text/html": f'{STYLE}<div class="mplus">{content}</div>', "text/plain": content}


def drawn(figure: Any) -> dict[str, Any]:
    """A plotly figure, or a piece of HTML, as something to display."""
    if isinstance(figure, str):
        return html(figure)
    data = json.loads(figure.to_json())
    return {PLOTLY: {**data, "config": CONFIG}, "text/plain": finding(figure)}


def finding(figure: Any) -> str:
    """What a figure of ours says in words; "" for a piece of HTML, which says it itself."""
    return "" if isinstance(figure, str) else str((figure.layout.meta or {}).get("finding", ""))


def _caption(words: str) -> dict[str, str]:
    return html(f'<p class="finding">{escape(words)}</p>')


def show(*figures: Any) -> None:
    """Draw figures (or pieces of HTML), each with its finding in words below."""
    for figure in figures:
        display(drawn(figure), raw=True)
        if finding(figure):
            display(_caption(finding(figure)), raw=True)


class Live:
    """A figure that can be drawn again in the same place, for instance while something is being trained."""

    def __init__(self) -> None:
        self.figure: Any = None
        self._places: tuple[DisplayHandle, DisplayHandle] | None = None

    def draw(self, figure: Any) -> None:
        """Show the figure; from the second time on in the place of the one before."""
        self.figure = figure
        if self._places is None:
            self._places = DisplayHandle(), DisplayHandle()
            self._places[0].display(drawn(figure), raw=True)
            self._places[1].display(_caption(finding(figure)), raw=True)
        else:
            if finding(figure):  # plotly's extension of JupyterLab draws once a place: it has to be a new one
                empty = f'<div style="height:{figure.layout.height}px"></div>'
                self._places[0].update({"text/html": empty}, raw=True)
            self._places[0].update(drawn(figure), raw=True)
            self._places[1].update(_caption(finding(figure)), raw=True)


class Explorer(Live):
    """Controls with a figure below that follows them. controls: the widgets by name."""

    def __init__(self, draw: Callable[..., Any], controls: dict[str, ipywidgets.ValueWidget]):
        super().__init__()
        self._make, self.controls = draw, controls
        for control in controls.values():
            control.observe(self._follow, names="value")
        display(ipywidgets.HBox(list(controls.values()), layout={"flex_flow": "row wrap"}))
        self._follow()

    def _follow(self, change: Any = None) -> None:
        values = {name: control.value for name, control in self.controls.items()}
        try:
            self.draw(self._make(**values))
        except ValueError as problem:
            self.draw(f'<p role="alert">{escape(str(problem))}</p>')


def explore(draw: Callable[..., Any], **controls: Any) -> Explorer:
    """Show `draw(**values)` and draw it again whenever a control changes.

    A control is an ipywidget, or short for one: (from, to, step) for a slider, a list or a dict of choices, True or
    False for a box to tick, a text for a field to write in. A ValueError that `draw` raises is shown as its sentence.
    """
    made = {}
    for name, short in controls.items():
        own = isinstance(short, ipywidgets.Widget)
        widget: Any = short if own else ipywidgets.interactive.widget_from_abbrev(short)
        if widget is None:
            raise ValueError(f"{name}={short!r} is no control; give a widget, (from, to, step), a list or True.")
        widget.description = widget.description or name.replace("_", " ")
        widget.style.description_width = "initial"
        if hasattr(widget, "continuous_update"):
            widget.continuous_update = False
        made[name] = widget
    return Explorer(draw, made)


@contextmanager
def exercise(name: str) -> Iterator[None]:
    """The check of an exercise: says whether the assertions inside hold, and goes on either way."""
    try:
        yield
    except AssertionError as problem:
        _judge(f"{name}: not yet. {problem}".strip(), "#D55E00")
    except Exception as problem:
        dots = "ellipsis" in str(problem)
        words = "Your answer belongs where the dots are." if dots else f"{type(problem).__name__}: {problem}"
        _judge(f"{name}: not yet. {words}", "#D55E00")
    else:
        _judge(f"{name}: right.", "#009E73")


def _judge(words: str, hue: str) -> None:
    display(
        html(f'<p class="mark" role="status" style="--c:{hue}">{escape(words)}</p>') | {"text/plain": words}, raw=True
    )

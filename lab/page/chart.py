"""The chart bridge: a plotly figure in a `gr.HTML`, drawn by plotly.py's own plotly.js, with clicks back to Python.

`gr.Plot` draws with an older plotly.js, loses the zoom on every update and reports no click.
"""

from html import escape
from pathlib import Path
from string import Template

import gradio as gr
import plotly

HERE = Path(__file__).parent
PLOTLY_JS = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
SCRIPT = (HERE / "chart.js").read_text()
TEMPLATE = Template((HERE / "chart.html").read_text())


def chart(name: str, title: str, empty: str, height: int = 260) -> gr.HTML:
    """A chart; its value is `figure.to_json()` or None. A click is a `select` event with `_data` x, y and value."""
    page = TEMPLATE.substitute(
        name=name, title=escape(title), empty=escape(empty), height=height, src=f"/gradio_api/file={PLOTLY_JS}"
    )
    return gr.HTML(None, html_template=page, js_on_load=SCRIPT, container=False, padding=False)

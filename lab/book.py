"""The notebooks as a book: executed, then written as plain pages that need no Jupyter and no network.

    python -m lab.book runs/book          all notebooks of notebooks/, with an index

Figures are drawn by the plotly.js that the plotly package brings; one copy lies beside the pages.
"""

import argparse
import json
import re
import shutil
from collections.abc import Iterator, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from nbformat import NotebookNode
from pygments.formatters import HtmlFormatter
from tqdm import tqdm

from .widgets import PLOTLY

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
WIDGET = "application/vnd.jupyter.widget-view+json"
SCRIPT = """
const library = window.moduleName?.version ? window.moduleName : window.Plotly;
for (const place of document.querySelectorAll('.figure')) {
  const {data, layout, config} = JSON.parse(place.querySelector('script').textContent);
  const entries = data.filter((trace) => trace.name && trace.showlegend !== false).length;
  if (innerWidth < 600 && entries > 1 && layout.showlegend !== false) {
    const room = 20 * Math.min(entries, 6) + 15;
    layout.legend = {orientation: 'h', yref: 'container', y: 0, yanchor: 'bottom'};
    layout.height += room;
    layout.margin = {...layout.margin, b: 45 + room};
  }
  library.newPlot(place, data, layout, {...config, displayModeBar: false});
}
"""


def execute(notebook: NotebookNode, timeout: float = 600) -> NotebookNode:
    """Run a notebook from top to bottom in a kernel of its own, in place. Raises what nbclient raises."""
    where = {"metadata": {"path": str(ROOT)}}
    client = NotebookClient(notebook, timeout=timeout, kernel_name="python3", resources=where, store_widget_state=False)
    return client.execute()


def title(notebook: NotebookNode) -> str:
    """The text of the first heading."""
    heading = re.search(r"^# (.+)$", notebook.cells[0].source, re.MULTILINE)
    return heading[1] if heading else ""


def page(notebook: NotebookNode, before: str = "", after: str = "") -> str:
    """One executed notebook as a page; before and after name the neighbouring pages."""
    _prepare(notebook)
    body, _ = HTMLExporter(template_name="basic").from_notebook_node(notebook)
    body = re.sub(r'href="(\d\d_\w+)\.ipynb"', r'href="\1.html"', body)
    links = [("index", "all notebooks"), (before, "← before"), (after, "next →")]
    bar = "".join(f'<a href="{name}.html">{words}</a>' for name, words in links if name)
    return _frame(title(notebook), f"<nav>{bar}</nav><main>{body}</main>", figures=True)


def _prepare(notebook: NotebookNode) -> None:
    """Turn what only JupyterLab can show into HTML."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data: dict[str, Any] = output.get("data", {})
            if WIDGET in data:
                output["data"] = {"text/html": '<p class="control">In JupyterLab, controls here change the figure.</p>'}
            elif PLOTLY in data:
                figure = json.dumps(data[PLOTLY]).replace("</", "<\\/")
                words = escape(str(data.get("text/plain", "")), quote=True)
                inside = f'<script type="application/json">{figure}</script>'
                output["data"] = {"text/html": f'<div class="figure" role="group" aria-label="{words}">{inside}</div>'}


def _frame(heading: str, body: str, figures: bool = False) -> str:
    light = HtmlFormatter(style="default").get_style_defs(".highlight")
    dark = HtmlFormatter(style="github-dark").get_style_defs(".highlight")
    style = f"{light}@media (prefers-color-scheme:dark){{{dark}}}{(Path(__file__).with_suffix('.css')).read_text()}"
    script = f'<script src="plotly.min.js"></script><script>{SCRIPT}</script>' if figures else ""
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(heading)}</title><style>{style}</style><body>{body}{script}</body></html>"
    )


def index(titles: dict[str, str]) -> str:
    """The table of contents: page name -> title."""
    items = "".join(f'<li><a href="{name}.html">{escape(words)}</a></li>' for name, words in titles.items())
    heading = "M+ Lab: the notebooks"
    return _frame(heading, f'<main><h1>{heading}</h1><ul style="list-style:none">{items}</ul></main>')


def write(out: Path, paths: Sequence[Path] = NOTEBOOKS) -> Iterator[Path]:
    """Execute notebooks and write their pages into a folder; yields each page as it is done."""
    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(str(files("plotly") / "package_data" / "plotly.min.js"), out / "plotly.min.js")
    names, titles = [path.stem for path in paths], {}
    for place, path in enumerate(paths):
        notebook = nbformat.read(path, as_version=4)
        titles[path.stem] = title(notebook)
        after = names[place + 1] if place + 1 < len(names) else ""
        written = out / f"{path.stem}.html"
        written.write_text(page(execute(notebook), names[place - 1] if place else "", after), encoding="utf-8")
        yield written
    (out / "index.html").write_text(index(titles), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lab.book", description="Execute and render the notebooks.")
    parser.add_argument("out", type=Path, help="folder for the pages")
    for done in (bar := tqdm(write(parser.parse_args().out), total=len(NOTEBOOKS))):
        bar.set_description(done.stem)


if __name__ == "__main__":
    main()

"""Every notebook: its shape in git, and that it runs, that its exercises tell right from wrong, that controls work.

`make test` executes all of them in kernels of their own; `make test ARGS="-m notebooks"` these tests alone.
"""

import json
import re
from pathlib import Path

import nbformat
import pytest

from lab.book import NOTEBOOKS, execute, page, title
from scripts.check_files import findings

MOST_LINES, MOST_BYTES = 8, 100_000
SOLUTION = re.compile(r"<details>\n<summary>Solution</summary>\n\n```python\n(.*?)```\n\n</details>", re.DOTALL)
TURN = "import json\nfrom tests.controls import report\nprint(json.dumps(report(globals())))"

every = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
QUICK = pytest.param(NOTEBOOKS[0], id=NOTEBOOKS[0].stem)
LATER = [pytest.param(path, id=path.stem, marks=pytest.mark.notebooks) for path in NOTEBOOKS[1:]]
runs = pytest.mark.parametrize("path", [QUICK, *LATER])


def read(path: Path):
    return nbformat.read(path, as_version=4)


def tagged(notebook, tag: str) -> list[int]:
    return [number for number, cell in enumerate(notebook.cells) if tag in cell.metadata.get("tags", [])]


def test_there_are_eleven_in_order():
    assert [path.stem[:2] for path in NOTEBOOKS] == [f"{number:02d}" for number in range(11)]


@every
def test_is_small_and_stripped(path):
    assert path.stat().st_size < MOST_BYTES
    assert not list(findings(path))
    notebook = read(path)
    nbformat.validate(notebook)
    assert all(not cell.outputs and cell.execution_count is None for cell in notebook.cells if cell.cell_type == "code")
    assert "http" not in json.dumps([cell.source for cell in notebook.cells if cell.cell_type == "code"])


@every
def test_has_goals_exercises_a_control_and_a_closing_question(path):
    notebook = read(path)
    assert title(notebook).startswith(path.stem[:2]) and "**You will**" in notebook.cells[0].source
    exercises, checks, solutions = (tagged(notebook, tag) for tag in ("exercise", "check", "solution"))
    assert 3 <= len(exercises) <= 6 and len(exercises) == len(checks) == len(solutions)
    assert all(a < b < c for a, b, c in zip(exercises, checks, solutions, strict=True))
    assert any("explore(" in cell.source for cell in notebook.cells if cell.cell_type == "code")
    assert "**Think about it.**" in notebook.cells[-1].source


@every
def test_cells_are_short(path):
    for cell in read(path).cells:
        code = cell.source if cell.cell_type == "code" else "".join(SOLUTION.findall(cell.source))
        lines = [line for line in code.splitlines() if line.strip()]
        assert len(lines) <= MOST_LINES, code


def solved(notebook):
    """The notebook with every solution behind its check, then the check again; and how the checks ought to end."""
    cells, expected, check = [], [], None
    for cell in notebook.cells:
        cells.append(cell)
        tags = cell.metadata.get("tags", [])
        if "check" in tags:
            check = cell
            expected.append("not yet")
        if "solution" in tags:
            assert check is not None, "a solution stands behind the check of its exercise"
            solution = SOLUTION.fullmatch(cell.source)
            assert solution, cell.source
            cells += [nbformat.v4.new_code_cell(solution[1]), nbformat.v4.new_code_cell(check.source)]
            expected.append("right")
    notebook.cells = [*cells, nbformat.v4.new_code_cell(TURN)]
    return notebook, expected


def said(cell) -> str:
    texts = [output.get("text", "") or output.get("data", {}).get("text/plain", "") for output in cell.outputs]
    return "\n".join(texts)


@runs
def test_runs_checks_and_follows_its_controls(path):
    notebook, expected = solved(read(path))
    execute(notebook)
    words = "\n".join(said(cell) for cell in notebook.cells if cell.cell_type == "code")
    verdicts = re.findall(r"^Exercise \d: (not yet|right)", words, re.MULTILINE)
    assert verdicts == expected
    turned = json.loads(said(notebook.cells[-1]).splitlines()[-1])
    assert turned and all(turned.values()), turned
    errors = [output for cell in notebook.cells for output in cell.get("outputs", []) if output.get("name") == "stderr"]
    assert not errors, errors
    written = page(notebook)
    assert not re.search(r'(?:src|href)="(?:https?:)?//(?!arxiv\.org/)', written)
    assert written.count('class="figure"') >= 1 or "prov" in written

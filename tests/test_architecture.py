"""The shape of the house: imports in core only go down, packages stay in their homes, files stay small and clean."""

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.check_files import findings

ROOT = Path(__file__).parent.parent

# From bottom to top; a module imports from lower floors only. core/__init__.py is the roof and imports what it likes.
FLOORS = (
    "config arguments sources log claim commits placement base_bits products tiles weights world packing "
    "tokenizer_training processes run_folder",
    "matching choice laying",
    "kernels prefill short_term attention prefix adapters disk quantised retriever rules prompts curriculum data muon",
    "state tier drops cache lexical_start fitting index",
    "decoding model",
    "memory",
    "memory_file reading official induction widening rare_tokens answering",
    "reader checkpoint bank pointing",
    "context cost durable replay streams",
    "snapkv bm25 replay_cache lessons",
    "baselines objectives",
    "retrieval_lesson context_lesson past refit",
    "evaluation",
    "practice training document_practice",
    "recipe",
    "train evaluate",
)
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names.split()}

# Who may import what: files or folders. A package that is not named here may be imported anywhere.
HOMES = {
    "gradio": {"app.py", "lab/page"},
    "plotly": {"lab/plots", "lab/charts.py", "lab/page"},
    "ipywidgets": {"lab/widgets.py"},
    "IPython": {"lab/widgets.py"},
    "lab": {"app.py", "lab", "benchmarks"},
    "app": {"benchmarks"},
    "benchmarks": {"benchmarks"},
    "tests": set(),
}

COMMANDS = {"core/cost.py", "core/train.py", "core/evaluate.py", "lab/short_run.py"}  # they may print
LONGEST_CORE_FILE = 250


def modules(root: Path) -> Iterator[Path]:
    """Our Python files outside tests, relative to root."""
    for pattern in ("app.py", "core/**/*.py", "lab/**/*.py", "benchmarks/**/*.py"):
        yield from (path.relative_to(root) for path in sorted(root.glob(pattern)))


def imports(root: Path, path: Path) -> Iterator[str]:
    """Absolute dotted names of everything that a file imports, also inside its functions."""
    for node in ast.walk(ast.parse((root / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = path.parts[: len(path.parts) - node.level] if node.level else ()
            base = ".".join([*package, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def floor_of(path: Path) -> int:
    """The floor of a file of core; a sub-package counts as one module."""
    if path.name == "__init__.py" and len(path.parts) == 2:
        return len(FLOORS)
    name = path.with_suffix("").parts[1]
    assert name in FLOOR, f"{path} has no floor yet: add {name!r} to FLOORS in tests/test_architecture.py"
    return FLOOR[name]


def upward_imports(root: Path) -> Iterator[str]:
    for path in (path for path in modules(root) if path.parts[0] == "core"):
        own_floor = floor_of(path)
        for name in imports(root, path):
            top, _, rest = name.partition(".")
            other = rest.partition(".")[0]
            if top != "core" or (len(path.parts) > 2 and other == path.parts[1]):
                continue
            if other not in FLOOR:
                if own_floor < len(FLOORS):
                    yield f"{path} must not import {name}: name the module that defines it, not the roof"
            elif FLOOR[other] >= own_floor:
                yield f"{path} (floor {own_floor}) must not import {name} (floor {FLOOR[other]}): imports only go down"


def strays(root: Path) -> Iterator[str]:
    for path in modules(root):
        for name in imports(root, path):
            homes = HOMES.get(name.partition(".")[0])
            if homes is not None and not homes & {path.as_posix(), *(folder.as_posix() for folder in path.parents)}:
                yield f"{path} must not import {name}: its place is {' or '.join(sorted(homes)) or 'tests only'}"


def prints(root: Path) -> Iterator[str]:
    for path in modules(root):
        if path.parts[0] in ("core", "lab") and path.as_posix() not in COMMANDS:
            for node in ast.walk(ast.parse((root / path).read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                    yield f"{path}:{node.lineno} prints: return the text, or log it; only commands print"


def long_files(root: Path) -> Iterator[str]:
    for path in (path for path in modules(root) if path.parts[0] == "core"):
        length = len((root / path).read_text(encoding="utf-8").splitlines())
        if length > LONGEST_CORE_FILE:
            yield f"{path} has {length} lines, more than {LONGEST_CORE_FILE}: split it where it does two things"


def report(problems: Iterator[str]) -> None:
    found = list(problems)
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize("rule", [upward_imports, strays, prints, long_files])
def test_the_house_keeps_its_shape(rule):
    assert any(modules(ROOT)), f"no Python files of ours under {ROOT}"
    report(rule(ROOT))


def test_tracked_files_hold_nothing_that_does_not_belong():
    try:
        listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout: there are no tracked files")
    paths = [path for name in listing.split("\0") if name and (path := ROOT / name).is_file()]
    report(finding.removeprefix(f"{ROOT}/") for path in paths for finding in findings(path))


@pytest.mark.parametrize(
    ("rule", "path", "code"),
    [
        (upward_imports, "core/config.py", "from .model import MPlusForCausalLM"),
        (upward_imports, "core/config.py", "def late():\n    import core.model"),
        (upward_imports, "core/prefix.py", "from . import retriever"),
        (upward_imports, "core/cache.py", "from core import load"),
        (upward_imports, "core/config/fields.py", "from ..model import MPlusForCausalLM"),
        (strays, "core/model.py", "from lab import plots"),
        (strays, "lab/session.py", "import gradio.themes"),
        (prints, "core/model.py", "def show(x):\n    print(x)"),
        (long_files, "core/model.py", "x = 1\n" * (LONGEST_CORE_FILE + 1)),
    ],
)
def test_a_broken_rule_is_named(rule, path, code, tmp_path):
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(code)
    (problem,) = rule(tmp_path)
    assert problem.startswith(path)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("core/model.py", "import torch\nfrom .cache import MemoryCache\nfrom core.config import MPlusConfig"),
        ("core/config/fields.py", "from .checks import positive"),
        ("core/__init__.py", "from .evaluate import evaluate"),
    ],
)
def test_a_downward_import_is_welcome(path, code, tmp_path):
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(code)
    report(upward_imports(tmp_path))


def test_a_module_without_a_floor_is_told_where_to_get_one(tmp_path):
    (tmp_path / "core").mkdir()
    (tmp_path / "core/attic.py").write_text("")
    with pytest.raises(AssertionError, match=r"add 'attic' to FLOORS"):
        list(upward_imports(tmp_path))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("big.txt", "x" * 300_000),
        ("key.pem", "-----BEGIN RSA PRIVATE " + "KEY-----"),
        ("note.md", "see `" + "/home" + "/ann/notes`"),
        ("requirements.txt", "--index-url https://" + "pypi" + ".org/simple"),
        ("run.ipynb", '{"metadata": {}, "cells": [{"cell_type": "code", "execution_count": 3, "outputs": []}]}'),
        ("live.ipynb", '{"metadata": {"widgets": {}}, "cells": []}'),
    ],
)
def test_what_does_not_belong_is_found(name, content, tmp_path):
    (tmp_path / name).write_text(content)
    assert len(list(findings(tmp_path / name))) == 1


def test_ordinary_files_are_left_alone(tmp_path):
    (tmp_path / "a.md").write_text("../shared/golden, runs/tmp/x, https://example.com/home/, /usr/bin/chromium, and/or")
    (tmp_path / "b.ipynb").write_text(
        '{"metadata": {}, "cells": [{"cell_type": "code", "execution_count": null, "outputs": []}]}'
    )
    assert not [finding for path in tmp_path.iterdir() for finding in findings(path)]

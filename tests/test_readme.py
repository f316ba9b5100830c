"""What README.md tells people to type works: its Python runs, and every target, script and module it names exists."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OURS = ("core", "lab", "benchmarks", "scripts", "tests")
FILE_SUFFIXES = (".py", ".sh", ".yml", ".ipynb", ".toml")

needs_readme = pytest.mark.skipif(not README.exists(), reason="README.md is not there")


def python_program(text: str) -> str:
    """All ```python blocks as one program, every line at its place in the text so that tracebacks name it."""
    lines = [""] * text.count("\n")
    for match in FENCE.finditer(text):
        if match[1] == "python":
            first = text[: match.start(2)].count("\n")
            block = match[2].splitlines()
            lines[first : first + len(block)] = block
    return "\n".join(lines)


def commands(text: str) -> Iterator[list[str]]:
    """The simple commands of all ```bash blocks, as lists of words."""
    for match in FENCE.finditer(text):
        if match[1] == "bash":
            for line in match[2].replace("\\\n", " ").splitlines():
                lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars=True)
                lexer.whitespace_split = True
                command: list[str] = []
                for word in [*lexer, ";"]:
                    if set(word) <= set(";&|()"):
                        if command:
                            yield command
                        command = []
                    else:
                        command.append(word)


def problems(command: list[str], root: Path) -> Iterator[str]:
    """One sentence per thing that the command names and the project lacks."""
    line = " ".join(command)
    while command and re.fullmatch(r"\w+=.*", command[0]):
        command = command[1:]
    if not command:
        return
    words = command[1:]
    if command[0] == "make":
        targets = re.findall(r"^([\w-]+):(?!=)", (root / "Makefile").read_text(), re.MULTILINE)
        for word in words:
            if not word.startswith("-") and "=" not in word and word not in targets:
                yield f"`{line}`: the Makefile has no target {word}"
    if "-m" in words and Path(command[0]).name.startswith(("python", "accelerate")):
        module = words[words.index("-m") + 1]
        if not module_exists(module, root):
            yield f"`{line}`: there is no module {module}"
    for word in command:
        if word.endswith(FILE_SUFFIXES) and not (root / word).is_file():
            yield f"`{line}`: there is no file {word}"


def module_exists(name: str, root: Path) -> bool:
    if name.split(".")[0] not in OURS:
        return importlib.util.find_spec(name) is not None
    path = root.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()


@needs_readme
def test_python_of_the_readme_runs(tmp_path):
    program = tmp_path / "README.py"
    program.write_text(python_program(README.read_text(encoding="utf-8")), encoding="utf-8")
    assert program.read_text().strip(), "README.md has no ```python block"
    (tmp_path / "README.md").write_bytes(README.read_bytes())  # it is what the program reads
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, program], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


@needs_readme
def test_commands_of_the_readme_name_what_exists():
    found = list(commands(README.read_text(encoding="utf-8")))
    assert any(command[:2] == ["make", "app"] for command in found), "README.md does not say `make app`"
    assert any(command[:2] == ["make", "test"] for command in found), "README.md does not say `make test`"
    wrong = [problem for command in found for problem in problems(command, ROOT)]
    assert not wrong, "\n" + "\n".join(wrong)


def test_python_blocks_keep_their_line_numbers():
    text = "# Title\n\n```python\nx = 1\n```\n\nprose\n\n```bash\nmake app\n```\n```python\nassert x == 1\n```\n"
    lines = python_program(text).split("\n")
    assert {number: line for number, line in enumerate(lines, 1) if line} == {4: "x = 1", 13: "assert x == 1"}


def test_commands_are_told_apart():
    text = "```bash\nA=1 make app  # open it\n$ python -m core.train \\\n  --out x && ls\n```\n```python\nx\n```\n"
    assert list(commands(text)) == [["A=1", "make", "app"], ["python", "-m", "core.train", "--out", "x"], ["ls"]]


@pytest.mark.parametrize(
    ("command", "num_problems"),
    [
        ("make -j2 test ARGS=-x", 0),
        ("make tset", 1),
        ("X=1 .venv/bin/python -m pytest tests/test_readme.py", 0),
        ("python tests/test_missing.py", 1),
        ("accelerate launch -m core.missing --out runs/x", 1),
        ("python -m no_such_module", 1),
        ("python -m pytest -m slow", 0),
        ("pytest -m slow", 0),
        ("conda env create -f environment.yml", 0),
        ("conda env create -f environment.yaml.yml", 1),
        ("cd mplus-lab", 0),
    ],
)
def test_what_a_command_names_must_exist(command, num_problems):
    assert len(list(problems(command.split(), ROOT))) == num_problems

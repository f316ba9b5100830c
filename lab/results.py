"""Measurements that are already there: the JSON files of `python -m core.evaluate` and of the benchmarks, found, read
and named. Nothing here is computed or made up: what has no file is not shown."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LARGEST = 4 * 2**20


@dataclass(frozen=True)
class Result:
    """One file. rows: those of an evaluation, empty for other measurements. command: what made it, if the file says."""

    name: str
    task: str
    command: str
    rows: tuple[dict, ...]
    content: dict

    @property
    def is_table(self) -> bool:
        """Whether it says itself how it is to be shown: no one curve holds rows of so many kinds."""
        return isinstance(self.content.get("table"), dict)


def find(folders: Iterable[Path]) -> dict[str, Result]:
    """Every measurement below these folders, by name: first retention, since it answers the first question, then the
    paper's tables."""
    found: dict[str, Result] = {}
    for folder in folders:
        for path in sorted(folder.glob("**/*.json")) if folder.is_dir() else ():
            result = read(path, str(path.relative_to(folder.parent).with_suffix("")))
            if result:
                found[result.name] = result

    def order(item: tuple[str, Result]) -> tuple:
        name, result = item
        one_of_many = "/paper/" in name  # a row of the paper's table by itself
        first = {"retention": 0, "paper": 1}.get(result.task, 2)
        return one_of_many, first, not result.rows, name.split("/")  # "mini" before "mini-recipe"

    return dict(sorted(found.items(), key=order))


def read(path: Path, name: str) -> Result | None:
    """A measurement file, or None for any other JSON, such as a checkpoint's configuration."""
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.stat().st_size <= LARGEST else None
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict) or not ({"command", "machine"} & set(content)):
        return None
    rows = content.get("rows")
    kept = tuple(row for row in rows if isinstance(row, dict)) if isinstance(rows, list) else ()
    return Result(name, str(content.get("task", path.stem)), str(content.get("command", "")), kept, content)


def cells(result: Result) -> tuple[list[str], list[list[str]]]:
    """(header, rows) that say all of it: a table that is in it, the rows as they are, or every number with its path.

    What the table of the paper could not hold, rows that were not run, stands below it with the reason.
    """
    if result.is_table:
        table = result.content["table"]
        header = [said(name) for name in table["header"]]
        rows = [[said(cell) for cell in line] for line in table["lines"]]
        empty = [""] * (len(header) - 3)
        absent = [[one["what"], *empty, f"not run: {one['why']}", one["paper"]] for one in result.content["not_run"]]
        return header, rows + absent
    if result.rows:
        header = list(dict.fromkeys(key for row in result.rows for key in row))
        return header, [[said(row.get(key, "")) for key in header] for row in result.rows]
    return ["what", "value"], [[" · ".join(path), said(value)] for path, value in _leaves(result.content)]


def _leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, (*path, str(key)))
    elif isinstance(value, list) and any(isinstance(inner, dict | list) for inner in value):
        for index, inner in enumerate(value):
            yield from _leaves(inner, (*path, str(index)))
    else:
        yield path, value


def said(value: Any) -> str:
    """A value as a cell."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(said(one) for one in value)
    if isinstance(value, dict) and value.keys() == {"accuracy", "low", "high"}:
        return f"{value['accuracy']:.3f} ({value['low']:.3f}-{value['high']:.3f})"
    return str(value)

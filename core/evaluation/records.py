"""What a run leaves on disk: a journal that survives kill -9, and from it tables and curves."""

import json
import os
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from .metrics import bootstrap

Row = dict[str, Any]
Over = Callable[[], bool]
"""Whether a run's time is up: what has been answered by then is what is reported."""


def never() -> bool:
    return False


def clock(minutes: float | None) -> Over:
    """A clock that starts now."""
    if minutes is None:
        return never
    end = time.monotonic() + 60 * minutes
    return lambda: time.monotonic() >= end


def check_journal(path: Path) -> None:
    """ValueError if there is a file that is no journal: a person's own, perhaps."""
    if path.is_file() and path.stat().st_size:
        with path.open("rb") as file:
            if not file.readline().startswith(b'{"settings"'):
                raise ValueError(f"{path} is there and holds no answers of a run; choose another output.")


class Journal:
    """Answers as JSON lines, one append each; a run that is started again skips what is there.

    The first line holds the run's settings; a journal of other settings is refused with a ValueError that names them.
    A last line that was cut short is dropped and answered again.
    """

    def __init__(self, path: str | os.PathLike, settings: Row, keys: Sequence[str]):
        self.path, self.keys = Path(path), tuple(keys)
        self.rows: dict[tuple, Row] = {}
        settings = json.loads(json.dumps(settings))
        if self.path.exists() and self.path.stat().st_size:
            self._load(settings)
        else:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps({"settings": settings}) + "\n", encoding="utf-8")

    def _load(self, settings: Row) -> None:
        data = self.path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            os.truncate(self.path, len(whole))
        lines = [json.loads(line) for line in whole.decode().split("\n") if line]
        found = lines[0]["settings"] if lines else settings
        if not lines:
            self.path.write_text(json.dumps({"settings": settings}) + "\n", encoding="utf-8")
        different = sorted(name for name in {*found, *settings} if found.get(name) != settings.get(name))
        if different:
            told = ", ".join(f"{name} {found.get(name)!r} there, {settings.get(name)!r} now" for name in different)
            raise ValueError(
                f"{self.path} is of a run with other settings ({told}); choose another output, "
                "or add --no-resume to remove it."
            )
        for row in lines[1:]:
            self.rows[self.key(row)] = row

    def key(self, row: Row) -> tuple:
        return tuple(row[name] for name in self.keys)

    def __contains__(self, key: tuple) -> bool:
        return key in self.rows

    def add(self, rows: Iterable[Row]) -> None:
        """Append rows that are not there yet, in one write, and see them to the disk."""
        new = {self.key(row): row for row in rows if self.key(row) not in self.rows}
        with self.path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in new.values()))
            file.flush()
            os.fsync(file.fileno())
        self.rows.update(new)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows.values())


def summarise(
    rows: Iterable[Row], by: Sequence[str], score: str = "score", name: str = "accuracy",
    unit: Callable[[Row], Hashable] | None = None,
) -> list[Row]:  # fmt: skip
    """One line per group: the mean of `score` with its bootstrap band, in the order in which groups first appear.

    unit: what a row's answer is about, where several rows are about one: the band is that of so many `units`.
    Raises ValueError if there is no row.
    """
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[field] for field in by), []).append(row)
    if not groups:
        raise ValueError("Nothing was answered in the time there was; give more minutes.")
    lines = []
    for group, members in groups.items():
        values, units = [float(row[score]) for row in members], [unit(row) for row in members] if unit else None
        low, high = bootstrap(values, units)
        line = dict(zip(by, group, strict=True)) | {name: sum(values) / len(values), "low": low, "high": high}
        line["n"] = len(values)
        lines.append(line | ({"units": len(set(units))} if units and len(set(units)) < len(values) else {}))
    return lines


def markdown(lines: Sequence[Row], row: str, column: str, value: str = "accuracy", percent: bool = True) -> str:
    """A table: one line per `row`, one column per `column`; each cell the mean and its band, if any, in percent."""
    columns = list(dict.fromkeys(line[column] for line in lines))
    scale, digits = (100, 1) if percent else (1, 3)
    rows = []
    for name in dict.fromkeys(line[row] for line in lines):
        cells = {line[column]: line for line in lines if line[row] == name}
        rows.append((name, *(_cell(cells.get(other), value, scale, digits) for other in columns)))
    return markdown_table((row, *columns), rows)


def markdown_table(header: Sequence[Any], rows: Iterable[Sequence[Any]]) -> str:
    """A table of anything."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines).replace("| --- ", "|---")


def _cell(line: Row | None, value: str, scale: int, digits: int) -> str:
    if line is None:
        return ""
    if line["low"] == line["high"]:  # a mean of groups
        return f"{line[value] * scale:.{digits}f}"
    return f"{line[value] * scale:.{digits}f} ({line['low'] * scale:.{digits}f}-{line['high'] * scale:.{digits}f})"


def write_json(path: str | os.PathLike, content: Row) -> None:
    """Write atomically: the old file or the new one, never half of it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(path.name + ".part")
    half.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(half, path)

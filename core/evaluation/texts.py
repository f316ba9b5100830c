"""Facts, distractors and rows of benchmark files; a malformed row is reported by its line and skipped."""

import json
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from ..world import Fact, World
from .published import json_text, squad_facts, to_fact

GENERATED = "facts:"
"""Instead of a file name: facts of the fact world, drawn from the seed that follows."""


@dataclass
class Rows:
    """Rows of a file, and what was wrong with the rows that are not among them ("FILE:LINE: why")."""

    rows: list[dict[str, Any]]
    problems: list[str] = field(default_factory=list)


Check = Callable[[dict[str, Any]], str | None]
"""What is wrong with a row, or None."""


def read_rows(path: str | os.PathLike, fields: dict[str, type | tuple[type, ...]], check: Check | None = None) -> Rows:
    """Rows of a .jsonl file that hold these fields with these types. Raises ValueError if none is left."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"There is no file {path}; name a .jsonl file.")
    found = Rows([])
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").split("\n"), 1):
        if not line.strip():
            continue
        row, problem = _parse(line, fields)
        problem = problem or (check(row) if check else None)
        if problem:
            found.problems.append(f"{path.name}:{number}: {problem}")
        else:
            found.rows.append(row)
    if not found.rows:
        told = f"the first problem is {found.problems[0]}" if found.problems else "the file is empty"
        raise ValueError(f"There is no usable row in {path}; {told}.")
    return found


def _parse(line: str, fields: dict[str, type | tuple[type, ...]]) -> tuple[dict[str, Any], str | None]:
    try:
        row = json.loads(line)
    except ValueError as error:
        return {}, f"not JSON ({error})"
    problem = missing(row, fields)
    return ({}, problem) if problem else (row, None)


def missing(row: Any, fields: dict[str, type | tuple[type, ...]]) -> str | None:
    """What a row lacks of the fields it should have, or None."""
    if not isinstance(row, dict):
        return "not a JSON object"
    for name, kind in fields.items():
        if not isinstance(row.get(name), kind):
            return f"{name!r} is missing or of another type"
        if isinstance(row[name], str | list) and not row[name]:
            return f"{name!r} is empty"
    return None


def load_facts(source: str, num: int | None) -> tuple[list[Fact], list[str]]:
    """Facts from a file, or generated ("facts:SEED"); with the problems met.

    A .jsonl of fact, question, answer or of NaturalQuestions (`published.natural_questions`); a .json as SQuAD v2 is
    published, or the list of context, question, answer that the authors call processed.
    Raises ValueError if fewer than `num` are there.
    """
    if source.startswith(GENERATED):
        return list(islice(World(random.Random(seed_of(source))).facts(), num or 500)), []
    if source.endswith(".json"):
        facts, problems = squad_facts(Path(source))
        found = Rows([], problems)
    else:
        found = read_rows(source, {}, lambda row: None if to_fact(row) else "neither our fields nor NaturalQuestions'")
        facts = [fact for row in found.rows if (fact := to_fact(row))]
    if num and len(facts) < num:
        raise ValueError(f"{source} holds {len(facts)} facts, {num} are wanted; ask for fewer, or generate: facts:1.")
    return facts[:num], found.problems


def pack(facts: Sequence[Fact], tokenizer: PreTrainedTokenizerBase, num_tokens: int) -> list[Fact]:
    """Passages of neighbouring facts, of at most `num_tokens` tokens (one fact at least), each asked for one of them.

    Which one is asked for goes round, so that all places in a passage are asked about.
    """
    sizes = [len(tokenizer(f"{fact.fact} ", add_special_tokens=False)["input_ids"]) for fact in facts]
    groups: list[list[int]] = []
    for index, size in enumerate(sizes):
        if not groups or sum(sizes[other] for other in groups[-1]) + size > num_tokens:
            groups.append([])
        groups[-1].append(index)
    asked = [facts[group[number % len(group)]] for number, group in enumerate(groups)]
    texts = [" ".join(facts[index].fact for index in group) for group in groups]
    return [Fact(text, fact.question, fact.answer) for text, fact in zip(texts, asked, strict=True)]


def load_stream(source: str, tokenizer: PreTrainedTokenizerBase, num_tokens: int) -> list[int]:
    """Token ids of distractors: a .txt file, all .txt files of a folder, or generated facts, at least `num_tokens`.

    A file is read whole and may hold fewer; whoever uses it starts over at its end. A .json is a list of texts
    (the authors' unrelated contexts) or SQuAD, whose paragraphs are taken.
    """
    if source.startswith(GENERATED):
        world, ids = World(random.Random(seed_of(source))), []
        while len(ids) < num_tokens:
            text = " ".join(fact.fact for fact in islice(world.facts(), 1000)) + " "
            ids += tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids
    path = Path(source)
    files = sorted(path.glob("*.txt")) if path.is_dir() else [path]
    if not files or not all(file.is_file() for file in files):
        raise ValueError(f"There is no text {source}; name a .txt file, a folder of them, or generated facts: facts:1.")
    ids = []
    for file in files:
        text = json_text(file) if file.suffix == ".json" else file.read_text(encoding="utf-8", errors="replace")
        ids += tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    if not ids:
        raise ValueError(f"The text {source} is empty; name one with words in it.")
    return ids


def seed_of(source: str, prefix: str = GENERATED) -> int:
    """The number behind the prefix. ValueError if there is none."""
    seed = source.removeprefix(prefix)
    if not seed.lstrip("-").isdigit():
        raise ValueError(f"{source!r} has no seed; write for instance {prefix}1.")
    return int(seed)


def numbers(text: str, least: int = 0) -> list[int]:
    """ "0,2000,…,160000" (or ...): the numbers, an ellipsis continuing the step before it. ValueError if unreadable
    or below `least`."""
    parts = [part.strip() for part in text.replace("…", "...").split(",")]
    try:
        values: list[int] = []
        for index, part in enumerate(parts):
            if part != "...":
                values.append(int(part))
                continue
            step, last = values[-1] - values[-2], int(parts[index + 1])
            values += range(values[-1] + step, last, step)
    except (ValueError, IndexError) as error:
        raise ValueError(f"{text!r} is no list of numbers; write for instance 0,2000,...,160000.") from error
    if min(values) < least:
        raise ValueError(f"{text!r} holds {min(values)}; the numbers here start at {least}.")
    return list(dict.fromkeys(values))


def names(text: str, allowed: Sequence[str], what: str) -> list[str]:
    """A comma-separated choice among `allowed`. ValueError names what is not among them."""
    chosen = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    wrong = [name for name in chosen if name not in allowed]
    if wrong or not chosen:
        told = ", ".join(map(repr, wrong or [text]))
        raise ValueError(f"{what} {told} is not known; choose among {', '.join(allowed)}.")
    return chosen

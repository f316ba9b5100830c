"""What a benchmark boils down to: texts to be told, questions about them, and how an answer is scored."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..reader import Answer, MPlusReader, Reader
from . import metrics
from .published import entries, read_json
from .records import Journal, Over, Row, never, summarise
from .texts import Check, Rows, missing, read_rows


@dataclass(frozen=True)
class Question:
    """prompt: a question, or with `raw` a whole prompt. metric: a name of `METRICS`. labels: the answers
    a task knows ("label"), or what must not be in the answer ("current")."""

    prompt: str
    answers: tuple[str, ...]
    metric: str
    max_new_tokens: int = 32
    raw: bool = False
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Example:
    """One memory: `texts` are ingested in order after a complete reset, then every question is asked."""

    id: str
    group: str
    texts: tuple[str, ...]
    questions: tuple[Question, ...]


Metric = Callable[[str, Question], float]
METRICS: dict[str, Metric] = {
    "hit": lambda text, question: float(any(metrics.exact_hit(text, answer) for answer in question.answers)),
    "current": lambda text, q: float(q.answers[0] in text and not any(label in text for label in q.labels)),
    "exact": lambda text, question: metrics.exact_match(text, question.answers),
    "f1": lambda text, question: metrics.qa_f1(text, question.answers),
    "all": lambda text, question: metrics.match_all(text, question.answers),
    "any": lambda text, question: metrics.match_any(text, question.answers),
    "recall": lambda text, question: metrics.contains_all(text, question.answers),
    "contained": lambda text, question: metrics.normalised_match(text, question.answers),
    "label": lambda text, q: metrics.label_match(text, q.answers[0], q.prompt, q.labels),
}
KEYS = ("id", "question", "method")


def run_examples(
    examples: Sequence[Example], methods: Sequence[str], make: Callable[[str], Reader], journal: Journal,
    over: Over = never,
) -> None:  # fmt: skip
    """Ask everything the journal does not have, until the time is over; readers are reset for every example.

    All methods answer the first example of every group, then the second: a run cut short compares equal numbers.
    Questions about one memory are asked in one batch where the reader can. The first line of an answer counts, save
    for raw prompts, whose answers are scored whole, as their benchmarks do.
    """
    total = sum(len(example.questions) for example in examples) * len(methods)
    with tqdm(total=total, unit="answer", mininterval=1.0) as bar:
        for part in rounds(examples):
            if over():
                return
            for method in methods:
                reader = None  # one at a time: on a large model two memories may not fit
                for example in part:
                    if not all((example.id, number, method) in journal for number in range(len(example.questions))):
                        bar.set_postfix_str(f"{method} {example.id}")
                        reader = reader or make(method)
                        journal.add(_rows(reader, example, method))
                    bar.update(len(example.questions))


def rounds(examples: Sequence[Example]) -> list[list[Example]]:
    """The first example of every group, the second of every group, and so on."""
    groups: dict[str, list[Example]] = {}
    for example in examples:
        groups.setdefault(example.group, []).append(example)
    return [[one for one in row if one] for row in zip_longest(*groups.values())]


def _rows(reader: Reader, example: Example, method: str) -> Iterable[Row]:
    reader.reset()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The text has")  # short texts are repeated, as users' are
        for text in example.texts:
            reader.ingest(text)
    for number, (question, answer) in enumerate(zip(example.questions, _answers(reader, example), strict=True)):
        text = answer.text if question.raw else metrics.first_line(answer.text)
        score = METRICS[question.metric](text, question)
        yield {
            "id": example.id, "question": number, "method": method, "group": example.group, "score": score,
            "text": text, "answers": list(question.answers),
        }  # fmt: skip


def _answers(reader: Reader, example: Example) -> Iterable[Answer]:
    questions = example.questions
    same = len({question.max_new_tokens for question in questions}) == 1 and not any(q.raw for q in questions)
    if isinstance(reader, MPlusReader) and same and len(questions) > 1:
        for start in range(0, len(questions), 16):
            part = [question.prompt for question in questions[start : start + 16]]
            yield from reader.answer_many(part, questions[0].max_new_tokens)
        return
    for question in questions:
        yield reader.answer(question.prompt, max_new_tokens=question.max_new_tokens, raw=question.raw)


def summary(rows: Iterable[Row], methods: Sequence[str]) -> list[Row]:
    """The mean by group and method, and per method the mean of the groups (no band: groups are not a sample).

    Raises ValueError if there is no row.
    """
    rows = [row for row in rows if row["method"] in methods]
    lines = summarise(rows, ("group", "method"), unit=lambda row: row["id"])
    lines.sort(key=lambda line: (line["group"], methods.index(line["method"])))
    for method in methods if len({line["group"] for line in lines}) > 1 else ():
        means = [line["accuracy"] for line in lines if line["method"] == method]
        mean = sum(means) / len(means)
        lines.append({"group": "mean", "method": method, "accuracy": mean, "low": mean, "high": mean, "n": len(means)})
    return lines


def data_rows(source: str, fields: dict[str, Any], check: Check | None = None, **hub: Any) -> Rows:
    """Rows of a .jsonl, .json (a list) or .parquet file, or of a dataset of the hub (`hub`: load_dataset's arguments).

    A row without the fields is reported by its line or number. Raises ValueError if there is no usable row.
    """
    path = Path(source)
    if path.suffix == ".jsonl":
        return read_rows(path, fields, check)
    if path.is_file() and path.suffix == ".json":
        text, content = read_json(path)
        if not isinstance(content, list):
            raise ValueError(f"{path} is no list of rows; fetch it again, or name a .jsonl file.")
        rows: Any = ((f"{path.name}:{line}: entry {number}", row) for number, (line, row) in
                     enumerate(entries(text), 1))  # fmt: skip
    else:
        rows = ((f"{source}: row {number}", row) for number, row in enumerate(_from_datasets(path, source, hub), 1))
    found = Rows([])
    for place, row in rows:
        wrong = missing(row, fields)
        problem = wrong or (check(row) if check else None)
        found.problems.append(f"{place}: {problem}") if problem else found.rows.append(dict(row))
    if not found.rows:
        raise ValueError(f"There is no usable row in {source}; {(found.problems or ['it is empty'])[0]}.")
    return found


def _from_datasets(path: Path, source: str, hub: dict[str, Any]) -> Any:
    from datasets import load_dataset  # seconds of import, needed only for the hub and for parquet

    try:
        if path.suffix == ".parquet":
            return load_dataset("parquet", data_files=str(path), split="train")
        return load_dataset(source, **hub)
    except Exception as error:
        raise ValueError(
            f"There is no data {source!r}: no .jsonl, .json or .parquet file, and not to be had from the hub ({error})."
        ) from error

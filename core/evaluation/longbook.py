"""Questions about whole books: InfiniteBench's longbook_qa_eng, and EventQA (which event comes next?) of any novel."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .examples import Example, Question, data_rows

PAST, CHOICES = 5, 6
"""EventQA as in the paper: after 5 past events, one of 6 is next."""


def load_books(source: str, num: int | None) -> tuple[list[Example], list[str]]:
    """Rows {id, context, input, answer} of InfiniteBench; questions about one book share one memory."""
    fields = {"context": str, "input": str, "answer": (list, str)}
    found = data_rows(source, fields, split="longbook_qa_eng")
    books: dict[str, list[dict[str, Any]]] = {}
    for row in found.rows[:num]:
        books.setdefault(row["context"], []).append(row)
    examples = []
    for number, (text, rows) in enumerate(books.items()):
        answers = [tuple(row["answer"]) if isinstance(row["answer"], list) else (row["answer"],) for row in rows]
        questions = [Question(row["input"], gold, "f1", 40) for row, gold in zip(rows, answers, strict=True)]
        examples.append(Example(f"book-{number}", "longbook_qa_eng", (text,), tuple(questions)))
    return examples, found.problems


def load_events(source: str, num: int | None) -> tuple[list[Example], list[str]]:
    """Rows {context, questions, answers} in MemoryAgentBench's form; `answers[i]` is a string or a list of strings."""

    def check(row: dict[str, Any]) -> str | None:
        return None if len(row["questions"]) == len(row["answers"]) else "not as many answers as questions"

    fields = {"context": str, "questions": list, "answers": list}
    found = data_rows(source, fields, check, split="Accurate_Retrieval")
    examples = []
    for number, row in enumerate(found.rows[:num]):
        golds = [tuple(gold) if isinstance(gold, list) else (str(gold),) for gold in row["answers"]]
        pairs = zip(row["questions"], golds, strict=True)
        questions = tuple(Question(question, gold, "recall", 40) for question, gold in pairs)
        group = str((row.get("metadata") or {}).get("source", "eventqa"))
        examples.append(Example(f"{group}-{number}", group, (row["context"],), questions))
    return examples, found.problems


def build_events(book: Path, events: Sequence[str], num: int, seed: int) -> Example:
    """Event questions from a novel and the list of its events in order: five past events, which of six comes next?

    The wrong choices are drawn from the book's other events. Raises ValueError for fewer than 11 events.
    """
    if len(events) < PAST + CHOICES:
        raise ValueError(f"{len(events)} events are too few; give at least {PAST + CHOICES}, in the book's order.")
    rng = random.Random(seed)
    questions = []
    for next in sorted(rng.sample(range(PAST, len(events)), min(num, len(events) - PAST))):
        past = "\n".join(f"{number}. {event}" for number, event in enumerate(events[next - PAST : next], 1))
        others = [event for place, event in enumerate(events) if not next - PAST <= place <= next]
        choices = [*rng.sample(others, CHOICES - 1), events[next]]
        rng.shuffle(choices)
        listed = "\n".join(f"{chr(65 + number)}. {event}" for number, event in enumerate(choices))
        prompt = f"These events have happened:\n{past}\nWhich of these happens next?\n{listed}"
        questions.append(Question(prompt, (events[next],), "recall", 64))
    return Example(f"events-{book.stem}", book.stem, (book.read_text(encoding="utf-8"),), tuple(questions))

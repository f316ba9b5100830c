"""Questions about whole books: InfiniteBench's longbook_qa_eng, and EventQA (which event comes next?) of any novel."""

import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from .examples import Example, Question, data_rows
from .published import squad_facts

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


def build_book(
    squad: Path, tokenizer: PreTrainedTokenizerBase, length: int | None, num: int | None, seed: int
) -> tuple[list[Example], list[str]]:
    """longbook_qa's form from a SQuAD file: its paragraphs in order are one book of at most `length` tokens, written
    once, with questions about any of them. Not InfiniteBench's questions; no score of theirs compares."""
    facts, problems = squad_facts(squad)
    paragraphs, used = list(dict.fromkeys(fact.fact for fact in facts)), 0
    for count, ids in enumerate(tokenizer(paragraphs, add_special_tokens=False)["input_ids"]):
        used += len(ids) + 1
        if length is not None and used > length:
            paragraphs = paragraphs[: max(1, count)]
            break
    inside = [fact for fact in facts if fact.fact in set(paragraphs)]
    asked = random.Random(seed).sample(inside, min(num or len(inside), len(inside)))
    questions = tuple(Question(fact.question, (fact.answer,), "f1", 40) for fact in asked)
    return [Example("paragraphs", f"paragraphs {length or used}", ("\n".join(paragraphs),), questions)], problems


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


def beginning(book: Path, tokenizer: PreTrainedTokenizerBase, length: int | None) -> str:
    """A book, or its first `length` tokens. Raises ValueError if it cannot be read."""
    if not book.is_file():
        raise ValueError(f"There is no book {book}; name a .txt file.")
    text = book.read_text(encoding="utf-8", errors="replace")
    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"] if length else []
    return str(tokenizer.decode(ids[:length])) if length and len(ids) > length else text


def find_events(text: str, num: int = 200) -> list[str]:
    """Up to `num` events of a novel in its order, where nobody has listed them: from every `num`-th of the text the
    first sentence of 6 to 14 words that is told, not spoken, and names somebody.

    The paper lets a language model list the events; what stands here is cruder, and the same on every machine.
    """
    sentences = [" ".join(piece.split()) for piece in SENTENCE.split(text)]
    size, found = max(1, len(sentences) // num), []
    for start in range(0, len(sentences), size):
        plain = filter(EVENT.fullmatch, sentences[start : start + size])
        event = next((one for one in plain if 6 <= len(one.split()) <= 14), None)
        if event and event not in found:
            found.append(event)
    return found[:num]


SENTENCE = re.compile(r"(?<=[.!?;])(?<!Mr\.)(?<!Mrs\.)(?<!Dr\.)(?<!St\.)\s+|\n\s*\n")
EVENT = re.compile(r"[A-Z](?!.*\bI\b)[^\"“”?!;:—]* [A-Z][a-z]+[^\"“”?!;:—]*\.")
"""A plain sentence with a name after its first word."""


def build_events(name: str, text: str, events: Sequence[str], num: int, seed: int) -> Example:
    """Event questions from a novel's text and the list of its events in order: five past events, which of six is next?

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
    return Example(f"events-{name}", name, (text,), tuple(questions))

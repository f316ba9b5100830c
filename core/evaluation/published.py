"""The published forms of the retention data: SQuAD v2, simplified NaturalQuestions, and the authors' processed files.

As in the authors' evaluation: answerable questions in file order, the first listed answer, and only answers of few
words (at most 3 for SQuAD, 4 for NaturalQuestions; they count tokens of their tokenizer, we count words).
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..world import Fact

SQUAD_WORDS, QUESTIONS_WORDS = 3, 4


def squad_facts(path: Path) -> tuple[list[Fact], list[str]]:
    """Facts of a SQuAD file, or of a list of {context, question, answer}; with what was malformed, and where.

    Raises ValueError if it is neither, or holds none.
    """
    text, content = read_json(path)
    facts, problems = _processed(text, path.name) if isinstance(content, list) else _squad(text, content, path.name)
    if not facts:
        raise ValueError(f"There is no usable question in {path}; {(problems or ['it is empty'])[0]}.")
    return facts, problems


def _processed(text: str, name: str) -> tuple[list[Fact], list[str]]:
    facts, problems = [], []
    for number, (line, row) in enumerate(entries(text), 1):
        try:
            facts.append(_checked(row["context"], row["question"], row["answer"]))
        except (KeyError, TypeError, AttributeError) as error:
            problems.append(f"{name}:{line}: entry {number}: no context, question and answer ({error!r})")
    return facts, problems


def _squad(text: str, content: Any, name: str) -> tuple[list[Fact], list[str]]:
    """Published SQuAD files are one line: the way to a question tells more than its line does."""
    facts, problems = [], []

    def parts(parent: Any, field: str, way: str) -> Iterator[tuple[Any, str]]:
        children = parent.get(field) if isinstance(parent, dict) else None
        if not isinstance(children, list):
            problems.append(f"{name}:{_line(text, parent)}: {way or 'the file'} has no list {field!r}")
            return
        for number, child in enumerate(children):
            yield child, f"{way}.{field}[{number}]".lstrip(".")

    for article, a in parts(content, "data", ""):
        for paragraph, p in parts(article, "paragraphs", a):
            for question, q in parts(paragraph, "qas", p):
                try:
                    if question.get("is_impossible"):
                        continue
                    fact = _checked(paragraph["context"], question["question"], question["answers"][0]["text"])
                    if len(fact.answer.split()) <= SQUAD_WORDS:
                        facts.append(fact)
                except (KeyError, IndexError, TypeError, AttributeError) as error:
                    told = f" (question {question['id']})" if isinstance(question, dict) and "id" in question else ""
                    problems.append(f"{name}:{_line(text, question)}: {q}{told}: incomplete ({error!r})")
    return facts, problems


def _line(text: str, part: Any) -> int:
    """The line on which a part of a JSON text with an id or a title of its own stands; 1 where it has none."""
    named = next((part[name] for name in ("id", "title") if name in part), None) if isinstance(part, dict) else None
    return text.count("\n", 0, max(0, text.find(json.dumps(named, ensure_ascii=False)))) + 1 if named else 1


def entries(text: str) -> Iterator[tuple[int, Any]]:
    """The entries of a JSON list, each with the line on which it begins."""
    decoder, place, line, seen = json.JSONDecoder(), text.index("[") + 1, 1, 0
    while (found := re.compile(r"[\s,]*").match(text, place)) and text[found.end()] != "]":
        line, seen = line + text.count("\n", seen, found.end()), found.end()
        entry, place = decoder.raw_decode(text, found.end())
        yield line, entry


def to_fact(row: dict[str, Any]) -> Fact | None:
    """A line of ours (fact, question, answer) or of simplified NaturalQuestions; None if it is neither or too long.

    NaturalQuestions: the first annotation's long answer, without HTML tokens, and its first short answer.
    """
    try:
        if "fact" in row:
            return _checked(row["fact"], row["question"], row["answer"])
        annotation = row["annotations"][0]
        tokens = row["document_tokens"]
        short = annotation["short_answers"][0]
        context, answer = _words(tokens, annotation["long_answer"]), _words(tokens, short)
        return _checked(context, row["question_text"] + "?", answer) if len(answer.split()) <= QUESTIONS_WORDS else None
    except (KeyError, IndexError, TypeError, AttributeError):
        return None


def _words(tokens: list[dict[str, Any]], span: dict[str, int]) -> str:
    inside = tokens[span["start_token"] : span["end_token"]]
    return " ".join(token["token"] for token in inside if not token["html_token"])


def _checked(fact: str, question: str, answer: str) -> Fact:
    if not (fact.strip() and question.strip() and answer.strip()):
        raise KeyError("an empty text")
    return Fact(fact, question, answer)


def json_text(path: Path) -> str:
    """The texts of a .json of distractors: a list of texts, or the paragraphs of a SQuAD file."""
    _, content = read_json(path)
    if isinstance(content, list):
        return "\n".join(text for text in content if isinstance(text, str))
    try:
        return "\n".join(part["context"] for article in content["data"] for part in article["paragraphs"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is neither a list of texts nor in SQuAD's form ({error!r}); name another.") from error


def read_json(path: Path) -> tuple[str, Any]:
    """A file's text and what it says. Raises ValueError if there is no such file, or it is not JSON."""
    if not path.is_file():
        raise ValueError(f"There is no file {path}; name a .json file.")
    text = path.read_text(encoding="utf-8")
    try:
        return text, json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); fetch it again.") from error

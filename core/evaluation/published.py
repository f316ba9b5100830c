"""The published forms of the retention data: SQuAD v2, simplified NaturalQuestions, and the authors' processed files.

As in the authors' evaluation: answerable questions in file order, the first listed answer, and only answers of few
words (at most 3 for SQuAD, 4 for NaturalQuestions; they count tokens of their tokenizer, we count words).
"""

import json
from pathlib import Path
from typing import Any

from ..world import Fact

SQUAD_WORDS, QUESTIONS_WORDS = 3, 4


def squad_facts(path: Path) -> tuple[list[Fact], list[str]]:
    """Facts of a SQuAD file, or of a list of {context, question, answer}; with what was malformed.

    Raises ValueError if it is neither, or holds none.
    """
    content = _json(path)
    facts, problems = _processed(content, path.name) if isinstance(content, list) else _squad(content, path.name)
    if not facts:
        raise ValueError(f"There is no usable question in {path}; {(problems or ['it is empty'])[0]}.")
    return facts, problems


def _processed(content: list[Any], name: str) -> tuple[list[Fact], list[str]]:
    facts, problems = [], []
    for number, row in enumerate(content, 1):
        try:
            facts.append(_checked(row["context"], row["question"], row["answer"]))
        except (KeyError, TypeError, AttributeError) as error:
            problems.append(f"{name}:{number}: no context, question and answer ({error!r})")
    return facts, problems


def _squad(content: dict[str, Any], name: str) -> tuple[list[Fact], list[str]]:
    facts, problems = [], []
    for article in content.get("data", []):
        for paragraph in article.get("paragraphs", []):
            for question in paragraph.get("qas", []):
                try:
                    if question.get("is_impossible"):
                        continue
                    fact = _checked(paragraph["context"], question["question"], question["answers"][0]["text"])
                    if len(fact.answer.split()) <= SQUAD_WORDS:
                        facts.append(fact)
                except (KeyError, IndexError, TypeError, AttributeError) as error:
                    problems.append(f"{name}: question {question.get('id', '?')}: incomplete ({error!r})")
    return facts, problems


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
    content = _json(path)
    if isinstance(content, list):
        return "\n".join(text for text in content if isinstance(text, str))
    paragraphs = [part["context"] for article in content.get("data", []) for part in article.get("paragraphs", [])]
    return "\n".join(paragraphs)


def _json(path: Path) -> Any:
    if not path.is_file():
        raise ValueError(f"There is no file {path}; name a .json file.")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); fetch it again.") from error

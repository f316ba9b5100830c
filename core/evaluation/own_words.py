"""Facts in a person's own words, told to a reader as a user would: one or several texts, some other text, a question.

Rows are {fact, question, answer} or {facts, question, answer, kind, outdated}: several texts in order; `outdated`, what
a later text has replaced, must not be in the answer.
"""

import random
from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from .examples import Example, Question
from .texts import read_rows


def load(
    source: str, tokenizer: PreTrainedTokenizerBase, stream: Sequence[int], lengths: Sequence[int], num: int | None,
    seed: int,
) -> tuple[list[Example], list[str]]:  # fmt: skip
    """Every row at every length: so many tokens of the distractors `stream`, from a random place, follow its facts."""
    found = read_rows(source, {"question": str, "answer": str}, _check)
    examples = []
    for length in lengths:
        draw = random.Random(f"{seed} {length}")
        for number, row in enumerate(found.rows[:num]):
            texts = tuple(row["facts"]) if "facts" in row else (row["fact"],)
            start = draw.randrange(len(stream))
            after = [stream[(start + place) % len(stream)] for place in range(length)]
            texts += (str(tokenizer.decode(after)),) if after else ()
            outdated = (row["outdated"],) if row.get("outdated") else ()
            question = Question(row["question"], (row["answer"],), "current", 16, labels=outdated)
            examples.append(Example(f"{length}-{number}", f"{row.get('kind', 'fact')} {length}", texts, (question,)))
    return examples, found.problems


def _check(row: dict[str, Any]) -> str | None:
    facts = row.get("facts", [row.get("fact")])
    if not isinstance(facts, list) or not facts or not all(isinstance(fact, str) and fact.strip() for fact in facts):
        return "neither 'fact' nor a list of 'facts'"
    return None

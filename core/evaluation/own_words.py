"""Facts in a person's own words, told to a reader as a user would: one or several texts, some other text, a question.

Rows are {fact, question, answer} or {facts, question, answer, kind, outdated}: several texts in order; `outdated`, what
a later text has replaced, must not be in the answer. "updates:SEED" instead of a file: generated statements that a
later one contradicts; "sentences:SEED": the sentences by hand that mini has practised, their slots filled anew.
A hit ("current") forgives an answer that is too long; F1 and exact match, as SQuAD has them, do not.
"""

import random
from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from ..world import World
from ..world.everyday import draw_everyday
from .examples import Example, Question
from .texts import Rows, read_rows, seed_of

UPDATES, SENTENCES = "updates:", "sentences:"
SCORES = ("current", "f1", "exact")
"""What `metric` may be, names of `examples.METRICS`."""


def load(
    source: str, tokenizer: PreTrainedTokenizerBase, stream: Sequence[int], lengths: Sequence[int], num: int | None,
    seed: int, metric: str = SCORES[0],
) -> tuple[list[Example], list[str]]:  # fmt: skip
    """Every row at every length: so many tokens of the distractors `stream`, from a random place, follow its facts."""
    if source.startswith(UPDATES):
        found = Rows(generated_updates(seed_of(source, UPDATES), num or 100))
    elif source.startswith(SENTENCES):
        found = Rows(practised_sentences(seed_of(source, SENTENCES), num or 100))
    else:
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
            question = Question(row["question"], (row["answer"],), metric, 16, labels=outdated)
            examples.append(Example(f"{length}-{number}", f"{row.get('kind', 'fact')} {length}", texts, (question,)))
    return examples, found.problems


def generated_updates(seed: int, num: int) -> list[dict[str, Any]]:
    """Rows of two statements about one subject, the second with another value, of which the first is no part."""
    world, rows = World(random.Random(seed)), []
    while len(rows) < num:
        old, new = world.contradiction()
        if old.answer not in new.answer:
            told = {"facts": [old.fact, new.fact], "question": new.question, "answer": new.answer}
            rows.append(told | {"outdated": old.answer, "kind": "generated update"})
    return rows


def practised_sentences(seed: int, num: int) -> list[dict[str, Any]]:
    """Rows of one sentence by hand, and as many of two: a change, or a pair that only together answers."""
    world, rows = World(random.Random(seed)), []
    for number in range(num):
        one = draw_everyday(world, two=number % 2 == 1)
        kind = "sentence" if not one.earlier else "change" if one.outdated else "pair"
        question, answer = world.rng.choice(one.asked)
        texts = [text for text in (one.earlier, one.text) if text]
        rows.append({"facts": texts, "question": question, "answer": answer, "kind": f"practised {kind}"})
    return rows


def _check(row: dict[str, Any]) -> str | None:
    facts = row.get("facts", [row.get("fact")])
    if not isinstance(facts, list) or not facts or not all(isinstance(fact, str) and fact.strip() for fact in facts):
        return "neither 'fact' nor a list of 'facts'"
    return None

"""Retention for any reader, one item after the other, through the protocol alone: `ingest`, `answer`, `reset`.

The slow way: right for the text baselines and for memories that cannot be replayed. Items, distractors and scores are
those of `core.evaluation.retention`. The oracle, the ceiling of a retention curve, is asked here for any model: the
weights read the fact's own text and nothing else, as a plain context without a memory before it. (A fact as text
*behind* a memory is no ceiling: M+ is never trained on that, and the mini answers 0.5 % of it, 98 % of plain contexts.)
"""

import warnings
from collections.abc import Callable

from transformers import PreTrainedTokenizerBase

from ..reader import Reader
from .items import Item, Plan, num_before
from .metrics import exact_hit, first_line
from .records import Journal, Row
from .retention import Progress

ORACLE = "oracle"


def answer_singly(
    make: Callable[[int], Reader],
    tokenizer: PreTrainedTokenizerBase,
    chunks: list[list[int]],
    offset: int,
    item: Item,
    plan: Plan,
    seed: int,
    method: str,
    journal: Journal,
    progress: Progress,
) -> None:
    """Ask one item at every distance, unless the journal has it. `make(item seed)` gives a fresh, empty reader.

    chunks: the distractors as token ids; the item reads on from `offset`, and from the start again at the end.
    """

    def text(first: int, last: int) -> str:
        ids = [token for place in range(first, last) for token in chunks[(offset + place) % len(chunks)]]
        return str(tokenizer.decode(ids))

    keys = _keys(item, plan, seed, method)
    reader, read, rows = None, 0, []
    if all(key in journal for key in keys):
        progress(len(keys))
        return
    for distance in sorted(plan.distances):
        step = -(-distance // len(chunks[0]))
        if reader is None or plan.position != "begin":
            reader = make(seed * 1_000_003 + item.number)
            read = num_before(item, step, plan, seed)
            if read:
                reader.ingest(text(0, read))
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="The text has")  # short facts are repeated
                for fact in item.facts:
                    reader.ingest(fact.fact)
        if step > read:
            reader.ingest(text(read, step))
            read = step
        for which in item.asked:
            rows.append(_row(reader, item, which, method, plan, seed) | {"distance": distance})
            progress(1)
    journal.add(rows)


def answer_oracle(reader: Reader, item: Item, plan: Plan, seed: int, journal: Journal, progress: Progress) -> None:
    """Ask an item with the asked fact alone as context; once, for it is the same at every distance."""
    keys = _keys(item, plan, seed, ORACLE)
    if not all(key in journal for key in keys):
        for which in item.asked:
            reader.reset()
            reader.ingest(item.facts[which].fact)
            row = _row(reader, item, which, ORACLE, plan, seed)
            journal.add(row | {"distance": distance} for distance in plan.distances)
    progress(len(keys))


def _keys(item: Item, plan: Plan, seed: int, method: str) -> list[tuple]:
    names = [f"{item.number}.{which}" for which in item.asked]
    return [(seed, plan.live, name, method, distance) for distance in plan.distances for name in names]


def _row(reader: Reader, item: Item, which: int, method: str, plan: Plan, seed: int) -> Row:
    fact = item.facts[which]
    given = first_line(reader.answer(fact.question, max_new_tokens=plan.max_new_tokens).text)
    return {
        "seed": seed, "live": plan.live, "item": f"{item.number}.{which}", "method": method,
        "score": int(exact_hit(given, fact.answer)), "text": given, "answer": fact.answer,
    }  # fmt: skip

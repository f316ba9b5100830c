"""A whole retention run: every seed, every number of live facts, every method; then the table over distances."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from ..baselines import METHODS, make_reader
from ..model import MPlusForCausalLM
from ..world import Fact
from .items import Plan, make_items
from .metrics import exact_hit
from .plots import plot_curves
from .records import Journal, Over, Row, never, summarise
from .retention import KEYS, REPLAYED, Retention
from .singly import ORACLE, answer_oracle, answer_singly

CURVE_METHODS = tuple(dict.fromkeys((*REPLAYED, ORACLE, *METHODS)))


def can_replay(model: Any) -> bool:
    """Whether memories of this model follow the paper's rules from an empty Θ (`core.replay`)."""
    if not isinstance(model, MPlusForCausalLM):
        return False
    return model.config.rules == "paper" and model.initial_long_term is None and model.initially_written


def run_retention(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    facts: Sequence[Fact],
    stream: list[int],
    plan: Plan,
    live: Sequence[int],
    journal_path: Path,
    settings: Row,
    say: Callable[[str], None],
    shelf: dict[str, Retention] | None = None,
    over: Over = never,
) -> Row:
    """Answer everything the journal does not have, until the time is over; returns the summary, `{"rows": [...], ...}`.

    shelf: a place for what was written, so that the next run of the same model on the same text finds it there.

    Raises ValueError for a method that needs a replay on a model that has none, and for a plan that cannot be.
    """
    if plan.lead < 1:
        raise ValueError(f"lead is {plan.lead}; each item writes at least 1 chunk of its own behind its facts.")
    journal = Journal(journal_path, settings | plan.settings(), KEYS)
    fast = [method for method in plan.methods if method in REPLAYED and can_replay(model)]
    slow = [method for method in plan.methods if method not in fast]
    lost = [method for method in slow if method not in (ORACLE, *METHODS)]
    if lost:
        raise ValueError(f"{', '.join(lost)} needs memories under the paper's rules; leave it out for this checkpoint.")
    gap, shelf = 0.0, {} if shelf is None else shelf
    items = {(seed, count): make_items(facts, replace(plan, live=count), seed) for seed in plan.seeds for count in live}
    asked = sum(len(item.asked) for group in items.values() for item in group)
    with tqdm(total=asked * len(plan.distances) * len(plan.methods), unit="answer", mininterval=1.0) as bar:
        for (seed, count), group in items.items():
            part = replace(plan, live=count, methods=tuple(fast))
            run = Retention(model, tokenizer, stream, part, seed)
            if len(run.chunks) < max(run.steps.values()):
                held = len(run.chunks) * run.size
                say(f"The distractors hold {held:,} tokens, fewer than the longest distance: they go round.")
            if fast:

                def show(done: int, of: int) -> None:
                    if done % 16 == 1:
                        bar.set_postfix_str(f"writing distractors {done}/{of}")

                run.prepare(group, show, shelf.get("written"))
                shelf["written"] = run
                bar.set_postfix_str("")
                for batch in run.batches(group):
                    if not over():
                        run.answer(batch, journal, bar.update)
                gap = max(gap, run.gap)
            chunks = run.chunks.tolist() if slow else []
            for item in group if slow else ():
                if over():
                    break
                for method in slow:  # all methods the same items, wherever the time is over
                    if method == ORACLE:
                        answer_oracle(make_reader("full", model, tokenizer), item, part, seed, journal, bar.update)
                        continue
                    answer_singly(
                        lambda item_seed, method=method: make_reader(method, model, tokenizer, seed=item_seed),
                        tokenizer, chunks, run.offset(item), item, part, seed, method, journal, bar.update,
                    )  # fmt: skip
    return summary(journal, plan, live, model) | ({"gap": gap} if gap else {})


def summary(journal: Journal, plan: Plan, live: Sequence[int], model: Any) -> Row:
    """Accuracy with bands by method and distance, retrieval by distance and layer, and the survival θ should show."""
    rows = [row for row in journal if _wanted(row, plan, live)]
    lines = summarise(rows, ("method", "distance") if len(live) == 1 else ("live", "method", "distance"), unit=_unit)
    order = {name: index for index, name in enumerate(plan.methods)}
    lines.sort(key=lambda line: (line.get("live", 0), order[line["method"]], line["distance"]))
    content: Row = {"rows": lines}
    if isinstance(model, MPlusForCausalLM):
        config = model.config
        stays = 1 - config.block_size / config.pool_size
        steps = {distance: -(-distance // config.chunk_size) for distance in plan.distances}
        content["survival"] = [{"distance": distance, "share": stays**step} for distance, step in steps.items()]
        content["retrieval"] = retrieval(rows)
    if "question-only" in plan.methods:
        first = {"method": "question-only", "distance": plan.distances[0], "seed": plan.seeds[0]}
        content["chance"] = chance([row for row in rows if row.items() >= first.items()])
    return content


def _unit(row: Row) -> tuple:
    """The fact of a row, whatever the seed; where facts live together, their memory, since they share its drops."""
    number = row["item"].partition(".")[0]
    return (number,) if row["live"] == 1 else (row["seed"], number)


def chance(rows: Sequence[Row], samples: int = 200) -> float:
    """How often answers without any memory hit by luck: their mean score against the answers to other questions."""
    rng, texts, answers = random.Random(0), [row["text"] for row in rows], [row["answer"] for row in rows]
    shifts = rng.choices(range(1, len(rows)), k=samples) if len(rows) > 1 else []
    hits = [exact_hit(text, answers[(i + shift) % len(rows)]) for shift in shifts for i, text in enumerate(texts)]
    return sum(hits) / max(1, len(hits))


def retrieval(rows: Sequence[Row]) -> list[Row]:
    """By live facts and distance: mean recall of the true tokens per layer, its lift over chance, and BM25's recall."""
    groups: dict[tuple[int, int], list[Row]] = {}
    for row in rows:
        if "recall" in row and row["method"] == "mplus":
            groups.setdefault((row["live"], row["distance"]), []).append(row)
    lines = []
    for (live, distance), group in sorted(groups.items()):
        layers = list(zip(*(row["recall"] for row in group), strict=True))
        recall = [_mean([share for share in layer if share is not None]) for layer in layers]
        chance = _mean([row["chance"] for row in group])
        line = {"live": live, "distance": distance, "recall": recall, "chance": chance, "n": len(group)}
        line["lift"] = [share / chance if share is not None and chance else None for share in recall]
        if "bm25" in group[0]:
            line["bm25"] = _mean([row["bm25"] for row in group])
        lines.append(line)
    return lines


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _wanted(row: Row, plan: Plan, live: Sequence[int]) -> bool:
    return (
        row["method"] in plan.methods
        and row["distance"] in plan.distances
        and row["seed"] in plan.seeds
        and row["live"] in live
    )


def plot_retention(path: Path, content: Row, title: str) -> None:
    """Accuracy over distance, one curve a method, and the theory of forgetting as a dashed line."""

    def theory(axes: Any) -> None:
        points = content.get("survival", [])
        first = next((line["accuracy"] for line in content["rows"] if line["method"] == "memoryllm"), None)
        if first is not None and points:
            shares = [point["share"] * first for point in points]
            axes.plot([point["distance"] for point in points], shares, "k--", lw=0.8, label="(1 - K/N)^t")

    lines = [line | {"curve": curve_name(line)} for line in content["rows"]]
    plot_curves(path, lines, "distance", "accuracy", "curve", title, theory)


def curve_name(line: Row) -> str:
    return f"{line['method']}, {line['live']} live" if "live" in line else line["method"]

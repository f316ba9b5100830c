"""Methods side by side at one budget of bytes: the same texts and question, and retention by distance as a job."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from core.baselines import make_reader, token_bytes
from core.reader import MPlusReader
from core.snapkv import SnapKVReader
from core.world import World

from .models import Loaded
from .plots import method_name
from .stopwatch import answer_steps, peak_activations
from .turns import Stopped, Turns

ASKED = ("mplus", "memoryllm", "window", "snapkv")
DISTANCES = (0, 512, 2048, 4096)
NEED_LONG_TERM = ("mplus", "random-retriever")
"""The methods that Θ alone makes different from MemoryLLM."""


def possible(loaded: Loaded, methods: Sequence[str]) -> list[str]:
    """Those of the methods that this model has; with a Θ all of them."""
    return [method for method in methods if method not in NEED_LONG_TERM or loaded.model.config.num_retrieved]


def check(loaded: Loaded, methods: Sequence[str]) -> None:
    """Raises ValueError if one of the methods needs a Θ and the model, a MemoryLLM, has none."""
    there = possible(loaded, methods)
    if len(there) < len(methods):
        others = " and ".join(method_name(method) for method in methods if method not in there)
        raise ValueError(f"{loaded.name} has no Θ: {others} would be MemoryLLM; leave it out.")


def kept_tokens(reader: Any) -> int:
    """Tokens whose keys and values stand before a prompt."""
    if isinstance(reader, MPlusReader):
        return reader.memory.num_retrieved + reader.memory.config.pool_size
    limit = reader.kept if isinstance(reader, SnapKVReader) else reader.window
    return len(reader.ids) if limit is None else min(limit, len(reader.ids))


def side_by_side(
    loaded: Loaded,
    texts: Sequence[str],
    question: str,
    expected: str,
    methods: Sequence[str],
    budget: int | None,
    turns: Turns,
    stop: Callable[[], bool],
    sees_question: bool = False,
    max_new_tokens: int = 32,
) -> Iterator[dict]:
    """One row a method, as each ends: {method, answer, right, kept, bytes, activations, seconds, decoded} or {method,
    problem}. bytes are measured, activations an estimate; seconds by step, see `lab.stopwatch`, decoded: the tokens
    after the first.

    Every method is told all texts anew, so that writing is timed too. budget: bytes of keys and values; None: what M+
    takes. Raises `Stopped`.
    """
    for method in methods:
        options = {"sees_question": True} if sees_question and method == "snapkv" else {}
        with turns.take(stop=stop) as turn:
            try:
                check(loaded, [method])
                reader = make_reader(method, loaded.model, loaded.tokenizer, budget, **options)
                begin = time.perf_counter()
                away = 0.0
                for text in texts:
                    reader.ingest(text, _stopping(stop))
                    paused = time.perf_counter()
                    turn.pass_on()
                    away += time.perf_counter() - paused
                wrote = time.perf_counter() - begin - away
                answer, steps = answer_steps(reader, question, max_new_tokens, stop)
            except ValueError as problem:
                yield {"method": method, "problem": str(problem)}
                continue
        if stop():
            raise Stopped
        held = dict(answer.num_bytes)
        if options:  # this cache was made for the question and let go after it
            held["cache"] = kept_tokens(reader) * token_bytes(loaded.model)
        yield {
            "method": method + (" (sees the question)" if options else ""),
            "answer": answer.text,
            "right": expected.lower() in answer.text.lower() if expected.strip() else None,
            "kept": kept_tokens(reader),
            "bytes": held,
            "activations": peak_activations(reader, kept_tokens(reader)),
            "seconds": {"write": wrote, **steps},
            "decoded": len(answer.tokens) - 1,
        }


def _stopping(stop: Callable[[], bool]) -> Callable[[int, int], None]:
    def check(done: int, total: int) -> None:
        if stop():
            raise Stopped

    return check


def retention_job(
    loaded: Loaded,
    methods: Sequence[str],
    items: int,
    distances: Sequence[int],
    seed: int,
    turns: Turns,
    stop: Callable[[], bool],
) -> Iterator[tuple[int, list[dict]]]:
    """Facts written, text written behind them, the fact asked for at every distance: (questions asked, rows so far).

    Distances are tokens; the text between is other invented facts. An answer is right if it holds the expected one.
    Raises ValueError for methods that need a Θ where the model has none.
    """
    check(loaded, methods)
    rows = {(m, d): {"method": m, "distance": d, "right": 0, "asked": 0} for m in methods for d in distances}
    asked = 0
    for item in range(items):
        rng = random.Random(f"{seed}-{item}")
        world = World(rng)
        fact = world.fact()
        filler = _filler(world, loaded.tokenizer, max(distances))
        for method in methods:
            with turns.take(stop=stop):  # making a reader switches the model's adapter, too
                reader = make_reader(method, loaded.model, loaded.tokenizer, seed=seed + item)
                reader.ingest(fact.fact)
            written = place = 0
            for distance in sorted(distances):
                while written < distance:
                    text, count = filler[place]
                    with turns.take(stop=stop):
                        reader.ingest(text, _stopping(stop))
                    place, written = place + 1, written + count
                with turns.take(stop=stop):
                    answer = reader.answer(fact.question, 16, stop=stop)
                if stop():
                    raise Stopped
                row = rows[method, distance]
                row["asked"] += 1
                row["right"] += fact.answer.lower() in answer.text.lower()
                asked += 1
                yield asked, list(rows.values())


def _filler(world: World, tokenizer: Any, tokens: int) -> list[tuple[str, int]]:
    """Texts of about 100 tokens each with their counts, `tokens` or more in all."""
    texts: list[tuple[str, int]] = []
    total = 0
    while total < tokens:
        text = ""
        count = 0
        while count < 100:
            text = f"{text} {world.fact().fact}".strip()
            count = len(tokenizer(text, add_special_tokens=False)["input_ids"])
        texts.append((text, count))
        total += count
    return texts

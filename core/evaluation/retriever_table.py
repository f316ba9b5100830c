"""All kinds of retrievers on the same memory: one frozen model, equal widths, equal time of training.

Facts and a long text are written into one memory. Each kind learns from other facts and other prose, on states made
once; then the measured facts are asked for, among all tokens of that memory. What a kind retrieves does not reach the
model: questions are read behind θ and K0 random tokens, so that all kinds search with the same states.
"""

import argparse
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ..arguments import count
from ..bm25 import bm25_index, bm25_scores
from ..fitting import by_clock, by_steps, learn
from ..lessons import Lessons
from ..model import MPlusForCausalLM
from ..objectives import decoder
from ..prompts import encode_question
from ..refit import closed_form, look, look_at_questions, word_codes
from ..retriever import Keys
from ..world import Fact
from . import curves
from .commands import Say, finish, journal_path, load_any, portable, report_problems, weights
from .metrics import bootstrap
from .records import Row, markdown_table
from .retriever_kinds import KINDS, RULES, Kind, fresh, last_only
from .retriever_memory import NEAREST, Search, Written, measure, write
from .texts import load_facts, load_stream

MINUTES = 4.0  # of training, for all kinds together
SHARES = {"tokens": "tokens, all layers", "best": "tokens, best layer", "block": f"block among {NEAREST}"}


class Comparison:
    """What all kinds have in common: the memory, the questions, and what is learned from. pace: of one layer."""

    def __init__(
        self, model: MPlusForCausalLM, lessons: Lessons, written: Written, prompts: list[list[int]], num_train: int,
        pace: Callable[[], Iterable[float]], seed: int,
    ):  # fmt: skip
        config, generator = model.config, torch.Generator().manual_seed(seed)
        self.model, self.written, self.pace, self.seed, self.asked = model, written, pace, seed, len(prompts)
        self.num_tokens = written.states.shape[1] * config.block_size
        self.chance = config.num_retrieved / self.num_tokens
        self.seen = look(model, lessons, generator, num_train)
        self.words = word_codes(model, lessons, self.seen)
        older, top = written.states.shape[1] - config.num_blocks, config.num_retrieved // config.block_size

        def around(rows: int) -> Tensor:
            found = torch.randint(older, (rows, top), generator=generator).sort(1).values
            numbers = torch.cat([found, older + torch.arange(config.num_blocks).expand(rows, -1)], dim=1)
            return written.states[:, numbers].flatten(2, 3).to(model.device)

        self.queries, self.real, _ = look_at_questions(model, prompts, around, 16)

    def layer(self, kind: Kind, layer: int) -> tuple[Search, int]:
        """Teach one layer; its search, and the steps that were made."""
        generator, reader, steps = torch.Generator().manual_seed(self.seed), decoder(self.model, layer), 0
        retriever, rule, real = reader.retriever, RULES.get(kind.rule, RULES[self.model.config.relevance]), self.real
        if kind.start != "shipped":
            retriever = fresh(self.model.config, kind, generator).to(self.model.device)
            view = self.seen.layer(self.model, layer)
            if kind.start == "words":
                closed_form(retriever, view, self.seen, 0, self.words)
            if kind.last:
                view, real = view._replace(asked=last_only(view.asked)), last_only(real)
            if kind.loss:
                steps = learn(retriever, view, 0, self.pace(), generator, kind.rule, kind.loss)
        with torch.no_grad():
            parts = self.written.states[layer].split(256)
            vectors = torch.cat([retriever.key(reader.input_layernorm(part.to(self.model.device))) for part in parts])
        blocks = torch.arange(len(vectors), device=vectors.device).repeat_interleave(vectors.shape[1])
        keys = Keys(vectors.flatten(0, 1), blocks)

        @torch.no_grad()
        def search(which: int) -> Tensor:
            return rule(retriever.query(self.queries[layer, which][real[which]]), keys)

        return search, steps

    def row(self, name: str, layers: Sequence[Search], steps: float = 0) -> Row:
        """Ask all questions of a kind's layers, and sum up."""
        found = measure(layers, self.written, self.asked, self.model.config.num_retrieved)
        best = int(found.tokens.mean(0).argmax())
        means = found.tokens.mean(1), found.tokens[:, best], found.blocks.mean(1)
        line: Row = {"retriever": name, "n": self.asked, "steps": round(steps), "seconds": round(found.seconds, 4)}
        for what, values in zip(SHARES, means, strict=True):
            low, high = bootstrap(values.tolist())
            line[what] = {"accuracy": values.mean().item(), "low": low, "high": high}
        line |= {"lift": line["tokens"]["accuracy"] / self.chance, "best_layer": best}
        return line | {"tokens_by_layer": [round(share, 4) for share in found.tokens.mean(0).tolist()]}

    def rows(self, facts: Sequence[Fact], say: Say) -> Iterator[Row]:
        """One row a kind; first those that no layer has a part in."""
        size, count = self.written.states.shape[2], self.written.states.shape[1]
        draw = torch.Generator().manual_seed(self.seed)
        yield self.row("random", [lambda which: torch.rand(count * size, generator=draw)])
        index = bm25_index(self.written.texts)
        words = partial(bm25_scores, index, num=count)
        yield self.row("BM25 on the texts", [lambda which: words(facts[which].question).repeat_interleave(size)])
        for kind in KINDS:
            layers, steps = zip(*(self.layer(kind, layer) for layer in range(len(self.queries))), strict=True)
            yield self.row(kind.name, layers, sum(steps) / len(steps))
            say(f"{kind.name}: done")
        yield self.row("shipped, layers decide together", [lambda which: together(layers, which)])


def together(layers: Iterable[Search], which: int) -> Tensor:
    """The mean over layers of their scores, standardised."""
    scores = torch.stack([search(which) for search in layers])
    return ((scores - scores.mean(1, keepdim=True)) / scores.std(1, keepdim=True)).mean(0)


def arguments(task: argparse.ArgumentParser) -> None:
    """What the command can be told beside what all tasks share; --minutes is the training of all kinds together."""
    task.add_argument("--facts", required=True, help="as in retention; all are written into one memory")
    task.add_argument("--distractors", required=True, help="as in retention; all of it is written behind the facts")
    task.add_argument("--num-facts", type=count, help="as in retention")
    task.add_argument("--asked", type=count, default=150, help="facts that are asked for, from the first on")
    task.add_argument("--data", nargs="*", default=[], help="other documents to learn from; or generated prose")
    task.add_argument("--num-train", type=count, default=768, help="generated facts to learn from")
    task.add_argument("--steps", type=count, help="the same steps for every kind instead of the same time")
    task.add_argument("--seed", type=int, default=0)


def retrievers(args: argparse.Namespace, say: Say, make: Callable[[Any, Any, list[str], int], Any]) -> str:
    """The command. make: lessons to learn from, of a model, its tokenizer, names of documents and a seed."""
    model, tokenizer = load_any(args.model, args.device, args.dtype)
    if not curves.can_replay(model) or not model.config.num_retrieved:
        raise ValueError(f"{args.model} has no retriever to compare with; choose an M+ under the paper's rules.")
    facts, problems = load_facts(args.facts, args.num_facts)
    report_problems(problems, say)
    written = write(model, tokenizer, facts, load_stream(args.distractors, tokenizer, 1))
    prompts = [encode_question(fact.question, tokenizer, model.config) for fact in facts[: args.asked]]
    taught = sum(bool(kind.loss) for kind in KINDS) * model.config.num_hidden_layers
    seconds = 60 * (MINUTES if args.minutes is None else args.minutes) / taught
    pace = partial(by_steps, args.steps) if args.steps else partial(by_clock, seconds)
    lessons = make(model, tokenizer, args.data, args.seed)
    compared = Comparison(model, lessons, written, prompts, args.num_train, pace, args.seed)
    rows = list(compared.rows(facts, say))
    told: Row = {
        "model": args.model, "facts": args.facts, "num_facts": len(facts), "distractors": args.distractors,
        "data": list(map(portable, args.data)), "weights": weights(args.model), "seed": args.seed,
        "seconds_a_layer": None if args.steps else round(seconds, 2), "memory_tokens": compared.num_tokens,
        "retrieved": model.config.num_retrieved, "chance": compared.chance, "skipped": len(problems),
    }  # fmt: skip
    journal_path(args)  # where the result goes; there is nothing to resume
    shown = finish(args, told | {"rows": rows}, table(rows))
    if args.plot:
        plot(args.plot, rows, f"Retrievers of {Path(args.model).name}, {compared.num_tokens:,} memory tokens")
    return shown


def table(rows: Sequence[Row]) -> str:
    """One line a kind: shares in percent with their bands, lift over chance, time of a question, steps of training."""
    lines = []
    for row in rows:
        shares = [percent(**row[what]) for what in SHARES]
        lines.append((row["retriever"], *shares, f"{row['lift']:.0f}x", f"{row['seconds']:.3f}", row["steps"] or ""))
    return markdown_table(("retriever", *SHARES.values(), "lift", "s/question", "steps"), lines)


def plot(path: str | os.PathLike, rows: Sequence[Row], title: str) -> None:
    """Bars of all kinds' shares with their bands, the first kind on top."""
    figure = Figure(figsize=(8, 8), layout="constrained")
    axes = figure.subplots()
    for number, (what, label) in enumerate(SHARES.items()):
        shares = [row[what]["accuracy"] for row in rows]
        below, above = ([abs(row[what][end] - row[what]["accuracy"]) for row in rows] for end in ("low", "high"))
        places = [place + 0.27 * (number - 1) for place in range(len(rows))]
        axes.barh(places, shares, 0.27, xerr=[below, above], label=label, error_kw={"elinewidth": 0.8})
    axes.set_yticks(range(len(rows)), [row["retriever"] for row in rows])
    axes.set(xlabel="share found", title=title)
    axes.invert_yaxis()
    axes.legend()
    figure.savefig(path, dpi=100)


def percent(accuracy: float, low: float, high: float) -> str:
    return f"{100 * accuracy:.1f} ({100 * low:.1f}-{100 * high:.1f})"

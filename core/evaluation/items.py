"""What a retention run asks: its plan, its items, and where in the other text an item's facts stand."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from ..world import Fact
from .records import Row

POSITIONS = ("begin", "end", "random")
"""begin: all other text follows the facts, and the distance is the age of the facts. end: all of it comes before them.
random: some before, some after, drawn for every item and distance."""


@dataclass(frozen=True)
class Plan:
    """distances: tokens between fact and question; rounded up to whole chunks. live: facts a memory holds at once, of
    which `asked` are asked for. position: where in the text of a distance the facts stand, one of `POSITIONS`. lead:
    chunks of its own each item writes around its facts. batch: items side by side.
    """

    distances: tuple[int, ...]
    methods: tuple[str, ...] = ("mplus", "memoryllm", "random-retriever", "question-only")
    seeds: tuple[int, ...] = (0, 1, 2)
    live: int = 1
    asked: int = 10
    position: str = "begin"
    lead: int = 4
    batch: int = 32
    max_new_tokens: int = 16

    def settings(self) -> Row:
        """What decides the answers, for the journal."""
        names = ("asked", "position", "lead", "batch", "max_new_tokens")
        return {name: getattr(self, name) for name in names} | {"longest": max(self.distances)}


@dataclass(frozen=True)
class Item:
    """A memory's beginning: its facts, written one after the other, and which of them are asked for."""

    number: int
    facts: tuple[Fact, ...]
    asked: tuple[int, ...]


def make_items(facts: Sequence[Fact], plan: Plan, seed: int) -> list[Item]:
    """One item a fact; with several live facts, memories of `live` neighbours in a shuffled list, `asked` of each."""
    if plan.live == 1:
        return [Item(number, (fact,), (0,)) for number, fact in enumerate(facts)]
    if plan.live > len(facts):
        raise ValueError(f"{plan.live} live facts are wanted, but there are {len(facts)}; give more facts.")
    rng, asked = random.Random(seed), min(plan.asked, plan.live)
    order = rng.sample(range(len(facts)), len(facts))
    groups = [order[start : start + plan.live] for start in range(0, len(order) - plan.live + 1, plan.live)]
    return [
        Item(number, tuple(facts[index] for index in group), tuple(sorted(rng.sample(range(plan.live), asked))))
        for number, group in enumerate(groups)
    ]


def num_before(item: Item, step: int, plan: Plan, seed: int) -> int:
    """How many of the `step` chunks of other text come before the item's facts."""
    if plan.position == "random":
        return random.Random(f"position {seed} {plan.live} {item.number} {step}").randint(0, step)
    return step if plan.position == "end" else 0

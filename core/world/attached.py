"""What people hang on a noun: the museum in Ludlow, a mug with a chipped handle, a dentist who keeps bees.

In most sentences by hand what is asked for is short, and a reader who learns from them alone stops too early. Here a
slot that is an answer gets such a tail, where what follows it allows one.
"""

# ruff: noqa: SIM905 - a list of words reads better as a text

import re
from typing import Any

ATTACHED = 0.15  # of the lines that allow it
FOLLOWS = re.compile(  # not a noun, which would belong to the slot itself: "a {color} door"
    r"[.,;:!?]|$| (?:and|but|or|because|since|so|as|when|while|after|before|until|if|that|which|who|where|in|on|at|to|"
    r"for|from|with|without|by|is|are|was|were|has|have|had|does|did|will|would|can|could|must|should|may)\b"
)
SOMEONE = frozenset("name person kin job".split())
NEVER = frozenset("number small digits code year date day month time price phone color".split())
OF_PEOPLE = (
    "from {town}", "from number {digits}", "with the {color} {object}", "from the {room}", "in {town}",
    "who mended the {object}", "who lost the {thing}", "from {firm}", "next door", "with the {color} hat",
)  # fmt: skip
OF_ALL = (
    "from {town}", "in {town}", "on {street}", "by the {room}", "next to the {object}", "below the {object}",
    "with the {color} {object}", "with a {thing}", "of {name}'s", "for the {room}", "that {name} told us about",
    "which the {job} had brought", "behind the {room}", "for {name}'s {kin}", "without the {object}", "full of {food}",
)  # fmt: skip


def allowed(text: str, answers: list[str], slot: re.Pattern[str]) -> list[str]:
    """Slots of a line, as "kind" or "kind2", that are whole answers and stand before no noun in its text.

    slot: the pattern of a slot, whose first two groups are its kind and its number.
    """
    whole = {match[1] + match[2]: match[1] for answer in answers if (match := slot.fullmatch(answer))}
    seen: dict[str, bool] = {}
    for match in slot.finditer(text):
        name = match[1] + match[2]
        seen[name] = seen.get(name, True) and bool(FOLLOWS.match(text, match.end()))
    return [name for name, kind in whole.items() if kind not in NEVER and seen.get(name)]


def tail(world: Any, kind: str) -> str:
    """A tail for a slot of that kind, its own slots not filled."""
    return world.pick(OF_PEOPLE if kind in SOMEONE else OF_ALL)

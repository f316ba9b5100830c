"""One line of a session's history: a memory, what it looked like step by step, and its last question."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from core.reader import Answer, MPlusReader

from .ablate import Ablation
from .views import Moment, Retrieval, look

KEPT_MOMENTS, KEPT_BYTES = 300, 2**28
"""How many steps a branch remembers at most, and how many bytes of them: a step holds a number for every row of Θ."""


def newest(moments: list[Moment]) -> list[Moment]:
    """The newest steps that are remembered, two at least."""
    held, first = 0, max(0, len(moments) - KEPT_MOMENTS)
    for place in range(len(moments) - 1, first - 1, -1):
        held += moments[place].num_bytes
        if held > KEPT_BYTES and place < len(moments) - 2:
            return moments[place + 1 :]
    return moments[first:]


@dataclass
class Branch:
    """kept: the files that hold the steps (`moments`), as (name, steps), oldest first; fresh: of the newest steps, how
    many are in no file yet. owed: what the last answer owes to Θ, once it has been looked at. notes: what a page last
    told of its work here, by kind; of "ask" only as long as there is no answer."""

    name: str
    reader: MPlusReader
    moments: list[Moment] = field(default_factory=list)
    kept: list[tuple[str, int]] = field(default_factory=list)
    fresh: int = 0
    last: Retrieval | None = None
    answer: Answer | None = None
    owed: Ablation | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def num_bytes(self) -> int:
        """Bytes that this branch alone holds: memory, buffer and steps."""
        held = self.reader.num_bytes
        return sum(held.values()) - held["weights"] + sum(moment.num_bytes for moment in self.moments)

    def remember(self, moments: Sequence[Moment]) -> None:
        self.moments = newest([*self.moments, *moments])
        self.fresh = min(len(self.moments), self.fresh + len(moments))

    def note(self, event: str, receipt: int = 0) -> None:
        """Remember the memory as it is now."""
        before = self.moments[-1] if self.moments else None
        self.remember([look(self.reader.memory, event, receipt, before)])

    def begin(self) -> None:
        """Start the history anew; the files of the old one are swept away once the new one is on the disk."""
        self.kept, self.moments, self.fresh = [], [], 0

    def forget_question(self) -> None:
        """The figures of a question hold for the memory it was asked of."""
        self.last = self.answer = self.owed = None
        self.notes.pop("ask", None)

    def fork(self, name: str) -> "Branch":
        """A branch that starts here; the files of steps are shared, as they never change."""
        return Branch(
            name, self.reader.fork(), list(self.moments), list(self.kept), self.fresh, self.last, self.answer, self.owed
        )

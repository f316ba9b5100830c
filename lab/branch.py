"""One line of a session's history: a memory, what it looked like step by step, and its last question."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from core.reader import Answer, MPlusReader

from .ablate import Ablation
from .views import Moment, Retrieval, look

KEPT_MOMENTS = 300


@dataclass
class Branch:
    """kept: the files that hold the steps (`moments`), as (name, steps), oldest first; fresh: of the newest steps, how
    many are in no file yet. owed: what the last answer owes to Θ, once it has been looked at."""

    name: str
    reader: MPlusReader
    moments: list[Moment] = field(default_factory=list)
    kept: list[tuple[str, int]] = field(default_factory=list)
    fresh: int = 0
    last: Retrieval | None = None
    answer: Answer | None = None
    owed: Ablation | None = None

    @property
    def num_bytes(self) -> int:
        """Bytes that this branch alone holds: memory, buffer and steps."""
        held = self.reader.num_bytes
        return sum(held.values()) - held["weights"] + sum(moment.num_bytes for moment in self.moments)

    def remember(self, moments: Sequence[Moment]) -> None:
        self.moments.extend(moments)
        self.fresh = min(KEPT_MOMENTS, self.fresh + len(moments))
        del self.moments[:-KEPT_MOMENTS]

    def note(self, event: str, receipt: int = 0) -> None:
        """Remember the memory as it is now."""
        before = self.moments[-1] if self.moments else None
        self.remember([look(self.reader.memory, event, receipt, before)])

    def forget_question(self) -> None:
        """The figures of a question hold for the memory it was asked of."""
        self.last = self.answer = self.owed = None

    def fork(self, name: str) -> "Branch":
        """A branch that starts here; the files of steps are shared, as they never change."""
        return Branch(
            name, self.reader.fork(), list(self.moments), list(self.kept), self.fresh, self.last, self.answer, self.owed
        )

"""One person's place in the lab: a model, branches of memory on it, what was set, done and stopped."""

import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from core.reader import MPlusReader
from core.reading import new_memory
from core.sources import Receipt

from .branch import Branch
from .models import Loaded
from .shelf import Shelf
from .turns import Turns

MAIN = "main"
KEPT_SAMPLES = 2000

Stop = Callable[[], bool]


def new_key() -> str:
    """The name of a session and of its folder, which nobody guesses."""
    return secrets.token_urlsafe(18)


@dataclass
class Choices:
    """What a person has set in single charts. preset: the measurement looked at; log_ages: ages on a log scale; bin:
    the column of the score map that is open (None: none)."""

    preset: str = ""
    log_ages: bool = False
    bin: int | None = None


class Sitting:
    """What a session is; what can be done in it is `lab.session.Session`."""

    def __init__(self, key: str, folder: Path, loaded: Loaded, turns: Turns):
        self.key, self.folder, self.turns = key, folder, turns
        self.lock = threading.RLock()
        self.used = time.time()
        self.done: dict[str, float] = {}  # what this person has really done, for the guided steps
        self.compared: list[dict] = []  # the rows of the last comparison
        self.choices = Choices()
        self._working, self._counting = 0, threading.Lock()
        self.held: deque[tuple[float, dict[str, int]]] = deque(maxlen=KEPT_SAMPLES)  # (when, bytes by part)
        self._halts = 0
        self._begin(loaded)

    def start(self, loaded: Loaded) -> None:
        """Begin anew on a model: in a new folder, as what was saved in the old one stays and can be restored."""
        self.halt()
        with self.lock:
            key = new_key() if self.shelf.saved else self.key
            self._begin(loaded)
            self.compared, self.choices.bin = [], None
            self.key, self.folder = key, self.folder.parent / key

    def _begin(self, loaded: Loaded) -> None:
        with self.turns.take():
            self.loaded = loaded
            self.branches = {MAIN: Branch(MAIN, self._reader())}
            self.current = MAIN
            self._note("start")

    def _reader(self) -> MPlusReader:
        levels = 8 if self.loaded.model.device.type == "cpu" else 1  # each holds a θ of its own on the device
        memory = new_memory(self.loaded.model, "smaller", undo_levels=levels)
        return MPlusReader(self.loaded.model, self.loaded.tokenizer, memory)

    # ── stopping ──
    def halt(self) -> None:
        """Stop whatever this person has running; see `halted`."""
        self._halts += 1

    def halted(self) -> Stop:
        """A function that says whether `halt` has been called since."""
        begun = self._halts
        return lambda: self._halts != begun

    # ── working ──
    @contextmanager
    def at_work(self) -> Iterator[None]:
        """As long as this lasts the session stays in memory: its Stop button has to find it."""
        with self._counting:
            self._working += 1
        try:
            yield
        finally:
            with self._counting:
                self._working -= 1
            self.used = time.time()

    @property
    def busy(self) -> bool:
        return self._working > 0

    # ── looking ──
    @property
    def shelf(self) -> Shelf:
        return Shelf(self.folder)

    @property
    def branch(self) -> Branch:
        return self.branches[self.current]

    @property
    def reader(self) -> MPlusReader:
        return self.branch.reader

    @property
    def texts(self) -> list[Receipt]:
        return self.reader.memory.receipts

    @property
    def num_bytes(self) -> int:
        """Bytes that this session alone holds: memories, their buffers and the history."""
        return sum(branch.num_bytes for branch in list(self.branches.values()))

    def _note(self, event: str, receipt: int = 0) -> None:
        self.branch.note(event, receipt)
        self.weigh()

    def weigh(self) -> None:
        """Note how many bytes the memory takes now, for the chart of resources."""
        self.used = time.time()
        self.held.append((self.used, {part: n for part, n in self.reader.num_bytes.items() if part != "weights"}))

    def did(self, what: str) -> None:
        """Note what this person has done, for the guided steps."""
        self.done[what] = self.used = time.time()

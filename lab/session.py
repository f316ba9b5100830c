"""A person's memory in the lab: write, ask, undo, fork, save.

Whatever a call reports as written is on the disk by then: each branch is one memory file, written atomically.
"""

import json
import os
import shutil
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from core.reader import Answer, MPlusReader
from core.reading import new_memory
from core.sources import Receipt

from . import history
from .files import clean
from .models import Loaded
from .turns import Stopped, Turns
from .views import Moment, Retrieval, look, retrieval

MAIN = "main"
STEPS = "steps"
KEPT_MOMENTS = 300
KEPT_SAMPLES = 2000
LONGEST_QUESTION = 4000

OnWait = Callable[[int], None]
Stop = Callable[[], bool]


@dataclass
class Branch:
    """One line of a session's history: a memory, what it looked like step by step, and its last question.

    kept: the files that hold those steps, as (name, steps), oldest first; fresh: of the newest steps, how many are in
    no file yet.
    """

    name: str
    reader: MPlusReader
    moments: list[Moment] = field(default_factory=list)
    kept: list[tuple[str, int]] = field(default_factory=list)
    fresh: int = 0
    last: Retrieval | None = None
    answer: Answer | None = None


class Session:
    """One person's memories on one model. Every method waits for its turn and leaves all as it was if it fails."""

    def __init__(self, key: str, folder: Path, loaded: Loaded, turns: Turns):
        self.key, self.folder, self.turns = key, folder, turns
        self.lock = threading.RLock()
        self.used = time.time()
        self.done: dict[str, float] = {}  # what this person has really done, for the guided steps
        self.compared: list[dict] = []  # the rows of the last comparison
        self.preset = ""  # the measurement that is looked at
        self.log_ages = False  # whether ages are looked at on a log scale
        self.held: deque[tuple[float, dict[str, int]]] = deque(maxlen=KEPT_SAMPLES)  # (when, bytes by part)
        self._halts = 0
        self.start(loaded)

    def start(self, loaded: Loaded) -> None:
        """Begin anew on a model."""
        with self.lock, self.turns.take():
            self.loaded = loaded
            self.branches = {MAIN: Branch(MAIN, self._reader())}
            self.current = MAIN
            self._note("start")

    def _reader(self) -> MPlusReader:
        memory = new_memory(self.loaded.model, "smaller", undo_levels=8)
        return MPlusReader(self.loaded.model, self.loaded.tokenizer, memory)

    # ── stopping ──
    def halt(self) -> None:
        """Stop whatever this person has running; see `halted`."""
        self._halts += 1

    def halted(self) -> Stop:
        """A function that says whether `halt` has been called since."""
        begun = self._halts
        return lambda: self._halts != begun

    # ── looking ──
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
        total = 0
        for branch in list(self.branches.values()):
            held = branch.reader.num_bytes
            total += sum(held.values()) - held["weights"] + sum(moment.num_bytes for moment in branch.moments)
        return total

    def _note(self, event: str, receipt: int = 0) -> None:
        branch = self.branch
        before = branch.moments[-1] if branch.moments else None
        self._remember([look(branch.reader.memory, event, receipt, before)])
        self.weigh()

    def _remember(self, moments: list[Moment]) -> None:
        branch = self.branch
        branch.moments.extend(moments)
        branch.fresh = min(KEPT_MOMENTS, branch.fresh + len(moments))
        del branch.moments[:-KEPT_MOMENTS]

    def weigh(self) -> None:
        """Note how many bytes the memory takes now, for the chart of resources."""
        self.used = time.time()
        self.held.append((self.used, {part: n for part, n in self.reader.num_bytes.items() if part != "weights"}))

    # ── changing ──
    def write(
        self,
        text: str,
        on_chunk: Callable[[int, int], None] | None = None,
        on_wait: OnWait | None = None,
        stop: Stop | None = None,
    ) -> tuple[Receipt, str]:
        """Write a text: (receipt, warning or ""). On the disk when this returns. Raises `Stopped`."""
        text = clean(text)
        with self.lock, self.turns.take(on_wait, stop) as turn:
            earlier = (list(self.branch.moments), self.branch.fresh)
            notes: list[Moment] = []
            memory = self.reader.memory

            def after(done: int, total: int) -> None:
                before = notes[-1] if notes else self.branch.moments[-1]
                notes.append(look(memory, "write", memory.state.next_receipt - 1, before))
                if on_chunk:
                    on_chunk(done, total)
                if stop and stop():
                    raise Stopped
                if done < total:
                    turn.pass_on()

            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                receipt = self.reader.ingest(text, after)
            self._remember(notes)
            try:
                self.autosave()
            except BaseException:
                self.reader.undo()
                self.branch.moments, self.branch.fresh = earlier
                raise
            self.weigh()
            self.did("write")
            return receipt, "; ".join(str(w.message) for w in caught if issubclass(w.category, UserWarning))

    def ask(
        self,
        question: str,
        max_new_tokens: int = 32,
        on_text: Callable[[str], None] | None = None,
        on_wait: OnWait | None = None,
        stop: Stop | None = None,
    ) -> Answer:
        """Answer, and remember what was retrieved for the figures."""
        question = clean(question, "The question")
        if len(question) > LONGEST_QUESTION:
            raise ValueError(f"The question has {len(question)} characters; the limit is {LONGEST_QUESTION}.")
        with self.lock, self.turns.take(on_wait, stop):
            answer = self.reader.answer(question, max_new_tokens, on_text, stop)
            self.branch.answer = answer
            self.branch.last = retrieval(self.reader, question, answer.text, answer.found)
            self.weigh()
            self.did("ask")
            return answer

    def inspect(self, question: str) -> Retrieval:
        """What a question would find, without answering it and without keeping it."""
        question = clean(question, "The question")
        with self.lock, self.turns.take():
            found = tuple(view.found for view in self.reader.inspect(question))
            return retrieval(self.reader, question, "", found)

    def delete(self, receipt: int) -> int:
        """Take one text out of θ and Θ; how many tokens went, over all layers."""
        with self.lock:
            count = self.reader.delete(receipt)
            self._changed("delete", receipt)
            return count

    def undo(self) -> None:
        with self.lock:
            self.reader.undo()
            self._changed("undo")

    def reset(self) -> None:
        with self.lock:
            self.reader.reset()
            self._changed("reset")

    def _changed(self, event: str, receipt: int = 0) -> None:
        self.branch.last = self.branch.answer = None  # the figures of a question hold for the memory it was asked of
        self._note(event, receipt)
        self.autosave()
        self.did(event)

    def fork(self) -> str:
        """A new branch that starts here and becomes the current one; its name."""
        with self.lock:
            if len(self.branches) >= 8:
                raise ValueError("There are 8 branches; delete one before forking again.")
            number = 1 + max((int(n.split()[1]) for n in self.branches if n.startswith("branch ")), default=0)
            name, old = f"branch {number}", self.branch
            kept = list(old.kept)
            self.branches[name] = Branch(
                name, old.reader.fork(), list(old.moments), kept, old.fresh, old.last, old.answer
            )
            self.current = name
            self.autosave()
            self.did("fork")
            return name

    def switch(self, name: str) -> None:
        """Make another branch the current one. Raises ValueError if there is none of that name."""
        with self.lock:
            if name not in self.branches:
                raise ValueError(f"There is no branch {name!r}; choose one of {', '.join(self.branches)}.")
            self.current = name
            self._keep_index()

    # ── files ──
    def download(self, path: Path) -> Path:
        """The current memory as a file of one's own."""
        with self.lock:
            self.reader.save(path)
            self.did("save")
            return path

    def upload(self, path: str | Path) -> None:
        """Take over a saved memory. Raises ValueError, and changes nothing, if it is foreign or damaged."""
        with self.lock:
            try:
                self.reader.load(path)
            except ValueError as error:
                raise ValueError(str(error).replace(str(path), Path(path).name)) from error
            self._begin()
            self._changed("load")

    def autosave(self) -> None:
        """The current branch, its newest steps and the index, on the disk when this returns."""
        branch = self.branch
        self.reader.save(self.folder / f"{self.current}.safetensors")
        if branch.fresh:
            new = branch.moments[-branch.fresh :]
            branch.kept.append((history.save(self.folder / STEPS, new), len(new)))
            branch.fresh = 0
        while sum(count for _, count in branch.kept[1:]) >= KEPT_MOMENTS:
            self._drop(branch.kept.pop(0)[0])
        self._keep_index()

    def _begin(self) -> None:
        """Start the current branch's history anew."""
        branch = self.branch
        while branch.kept:
            self._drop(branch.kept.pop()[0])
        branch.moments.clear()
        branch.fresh = 0

    def _drop(self, name: str) -> None:
        """Remove a file of steps unless another branch needs it."""
        if not any(name == other for branch in self.branches.values() for other, _ in branch.kept):
            (self.folder / STEPS / name).unlink(missing_ok=True)

    def _keep_index(self) -> None:
        index = {
            "model": self.loaded.name,
            "branches": list(self.branches),
            "current": self.current,
            "steps": {name: branch.kept for name, branch in self.branches.items()},
            "done": self.done,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = self.folder / f".index.{os.getpid()}.part"
        with draft.open("w") as file:
            json.dump(index, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, self.folder / "index.json")

    def recover(self) -> int:
        """Become what was saved under this key; the number of texts."""
        for draft in (*self.folder.glob(".*.part"), *self.folder.glob(f"{STEPS}/.*.part")):
            draft.unlink(missing_ok=True)  # of a process that died while it was saving
        index = json.loads((self.folder / "index.json").read_text())
        for name in index["branches"]:
            if name not in self.branches:
                with self.turns.take():
                    self.branches[name] = Branch(name, self._reader())
            self.current = name
            if (self.folder / f"{name}.safetensors").is_file():
                self.reader.load(self.folder / f"{name}.safetensors")
            self._recall(index.get("steps", {}).get(name, []))
        self.current = index["current"]
        self.done = dict(index.get("done", {}))
        self._sweep()
        return len(self.texts)

    def _recall(self, kept: list) -> None:
        """The current branch's steps from their files; what the memory is now, if they do not end there."""
        branch = self.branch
        branch.kept = [(str(name), int(count)) for name, count in kept]
        found = [moment for name, _ in branch.kept for moment in history.load(self.folder / STEPS / Path(name).name)]
        branch.moments, branch.fresh = found[-KEPT_MOMENTS:], 0
        state = self.reader.memory.state
        pool = (self.loaded.model.config.num_hidden_layers, state.pool.shape[1])
        if not found or found[-1].clock != state.clock or found[-1].owner.shape != pool:
            branch.moments = [moment for moment in branch.moments if moment.owner.shape == pool]
            self._note("load")

    def _sweep(self) -> None:
        """Remove files of steps that no branch knows: the process died between writing them and the index."""
        known = {name for branch in self.branches.values() for name, _ in branch.kept}
        for path in (self.folder / STEPS).glob("*.npz"):
            if path.name not in known:
                path.unlink(missing_ok=True)

    def forget(self) -> None:
        """Remove everything, from the disk too."""
        with self.lock:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.start(self.loaded)

    def did(self, what: str) -> None:
        """Note what this person has done, for the guided steps."""
        self.done[what] = self.used = time.time()

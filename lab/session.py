"""A person's memory in the lab: write, ask, undo, fork, save.

Whatever a call reports as written is on the disk by then: each branch is one memory file, written atomically.
"""

import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from core.reader import Answer
from core.sources import Receipt

from .ablate import LONG_TERM, Ablation, ablate
from .branch import Branch, newest
from .files import clean
from .sitting import Choices, Sitting, Stop
from .turns import Stopped
from .views import Moment, Retrieval, look, retrieval

LONGEST_QUESTION = 4000

OnWait = Callable[[int], None]


class Session(Sitting):
    """One person's memories on one model. Every method waits for its turn and leaves all as it was if it fails."""

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
        with self._mine(on_wait, stop), self.turns.take(on_wait, stop) as turn:
            earlier = dict(self.branch.__dict__)
            notes: list[Moment] = []
            memory = self.reader.memory

            def after(done: int, total: int) -> None:
                before = notes[-1] if notes else self.branch.moments[-1]
                notes[:] = newest([*notes, look(memory, "write", memory.state.next_receipt - 1, before)])
                if on_chunk:
                    on_chunk(done, total)
                if stop and stop():
                    raise Stopped
                if done < total:
                    turn.pass_on()

            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                receipt = self.reader.ingest(text, after)
            self.branch.remember(notes)
            try:
                self.autosave()
            except BaseException:
                self.reader.undo()
                self.branch.__dict__.update(earlier)
                raise
            self.branch.owed = None  # an answer's debt is to the memory as it is
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
        """Answer, and remember what was retrieved for the figures. Raises `Stopped`: half an answer is none."""
        question = clean(question, "The question")
        if len(question) > LONGEST_QUESTION:
            raise ValueError(f"The question has {len(question)} characters; the limit is {LONGEST_QUESTION}.")
        with self._mine(on_wait, stop), self.turns.take(on_wait, stop):
            answer = self.reader.answer(question, max_new_tokens, on_text, stop)
            if stop and stop():
                raise Stopped
            found = retrieval(self.reader, question, answer.text, answer.found)
            self.branch.forget_question()
            self.branch.answer, self.branch.last, self.choices.bin = answer, found, None
            self.weigh()
            self.did("ask")
            return answer

    def inspect(self, question: str) -> Retrieval:
        """What a question would find, without answering it and without keeping it."""
        question = clean(question, "The question")
        with self.lock, self.turns.take():
            found = tuple(view.found for view in self.reader.inspect(question))
            return retrieval(self.reader, question, "", found)

    def take_away(self, kind: str, which: int = 0) -> Ablation:
        """The last answer's probabilities with one thing taken away, see `lab.ablate`. ValueError without an answer."""
        with self.lock:
            last, answer = self.branch.last, self.branch.answer
            if last is None or answer is None or not answer.tokens:
                raise ValueError("There is no answer yet; ask a question in the Lab first.")
            with self.turns.take():
                self.branch.owed = ablate(self.reader, last.question, answer.tokens, kind, which)
            return self.branch.owed

    def owed(self) -> Ablation | None:
        """What the last answer owes to what was last taken away, at first to Θ; None without an answer or a Θ."""
        with self.lock:
            branch = self.branch
            if branch.owed is None and branch.last and branch.last.layers and branch.answer and branch.answer.tokens:
                return self.take_away(LONG_TERM)
            return branch.owed

    def delete(self, receipt: int) -> int:
        """Take one text out of θ and Θ; how many tokens went, over all layers."""
        with self._changing("delete", receipt):
            return self.reader.delete(receipt)

    def undo(self) -> None:
        """Take back the last text, and its steps: its number will be another's."""
        with self._changing("undo"):
            last = self.texts[-1].id if self.texts else 0
            self.reader.undo()
            kept = [moment for moment in self.branch.moments if (moment.event, moment.receipt) != ("write", last)]
            self.branch.begin()
            self.branch.remember(kept)

    def reset(self) -> None:
        """Back to the checkpoint's memory; its history begins anew, as the numbers of its texts do. What is being
        written, and what was to follow, is not: it was meant for the memory that goes."""
        self.halt()
        with self._changing("reset"):
            self.reader.reset()
            self.branch.begin()

    @contextmanager
    def _mine(self, on_wait: OnWait | None, stop: Stop | None) -> Iterator[None]:
        """Have this session to oneself; whoever waits for it, as for a long text to be written, can leave."""
        while not self.lock.acquire(timeout=0.2):
            if stop and stop():
                raise Stopped
            if on_wait:
                on_wait(1)
        try:
            yield
        finally:
            self.lock.release()

    @contextmanager
    def _changing(self, event: str, receipt: int = 0) -> Iterator[None]:
        """Change the current memory, and keep it; what cannot be kept, as on a full disk, is not changed either."""
        with self.lock:
            branch = self.branch
            earlier = dict(branch.__dict__)
            try:
                with self.reader.memory.all_or_nothing():
                    yield
                    branch.forget_question()
                    self._note(event, receipt)
                    self.autosave()
            except BaseException:
                branch.__dict__.update(earlier)
                raise
            self.shelf.sweep(self.branches)
            self.did(event)

    def fork(self) -> str:
        """A new branch that starts here and becomes the current one; its name."""
        with self.lock:
            if len(self.branches) >= 8:
                raise ValueError("There are 8 branches already; go on in one of them, or save one to a file.")
            number = 1 + max((int(n.split()[1]) for n in self.branches if n.startswith("branch ")), default=0)
            name = f"branch {number}"
            with self._moving():
                self.branches[name] = self.branch.fork(name)
                self.current = name
                self.autosave()
            self.did("fork")
            return name

    def switch(self, name: str) -> None:
        """Make another branch the current one. Raises ValueError if there is none of that name."""
        with self.lock:
            if name not in self.branches:
                raise ValueError(f"There is no branch {name!r}; choose one of {', '.join(self.branches)}.")
            with self._moving():
                self.current = name
                self._keep_index()

    @contextmanager
    def _moving(self) -> Iterator[None]:
        """Go to another branch, and keep that; where it cannot be kept, one stays where one was."""
        branches, current = dict(self.branches), self.current
        try:
            yield
        except BaseException:
            self.branches, self.current = branches, current
            raise
        self.weigh()

    # ── files ──
    def download(self, path: Path) -> Path:
        """The current memory as a file of one's own."""
        with self.lock:
            self.reader.save(path)
            self.did("save")
            return path

    def upload(self, path: str | Path) -> None:
        """Take over a saved memory. Raises ValueError, and changes nothing, if it is foreign or damaged. What is being
        written is not, as in `reset`."""
        self.halt()
        with self._changing("load"):
            try:
                self.reader.load(path)
            except ValueError as error:
                raise ValueError(str(error).replace(str(path), Path(path).name)) from error
            self.branch.begin()

    def autosave(self) -> None:
        """The current branch, its newest steps and the index, on the disk when this returns."""
        self.shelf.keep(self.branch, self.branches)
        self._keep_index()

    def _keep_index(self) -> None:
        self.shelf.keep_index({"model": self.loaded.name, "current": self.current, "done": self.done}, self.branches)

    def recover(self) -> int:
        """Become what was saved under this key; the number of texts."""
        self.shelf.clear_drafts()
        index = self.shelf.index()
        for name in index["branches"]:
            if name not in self.branches:
                with self.turns.take():
                    self.branches[name] = Branch(name, self._reader())
            self.shelf.recall(self.branches[name], index.get("steps", {}).get(name, []))
        self.current = index["current"]
        self.done = dict(index.get("done", {}))
        self.weigh()
        self.shelf.sweep(self.branches)
        return len(self.texts)

    def forget(self) -> None:
        """Remove everything, from the disk too, and what is being written."""
        self.halt()
        with self.lock:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.done, self.choices = {}, Choices()
            self.held.clear()
            self.start(self.loaded)

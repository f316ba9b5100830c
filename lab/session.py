"""A person's memory in the lab: write, ask, undo, fork, save; and the registry that keeps everybody's apart.

Whatever a call reports as written is on the disk by then: each branch is one memory file, written atomically.
"""

import json
import os
import re
import secrets
import shutil
import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from core.reader import Answer, MPlusReader
from core.reading import new_memory
from core.sources import Receipt

from .files import clean
from .models import Loaded, Models
from .turns import Stopped, Turns
from .views import Moment, Retrieval, look, retrieval

MAIN = "main"
KEPT_MOMENTS = 300
LONGEST_QUESTION = 4000
KEY = re.compile(r"[A-Za-z0-9_-]{16,64}")

OnWait = Callable[[int], None]
Stop = Callable[[], bool]


@dataclass
class Branch:
    """One line of a session's history: a memory, what it looked like step by step, and its last question."""

    name: str
    reader: MPlusReader
    moments: list[Moment] = field(default_factory=list)
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
        branch.moments.append(look(branch.reader.memory, event, receipt, before))
        del branch.moments[:-KEPT_MOMENTS]
        self.used = time.time()

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
            kept = len(self.branch.moments)
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
            del self.branch.moments[: max(0, kept + len(notes) - KEPT_MOMENTS)]
            self.branch.moments.extend(notes[-KEPT_MOMENTS:])
            try:
                self.autosave()
            except BaseException:
                self.reader.undo()
                del self.branch.moments[-len(notes) :]
                raise
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
            self.branches[name] = Branch(name, old.reader.fork(), list(old.moments), old.last, old.answer)
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
            self.branch.moments.clear()
            self._changed("load")

    def autosave(self) -> None:
        """The current branch and the index, on the disk when this returns."""
        self.reader.save(self.folder / f"{self.current}.safetensors")
        self._keep_index()

    def _keep_index(self) -> None:
        index = {"model": self.loaded.name, "branches": list(self.branches), "current": self.current}
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = self.folder / f".index.{os.getpid()}.part"
        with draft.open("w") as file:
            json.dump(index, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, self.folder / "index.json")

    def recover(self) -> int:
        """Become what was saved under this key; the number of texts."""
        for draft in self.folder.glob(".*.part"):
            draft.unlink(missing_ok=True)  # of a process that died while it was saving
        index = json.loads((self.folder / "index.json").read_text())
        for name in index["branches"]:
            if name not in self.branches:
                with self.turns.take():
                    self.branches[name] = Branch(name, self._reader())
            self.current = name
            if (self.folder / f"{name}.safetensors").is_file():
                self.reader.load(self.folder / f"{name}.safetensors")
            self.branch.moments.clear()
            self._note("load")
        self.current = index["current"]
        return len(self.texts)

    def forget(self) -> None:
        """Remove everything, from the disk too."""
        with self.lock:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.start(self.loaded)

    def did(self, what: str) -> None:
        """Note what this person has done, for the guided steps."""
        self.done[what] = self.used = time.time()


class Registry:
    """Everybody's sessions, by the page's own id. Those not used for `idle` seconds, and the least recently used ones
    above `most` sessions or `most_bytes`, leave the memory; they stay on the disk and come back when they are needed.
    """

    def __init__(
        self,
        models: Models,
        folder: Path,
        most: int = 64,
        most_bytes: int = 4 * 2**30,
        idle: float = 1800.0,
        grace: float = 20.0,
    ):
        self.models, self.folder = models, folder
        self.most, self.most_bytes, self.idle, self.grace = most, most_bytes, idle, grace
        self.turns = Turns()
        self._live: OrderedDict[str, Session] = OrderedDict()
        self._keys: dict[str, str] = {}
        self._closing: dict[str, float] = {}
        self._opening = threading.Lock()
        self._lock = threading.Lock()
        self._reaper = threading.Thread(target=self._reap_forever, daemon=True)
        self._reaper.start()

    def get(self, page: str) -> Session:
        """The session of a page or an API client, made or brought back if need be."""
        with self._lock:
            self._closing.pop(page, None)
            if page in self._live:
                self._live.move_to_end(page)
                self._live[page].used = time.time()
                return self._live[page]
            key = self._keys.setdefault(page, secrets.token_urlsafe(18))
        return self._open(page, key)

    def _open(self, page: str, key: str) -> Session:
        with self._opening:
            with self._lock:
                if page in self._live:
                    return self._live[page]
            folder, saved = self.folder / key, self.saved(key)
            model = saved["model"] if saved else self.models.default
            session = Session(key, folder, self.models.get(model), self.turns)
            if saved:
                session.recover()
            with self._lock:
                self._live[page] = session
        self.reap()
        return session

    def saved(self, key: str) -> dict | None:
        """What is on the disk under a key: {"model", "branches", "current"}, or None."""
        if not KEY.fullmatch(key or ""):
            return None
        try:
            return json.loads((self.folder / key / "index.json").read_text())
        except (OSError, ValueError):
            return None

    def restore(self, page: str, key: str) -> Session:
        """Give a page the session saved under a key. Raises ValueError if there is none."""
        if not self.saved(key):
            raise ValueError("There is no saved session any more; write a text to begin a new one.")
        with self._lock:
            for other in [other for other, session in self._live.items() if session.key == key]:
                self._live[page] = self._live.pop(other)  # the tab was reloaded: its session is still in memory
                self._keys.pop(other, None)
                self._keys[page] = key
                return self._live[page]
            self._live.pop(page, None)
            self._keys[page] = key
        return self._open(page, key)

    def leave(self, page: str) -> None:
        """The tab was closed: its session leaves the memory after a short grace."""
        with self._lock:
            if page in self._live:
                self._closing[page] = time.time() + self.grace

    def reap(self) -> None:
        """Let go of what is closed, idle or too much. A session at work stays."""
        now = time.time()
        with self._lock:
            sizes = {page: session.num_bytes for page, session in self._live.items()}
            total = sum(sizes.values())
            for page, session in list(self._live.items()):
                closed = self._closing.get(page, now + 1) <= now
                over = len(self._live) > self.most or (total > self.most_bytes and len(self._live) > 1)
                idle = now - session.used > self.idle
                if (closed or over or idle) and session.lock.acquire(blocking=False):
                    session.lock.release()
                    del self._live[page]
                    self._closing.pop(page, None)
                    total -= sizes[page]
                    if closed and not self.saved(session.key):
                        self._keys.pop(page, None)
            for folder in self.folder.glob("*/index.json"):
                if now - folder.stat().st_mtime > 30 * 86400:
                    shutil.rmtree(folder.parent, ignore_errors=True)

    def _reap_forever(self) -> None:
        while True:
            time.sleep(5)
            self.reap()

    @contextmanager
    def use(self, page: str):
        """`get`, marked as used before and after."""
        session = self.get(page)
        try:
            yield session
        finally:
            session.used = time.time()

    @property
    def totals(self) -> dict[str, int]:
        """Sessions in memory and the bytes they hold."""
        with self._lock:
            return {"sessions": len(self._live), "bytes": sum(session.num_bytes for session in self._live.values())}

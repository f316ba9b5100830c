"""Everybody's sessions, kept apart: opened, brought back from the disk, let go of.

Which page is in which session is on the disk too: a page that outlives the server goes on in the session it shows.
"""

import json
import logging
import os
import re
import shutil
import tempfile
import threading
import time
import weakref
from collections import OrderedDict
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from .clock import every
from .models import Models
from .session import Session
from .sitting import new_key
from .turns import Turns

KEY = re.compile(r"[A-Za-z0-9_-]{16,64}")
PAGES = "pages"
KEPT_SECONDS, FETCHED_SECONDS = 30 * 86400, 3600
logger = logging.getLogger("lab")


class Registry:
    """Everybody's sessions, by the page's own id. Those not used for `idle` seconds, and the least recently used ones
    above `most` sessions or `most_bytes`, leave the memory; they stay on the disk and come back when they are needed.
    Pages that restore the same session share it: it is never twice in memory, and no page loses it to another.
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
        self.outgoing = Path(tempfile.mkdtemp(prefix="mplus-"))
        weakref.finalize(self, shutil.rmtree, self.outgoing, ignore_errors=True)  # also when Python ends
        self._live: OrderedDict[str, Session] = OrderedDict()
        self._keys: dict[str, str] = {}
        self._closing: dict[str, float] = {}
        self._opening = threading.Lock()
        self._lock = threading.Lock()
        every(5.0, self, Registry.reap)

    def get(self, page: str) -> Session:
        """The session of a page or an API client, made or brought back if need be."""
        with self._lock:
            self._closing.pop(page, None)
            if page in self._live:
                self._live.move_to_end(page)
                session = self._live[page]
                session.used = time.time()
                self._point(page, session.key)  # it has another one since a model was loaded
                return session
            key = self._keys.get(page) or self._pointed(page) or new_key()
            self._point(page, key)
        try:
            return self._open(page, key)
        except Exception:
            if not self.saved(key):
                raise
            # What is saved stays and can be asked for again; the page has to go on.
            logger.exception("the session of a page cannot be opened; it begins a new one")
            with self._lock:
                self._point(page, key := new_key())
            return self._open(page, key)

    def _pointer(self, page: str) -> Path:
        return self.folder / PAGES / sha256(page.encode()).hexdigest()

    def _pointed(self, page: str) -> str | None:
        """The session that a page was in before this process began."""
        try:
            key = self._pointer(page).read_text()
        except (OSError, ValueError):
            return None
        return key if KEY.fullmatch(key) else None

    def _point(self, page: str, key: str) -> None:
        """Note which session a page is in."""
        if self._keys.get(page) != key:
            self._keys[page] = key
            with suppress(OSError):  # a full disk costs the way back after a kill, not the page
                self._pointer(page).parent.mkdir(parents=True, exist_ok=True)
                self._pointer(page).write_text(key)

    def _open(self, page: str, key: str) -> Session:
        saved = self.saved(key)
        loaded = self.models.get(saved["model"] if saved else self.models.default)  # may take long: nobody waits for it
        with self._opening:
            with self._lock:
                for session in self._live.values():  # another page may be in it, or this one was before a reload
                    if session.key == key:
                        self._live[page] = session
                        self._point(page, key)
                        return session
            folder = self.folder / key
            session = Session(key, folder, loaded, self.turns)
            if saved:
                session.recover()
                with suppress(OSError):
                    os.utime(folder / "index.json")  # it is in use, and is kept for as long again
            with self._lock:
                self._live[page] = session
                self._point(page, key)
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
        """Give a page the session saved under a key. Raises ValueError if there is none, or it cannot be opened: then
        the page stays in the one it has. What it has running in that one is stopped, as its Stop button is gone; not if
        another page is in it."""
        if not self.saved(key):
            raise ValueError("There is no saved session any more; write a text to begin a new one.")
        left, session = self._live.get(page), self._open(page, key)
        with self._lock:
            if left and left not in self._live.values():
                left.halt()
        return session

    def leave(self, page: str) -> None:
        """The tab was closed: its session leaves the memory after a short grace."""
        with self._lock:
            if page in self._live:
                self._closing[page] = time.time() + self.grace

    def reap(self) -> None:
        """Let go of what is closed, idle or too much, and of old files. A session at work stays."""
        now = time.time()
        with self._lock:
            total = sum(session.num_bytes for session in set(self._live.values()))
            for page, session in list(self._live.items()):
                closed = self._closing.get(page, now + 1) <= now
                over = len(self._live) > self.most or (total > self.most_bytes and len(self._live) > 1)
                idle = now - session.used > self.idle
                if (closed or over or idle) and not session.busy and session.lock.acquire(blocking=False):
                    session.lock.release()
                    del self._live[page]
                    self._closing.pop(page, None)
                    total -= 0 if session in self._live.values() else session.num_bytes
                    if closed and not self.saved(session.key):
                        self._keys.pop(page, None)
                        self._pointer(page).unlink(missing_ok=True)
            used = {session.folder for session in self._live.values()}
            for index in self.folder.glob("*/index.json"):
                if index.parent not in used and _older(index, now - KEPT_SECONDS):
                    shutil.rmtree(index.parent, ignore_errors=True)
            for pointer in self.folder.glob(f"{PAGES}/*"):
                if _older(pointer, now - KEPT_SECONDS):
                    pointer.unlink(missing_ok=True)
            for folder in self.outgoing.glob("*/*"):
                if _older(folder, now - FETCHED_SECONDS):
                    shutil.rmtree(folder, ignore_errors=True)

    def parcel(self, session: Session) -> Path:
        """A new folder for a file that a person is about to fetch; it is gone an hour later, or with the session."""
        folder = self.outgoing / session.key
        folder.mkdir(exist_ok=True)
        return Path(tempfile.mkdtemp(dir=folder))

    def forget(self, session: Session) -> None:
        """Remove everything of a session, what was to be fetched as well."""
        shutil.rmtree(self.outgoing / session.key, ignore_errors=True)
        session.forget()

    @property
    def totals(self) -> dict[str, int]:
        """Sessions in memory and the bytes they hold."""
        with self._lock:
            live = set(self._live.values())
            return {"sessions": len(live), "bytes": sum(session.num_bytes for session in live)}


def _older(path: Path, moment: float) -> bool:
    try:
        return path.stat().st_mtime < moment
    except OSError:  # somebody else has removed it
        return False

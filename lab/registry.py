"""Everybody's sessions, kept apart: opened, brought back from the disk, let go of."""

import json
import re
import secrets
import shutil
import threading
import time
from collections import OrderedDict
from contextlib import contextmanager
from pathlib import Path

from .clock import every
from .models import Models
from .session import Session
from .turns import Turns

KEY = re.compile(r"[A-Za-z0-9_-]{16,64}")


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
        every(5.0, self, Registry.reap)

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

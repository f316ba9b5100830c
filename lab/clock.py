"""Something done again and again in the background, as long as its owner lives, and never while Python shuts down.

A daemon thread that is inside torch when the interpreter ends takes the whole process down with an abort; so at exit
the thread is told to stop and waited for.
"""

import threading
import weakref
from collections.abc import Callable
from typing import Any


def every(seconds: float, owner: Any, work: Callable[[Any], None]) -> None:
    """Call work(owner) every so many seconds until the owner is gone or Python ends; the owner is not kept alive."""
    ended = threading.Event()
    thread = threading.Thread(target=_run, args=(seconds, weakref.ref(owner), work, ended), daemon=True)
    thread.start()
    weakref.finalize(owner, _end, thread, ended)  # also at exit, before Python takes its threads away


def _run(seconds: float, owner: weakref.ref, work: Callable[[Any], None], ended: threading.Event) -> None:
    while not ended.wait(seconds):
        alive = owner()
        if alive is None:
            return
        work(alive)
        del alive


def _end(thread: threading.Thread, ended: threading.Event) -> None:
    ended.set()
    if thread is not threading.current_thread():  # which it is where the thread held the owner last
        thread.join()

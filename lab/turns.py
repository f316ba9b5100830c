"""Waiting fairly for the model, and following work that runs in a thread."""

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Stopped(Exception):
    """The person asked for it to stop; nothing has changed."""


class Turn:
    """One person's place in the queue. `pass_on` lets others go first between two pieces of long work."""

    def __init__(self, turns: "Turns", on_wait: Callable[[int], None] | None, stop: Callable[[], bool] | None):
        self.turns, self.on_wait, self.stop = turns, on_wait, stop

    def wait(self) -> None:
        """Until it is this turn; tells `on_wait` how many are ahead. Raises `Stopped` if `stop()` turns true."""
        with self.turns.condition:
            told = -1
            while self.turns.queue[0] is not self:
                if self.stop and self.stop():
                    raise Stopped
                ahead = self.turns.queue.index(self)
                if self.on_wait and ahead != told:
                    told = ahead
                    self.on_wait(ahead)
                self.turns.condition.wait(0.2)

    def pass_on(self) -> None:
        with self.turns.condition:
            if len(self.turns.queue) == 1:
                return
            self.turns.queue.rotate(-1)
            self.turns.condition.notify_all()
        self.wait()


class Turns:
    """First come, first served: one piece of model work at a time."""

    def __init__(self):
        self.condition = threading.Condition()
        self.queue: deque[Turn] = deque()

    @contextmanager
    def take(
        self, on_wait: Callable[[int], None] | None = None, stop: Callable[[], bool] | None = None
    ) -> Iterator[Turn]:
        turn = Turn(self, on_wait, stop)
        with self.condition:
            self.queue.append(turn)
        try:
            turn.wait()
            yield turn
        finally:
            with self.condition:
                self.queue.remove(turn)
                self.condition.notify_all()


def follow(
    work: Callable[[Callable[[Any], None], Callable[[], bool]], None], halted: Callable[[], bool] = lambda: False
) -> Iterator[Any]:
    """Run work(emit, stop) in a thread and yield what it emits, at once. Closing the iterator makes stop() true, as
    halted() does, and waits for the end; what work raises is raised here."""
    items: queue.Queue = queue.Queue()
    stopping = threading.Event()
    done = object()
    failure: list[BaseException] = []

    def run() -> None:
        try:
            work(items.put, lambda: stopping.is_set() or halted())
        except BaseException as error:
            failure.append(error)
        items.put(done)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        while (item := items.get()) is not done:
            yield item
    finally:
        stopping.set()
        thread.join()
    if failure:
        raise failure[0]

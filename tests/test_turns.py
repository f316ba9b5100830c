"""Taking turns, following a job, and threads that end with their owner."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lab.clock import every
from lab.turns import Stopped, Turns, follow


# ── turns ──
def test_turns_are_fair_and_tell_how_many_are_ahead():
    turns, order, waits = Turns(), [], []

    def person(name):
        with turns.take(waits.append):
            order.append(name)

    with turns.take() as first:
        threads = []
        for name in "abc":
            threads.append(threading.Thread(target=person, args=(name,)))
            threads[-1].start()
            while len(turns.queue) < 2 + "abc".index(name):
                time.sleep(0.001)
        first.pass_on()
        order.append("first again")
    for thread in threads:
        thread.join()
    assert order == ["a", "b", "c", "first again"] and max(waits) == 3


def test_a_person_who_waits_can_leave():
    turns = Turns()
    with turns.take(), pytest.raises(Stopped), turns.take(stop=lambda: True):
        pass
    assert not turns.queue


def test_follow_stops_its_thread_when_it_is_closed():
    ended = threading.Event()

    def work(emit, stop):
        while not stop():
            emit(1)
            time.sleep(0.001)
        ended.set()

    stream = follow(work)
    assert next(stream) == 1
    stream.close()
    assert ended.is_set()


def test_follow_hands_on_what_goes_wrong():
    def work(emit, stop):
        emit(1)
        raise ValueError("a reason")

    stream = follow(work)
    assert next(stream) == 1
    with pytest.raises(ValueError, match="a reason"):
        next(stream)


def test_what_is_done_again_and_again_ends_with_its_owner_and_with_python(tmp_path):
    class Owner:
        times = 0

    def work(owner):
        owner.times += 1

    before, owner = threading.active_count(), Owner()
    every(0.005, owner, work)
    deadline = time.time() + 30
    while owner.times < 3 and time.time() < deadline:
        time.sleep(0.005)
    assert owner.times >= 3
    del owner
    while threading.active_count() > before and time.time() < deadline:
        time.sleep(0.005)
    assert threading.active_count() == before
    # Tensors are taken and let go of all the time, so that a thread left alone would be inside torch at the end.
    program = (
        "import torch; from lab.clock import every\n"
        "class Owner: pass\n"
        "owners = [Owner() for _ in range(20)]; held = torch.zeros(2000)\n"
        "for owner in owners: every(0.0, owner, lambda owner: sum(row.nbytes for row in held))\n"
        "import time; time.sleep(0.3)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).parent.parent, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 0, ended.stderr

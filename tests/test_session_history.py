"""A session's steps are those of the memory that is there: after an undo, a reset, a switch, and when all is gone."""

import threading
import time

import pytest

from lab.turns import Stopped


def test_an_undone_text_leaves_no_steps(told, registry):
    """Its number goes to the next text, whose age and share would be told with the steps of both."""
    before = [moment.writes for moment in told.branch.moments]
    told.write("A text that is taken back and was never there.")
    told.undo()
    assert [moment.writes for moment in told.branch.moments] == [*before, before[-1]]
    receipt, _ = told.write("The text that has its number from now on.")
    mine = [moment for moment in told.branch.moments if moment.receipt == receipt.id]
    assert len(mine) == len(receipt.chunks) and mine[0].writes == before[-1] + 1
    writes = [moment.writes for moment in told.branch.moments]
    registry._live.clear()
    assert [moment.writes for moment in registry.restore("another page", told.key).branch.moments] == writes


def test_a_reset_begins_a_new_history(told):
    told.reset()
    assert [(moment.event, moment.writes) for moment in told.branch.moments] == [("reset", 0)]


def test_the_bytes_told_last_are_those_of_the_branch_one_is_in(told):
    def held() -> int:
        return sum(count for part, count in told.reader.num_bytes.items() if part != "weights")

    for step in (told.fork, told.reset, lambda: told.switch("main")):
        step()
        assert sum(told.held[-1][1].values()) == held()


def test_half_an_answer_is_none(told):
    answer, done = told.branch.answer, dict(told.done)
    with pytest.raises(Stopped):
        told.ask("Where does Ilse keep her spare key?", stop=lambda: True)
    assert told.branch.answer is answer and told.done == done


def test_who_waits_for_a_text_to_be_written_is_told_and_can_leave(told):
    begun, waited, left = threading.Event(), [], threading.Event()

    def slow(done: int, total: int) -> None:
        begun.set()
        left.wait(20)

    writer = threading.Thread(target=told.write, args=("A text that takes its time to be written down.", slow))
    writer.start()
    assert begun.wait(20)
    end = time.monotonic() + 0.5
    with pytest.raises(Stopped):
        told.ask("Where?", on_wait=waited.append, stop=lambda: time.monotonic() > end)
    left.set()
    writer.join(20)
    assert waited and not writer.is_alive()


def test_what_is_forgotten_has_not_been_done(told):
    told.compared = [{"answer": "x"}]
    told.forget()
    assert not told.done and not told.compared and told.choices.bin is None and len(told.held) == 1

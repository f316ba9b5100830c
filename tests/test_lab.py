"""The rest of the lab without its page: planner, guide, and training runs."""

import time

import pytest
import torch

from lab import guide
from lab.models import tiny
from lab.planner import SHAPES, plan
from lab.short_run import Timed, forget_retriever
from lab.short_run import plan as short_plan
from lab.trainer import Trainer


def test_the_planner_knows_an_8b_model():
    assert SHAPES["Llama-3.1-8B"].parameters == 8_030_261_248
    made = plan(SHAPES["Llama-3.1-8B"], 256, 40, 2560, 150_000, 2)
    theta = 32 * 10240 * 2048 * 2  # as keys and values, and once more for undo; its keys and columns are smaller
    assert 2 * theta < made.pool < 2.4 * theta and made.gpu + made.host == sum(made.cost.parts.values())
    away = plan(SHAPES["Llama-3.1-8B"], 256, 40, 2560, 150_000, 2, offload=True)
    assert away.gpu < made.gpu
    for each in (made, away, plan(SHAPES["Llama-3.2-1B"], 256, 40, 2560, 150_000, 2)):  # the page's rows add up
        assert each.weights + each.pool + each.kv + each.activations == each.gpu and each.long == each.host
    with pytest.raises(ValueError, match="at least 1"):
        plan(SHAPES["Llama-3.1-8B"], 0, 40, 2560, 150_000, 2)


def test_the_guide_shows_the_first_step_that_was_not_done():
    assert guide.due({}).key == "write" and guide.due({"write": 1, "ask": 1}).key == "distract"
    assert guide.strip({step.key: 1.0 for step in guide.STEPS}) == ""
    assert guide.listed({"write": 1.0}).count("(done)") == 1


def test_a_timed_lesson_ends_by_the_clock(monkeypatch):
    clock = iter([100.0, 100.0, 109.0, 111.0])
    monkeypatch.setattr("lab.short_run.time.monotonic", lambda: next(clock))
    lesson = Timed("a minute", 0, (), seconds=10)
    assert [lesson.finished(step, {}) for step in (1, 2, 3)] == [False, False, True]
    assert sum(lesson.seconds for lesson in short_plan(2)) == pytest.approx(120)


def test_the_retriever_is_forgotten_and_nothing_else():
    model, before = tiny().model, tiny().model.state_dict()
    forget_retriever(model, 1)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed and all("retriever" in name for name in changed)


def test_one_run_at_a_time_and_a_failure_is_told(tmp_path):
    trainer = Trainer(tmp_path)
    assert trainer.state() == "" and not trainer.stop()
    trainer.start("no-such-model")
    with pytest.raises(ValueError, match="still training"):
        trainer.start("no-such-model")
    deadline = time.time() + 300  # a process that starts on a busy machine
    while trainer.running and time.time() < deadline:
        time.sleep(0.1)
    assert trainer.state().startswith("The run failed: ") and "no-such-model" in trainer.state()

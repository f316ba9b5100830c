"""The rest of the lab without its page: planner, guide, and training runs."""

import time
from types import SimpleNamespace

import gradio as gr
import pytest
import torch

from lab import guide, panels
from lab.ablate import LAYER, LONG_TERM, RETRIEVER, TEXT
from lab.compare import ASKED, possible, retention_job, side_by_side
from lab.meter import Meter
from lab.models import TINY, Models, tiny
from lab.page.learn_tab import flow_boxes
from lab.page.page import build
from lab.page.resources_tab import ResourcesTab
from lab.page.retrieval_tab import NO_LONG_TERM, UNASKED, RetrievalTab
from lab.page.shell import Page, Selection
from lab.planner import SHAPES, plan
from lab.registry import Registry
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


def test_no_more_comes_back_in_a_plan_than_the_memory_holds():
    shape, sizes = SHAPES["Llama-3.1-8B"], ((2560, 99), (99, 99), (2560, 2560))
    over, at, full = (plan(shape, 256, 40, retrieved, longest, 2) for retrieved, longest in sizes)
    assert over == at and over.kv < full.kv


def test_a_refused_number_leaves_no_table_of_others():
    numbers = ["Llama-3.1-8B", "bfloat16", 256, 40, 2560, 150_000, 2048, False]
    tab = ResourcesTab(None)
    assert "<table" in tab.on_plan(*numbers)
    numbers[2] = None
    shown = tab.on_plan(*numbers)
    assert "K is 0; it must be at least 1." in shown and "<table" not in shown


# ── MemoryLLM ──
@pytest.fixture
def short(tmp_path):
    """A session of a MemoryLLM that has read two texts and answered."""
    models = Models(TINY)
    models.get(TINY).model.config.num_retrieved = 0
    session = Registry(models, tmp_path / "memoryllm").get("page")
    session.write("The key lies under the blue flowerpot.")
    session.write("A barge with red sails waits below the third lock of the canal.")
    session.ask("Where is the key?", 4)
    return session


def test_memoryllm_is_not_told_to_fill_what_it_cannot_have(short):
    shown = panels.provenance(short.branch.last, short.texts)
    assert "MemoryLLM model has no Θ" in shown and "still empty" not in shown and "Add unrelated" not in shown
    drawn = flow_boxes(short)
    assert "Θ" not in drawn and "Retriever" not in drawn and "[bos | θ]" in drawn


def test_of_memoryllm_only_a_text_can_be_taken_away(short, told):
    for kind in (LONG_TERM, RETRIEVER, LAYER):
        with pytest.raises(ValueError, match="it has no Θ"):
            short.take_away(kind)
    owes = [RetrievalTab(SimpleNamespace(session=lambda _, s=s: s)).on_look("retrieval", None) for s in (short, told)]
    assert NO_LONG_TERM in owes[0] and UNASKED not in owes[0] and "without Θ" in owes[1]
    assert short.take_away(TEXT, 1).what == "with text 1 deleted"
    assert all("Θ" in flow_boxes(told) and word in flow_boxes(told) for word in ("Retriever", "[bos | retrieved | θ]"))


def test_the_page_offers_of_memoryllm_only_what_can_be_taken_away(short, told, registry, tmp_path):
    page = Page(registry, Meter(), tmp_path)
    build(page)
    of_theta = {"Θ off", "Retriever guesses", "Shuffle the layer's Θ"}
    for session, refused in ((short, of_theta), (told, set())):
        drawn = page.drawings["retrieval"](session, Selection(0, None, None, 1, "retrieval"))
        off = {button.value for button, now in drawn.items() if isinstance(button, gr.Button) and not now.interactive}
        assert off == refused


def test_memoryllm_is_not_compared_with_itself_as_mplus(short):
    texts, methods = [receipt.text for receipt in short.texts], ("mplus", "memoryllm", "random-retriever")
    rows = list(side_by_side(short.loaded, texts, "Where?", "", methods, None, short.turns, lambda: False, False, 2))
    assert [row.get("problem", "").partition(":")[0] for row in rows] == [f"{TINY} has no Θ", "", f"{TINY} has no Θ"]
    assert possible(short.loaded, ASKED) == ["memoryllm", "window", "snapkv"]
    with pytest.raises(ValueError, match=r"M\+ and M\+, guessing retriever would be MemoryLLM"):
        next(retention_job(short.loaded, methods, 1, [0], 0, short.turns, lambda: False))


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

"""A person's memory in the lab: models, sessions and what of them is on the disk."""

from types import SimpleNamespace

import gradio as gr
import numpy as np
import psutil
import pytest
import torch

from lab import history, views
from lab.branch import KEPT_MOMENTS
from lab.meter import Meter
from lab.models import TINY, Models, fitting_dtype, tiny
from lab.page.lab_tab import slot_panel
from lab.page.page import build
from lab.page.shell import ALL, Page, Selection
from lab.registry import Registry
from lab.turns import Stopped


def test_the_tiny_model_is_always_the_same_and_says_what_it_is():
    first, second = tiny(), tiny()
    assert all(torch.equal(a, b) for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True))
    assert torch.equal(first.model.memory.pool, second.model.memory.pool)
    assert first.warning == "untrained: shapes are real, answers are not"


def test_mini_is_the_default_as_soon_as_it_is_there(monkeypatch):
    assert Models().default == ("mini" if "mini" in Models.shipped() else TINY)
    monkeypatch.setattr(Models, "shipped", staticmethod(lambda: ["mini"]))
    assert Models().default == "mini"


def test_models_from_elsewhere_are_refused_when_the_lab_is_exposed(tmp_path):
    with pytest.raises(ValueError, match="--model-root"):
        Models(TINY, exposed=True).get("someone/model")
    with pytest.raises(ValueError, match="allowed model folder"):
        Models(TINY, root=tmp_path / "allowed", exposed=True).get(str(tmp_path))


# ── sessions ──
def test_a_model_that_somebody_uses_is_not_loaded_twice(models):
    models.keep = 1
    first = models.get(TINY)
    models._loaded.clear()
    assert models.get(TINY) is first


def test_a_model_that_does_not_fit_is_refused_before_it_is_loaded(tmp_path):
    (tmp_path / "config.json").write_text('{"dtype": "float16"}')
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(psutil.virtual_memory().total)  # sparse: it takes no room
    with pytest.raises(ValueError, match="GB of memory are free"):
        fitting_dtype(tmp_path, "cpu")
    (tmp_path / "model.safetensors").write_bytes(b"small")
    assert fitting_dtype(tmp_path, "cpu") == torch.float32


def test_what_is_written_is_on_the_disk_and_comes_back(told, registry):
    texts = [receipt.text for receipt in told.texts]
    registry._live.clear()
    back = registry.restore("another page", told.key)
    assert back is not told and [receipt.text for receipt in back.texts] == texts
    assert torch.equal(back.reader.memory.state.pool, told.reader.memory.state.pool)
    assert back.ask("Where does Ilse keep her spare key?", 8).tokens == told.branch.answer.tokens


def test_a_page_whose_session_left_the_memory_gets_it_back(told, registry):
    told.used = 0
    registry.reap()
    assert registry.totals["sessions"] == 0
    assert len(registry.get("page").texts) == len(told.texts)


def test_pages_do_not_see_each_other(registry):
    registry.get("a").write("The parrot of Vera is named Ulf and it sings at night.")
    assert registry.get("b").texts == [] and registry.get("a").key != registry.get("b").key


def test_a_session_key_cannot_leave_its_folder(registry):
    for key in ("../../etc/passwd-and-more", "", "x" * 200, "a/b/c/d/e/f/g/h/i/j/k"):
        assert registry.saved(key) is None
        with pytest.raises(ValueError, match="no saved session"):
            registry.restore("page", key)


def test_the_least_recently_used_sessions_leave_first(models, tmp_path):
    registry = Registry(models, tmp_path, most=2)
    for page in "abc":
        registry.get(page)
    assert list(registry._live) == ["b", "c"]


def test_a_closed_tab_leaves_after_its_grace(models, tmp_path):
    registry = Registry(models, tmp_path, grace=0.0)
    registry.get("a")
    registry.leave("a")
    registry.reap()
    assert registry.totals == {"sessions": 0, "bytes": 0}


def test_a_page_that_outlives_the_server_goes_on_in_its_session(models, told, registry, tmp_path):
    assert [r.text for r in Registry(models, tmp_path).get("page").texts] == [r.text for r in told.texts]
    registry.restore("reloaded", told.key)
    assert Registry(models, tmp_path).get("reloaded").key == told.key


def test_a_page_that_never_wrote_leaves_nothing_on_the_disk(models, tmp_path):
    registry = Registry(models, tmp_path, grace=0.0)
    registry.get("../looks only")
    registry.leave("../looks only")
    registry.reap()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_two_pages_share_a_session_and_neither_loses_it(told, registry):
    assert registry.restore("other", told.key) is told and registry.get("page") is told
    assert registry.restore("page", told.key) is told
    assert registry.totals == {"sessions": 1, "bytes": told.num_bytes}
    registry.grace = 0.0
    registry.leave("other")
    registry.reap()
    assert registry.get("page") is told and registry.get("other") is told


def test_what_a_page_has_running_ends_when_it_restores_another_session(told, registry):
    mine = registry.get("other")
    registry._live["beside"] = mine
    halted = mine.halted()
    registry.restore("other", told.key)
    assert not halted(), "another page is in it"
    registry.restore("other", told.key)
    assert not told.halted()()
    registry.restore("beside", told.key)
    assert halted()


def test_another_model_leaves_what_was_saved_alone(models, told, registry, tmp_path):
    key, texts = told.key, [receipt.text for receipt in told.texts]
    told.start(told.loaded)
    assert told.texts == [] and registry.get("page").key != key
    told.write("This text is the first one of another memory.")
    back = registry.restore("reloaded", key)
    assert back is not told and [receipt.text for receipt in back.texts] == texts
    assert [r.text for r in Registry(models, tmp_path).get("page").texts] == [r.text for r in told.texts]


def test_the_index_says_how_much_is_saved(told, registry):
    assert registry.saved(told.key)["texts"] == len(told.texts)


def test_a_selection_that_an_earlier_server_or_model_allowed_is_bounded_and_not_refused(told, registry, tmp_path):
    page = Page(registry, Meter(), tmp_path)
    build(page)
    asked = (99, "5", -1, KEPT_MOMENTS)
    found = [part.preprocess(value) for part, value in zip(page.selectors[:4], asked, strict=True)]
    last = len(told.branch.moments) - 1
    assert page.select(told, *found, "lab") == Selection(0, None, None, last, "lab")
    assert page.select(told, 1, "3", 0, 0, "lab") == Selection(1, 3, 0, 0, "lab")
    assert page.select(told, "Ils", "lay", None, None, "lab") == Selection(0, None, None, last, "lab")


def test_what_was_selected_before_is_not_drawn_over_what_is_selected_now(registry, tmp_path):
    """A page's drawings are made side by side: here later ones are done while an earlier one is still at work."""
    page, later = Page(registry, Meter(), tmp_path), []
    build(page)
    here, other = SimpleNamespace(session_hash="page"), SimpleNamespace(session_hash="other")

    def slow(session, chosen):
        later.extend(page.draw(0, ALL, None, 0, "memory", visitor) for visitor in (here, other))
        return {"what": "slow"}

    page.drawings |= {"lab": slow, "memory": lambda session, chosen: {"what": "quick"}}
    assert page.draw(0, ALL, None, 0, "lab", here) == gr.skip()
    assert [drawn["what"] for drawn in later] == ["quick", "quick"]
    assert page.draw(0, ALL, None, 0, "memory", here)["what"] == "quick", "what comes after it is drawn"


def test_an_earlier_step_says_whose_a_slot_was_then(told):
    """The slots of text 1 at its own step; by now others are in their places."""
    step = next(step for step, moment in enumerate(told.branch.moments) if moment.receipt == 1)
    moment = told.branch.moments[step]
    slot = int(np.flatnonzero(moment.owner[2] == 1)[0])
    said = slot_panel(told, Selection(0, 2, slot, step, "memory"), {1: "Ilse"})
    assert f"At step {step}: layer 2, slot {slot}, age {moment.age[2, slot]:,}: Ilse." in said


def test_stop_leaves_nothing_half_written(told):
    before, moments = told.reader.memory.state.pool.clone(), len(told.branch.moments)
    seen = []
    with pytest.raises(Stopped):
        told.write("A long text. " * 60, lambda done, total: seen.append(done), stop=lambda: len(seen) >= 3)
    assert len(seen) == 3
    assert torch.equal(told.reader.memory.state.pool, before) and len(told.branch.moments) == moments


def test_a_save_that_fails_takes_the_write_back(told, monkeypatch):
    texts = len(told.texts)
    monkeypatch.setattr(told, "autosave", lambda: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        told.write("This text cannot be saved and so it was not written.")
    assert len(told.texts) == texts and told.branch.moments[-1].event == "write"


def test_delete_undo_fork_and_reset(told):
    count = len(told.texts)
    assert told.delete(1) > 0 and 1 not in [receipt.id for receipt in told.texts]
    told.write("One more text that will be taken back in a moment.")
    told.undo()
    assert len(told.texts) == count - 1
    told.fork()
    told.reset()
    assert told.texts == []
    told.switch("main")
    assert len(told.texts) == count - 1
    with pytest.raises(ValueError, match="no branch"):
        told.switch("nowhere")


def test_a_memory_file_goes_out_and_comes_in(told, registry, tmp_path):
    path = told.download(tmp_path / "mine.safetensors")
    other = registry.get("other")
    other.upload(path)
    assert [r.text for r in other.texts] == [r.text for r in told.texts]
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"mine\.safetensors") as error:
        other.upload(path)
    assert str(tmp_path) not in str(error.value) and len(other.texts) == len(told.texts)


# ── steps that survive, and steps that guide ──
def same(one: views.Moment, other: views.Moment) -> bool:
    plain = all(getattr(one, name) == getattr(other, name) for name in history.PLAIN)
    pairs = [(one.owner, other.owner), (one.age, other.age)]
    pairs += [*zip(one.long_owner, other.long_owner, strict=True), *zip(one.long_age, other.long_age, strict=True)]
    return plain and all(np.array_equal(a, b) for a, b in pairs)


def test_the_steps_of_a_session_survive_a_restart(models, told, tmp_path):
    told.delete(2)
    told.fork()
    told.write("The lamp of the mill hangs above the eastern stairs.")
    told.switch("main")
    again = Registry(models, tmp_path).restore("later", told.key)
    for name in ("main", "branch 1"):
        before, after = told.branches[name].moments, again.branches[name].moments
        assert len(before) == len(after) and all(map(same, before, after))
    assert again.current == "main" and set(again.done) >= {"write", "ask", "delete"}


def test_a_damaged_file_of_steps_costs_its_steps_and_no_text(models, told, tmp_path):
    for path in (tmp_path / told.key / "steps").glob("*.npz"):
        path.write_bytes(b"not what it was")
    again = Registry(models, tmp_path).restore("later", told.key)
    assert [r.text for r in again.texts] == [r.text for r in told.texts]
    assert [moment.event for moment in again.branch.moments] == ["load"]


def test_files_of_steps_are_removed_when_nobody_needs_them(told, tmp_path):
    folder = tmp_path / told.key / "steps"
    told.fork()
    before = set(folder.iterdir())
    told.upload(told.download(tmp_path / "mine.safetensors"))
    assert before <= set(folder.iterdir()) | {folder / name for name, _ in told.branches["main"].kept}
    told.switch("main")
    told.upload(tmp_path / "mine.safetensors")
    kept = {name for branch in told.branches.values() for name, _ in branch.kept}
    assert {path.name for path in folder.glob("*.npz")} == kept

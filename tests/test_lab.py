"""The lab without its page: sessions, registry, turns, uploads, figures, ablation, comparison, planner."""

import json
import re
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lab import files, guide, history, panels, plots, results, views
from lab.ablate import LAYER, LONG_TERM, NOTHING, RETRIEVER, TEXT, ablate
from lab.clock import every
from lab.compare import retention_job, side_by_side
from lab.models import TINY, Models, tiny
from lab.planner import SHAPES, plan
from lab.registry import Registry
from lab.samples import SAMPLES, unrelated
from lab.short_run import Timed, forget_retriever
from lab.short_run import plan as short_plan
from lab.stopwatch import answer_steps, copy_seconds
from lab.trainer import Trainer
from lab.turns import Stopped, Turns, follow


@pytest.fixture(scope="module")
def models():
    torch.set_num_threads(1)
    return Models(TINY)


@pytest.fixture
def registry(models, tmp_path):
    return Registry(models, tmp_path)


@pytest.fixture
def session(registry):
    return registry.get("page")


@pytest.fixture
def told(session):
    """A session that has read an example world, five unrelated texts, and a question."""
    for text in (*SAMPLES[0].texts, *unrelated(5, 1)):
        session.write(text)
    session.ask(SAMPLES[0].questions[0][0], 8)
    return session


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


# ── files ──
def test_every_kind_of_file_is_read(tmp_path):
    from docx import Document

    (tmp_path / "a.txt").write_text("plain ü", encoding="utf-8")
    (tmp_path / "b.md").write_text("# marked", encoding="utf-8")
    (tmp_path / "c.html").write_text("<script>no()</script><p>shown &amp; kept</p>")
    document = Document()
    document.add_paragraph("from Word")
    document.save(str(tmp_path / "d.docx"))
    (tmp_path / "e.pdf").write_bytes(one_page_pdf("from a page"))
    read = [files.read_text(path) for path in sorted(tmp_path.iterdir())]
    assert read == ["plain ü", "# marked", "shown & kept", "from Word", "from a page"]


def one_page_pdf(words: str) -> bytes:
    stream = f"BT /F1 12 Tf 72 720 Td ({words}) Tj ET".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R "
        b"/Resources << /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
    ]
    out, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    start = len(out)
    return out + b"xref\n0 5\n0000000000 65535 f \n%strailer << /Size 5 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % (
        table,
        start,
    )


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.exe", b"MZ", "upload one of"),
        ("x.txt", b"\xff\xfe\x00\x01", "not UTF-8"),
        ("x.txt", b" \n ", "no text"),
        ("x.pdf", b"not a pdf", "damaged"),
        ("x.docx", b"not a zip", "damaged"),
    ],
)
def test_a_bad_file_is_refused_with_its_name(tmp_path, name, content, said):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=said) as error:
        files.read_text(path)
    assert str(tmp_path) not in str(error.value)


# ── figures ──
def test_every_figure_says_its_finding_and_survives_json(told):
    branch, names = told.branch, {receipt.id: views.title(receipt) for receipt in told.texts}
    moment, seen, config = branch.moments[-1], branch.last, told.loaded.model.config
    rows = [{"method": "mplus", "bytes": {"weights": 9, "short": 2}, "activations": 4, "decoded": 3,
             "seconds": {"write": 1.0, "decode": 0.3}}]  # fmt: skip
    counts = [{"method": "mplus", "distance": d, "right": 1, "asked": 2} for d in (0, 512)]
    made = [
        plots.pool_map(moment, names, 1, 0, 3),
        plots.forgetting(branch.moments, config.block_size, names),
        plots.ages(moment),
        plots.flow(moment, names, True),
        plots.score_map(seen, 1, 3),
        plots.score_histogram(seen.layers[0], 0, names),
        plots.provenance(seen, names),
        plots.agreement(seen),
        plots.retention(counts),
        plots.byte_bars(rows),
        plots.second_bars(rows),
        plots.resources([0.0, 1.0], {"process": [1.0, 2.0]}, [(0.5, "write")]),
        plots.curves([{"step": s, "loss": 1.0 / s, "stage": s} for s in (1, 2)], "step", {"loss": "loss"}, "loss"),
    ]  # fmt: skip
    for figure in made:
        assert json.loads(figure.to_json())["layout"]["meta"]["finding"].endswith(".")


def test_chance_keeps_what_random_drops_keep_and_no_more(told):
    """Over many texts most layers end in the band; a text that is simply gone does not."""
    branch, config = told.branch, told.loaded.model.config
    said = [plots.forgetting(branch.moments, config.block_size, {}, receipt.id).layout.meta["finding"]
            for receipt in told.texts]  # fmt: skip
    inside, layers = (sum(int(re.search(rf"{pattern} lie", words)[1]) for words in said)
                      for pattern in (r"(\d+) of \d+ layers", r"\d+ of (\d+) layers"))  # fmt: skip
    assert layers == len(said) * config.num_hidden_layers and inside >= 0.9 * layers
    last = branch.moments[-1]
    gone = replace(last, owner=np.where(last.owner == 1, 0, last.owner))
    finding = plots.forgetting([*branch.moments[:-1], gone], config.block_size, {}, 1).layout.meta["finding"]
    assert f"0 of {config.num_hidden_layers} layers" in finding


def test_the_band_is_the_binomial_one(told):
    moments, block = told.branch.moments, told.loaded.model.config.block_size
    figure = plots.forgetting(moments, block, {}, 1)
    edges = {name: next(trace for trace in figure.data if name in trace.name) for name in ("upper", "95 %", "theory")}
    written = [moment.writes for moment in moments if moment.receipt == 1]
    steps = np.arange(len(edges["theory"].x))[:, None] + written[-1] - np.array(written)
    p = (1 - block / moments[-1].owner.shape[1]) ** steps
    middle, spread = p.mean(1), 1.96 * np.sqrt((p * (1 - p)).sum(1) / block) / len(written)
    assert np.allclose(edges["theory"].y, middle)
    assert np.allclose(edges["95 %"].y, np.maximum(0, middle - spread))
    assert np.allclose(edges["upper"].y, np.minimum(1, middle + spread))


def test_every_token_of_the_score_map_is_in_one_bin_and_names_its_source(told):
    seen = told.branch.last
    bins, memory = plots.num_bins(seen), told.reader.memory
    for found in seen.layers:
        places = plots.bin_of(found, bins)
        assert (np.diff(places) >= 0).all() and len(places) == len(found.owner) and places.max() < bins
        assert (found.owner[found.chosen] == found.got_owner).all()
        for place in found.chosen[:5]:
            source = memory.source(int(found.block[place]), int(found.slot[place]))
            assert (source.receipt or 0) == found.owner[place]


def test_the_pool_map_shows_every_slot_with_its_text(told):
    moment = told.branch.moments[-1]
    memory = told.reader.memory
    for layer, slot in ((0, 0), (1, 100), (3, 255)):
        source = memory.source(int(memory.state.block[layer, slot]), int(memory.state.slot[layer, slot]))
        assert moment.owner[layer, slot] == (source.receipt or 0)


def test_moments_count_what_moves(told):
    config = told.loaded.model.config
    writes = [moment for moment in told.branch.moments if moment.event == "write"]
    assert len(writes) == sum(len(receipt.chunks) for receipt in told.texts)
    assert all(m.written == m.dropped == m.moved == config.block_size and m.evicted == 0 for m in writes)
    assert len(writes[-1].long_owner[0]) == len(writes) * config.block_size


def test_provenance_marks_only_what_was_retrieved(told):
    seen = told.branch.last
    for receipt in told.texts:
        hits = seen.hits(receipt.id, receipt.num_tokens)
        wanted = np.zeros(receipt.num_tokens, int)
        for found in seen.layers:
            places = {
                int(p) for o, p in zip(found.got_owner, found.got_position, strict=True) if o == receipt.id and p >= 0
            }
            wanted[list(places)] += 1
        assert (hits == wanted).all()
    assert sum(seen.shares().values()) == pytest.approx(1.0)
    assert "<mark" in panels.provenance(seen, told.texts)


def test_what_a_person_writes_cannot_become_markup(session):
    session.write("<img src=x onerror=alert(1)> is what the sign on the door says today.")
    for text in unrelated(6, 3):
        session.write(text)
    session.ask("What does <b>the sign</b> say?", 4)
    assert "<img" not in panels.provenance(session.branch.last, session.texts)


# ── ablation, comparison, planning ──
@pytest.mark.parametrize(("kind", "which"), [(LONG_TERM, 0), (RETRIEVER, 0), (LAYER, 1), (TEXT, 5)])
def test_ablation_moves_the_probabilities_and_leaves_the_memory(told, kind, which):
    pool, texts = told.reader.memory.state.pool, len(told.texts)
    answer = told.branch.answer
    result = ablate(told.reader, told.branch.last.question, answer.tokens, kind, which)
    assert len(result.before) == len(result.after) == len(answer.tokens)
    assert result.before != result.after
    assert torch.equal(told.reader.memory.state.pool, pool) and len(told.texts) == texts


def test_ablation_scores_what_generation_saw(told):
    """Greedy tokens are the most likely ones, so each has at least the probability 1 / vocabulary."""
    answer = told.branch.answer
    result = ablate(told.reader, told.branch.last.question, answer.tokens, LONG_TERM)
    assert min(result.before) >= -np.log(told.loaded.model.config.vocab_size)


def test_taking_nothing_away_is_not_offered(told):
    with pytest.raises(ValueError, match="cannot be taken away"):
        ablate(told.reader, "Where?", [1], NOTHING)


def test_side_by_side_gives_a_row_a_method(told):
    texts = [receipt.text for receipt in told.texts[:3]]
    methods = ("mplus", "memoryllm", "window", "snapkv")
    rows = list(
        side_by_side(told.loaded, texts, "Where is the key?", "", methods, None, told.turns, lambda: False, True, 4)
    )
    assert [row["method"].split()[0] for row in rows] == list(methods)
    assert all(row["kept"] > 0 and row["seconds"]["write"] > 0 and row["activations"] > 0 for row in rows)
    by_method = {row["method"].split()[0]: row["seconds"] for row in rows}
    assert by_method["mplus"]["retrieve"] > 0 and by_method["mplus"]["prefill"] > 0
    assert all(by_method[method]["retrieve"] == 0 for method in methods[1:])
    with pytest.raises(Stopped):
        list(side_by_side(told.loaded, texts, "Where?", "", methods, None, told.turns, lambda: True))


def test_the_steps_of_an_answer_sum_to_its_seconds(told):
    before = told.reader.memory.search
    answer, steps = answer_steps(told.reader, "Where is the key?", 4, lambda: False)
    assert sum(steps.values()) == pytest.approx(answer.seconds) and steps["copy"] == 0.0
    assert told.reader.memory.search == before
    tensors = [torch.ones(3)]
    assert copy_seconds(tensors, torch.device("cpu")) == 0.0 < copy_seconds(tensors, torch.device("meta"))


def test_what_an_answer_owes_is_kept_until_the_memory_changes(told):
    owed = told.owed()
    assert owed.what == "without Θ" and owed is told.owed() and len(owed.tokens) == len(told.branch.answer.tokens)
    told.write("A barge with red sails waits below the third lock of the canal.")
    assert told.owed() is not owed
    told.delete(1)
    assert told.owed() is None
    with pytest.raises(ValueError, match="no answer yet"):
        told.take_away(LONG_TERM)


def test_retention_grows_row_by_row(models):
    steps = list(retention_job(models.get(TINY), ["mplus", "window"], 2, [0, 64], 0, Turns(), lambda: False))
    asked, rows = steps[-1]
    assert asked == len(steps) == 8 and all(row["asked"] == 2 for row in rows)


def test_the_planner_knows_an_8b_model():
    assert SHAPES["Llama-3.1-8B"].parameters == 8_030_261_248
    made = plan(SHAPES["Llama-3.1-8B"], 256, 40, 2560, 150_000, 2)
    theta = 32 * 10240 * 2048 * 2  # as keys and values, and once more for undo; its keys and columns are smaller
    assert 2 * theta < made.pool < 2.4 * theta and made.gpu + made.host == sum(made.cost.parts.values())
    assert plan(SHAPES["Llama-3.1-8B"], 256, 40, 2560, 150_000, 2, offload=True).gpu < made.gpu
    with pytest.raises(ValueError, match="at least 1"):
        plan(SHAPES["Llama-3.1-8B"], 0, 40, 2560, 150_000, 2)


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


def test_the_guide_shows_the_first_step_that_was_not_done():
    assert guide.due({}).key == "write" and guide.due({"write": 1, "ask": 1}).key == "distract"
    assert guide.strip({step.key: 1.0 for step in guide.STEPS}) == ""
    assert guide.listed({"write": 1.0}).count("(done)") == 1


def test_the_flow_says_whose_tokens_left(told):
    before, moment = told.branch.moments[-2:]
    lost = plots.losses(before, moment)
    assert sum(lost.values()) == pytest.approx(moment.dropped)
    figure = plots.flow(moment, {}, True, before)
    assert sum(figure.data[0].link.value) == pytest.approx(moment.written + 2 * moment.dropped)


# ── results and runs ──
def test_measurements_are_read_from_their_files(tmp_path):
    rows = [{"method": m, "distance": d, "accuracy": 0.5, "low": 0.4, "high": 0.6, "n": 10}
            for m in ("mplus", "window") for d in (0, 512)]  # fmt: skip
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "cost.json").write_text(json.dumps({"task": "cost", "command": "python -m core.evaluate cost"}))
    (folder / "kept.json").write_text(json.dumps({"task": "retention", "command": "do it", "model": "m", "rows": rows}))
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (folder / "torn.json").write_text('{"task": "reten')
    found = results.find([folder, tmp_path / "nowhere"])
    assert list(found) == ["results/kept", "results/cost"]
    figure = plots.measured(found["results/kept"].rows)
    assert [trace.name for trace in figure.data] == ["M+", "window"] and list(figure.data[0].y) == [0.5, 0.5]
    header, cells = results.cells(found["results/kept"])
    assert header == list(rows[0]) and cells[0] == ["mplus", "0", "0.5", "0.4", "0.6", "10"]
    assert plots.measured(found["results/cost"].rows) is None


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

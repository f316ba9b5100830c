"""The figures and panels, from what happened to what is seen."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from lab import guide, panels, plots, results, views
from lab.samples import unrelated


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


def test_a_bin_of_the_score_map_names_the_text_whose_score_it_shows(told):
    """Also where a bin holds many tokens."""
    seen, rng = told.branch.last, np.random.default_rng(0)
    size = 3 * plots.num_bins(replace(seen, layers=(one_layer(seen, 4096, rng),)))
    seen = replace(seen, layers=(one_layer(seen, size, rng),))
    (found,), bins = seen.layers, plots.num_bins(seen)
    scores, strip = plots.score_map(seen).data
    places, got = plots.bin_of(found, bins), np.isin(np.arange(size), found.chosen)
    for one in range(bins):
        inside = np.flatnonzero(places == one)
        assert scores.customdata[1][one] == found.owner[inside[found.scores[inside].argmax()]]
        if got[inside].any():
            taken = inside[got[inside]]
            assert strip.z[0][one] == 1 and strip.customdata[0][one] == found.owner[taken[found.scores[taken].argmax()]]


def one_layer(seen: views.Retrieval, size: int, rng: np.random.Generator) -> views.LayerFound:
    """A layer that scored `size` tokens of Θ, of many texts."""
    chosen, owner = np.sort(rng.choice(size, size // 4, replace=False)), rng.integers(0, 30, size).astype(np.int32)
    return replace(seen.layers[0], scores=rng.normal(size=size), owner=owner, chosen=chosen, got_owner=owner[chosen])


def test_the_shares_of_all_texts_make_one(told):
    """Beyond the first twelve texts the rest has one bar, so that no part of what came back is left out."""
    layer = one_layer(told.branch.last, 2048, np.random.default_rng(1))
    held = {int(t): float(n) / 2048 for t, n in zip(*np.unique(layer.owner, return_counts=True), strict=True)}
    seen = replace(told.branch.last, layers=(layer,), long_counts=held)
    bars = plots.provenance(seen, {}).data
    assert [sum(bar.x[row] for bar in bars) for row in (0, 1)] == pytest.approx([1, 1])
    assert len(bars) == 14 and [bar.name for bar in bars[-2:]] == ["17 other texts", plots.WHOLE]
    few = replace(layer, got_owner=layer.got_owner % 14)
    names = [bar.name for bar in plots.provenance(replace(seen, layers=(few,), long_counts={}), {}).data]
    assert len(names) == 14 and not any("other texts" in name for name in names), "one other text has its own bar"
    counted = plots.score_histogram(layer, 0, {}).data
    assert sum(bar.y.sum() for bar in counted) == 2048 and counted[-1].name == "18 other texts"


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
        hits = seen.hits(receipt)
        wanted = np.zeros(receipt.num_tokens, int)
        for found in seen.layers:
            places = {  # of a text that was written twice over the first copy counts
                receipt.spans.index(receipt.spans[int(p)])
                for o, p in zip(found.got_owner, found.got_position, strict=True) if o == receipt.id and p >= 0
            }  # fmt: skip
            wanted[list(places)] += 1
        assert (hits == wanted).all()
    assert sum(seen.shares().values()) == pytest.approx(1.0)
    assert "<mark" in panels.provenance(seen, told.texts)


def test_the_text_the_retriever_is_surest_of_comes_first(told):
    seen = told.branch.last
    sure = seen.sure()
    assert sum(sure.values()) == pytest.approx(1.0, abs=1e-4) and all(
        seen.sure(layer) for layer in range(len(seen.layers))
    )
    shown = panels.provenance(seen, told.texts)
    best = max((id for id in sure if id), key=lambda id: sure[id])
    assert f"The retriever is {100 * sure[best]:.0f} % sure of it." in shown
    assert shown.index(f'aria-label="text {best}"') == shown.index('aria-label="text ')
    for found in seen.layers:  # all tokens of a block share its probability, and a better score is a larger one
        order = np.argsort(found.got_score)
        per_block = found.got_sure * np.array([(found.got_block == block).sum() for block in found.got_block])
        assert (np.diff(per_block[order]) >= -1e-6).all()
    unsure = replace(seen, layers=tuple(replace(each, got_sure=0 * each.got_sure) for each in seen.layers))
    assert "sure of it" not in panels.provenance(unsure, told.texts)
    assert "the answer rests on θ" in panels.provenance(seen, []) and "rests on θ" not in shown


def test_what_a_person_writes_cannot_become_markup(session):
    session.write("<img src=x onerror=alert(1)> is what the sign on the door says today.")
    for text in unrelated(6, 3):
        session.write(text)
    session.ask("What does <b>the sign</b> say?", 4)
    assert "<img" not in panels.provenance(session.branch.last, session.texts)


def test_a_chip_that_can_be_pressed_has_its_mark(session):
    """Of a long text only what stands around the strongest mark is shown."""
    session.write(" ".join(f"Box {n} of the long shelf holds a lamp that nobody has lit." for n in range(120)))
    for text in unrelated(6, 3):
        session.write(text)
    session.ask("What does box 7 hold?", 4)
    shown = panels.provenance(session.branch.last, session.texts)
    chips, marks = (set(re.findall(rf'{name}="(\d+-\d+)"', shown)) for name in ("data-go", "data-t"))
    assert chips and chips <= marks and " disabled style" in shown


def test_tokens_of_every_copy_of_a_short_text_lead_to_its_mark(session):
    """A short text is written several times over; a token of each copy may come back."""
    session.write("The lamp is on.")
    for text in unrelated(6, 3):
        session.write(text)
    session.ask("Where is the lamp?", 4)
    shown = panels.provenance(session.branch.last, session.texts[:1])
    chips, marks = (re.findall(rf'{name}="(\d+-\d+)"', shown) for name in ("data-go", "data-t"))
    assert set(chips) <= set(marks) and len(chips) > len(set(chips)) and " disabled style" not in shown


def test_an_answer_that_nothing_was_taken_from_is_as_likely():
    assert "The whole answer is as likely without Θ" in panels.answer_tokens(["yes"], [-0.5], [-0.5], "without Θ")
    assert "2.72 times less likely" in panels.answer_tokens(["yes"], [-0.5], [-1.5], "without Θ")


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
    assert results.said({"accuracy": 0.1234, "low": 0.1, "high": 0.2}) == "0.123 (0.100-0.200)"


def test_the_default_model_is_shown_before_those_named_after_it(tmp_path):
    for name in ("mini", "mini-recipe"):
        (tmp_path / "results" / name).mkdir(parents=True)
        (tmp_path / "results" / name / "prose.json").write_text(json.dumps({"task": "retention", "command": "do it"}))
    assert list(results.find([tmp_path / "results"])) == ["results/mini/prose", "results/mini-recipe/prose"]


def test_nine_curves_have_nine_colours():
    names = {f"found_{number}": f"layer {number}" for number in range(9)}
    figure = plots.curves([{"step": 1, **dict.fromkeys(names, 0.5)}], "step", names, "share")
    assert len({trace.line.color for trace in figure.data}) == len(figure.data) == 9


def test_curves_of_several_models_ratios_or_live_facts_stay_apart():
    row = {"method": "memoryllm", "distance": 0, "accuracy": 0.5, "low": 0.4, "high": 0.6, "n": 10}
    for key, values, said in (
        ("model", ("one", "two"), ["one", "two"]),
        ("ratio", (2, 4), ["MemoryLLM, 2x compressed", "MemoryLLM, 4x compressed"]),
        ("live", (1, 10), ["MemoryLLM", "MemoryLLM, 10 facts held"]),
    ):
        figure = plots.measured([row | {key: value, "distance": d} for value in values for d in (0, 512)])
        assert [trace.name for trace in figure.data] == said and all(len(trace.x) == 2 for trace in figure.data)
        assert len({trace.line.color for trace in figure.data}) == 2
    groups = [row | {"group": name, "n": n} for name, n in (("a", 10), ("b", 10), ("mean", 2))]
    assert plots.measured(groups).layout.meta["finding"].startswith("20 answers scored")


def test_methods_without_a_colour_of_their_own_can_be_told_apart():
    methods = ("mplus", "window", "zeroed", "scrambled", "foreign", "oracle", "question-only")
    rows = [{"method": m, "distance": 0, "accuracy": 0.5, "right": 1, "asked": 2} for m in methods]
    for figure in (plots.measured(rows), plots.retention(rows)):
        hues = [trace.line.color for trace in figure.data]
        assert len(set(hues)) == len(methods) and hues[:2] == [plots.method_colour(m) for m in methods[:2]]


@pytest.mark.parametrize(("key", "said"), [("live", "{} facts held"), ("ratio", "{}x compressed")])
def test_a_finding_says_of_which_curve_it_is(key, said):
    rows = [{"method": "mplus", "distance": d, "accuracy": 1 / n, key: n} for n in (2, 4) for d in (0, 512)]
    finding = plots.measured(rows).layout.meta["finding"]
    for n, share in ((2, "50 %"), (4, "25 %")):
        assert f"M+, {said.format(n)} answers {share} after 512 tokens" in finding


# ── guide ──
def test_the_guide_of_a_model_without_theta_asks_for_what_can_be_done():
    """Of a MemoryLLM only a text can be taken away: its “Θ off” is disabled."""
    has, lacks = guide.listed({}), guide.listed({}, has_theta=False)
    assert "“Θ off”" in has and "retriever" in has and "“Delete the text”" not in has
    assert (
        "“Θ off”" not in lacks and "retriever" not in lacks and "into Θ" not in lacks and "“Delete the text”" in lacks
    )
    done = {}
    for step in guide.STEPS:  # the same steps, in the same order
        assert guide.due(done, False).key == step.key and guide.strip(done, False)
        done[step.key] = 1.0
    assert guide.strip(done, False) == ""
    before = dict.fromkeys(("write", "distract", "ask", "slot"), 1.0)
    assert "Step 5 of 6: Take a text away." in guide.strip(before, False) and "Θ off" in guide.strip(before)

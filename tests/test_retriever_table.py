"""All kinds of retrievers on one memory: the command end to end, its rules against the core's, its measures by hand."""

import json
import math
import random

import pytest
import torch

from core.checkpoint import save_model
from core.config import MPlusConfig
from core.evaluate import main
from core.evaluation.retriever_kinds import KINDS, RULES, Kind, fresh, last_only
from core.evaluation.retriever_memory import Written, measure, write
from core.fitting import EVIDENCE, TOKEN_RULES, Frozen, balanced, by_clock, by_steps, learn, over_blocks, score
from core.recipe import recipe_model
from core.retriever import Keys
from core.world import Fact, World
from tests.learners import little_config, little_tokenizer
from tests.toys import toy_mplus, toy_tokenizer

torch.set_num_threads(1)


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def little_retriever(rule: str = "block", start: str = "random"):
    return fresh(MPlusConfig(hidden_size=24, retriever_size=24, num_attention_heads=2), Kind("", rule, start), draw())


def test_the_command_compares_all_kinds(tmp_path, capsys):
    tokenizer, world = little_tokenizer(), World(random.Random(5))
    save_model(recipe_model(little_config(retriever_size=48, num_retrieved=64), 0), tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "book.txt").write_text(" ".join(fact.fact for fact in (world.fact() for _ in range(150))))
    line = ["retrievers", "--model", tmp_path / "model", "--facts", "facts:3", "--num-facts", 24, "--asked", 12]
    line += ["--distractors", tmp_path / "book.txt", "--num-train", 64, "--steps", 8, "--out", tmp_path]
    assert main([*map(str, line), "--plot", str(tmp_path / "plot.png")]) == 0
    table, result = capsys.readouterr().out, json.loads((tmp_path / "retrievers.json").read_text())
    rows = {row["retriever"]: row for row in result["rows"]}
    assert [*rows] == ["random", "BM25 on the texts", *(kind.name for kind in KINDS), "shipped, layers decide together"]
    assert all(f"| {name} |" in table for name in rows) and (tmp_path / "plot.png").stat().st_size > 10_000
    assert result["memory_tokens"] > 24 * 16 and result["chance"] == 64 / result["memory_tokens"]
    for name, row in rows.items():
        trained = any(kind.loss for kind in KINDS if kind.name == name)
        assert row["steps"] == (8 if trained else 0) and row["n"] == 12 and row["seconds"] > 0
        for share in ("tokens", "best", "block"):
            assert 0 <= row[share]["low"] <= row[share]["accuracy"] <= row[share]["high"] <= 1
        assert math.isclose(row["lift"], row["tokens"]["accuracy"] / result["chance"])
        assert row["best"]["accuracy"] == pytest.approx(max(row["tokens_by_layer"]), abs=1e-3)
    # Even in a model that has learned nothing, the words of the first layer find the block; chance does not.
    assert rows["BM25 on the texts"]["block"]["accuracy"] > 0.6
    assert rows["closed form, late interaction"]["best"]["accuracy"] > 3 * rows["random"]["best"]["accuracy"]


def test_a_model_without_a_retriever_is_refused(tmp_path, capsys):
    save_model(toy_mplus(num_retrieved=0), tmp_path)
    toy_tokenizer().save_pretrained(tmp_path)
    assert main(["retrievers", "--model", str(tmp_path), "--facts", "facts:1", "--distractors", "facts:2"]) == 2
    assert "has no retriever to compare with" in capsys.readouterr().err


@pytest.mark.parametrize("rule", EVIDENCE)
def test_training_scores_blocks_as_the_search_does(rule):
    retriever, queries = little_retriever(rule), torch.randn(2, 5, 24, generator=draw(1))
    blocks, asked = torch.randn(7, 3, 24, generator=draw(2)), torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]).bool()
    with torch.no_grad():
        keys = Keys(retriever.key(blocks).flatten(0, 1), torch.arange(7).repeat_interleave(3))
        found = score(retriever, queries, asked, blocks, rule)
        found = found.flatten(1) if rule in TOKEN_RULES else found.repeat_interleave(3, 1)
        for row in range(2):
            searched = RULES[rule](retriever.query(queries[row][asked[row]]), keys)
            # One address averages over the question what training sums: the order is the same.
            searched = searched * asked[row].sum() if rule == "address" else searched
            assert torch.allclose(found[row], searched, atol=1e-4)


def test_the_losses_are_what_their_papers_say():
    p = torch.tensor([[[0.9, 0.8], [0.2, 0.4]], [[0.3, 0.1], [0.6, 0.7]]])
    right, wrong = (0.9, 0.8, 0.6, 0.7), (0.2, 0.4, 0.3, 0.1)
    by_hand = -sum(map(math.log, right)) / 8 - sum(math.log(1 - one) for one in wrong) / 8
    assert balanced(p, torch.tensor(3.0), "mean_sigmoid").item() == pytest.approx(by_hand, abs=1e-4)
    assert balanced(p.logit() / 2, torch.tensor(2.0), "dot").item() == pytest.approx(by_hand, abs=1e-4)
    odds = (2 * p).exp().sum(-1)
    by_hand = -sum(math.log(odds[i, i] / odds[i].sum()) for i in range(2)) / 2
    assert over_blocks(p, torch.tensor(2.0), "mean_sigmoid").item() == pytest.approx(by_hand, abs=1e-5)


@pytest.mark.parametrize(("rule", "loss"), sorted({(kind.rule, kind.loss) for kind in KINDS if kind.loss}))
def test_every_kind_learns(rule, loss):
    names, shapes = torch.randn(300, 24, generator=draw(1)), ((300, 3, 24), (60, 3, 24), (300, 2, 24))
    facts, prose, queries = (0.3 * torch.randn(*shape, generator=draw(seed)) for seed, shape in enumerate(shapes, 2))
    facts[:, 1] += 2 * names
    queries[:, 1] += 2 * names
    seen = Frozen(facts, prose, queries, torch.ones(300, 2, dtype=torch.bool))
    retriever, shares = little_retriever(rule), []
    for steps in (0, 150):
        assert learn(retriever, seen, 50, by_steps(steps), draw(), rule, loss) == steps
        with torch.no_grad():
            found = score(retriever, queries[:50], seen.asked[:50], torch.cat([facts, prose]), rule)
        found = found.amax(-1) if rule in TOKEN_RULES else found
        shares.append((found.topk(10).indices == torch.arange(50)[:, None]).any(1).float().mean().item())
    assert shares[1] > 5 * 10 / 360, shares  # of held-out questions: several times chance


def test_a_clock_makes_one_step_at_least():
    assert len(list(by_clock(1e-9))) == 1
    shares = list(by_clock(0.02))
    assert len(shares) > 10 and shares == sorted(shares) and shares[-1] <= 1.0


def test_the_last_token_alone_asks():
    asked = torch.tensor([[1, 1, 0], [1, 1, 1]]).bool()
    assert last_only(asked).tolist() == [[False, True, False], [False, False, True]]


def test_a_projection_is_one_linear_map_for_both():
    retriever, states = little_retriever(start="projection"), torch.randn(4, 24, generator=draw())
    with torch.no_grad():
        assert torch.allclose(retriever.query(states), retriever.key(states))
        assert torch.allclose(retriever.key(2 * states), 2 * retriever.key(states), atol=1e-4)


def test_a_memory_holds_facts_then_text_and_is_measured_by_hand():
    model, tokenizer = toy_mplus(), toy_tokenizer()
    facts = [Fact("Ann owns a very long green boat.", "What?", "boat"), Fact("Bo eats an apple.", "What?", "apple")]
    written = write(model, tokenizer, facts, list(range(100)) * 2)
    assert written.bounds == [(0, 2), (2, 3)] and written.texts[:3] == [facts[0].fact] * 2 + [facts[1].fact]
    assert written.states.shape == (2, 3 + 200 // 24, 8, 64) and written.states.isfinite().all()
    scores = torch.zeros(24 * 8)
    scores[4:12] = 1.0  # half of the first block, half of the second
    scores[16:18] = 0.5  # a fourth of the third, which is the second fact
    found = measure([lambda which: scores], Written(torch.zeros(1, 24, 8, 2), written.bounds, []), 2, 10)
    assert found.tokens.flatten().tolist() == [8 / 16, 2 / 8] and found.blocks.flatten().tolist() == [1.0, 1.0]

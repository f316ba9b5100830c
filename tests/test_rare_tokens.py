"""Embeddings that have fallen together are told apart again, and nothing else changes."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import core
from core import train
from core.rare_tokens import redraw_rare_tokens
from core.recipe import recipe_model
from tests.learners import little_config
from tests.toys import toy_mplus

RARE = torch.tensor([3, 7, *range(100, 130), 399])


def with_rare_tokens(seed: int = 0):
    """A little model that has pushed some tokens away in one direction."""
    model, generator = recipe_model(little_config(), seed), torch.Generator().manual_seed(seed)
    table = model.get_input_embeddings().weight
    with torch.no_grad():
        table.copy_(torch.randn(table.shape, generator=generator))
        away = 2 * torch.randn(table.shape[1], generator=generator)
        table[RARE] = away + 0.3 * table[RARE]
    return model


def nearest(table):
    unit = F.normalize(table.detach(), dim=1)
    return (unit @ unit.T).fill_diagonal_(-1).max(1).values


def test_only_tokens_that_fell_together_are_redrawn_and_look_like_the_others():
    model = with_rare_tokens()
    table = model.get_input_embeddings().weight
    before = table.detach().clone()
    assert nearest(table)[RARE].min() > 0.9
    assert torch.equal(redraw_rare_tokens(model, seed=1), RARE)
    assert nearest(table)[RARE].max() < 0.85
    others = torch.ones(len(table), dtype=torch.bool).index_fill(0, RARE, False)
    assert torch.equal(table[others], before[others])
    length = table[others].norm(dim=1).median()
    torch.testing.assert_close(table[RARE].norm(dim=1), length.expand(len(RARE)), rtol=1e-3, atol=0)
    assert model.lm_head.weight is table
    after = table.detach().clone()
    assert not len(redraw_rare_tokens(model)) and torch.equal(table, after)


def test_the_seed_decides():
    one, same, other = (with_rare_tokens() for _ in range(3))
    for model, seed in ((one, 1), (same, 1), (other, 2)):
        redraw_rare_tokens(model, seed)
    first, second, third = (model.get_input_embeddings().weight for model in (one, same, other))
    assert torch.equal(first, second) and not torch.equal(first[RARE], third[RARE])


def test_untied_embeddings_are_refused():
    with pytest.raises(ValueError, match="not tied"):
        redraw_rare_tokens(toy_mplus(tie_word_embeddings=False))


def test_a_base_is_trained_with_its_rare_tokens_told_apart(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(train, "redraw_rare_tokens", lambda model, seed: asked.append((model.config.vocab_size, seed)))
    command = ["--recipe", "mini", "--lessons", "3", "--base", "mini", "--out", str(tmp_path), "--seed", "4"]
    args = train.arguments([*command, "--precision", "no", "--data", "tests/data"])
    with pytest.raises(ValueError):  # the folder holds no documents, and is only reached after the base was prepared
        train.start_recipe(args, train.accelerator("no", cpu=True))
    assert asked == [(2048, 4)]


@pytest.mark.filterwarnings("ignore:The text has")
def test_mini_gives_back_names_that_are_written_with_rare_tokens():
    lines = (Path(__file__).parent / "data" / "rare_names.jsonl").read_text(encoding="utf-8").splitlines()
    reader, right = core.load("mini"), 0
    for row in map(json.loads, lines):
        reader.reset()
        reader.ingest(row["fact"])
        right += row["answer"] in reader.answer(row["question"], 16).text
    assert len(lines) == 40 and right >= 35

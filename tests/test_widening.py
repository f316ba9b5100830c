"""A wider model starts as the narrower one: the same logits, the same retrieval, and everything new can learn."""

import pytest
import torch

import core
from core import train
from core.adapters import WRITE
from core.curriculum import SHAPES
from core.objectives import merged
from core.reading import new_memory, read_logits, write
from core.recipe import recipe_model
from core.run_folder import checkpoints
from core.widening import is_narrower, widened
from tests.learners import LITTLE, little_config

WIDE = LITTLE | {"hidden_size": 200, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 4}


def little_model(seed: int = 0):
    """All that a training changes is far from its start: both adapters, norms and embeddings."""
    model, generator = recipe_model(little_config(relevance="block"), seed), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name or "norm" in name:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def read(model):
    memory, generator = new_memory(model, seed=3), torch.Generator().manual_seed(0)
    for _ in range(12):
        write(model, [memory], torch.randint(3, 400, (1, 32), generator=generator))
    with torch.no_grad():
        output, found = read_logits(model, [memory], torch.randint(3, 400, (1, 9), generator=generator))
    return output.logits, [each.rows for (each,) in found]


def test_it_computes_what_the_narrower_one_does():
    model = little_model()
    wider = widened(model, WIDE)
    assert is_narrower(model.config, WIDE) and not is_narrower(wider.config, WIDE)
    logits, rows = read(model)
    same, found = read(wider)
    torch.testing.assert_close(same, logits, rtol=1e-4, atol=1e-4)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, rows, strict=True))


def test_what_is_new_learns_from_the_first_steps():
    model = widened(little_model(), WIDE)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    ids = torch.arange(5, 25)[None]
    for _ in range(3):  # what writes into the stream learns first, then what reads what was written
        with merged(model, WRITE):
            model(ids, labels=ids).loss.backward()
        optimizer.step()
        gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
        optimizer.zero_grad()
    for name, gradient in gradients.items():
        if gradient is not None and gradient.dim() == 2 and "read" not in name and "retriever" not in name:
            assert all(gradient[-1:].abs().amax() > 0 for gradient in (gradient, gradient.T)), name


def test_it_only_grows():
    model = little_model()
    with pytest.raises(ValueError, match="can only grow: hidden_size 136"):
        widened(model, WIDE | {"hidden_size": 100})
    with pytest.raises(ValueError, match="keeps its number of query heads"):
        widened(model, WIDE | {"num_key_value_heads": 2})


def test_a_recipe_widens_a_narrower_base(tmp_path):
    (tmp_path / "book.txt").write_text("The ferry leaves at noon, and the harbour is quiet afterwards. " * 400)
    line = f"--recipe wide --lessons 4 --base memoryllm-mini --data {tmp_path / 'book.txt'} --out {tmp_path / 'run'}"
    assert train.main([*line.split(), "--max-steps", "1", "--precision", "no"]) == 0
    found = core.load_model(checkpoints(tmp_path / "run")[-1]).config
    assert core.load_model("memoryllm-mini").config.hidden_size < found.hidden_size == SHAPES["wide"]["hidden_size"]

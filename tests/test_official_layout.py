"""What the authors' configuration can express beyond the golden cases: settings, first writes, and the way back."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from core.adapters import READ, WRITE, use_adapter
from core.checkpoint import export_official, load_model
from core.reading import generate, new_memory, read_logits, write
from tests.toys import toy_mplus

MEMORYLLM = {"num_retrieved": 0, "drop": "shared", "rules": "released", "relevance": "mean_sigmoid"}
MPLUS = {"rules": "released", "relevance": "mean_sigmoid", "merge_every": 2, "initial_recall": 1.2, "recall_decay": 0.3}


def tensors_of(folder):
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize(
    "settings",
    [
        MEMORYLLM,
        {**MEMORYLLM, "drop": "per_layer", "read_adapter": False},
        MPLUS,
        {**MPLUS, "has_bos": False, "retriever_depth": 1},
        {**MPLUS, "lora_rank": 0, "encoder_retriever": True},
        {**MPLUS, "tie_word_embeddings": False, "lora_targets": ["q_proj", "v_proj"]},
    ],
)
def test_every_setting_survives_the_authors_layout(tmp_path, settings):
    model = toy_mplus(**settings)
    export_official(model, tmp_path / "one")
    again = load_model(tmp_path / "one")
    for name in settings:
        assert getattr(again.config, name) == getattr(model.config, name), name
    export_official(again, tmp_path / "two")
    one, two = tensors_of(tmp_path / "one"), tensors_of(tmp_path / "two")
    assert set(one) == set(two) and all(torch.equal(one[name], two[name]) for name in one)
    prompt = torch.arange(5)[None]
    with torch.no_grad():
        before, after = (read_logits(m, [new_memory(m)], prompt)[0].logits for m in (model, again))
    assert torch.allclose(before, after, atol=1e-5 * before.abs().max())


def test_a_memory_that_has_grown_is_exported_whole(tmp_path):
    model = toy_mplus(**MPLUS)
    memory = new_memory(model)
    for step in range(7):
        write(model, [memory], torch.full((1, 12), step))
    export_official(model, tmp_path, memory.state)
    again = new_memory(load_model(tmp_path))
    assert torch.equal(again.state.pool, memory.state.pool)
    for mine, theirs in zip(memory.state.logs, again.state.logs, strict=True):
        assert torch.equal(mine.tokens[mine.live], theirs.tokens)
        assert torch.equal(memory.state.clock - mine.born[mine.live], again.state.clock - theirs.born)
        pending = theirs.recall[mine.live[: mine.merged].sum() :]
        assert len(pending) and bool((pending.float() == torch.tensor(1.2)).all()), "their life begins with the layout"
        assert torch.equal(theirs.recall[: -len(pending)], mine.recall[: mine.merged][mine.live[: mine.merged]].float())


def test_what_the_authors_code_would_search_otherwise_is_not_exported(tmp_path):
    with pytest.raises(ValueError, match=r"block.*save_model"):
        export_official(toy_mplus(**{**MPLUS, "relevance": "block"}), tmp_path / "theirs")
    assert not (tmp_path / "theirs").exists()


@pytest.mark.parametrize("length", [3, 8, 20])
@torch.no_grad()
def test_memoryllm_before_its_first_write(tmp_path, length):
    """No bos, no memory, positions from 0; the new-memory embedding on the last min(K, n) tokens; the block is tiled.

    In every layer but the last the stored block has the embedding once more: the authors add it in place.
    """
    export_official(toy_mplus(**MEMORYLLM), tmp_path)
    save_file(
        {**tensors_of(tmp_path), "initialized": torch.tensor(0, dtype=torch.uint8)}, tmp_path / "model.safetensors"
    )
    model = load_model(tmp_path)
    memory, prompt = new_memory(model), torch.arange(5)[None]
    with use_adapter(model, READ):
        assert torch.equal(read_logits(model, [memory], prompt)[0].logits, model(prompt).logits)
    ids = torch.arange(40, 40 + length)[None]
    inputs, outputs = [], []
    hooks = [layer.register_forward_pre_hook(lambda m, a: inputs.append(a[0].clone())) for layer in model.model.layers]
    hooks += [
        layer.register_forward_hook(lambda m, a, out: outputs.append(out.clone())) for layer in model.model.layers
    ]
    blocks = write(model, [memory], ids)
    for hook in hooks:
        hook.remove()
    count, new = min(8, length), model.memory.new
    embedded = model.model.embed_tokens(ids)
    assert torch.allclose(inputs[0][:, -count:], embedded[:, -count:] + new) and inputs[0].shape[1] == length
    assert torch.equal(inputs[0][:, :-count], embedded[:, :-count])
    assert torch.allclose(blocks[0], outputs[0][:, -count:] + new) and torch.equal(blocks[-1], outputs[-1][:, -count:])
    tiles = (list(range(count)) * 32)[: 32 // count * count]
    tiles += list(range(count))[count - 32 % count :] if 32 % count else []
    assert torch.equal(memory.state.pool, blocks[:, 0][:, tiles])
    with use_adapter(model, WRITE):
        second = model.write(ids, memory.newest)
    assert torch.equal(write(model, [memory], ids), second), "the second write is an ordinary one"
    assert memory.state.pool.shape == (2, 32, 64)
    ids, _ = generate(model, [memory], prompt, max_new_tokens=3, do_sample=False, pad_token_id=257)
    assert ids.shape[1] <= 8


def test_a_config_that_lacks_a_setting_says_which(tmp_path):
    export_official(toy_mplus(**MPLUS), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for name in ("num_tokens", "num_blocks", "num_ltm_blocks", "selector_hidden_dim", "update_ltm_frequency"):
        (tmp_path / "config.json").write_text(json.dumps({k: v for k, v in config.items() if k != name}))
        with pytest.raises(ValueError, match=name):
            load_model(tmp_path)

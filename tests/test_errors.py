"""Wrong input: one clear sentence with the value, and nothing lost."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

import core
from core.checkpoint import export_official, load_model, save_model
from core.config import MPlusConfig
from core.reader import MPlusReader
from core.reading import generate, new_memory, write
from tests.toys import LLAMA3, MEMORY, SHAPE, toy_mplus, toy_tokenizer

TEXT = "The password of the old mill is seven blue herons."


def reader(**settings):
    return MPlusReader(toy_mplus(**settings), toy_tokenizer())


def state_of(memory):
    state = memory.state
    rows = [log.tokens.clone() for log in state.logs]
    return (
        [state.pool.clone(), state.block.clone(), *rows],
        state.clock,
        list(state.receipts),
        memory.random.get_state(),
    )


def same(a, b):
    return (
        all(torch.equal(x, y) for x, y in zip(a[0], b[0], strict=True)) and a[1:3] == b[1:3] and torch.equal(a[3], b[3])
    )


@pytest.mark.parametrize("text, words", [("", "empty"), ("   \n", "empty"), ("a", "single token")])
def test_texts_that_hold_nothing(text, words):
    mplus = reader()
    before = state_of(mplus.memory)
    with pytest.raises(ValueError, match=words):
        mplus.ingest(text)
    assert same(before, state_of(mplus.memory))


def test_a_very_short_text_is_repeated_with_a_warning():
    mplus = reader()
    with pytest.warns(UserWarning, match="3 tokens"):
        receipt = mplus.ingest("abc")
    assert receipt.repeated == 3 and receipt.num_tokens >= MEMORY["min_chunk"] and len(receipt.chunks) == 1
    assert {receipt.text[start:end] for start, end in receipt.spans} <= {"a", "b", "c", ""}


def test_questions_that_cannot_be_asked():
    mplus = reader()
    with pytest.raises(ValueError, match="empty"):
        mplus.answer("  ")
    with pytest.raises(ValueError, match="window of 256"):
        mplus.answer("why " * 200)
    with pytest.raises(ValueError, match="at least 1"):
        mplus.answer("Why?", max_new_tokens=0)


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"block_size": -1}, "block_size is -1"),
        ({"num_retrieved": -5}, "num_retrieved is -5"),
        ({"max_long_term": 0}, "max_long_term is 0"),
        ({"num_blocks": 1}, "num_blocks is 1"),
        ({"rules": "papr"}, "rules is 'papr'"),
        ({"relevance": "cosine"}, "relevance is 'cosine'"),
        ({"min_chunk": 99}, "min_chunk is 99"),
    ],
)
def test_settings_that_make_no_model(settings, words):
    with pytest.raises(ValueError, match=words):
        MPlusConfig(**{**SHAPE, **MEMORY, **settings})


def test_a_chunk_longer_than_allowed_never_reaches_the_model():
    mplus = reader()
    receipt = mplus.ingest(TEXT * 3)
    lengths = [chunk.end - chunk.start for chunk in receipt.chunks]
    assert max(lengths) <= MEMORY["chunk_size"] and max(lengths) - min(lengths) <= 1
    with pytest.raises(ValueError, match="chunk_size"):
        write(mplus.model, [mplus.memory], torch.zeros(1, MEMORY["chunk_size"] + 1, dtype=torch.int64))


def test_an_ingest_that_is_stopped_leaves_nothing_behind():
    mplus = reader()
    mplus.ingest(TEXT)
    before = state_of(mplus.memory)

    def stop(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mplus.ingest(TEXT * 2, stop)
    assert same(before, state_of(mplus.memory))


def test_receipts_and_undo_that_do_not_exist():
    mplus = reader()
    with pytest.raises(ValueError, match="receipt 7"):
        mplus.delete(7)
    with pytest.raises(ValueError, match="nothing to undo"):
        mplus.undo()


def test_memories_that_cannot_be_read_together():
    model = toy_mplus()
    one, other = new_memory(model), new_memory(model)
    write(model, [one], torch.zeros(1, 8, dtype=torch.int64))
    with pytest.raises(ValueError, match="batch"):
        generate(model, [one, other], torch.zeros(2, 3, dtype=torch.int64), max_new_tokens=1)


# ── checkpoints ──


@pytest.fixture
def saved(tmp_path):
    save_model(toy_mplus(), tmp_path / "model")
    toy_tokenizer().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_an_unknown_checkpoint(tmp_path):
    with pytest.raises(ValueError, match="no checkpoint 'nobody/knows-this'"):
        core.load("nobody/knows-this")
    with pytest.raises(ValueError, match=r"no config\.json"):
        core.load(tmp_path)


def test_truncated_weights(saved):
    weights = saved / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(ValueError, match="cannot be read"):
        core.load(saved)


def test_missing_unexpected_and_mismatched_tensors_are_named(saved):
    tensors = load_file(saved / "model.safetensors")
    some = "model.layers.0.retriever.query.0.weight"
    for change, words in (
        ({some: None}, f"missing: {some}"),
        ({"extra.weight": torch.zeros(2)}, r"unexpected: extra\.weight"),
        ({some: torch.zeros(3, 3)}, f"{some} in .* has shape \\(3, 3\\)"),
    ):
        changed = {name: tensor for name, tensor in {**tensors, **change}.items() if tensor is not None}
        save_file(changed, saved / "model.safetensors")
        with pytest.raises(ValueError, match=words):
            load_model(saved)


def test_another_architecture_and_a_pickle(saved):
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps({**config, "model_type": "gpt2", "architectures": ["GPT2"]}))
    with pytest.raises(ValueError, match="'gpt2'"):
        load_model(saved)
    (saved / "config.json").write_text(json.dumps(config))
    torch.save(load_file(saved / "model.safetensors"), saved / "pytorch_model.bin")
    (saved / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="allow_pickle"):
        load_model(saved)
    assert load_model(saved, allow_pickle=True).config.block_size == MEMORY["block_size"]


def test_a_projected_memory_is_not_exported(tmp_path):
    model = toy_mplus()
    with pytest.raises(ValueError, match="hidden"):
        export_official(model, tmp_path, new_memory(model, "projected").state)


# ── fresh M+ on a Llama base ──


@pytest.mark.parametrize("tied", [True, False])
def test_a_llama_becomes_the_base_of_a_fresh_mplus(tmp_path, tied):
    shape = {**SHAPE, "head_dim": 32, "tie_word_embeddings": tied, "rope_parameters": LLAMA3}
    llama = LlamaForCausalLM(LlamaConfig(**shape)).eval()
    llama.save_pretrained(tmp_path, max_shard_size="40KB")
    toy_tokenizer().save_pretrained(tmp_path)
    mplus = core.load(tmp_path, **MEMORY)
    prompt = torch.arange(20)[None]
    with torch.no_grad():
        assert torch.allclose(mplus.model(prompt).logits, llama(prompt).logits, atol=1e-6)
    mplus.ingest(TEXT * 2)
    assert isinstance(mplus.answer("What is it?", max_new_tokens=3).text, str)
    index = tmp_path / "model.safetensors.index.json"
    first = sorted(set(json.loads(index.read_text())["weight_map"].values()))[0]
    shutil.copy(tmp_path / first, tmp_path / "copy")
    (tmp_path / first).write_bytes((tmp_path / "copy").read_bytes()[:-50])
    with pytest.raises(ValueError, match="cannot be read"):
        core.load(tmp_path, **MEMORY)

"""Checkpoints: whole or refused by name; a Llama as the base of a fresh M+ computes exactly what it computed before."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

import core
from core.checkpoint import export_official, load_model, save_model
from core.memory_file import fingerprint
from core.reading import new_memory, write
from core.weights import read_tensors
from tests.toys import LLAMA3, MEMORY, SHAPE, toy_llama, toy_mplus, toy_tokenizer

WEIGHTS, INDEX, LONG_TERM = "model.safetensors", "model.safetensors.index.json", "long_term.safetensors"
QUERY = "model.layers.0.retriever.query.0.weight"
UP_NORM, NORM = "model.layers.1.input_layernorm.weight", "model.norm.weight"
PROMPT = torch.arange(20)[None]


@pytest.fixture
def ours(tmp_path):
    save_model(toy_mplus(), tmp_path / "ours")
    return tmp_path / "ours"


@pytest.fixture
def llama(tmp_path):
    toy_llama().save_pretrained(tmp_path / "llama")
    return tmp_path / "llama"


def rewrite(folder, changes, file=WEIGHTS):
    tensors = {**load_file(folder / file), **changes}
    kept = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    save_file(kept, folder / file, metadata={"format": "pt"})


def pickle(folder):
    torch.save(load_file(folder / WEIGHTS), folder / "pytorch_model.bin")
    (folder / WEIGHTS).unlink()


def identical(one, other):
    a, b = one.state_dict(), other.state_dict()
    return set(a) == set(b) and all(torch.equal(a[name], b[name]) for name in a)


# ── our own ──


@pytest.mark.parametrize("settings", [{}, {"has_bos": False, "lora_rank": 0}, {"tie_word_embeddings": False}])
def test_a_model_comes_back_as_it_was_saved(tmp_path, settings):
    model = toy_mplus(**settings)
    save_model(model, tmp_path)
    again = load_model(tmp_path)
    assert identical(model, again) and fingerprint(model) == fingerprint(again)
    assert again.config.to_diff_dict() == model.config.to_diff_dict() and not again.training
    with torch.no_grad():
        assert torch.equal(model(PROMPT).logits, again(PROMPT).logits)


def with_long_term(folder, **settings):
    """A model saved with what a memory holds after some writes as its initial Θ."""
    model = toy_mplus(**settings)
    memory = new_memory(model)
    for step in range(7):
        write(model, [memory], torch.full((1, 12), step))
    model.initial_long_term = memory.state.logs
    save_model(model, folder)
    return model


def test_an_initial_long_term_memory_comes_back_too(tmp_path):
    model = with_long_term(tmp_path, rules="released", merge_every=2, initial_recall=2.0)
    for mine, theirs in zip(model.initial_long_term, load_model(tmp_path).initial_long_term, strict=True):
        assert theirs.merged == mine.merged and len(theirs) == len(mine) > 0
        for name in ("tokens", "keys", "born", "block", "slot", "recall"):
            assert torch.equal(getattr(theirs, name), getattr(mine, name)[mine.live]), name


def test_a_damaged_long_term_memory_is_refused(tmp_path):
    with_long_term(tmp_path)
    whole = (tmp_path / LONG_TERM).read_bytes()
    (tmp_path / LONG_TERM).write_bytes(whole[:-40])
    with pytest.raises(ValueError, match=r"long_term\.safetensors cannot be read"):
        load_model(tmp_path)
    for change, words in (
        ({"long.1.born": None}, r"long\.1\.born is absent"),
        ({"long.0.keys": torch.zeros(3, 8)}, r"long\.0\.keys .* shape \(3, 8\)"),
        ({"long.1.merged": None}, "Θ of 1 layers, expected 2"),
        ({"long.1.merged": torch.tensor(10_000)}, r"long\.1\.merged"),
    ):
        (tmp_path / LONG_TERM).write_bytes(whole)
        rewrite(tmp_path, change, LONG_TERM)
        with pytest.raises(ValueError, match=words):
            load_model(tmp_path)


def test_in_bfloat16_the_weights_are_rounded_and_rope_is_not(ours):
    whole, half = load_model(ours), load_model(ours, dtype=torch.bfloat16)
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16} and half.memory.pool.dtype == torch.bfloat16
    assert torch.equal(half.model.rotary_emb.inv_freq, whole.model.rotary_emb.inv_freq)
    assert torch.equal(half.memory.bos, whole.memory.bos.to(torch.bfloat16)) and fingerprint(half) == fingerprint(whole)


@pytest.mark.parametrize("settings", [{}, {"num_retrieved": 0, "drop": "shared"}, {"has_bos": False}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_fresh_model_goes_to_the_authors_layout_and_back(tmp_path, dtype, settings):
    save_model(toy_mplus(**{"relevance": "mean_sigmoid", "rules": "released", **settings}), tmp_path / "ours")
    model = load_model(tmp_path / "ours", dtype=dtype)
    export_official(model, tmp_path / "theirs")
    again = load_model(tmp_path / "theirs", dtype=dtype)
    assert identical(model, again)
    assert {t.dtype for name, t in read_tensors(tmp_path / "theirs").items() if name == "memory"} == {dtype}


# ── any Llama as a base ──


@pytest.mark.parametrize("adapters", [0, 2])
@pytest.mark.parametrize(
    "shape",
    [{}, {"head_dim": 32}, {"tie_word_embeddings": False, "num_key_value_heads": 4}, {"rope_parameters": LLAMA3}],
)
@torch.no_grad()
def test_without_memory_a_base_computes_what_it_did_bit_for_bit(tmp_path, shape, adapters):
    torch.manual_seed(3)
    plain = LlamaForCausalLM(LlamaConfig(**{**SHAPE, **shape})).eval()
    plain.save_pretrained(tmp_path, max_shard_size="40KB")
    assert (tmp_path / INDEX).is_file(), "not sharded"
    model = load_model(tmp_path, **{**MEMORY, "lora_rank": adapters})
    assert torch.equal(model(PROMPT).logits, plain(PROMPT).logits)
    assert all(
        torch.equal(bos[0], plain.model.embed_tokens.weight[plain.config.bos_token_id]) for bos in model.memory.bos
    )
    plain, model = (kind.to(dtype=torch.float32) for kind in (plain, model))
    settings = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 257}
    assert torch.equal(model.generate(PROMPT, **settings), plain.generate(PROMPT, **settings))


@torch.no_grad()
def test_a_base_in_bfloat16_is_the_same_llama_in_bfloat16(llama):
    model = load_model(llama, dtype=torch.bfloat16, **MEMORY)
    plain = LlamaForCausalLM.from_pretrained(llama, dtype=torch.bfloat16).eval()
    assert model.model.rotary_emb.inv_freq.dtype == torch.float32
    assert torch.equal(model(PROMPT).logits, plain(PROMPT).logits)


def test_what_a_base_lacks_is_drawn_the_same_at_every_load(llama, tmp_path):
    toy_tokenizer().save_pretrained(llama)
    before = torch.get_rng_state()
    one = core.load(llama, **MEMORY)
    assert torch.equal(before, torch.get_rng_state()), "loading disturbs the caller's random numbers"
    torch.manual_seed(77)
    other = core.load(llama, **MEMORY)
    assert identical(one.model, other.model)
    assert one.model.memory.pool.std() > 0.9 and one.model.memory.new.abs().max() == 0
    assert one.model.model.layers[1].retriever.scale == MEMORY["retriever_size"] ** -0.5
    one.ingest("A memory of a fresh model outlives the process that made it.")
    one.save(tmp_path / "memory.safetensors")
    other.load(tmp_path / "memory.safetensors")
    assert torch.equal(one.memory.state.pool, other.memory.state.pool)


# ── what is wrong is named ──


@pytest.mark.parametrize("kind", ["ours", "llama"])
@pytest.mark.parametrize(
    "changes, words",
    [
        ({NORM: None, UP_NORM: None}, f"missing: {UP_NORM}, {NORM} \\(2 in all\\)"),
        ({"extra.weight": torch.zeros(2)}, r"unexpected: extra\.weight"),
        ({UP_NORM: torch.zeros(3)}, rf"{UP_NORM} .* has shape \(3,\).* \(64,\)"),
    ],
)
def test_missing_unexpected_and_mismatched_tensors(kind, changes, words, request):
    folder = request.getfixturevalue(kind)
    rewrite(folder, changes)
    with pytest.raises(ValueError, match=words):
        load_model(folder, **MEMORY)


def test_a_missing_retriever_is_named_in_a_checkpoint_of_ours(ours):
    rewrite(ours, {QUERY: None})
    with pytest.raises(ValueError, match=f"missing: {QUERY}"):
        load_model(ours)


@pytest.mark.parametrize("kind", ["ours", "llama"])
def test_a_pickle_needs_the_flag(kind, request):
    folder = request.getfixturevalue(kind)
    whole = load_model(folder, allow_pickle=True, **MEMORY)  # the flag does no harm where there is none
    pickle(folder)
    with pytest.raises(ValueError, match="allow_pickle"):
        load_model(folder, **MEMORY)
    assert identical(whole, load_model(folder, allow_pickle=True, **MEMORY))
    raw = (folder / "pytorch_model.bin").read_bytes()
    (folder / "pytorch_model.bin").write_bytes(raw[: len(raw) // 2])
    with pytest.raises(ValueError, match="cannot be read"):
        load_model(folder, allow_pickle=True, **MEMORY)


@pytest.mark.parametrize("kind", ["ours", "llama"])
def test_truncated_weights_are_refused(kind, request):
    folder = request.getfixturevalue(kind)
    whole = (folder / WEIGHTS).read_bytes()
    for cut in (0, 5, 400, len(whole) // 2, len(whole) - 1):
        (folder / WEIGHTS).write_bytes(whole[:cut])
        with pytest.raises(ValueError, match="cannot be read"):
            load_model(folder, **MEMORY)
    (folder / WEIGHTS).unlink()
    with pytest.raises(ValueError, match=r"no model\.safetensors"):
        load_model(folder, **MEMORY)


def test_shards_that_are_not_all_there(tmp_path):
    toy_llama().save_pretrained(tmp_path, max_shard_size="40KB")
    shard = sorted(tmp_path.glob("model-*.safetensors"))[1]
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-50])
    with pytest.raises(ValueError, match="cannot be read"):
        load_model(tmp_path, **MEMORY)
    shard.unlink()
    with pytest.raises(ValueError, match=f"lacks {shard.name}"):
        load_model(tmp_path, **MEMORY)
    for text, words in (("{}", "names no shards"), ("[", "not readable JSON")):
        (tmp_path / INDEX).write_text(text)
        with pytest.raises(ValueError, match=words):
            load_model(tmp_path, **MEMORY)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}, "'gpt2'"),
        ({"block_size": "8"}, "block_size.*expected int"),
        ({"num_blocks": -4}, "num_blocks is -4"),
        ({"head_dim": 15}, "head_dim"),
    ],
)
def test_configurations_that_make_no_model(ours, change, words):
    config = json.loads((ours / "config.json").read_text())
    (ours / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(ValueError, match=f"(?s){words}"):
        load_model(ours)


def test_a_config_that_is_none_and_a_checkpoint_that_is_none(ours, tmp_path):
    for text in ("[1]", "{", ""):
        (ours / "config.json").write_text(text)
        with pytest.raises(ValueError, match=r"config\.json"):
            load_model(ours)
    with pytest.raises(ValueError, match="no checkpoint 'nobody/knows-this'"):
        core.load("nobody/knows-this")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no config\.json"):
        core.load(tmp_path / "empty")


def test_a_misspelt_setting_is_not_passed_over(ours):
    with pytest.raises(ValueError, match="no setting blok_size"):
        load_model(ours, blok_size=16)


def test_a_checkpoint_without_a_tokenizer(ours):
    with pytest.raises(ValueError, match="no tokenizer"):
        core.load(ours)


def test_a_projected_memory_is_not_exported(tmp_path):
    model = toy_mplus(relevance="dot")
    with pytest.raises(ValueError, match="hidden"):
        export_official(model, tmp_path, new_memory(model, "projected").state)

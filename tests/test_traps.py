"""One test for each way this stack goes wrong in silence (transformers 5, peft); it fails if the remedy is removed."""

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from core.adapters import READ, WRITE, add_adapters, use_adapter
from core.attention import GROUPED
from core.cache import MemoryCache
from core.checkpoint import load_model, save_model
from core.config import MPlusConfig
from core.model import MPlusForCausalLM
from tests.toys import MEMORY, SHAPE, toy_llama, toy_mplus

GREEDY = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None, "pad_token_id": 257}


def prefix_of(model):
    return lambda layer, _: model.memory.pool[None, layer]


@torch.no_grad()
def test_1_generate_reads_the_whole_prompt_behind_a_prefix():
    """With a mask of the prompt's own length, `generate` would slice the prompt by the prefix's length."""
    model, prompt = toy_mplus(), torch.arange(40, 60)[None]
    ids = model.generate(prompt, prefix_of(model), 32, **GREEDY)
    again = prompt
    for _ in range(6):
        logits = model.read(again, prefix_of(model), 32).logits
        again = torch.cat([again, logits[:, -1:].argmax(-1)], dim=1)
    assert torch.equal(ids, again)
    with_mask = model.generate(prompt, prefix_of(model), 32, attention_mask=torch.ones_like(prompt), **GREEDY)
    assert torch.equal(ids, with_mask)


@torch.no_grad()
def test_2_the_cache_promises_its_prefix_before_the_mask_is_made():
    """Otherwise SDPA gets no mask and cuts the keys: the far end of memory would have no influence."""
    model, prompt = toy_mplus(lora_alpha=2.0), torch.arange(40, 47)[None]
    cache = model.memory_cache(prefix_of(model), 32)
    assert isinstance(cache, MemoryCache) and cache.get_seq_length() == 33
    changed = model.memory.pool.clone()
    changed[:, -8:] = torch.randn(2, 8, 64, generator=torch.Generator().manual_seed(1))
    a = model.read(prompt, prefix_of(model), 32).logits
    b = model.read(prompt, lambda layer, _: changed[None, layer], 32).logits
    assert (a - b).abs().max() > 1e-3


@torch.no_grad()
def test_3_every_attention_implementation_is_masked_alike():
    """An attention function without its mask function attends to the future."""
    model, prompt = toy_mplus(), torch.arange(40, 52)[None]
    logits = {}
    for name in ("eager", "sdpa", GROUPED):
        model.set_attn_implementation(name)
        whole = model.read(prompt, prefix_of(model), 32).logits
        assert torch.allclose(whole, logits.setdefault("eager", whole), atol=1e-4 * whole.abs().max()), name
        head = model.read(prompt[:, :5], prefix_of(model), 32).logits
        assert torch.allclose(head, whole[:, :5], atol=1e-4 * head.abs().max()), f"with {name} the future has leaked"


def test_4_leaving_an_adapter_does_not_freeze_it():
    """peft's set_adapter does: the writer would get no gradient from an answer."""
    model = toy_mplus()
    with use_adapter(model, WRITE):
        block = model.write(torch.arange(16)[None], model.memory.pool[:, None, -8:])
    with use_adapter(model, READ):
        model.read(torch.arange(5)[None], lambda layer, _: block[layer], 8).logits.square().mean().backward()
    for name in ("write", "read"):
        total = sum(float(p.grad.abs().sum()) for n, p in model.named_parameters() if f"lora_B.{name}" in n)
        assert total > 0, name
    assert all(p.requires_grad for p in model.parameters())


def test_5_a_saved_model_has_everything(tmp_path):
    """transformers' own save would write the adapter only and lose the memory tokens."""
    model = toy_mplus()
    save_model(model, tmp_path)
    names = set(load_file(tmp_path / "model.safetensors"))
    assert {"memory.bos", "memory.new", "memory.pool", "model.embed_tokens.weight"} <= names
    assert any("lora_A.write" in n for n in names) and any("retriever.query" in n for n in names)
    assert not any("long" in n or "ltm" in n for n in names), "a memory that grows is no part of the weights"
    again, prompt = load_model(tmp_path), torch.arange(9)[None]
    with torch.no_grad():
        before, after = (m.read(prompt, prefix_of(m), 32).logits for m in (model, again))
    assert torch.allclose(before, after, atol=1e-5)


@pytest.mark.parametrize("path", ["from scratch", "from a Llama"])
def test_6_nothing_of_the_memory_is_left_as_found_in_ram(path, tmp_path):
    """transformers skips loose parameters of the top class, and asks only the inner model about what its layers own."""
    torch.manual_seed(0)
    if path == "from scratch":
        model = MPlusForCausalLM(MPlusConfig(**SHAPE, **MEMORY))
    else:
        toy_llama().save_pretrained(tmp_path)
        model = load_model(tmp_path, **MEMORY)
    assert 0.9 < model.memory.pool.std() < 1.1
    if path == "from scratch":
        assert 0.8 < model.memory.bos.std() < 1.2
    else:  # every layer's is the embedding of the base's own token
        assert (model.memory.bos == model.model.embed_tokens.weight[model.config.bos_token_id]).all()
    assert model.memory.new.abs().max() == 0
    for layer in model.model.layers:
        assert layer.retriever.scale == MEMORY["retriever_size"] ** -0.5
        for name, weight in layer.retriever.named_parameters():
            assert name == "scale" or 0.01 < weight.std() < 0.2, name


def test_loading_in_bfloat16_leaves_rope_alone(tmp_path):
    """`.to(bfloat16)` rounds the inverse frequencies: another model. `dtype=` does not, unless asked to."""
    model = toy_mplus()
    save_model(model, tmp_path)
    half = load_model(tmp_path, dtype=torch.bfloat16)
    assert half.model.embed_tokens.weight.dtype == torch.bfloat16
    assert torch.equal(half.model.rotary_emb.inv_freq, model.model.rotary_emb.inv_freq)
    rounded = load_model(tmp_path, round_rope=True).model.rotary_emb.inv_freq
    assert torch.equal(rounded, model.model.rotary_emb.inv_freq.to(torch.bfloat16).float())


def test_what_would_drop_the_memory_is_refused_loudly():
    model = toy_mplus()
    with pytest.raises(ValueError, match="checkpointing"):
        model.gradient_checkpointing_enable()
    with pytest.raises(ValueError, match="prefill_chunk_size"):
        model.generate(torch.arange(4)[None], prefix_of(model), 32, prefill_chunk_size=2)


@torch.no_grad()
def test_without_memory_an_mplus_model_is_plain_llama():
    model = MPlusForCausalLM(MPlusConfig(**SHAPE, **MEMORY)).eval()
    llama = LlamaForCausalLM(LlamaConfig(**SHAPE)).eval()
    llama.load_state_dict(model.state_dict(), strict=False)
    prompt = torch.arange(20)[None]
    assert torch.equal(model(prompt).logits, llama(prompt).logits)
    add_adapters(model, model.config)  # fresh adapters change nothing either
    assert torch.allclose(model(prompt).logits, llama(prompt).logits, atol=1e-6)

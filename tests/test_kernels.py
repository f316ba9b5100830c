"""Compiled kernels compute what torch computes, for every shape that their loops treat apart."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRotaryEmbedding

from benchmarks.shapes import MEDIUM, random_chunks, random_model
from benchmarks.speed import FastMPlus
from core.decoding import FusedLayer, prepare_for_answers
from core.kernels import block_maxima, decode_layer
from tests.toys import toy_mplus


def plain(layer: LlamaDecoderLayer, x: Tensor, keys: Tensor, values: Tensor, row: int) -> tuple[Tensor, Tensor, Tensor]:
    """One token through a decoder layer in plain torch and double precision: output, new key, new value."""
    attention, mlp = layer.self_attn, layer.mlp
    size, groups = attention.head_dim, attention.num_key_value_groups
    cos, sin = (each[0, 0] for each in LlamaRotaryEmbedding(attention.config)(x, torch.tensor([[row]])))
    normed = layer.input_layernorm(x)
    query, key, value = (p(normed).view(-1, size) for p in (attention.q_proj, attention.k_proj, attention.v_proj))
    query, key = (
        h * cos + torch.cat([-h[:, size // 2 :], h[:, : size // 2]], 1) * sin for h in (query, key)
    )  # fmt: skip
    keys, values = (
        torch.cat([old[:, :row], new[:, None]], 1).repeat_interleave(groups, 0)
        for old, new in ((keys, key), (values, value))
    )
    weights = (query[:, None] @ keys.transpose(1, 2) * size**-0.5).softmax(-1)
    x = x + attention.o_proj((weights @ values).flatten())
    normed = layer.post_attention_layernorm(x)
    return x + mlp.down_proj(mlp.act_fn(mlp.gate_proj(normed)) * mlp.up_proj(normed)), key, value


@pytest.mark.parametrize(
    ("heads", "kv_heads", "size", "row"),
    [(8, 2, 16, 130), (6, 2, 8, 64), (3, 3, 4, 1), (5, 1, 6, 63), (4, 2, 32, 0), (4, 1, 10, 129)],
)
def test_a_decoded_token_is_the_layers_own(heads, kv_heads, size, row):
    torch.manual_seed(heads * row)
    config = LlamaConfig(
        hidden_size=heads * size, intermediate_size=2 * heads * size + 3, num_attention_heads=heads,
        num_key_value_heads=kv_heads, head_dim=size, num_hidden_layers=1,
    )  # fmt: skip
    layer = LlamaDecoderLayer(config, 0).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(std=0.3)
        x = torch.randn(config.hidden_size, dtype=torch.float64)
        keys, values = torch.randn(2, kv_heads, row + 5, size, dtype=torch.float64)
        expected, key, value = plain(layer, x, keys, values, row)
        attention, mlp = layer.self_attn, layer.mlp
        joined = torch.cat([attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight])
        gates = torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]) * layer.post_attention_layernorm.weight
        cos, sin = (each[0, 0] for each in LlamaRotaryEmbedding(config)(x, torch.tensor([[row]])))
        weights = (joined * layer.input_layernorm.weight, attention.o_proj.weight, gates, mlp.down_proj.weight)
        x, keys, values, cos, sin = (each.float().numpy() for each in (x, keys, values, cos, sin))
        parts = [w.float().t().contiguous().numpy() for w in weights]
    epsilon, scale = np.float32(config.rms_norm_eps), np.float32(size**-0.5)
    decode_layer(x, *parts, cos, sin, keys, values, row, epsilon, scale)
    for got, wanted in ((x, expected), (keys[:, row], key), (values[:, row], value)):
        assert np.abs(got - wanted.numpy()).max() < 2e-6 * np.abs(wanted.numpy()).max().clip(1)


def test_the_best_match_of_a_block_is_found_wherever_its_rows_are():
    rng = np.random.default_rng(0)
    matches, blocks = rng.standard_normal((100, 7), dtype=np.float32), rng.integers(0, 9, 100)
    best = np.full((10, 7), -np.inf, np.float32)
    block_maxima(matches[:40], blocks[:40], best)
    block_maxima(matches[40:], blocks[40:], best)
    for block in range(9):
        assert (best[block] == matches[blocks == block].max(0)).all()
    assert np.isneginf(best[9]).all()


def test_a_folder_that_cannot_be_written_to_costs_time_and_nothing_else():
    """With the only place for what is compiled inside a zip file, there is none."""
    code = (
        "import numpy as np; from core.kernels import block_maxima; best = np.zeros((1, 2), np.float32); "
        "block_maxima(np.ones((1, 2), np.float32), np.zeros(1, np.int64), best); assert best.sum() == 2"
    )
    environment = {**os.environ, "NUMBA_CACHE_LOCATOR_CLASSES": "ZipCacheLocator"}
    assert not subprocess.run([sys.executable, "-c", code], env=environment, timeout=120).returncode


def count_compiled(monkeypatch) -> list[bool]:
    taken, whether = [], FusedLayer._decodes
    monkeypatch.setattr(FusedLayer, "_decodes", lambda *args: taken.append(whether(*args)) or taken[-1])
    return taken


def test_every_token_after_the_first_is_compiled_and_prompts_are_not(monkeypatch):
    taken = count_compiled(monkeypatch)
    model = random_model({**MEDIUM, "hidden_size": 64, "head_dim": 8, "intermediate_size": 96, "num_hidden_layers": 2})
    prepare_for_answers(model)
    path = FastMPlus(model)
    path.write(random_chunks(model.config, 1))
    taken.clear()
    _, cache = path.prefill(random_chunks(model.config, 1, 6, seed=1))
    assert taken == [False, False]
    for _ in range(300):  # more than a buffer has room for without growing
        path.step(torch.full((1, 1), 7), cache)
    assert taken == [False, False] + 600 * [True]
    assert cache.get_seq_length() == model.config.num_blocks * model.config.block_size + 1 + 6 + 300


@pytest.mark.parametrize("settings", [{"hidden_act": "gelu"}, {"attention_bias": True}])
def test_what_the_kernel_cannot_compute_is_left_to_torch(monkeypatch, settings):
    taken = count_compiled(monkeypatch)
    model = toy_mplus(**settings)
    prepare_for_answers(model)
    path = FastMPlus(model)
    path.write(random_chunks(model.config, 1))
    _, cache = path.prefill(random_chunks(model.config, 1, 6, seed=1))
    path.step(torch.full((1, 1), 7), cache)
    assert not any(taken)

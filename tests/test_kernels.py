"""Compiled kernels compute what torch computes, for every shape that their loops treat apart."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import DynamicCache, LlamaConfig
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRotaryEmbedding

from benchmarks.shapes import MEDIUM, random_chunks, random_model
from benchmarks.speed import FastMPlus
from core.decoding import FusedLayer, prepare_for_answers
from core.kernels import decode_layer
from core.matching import block_maxima, sigmoid_means
from core.prefill import prefill_keys, prefill_layer
from core.tiles import COLUMNS, multiply, packed
from tests.toys import toy_mplus


def plain(
    layer: LlamaDecoderLayer, x: Tensor, keys: Tensor, values: Tensor, row: int, bias: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
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
    scores = query[:, None] @ keys.transpose(1, 2) * size**-0.5
    scores[:, :, : len(bias)] += bias
    weights = scores.softmax(-1)
    x = x + attention.o_proj((weights @ values).flatten())
    normed = layer.post_attention_layernorm(x)
    return x + mlp.down_proj(mlp.act_fn(mlp.gate_proj(normed)) * mlp.up_proj(normed)), key, value


@pytest.mark.parametrize(
    ("heads", "kv_heads", "size", "row", "biased"),
    [(8, 2, 16, 130, 67), (6, 2, 8, 64, 0), (3, 3, 4, 1, 1), (5, 1, 6, 63, 0), (4, 2, 32, 0, 0), (4, 1, 10, 129, 129)],
)
def test_a_decoded_token_is_the_layers_own(heads, kv_heads, size, row, biased):
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
        bias = 3 * torch.randn(biased, dtype=torch.float64)
        expected, key, value = plain(layer, x, keys, values, row, bias)
        attention, mlp = layer.self_attn, layer.mlp
        joined = torch.cat([attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight])
        gates = torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]) * layer.post_attention_layernorm.weight
        cos, sin = (each[0, 0] for each in LlamaRotaryEmbedding(config)(x, torch.tensor([[row]])))
        weights = (joined * layer.input_layernorm.weight, attention.o_proj.weight, gates, mlp.down_proj.weight)
        x, keys, values, cos, sin = (each.float().numpy() for each in (x, keys, values, cos, sin))
        parts = [w.float().t().contiguous().numpy() for w in weights]
    epsilon, scale = np.float32(config.rms_norm_eps), np.float32(size**-0.5)
    decode_layer(x, *parts, cos, sin, keys, values, row, epsilon, scale, bias.float().numpy())
    for got, wanted in ((x, expected), (keys[:, row], key), (values[:, row], value)):
        assert np.abs(got - wanted.numpy()).max() < 2e-6 * np.abs(wanted.numpy()).max().clip(1)


@pytest.mark.parametrize(
    ("heads", "kv_heads", "size", "row", "count", "biased"),
    [
        (8, 2, 16, 200, 33, 150),
        (6, 2, 10, 64, 2, 64),
        (3, 3, 6, 1, 17, 0),
        (5, 1, 6, 63, 16, 63),
        (4, 2, 32, 129, 48, 0),
    ],
)
@pytest.mark.parametrize("keys_only", [False, True])
@pytest.mark.parametrize("spread", [0.3, 3.0])  # with the larger one scores reach thousands
def test_a_short_prompt_is_the_layers_own(heads, kv_heads, size, row, count, biased, keys_only, spread):
    torch.manual_seed(heads * row)
    config = LlamaConfig(
        hidden_size=heads * (size + 3), intermediate_size=2 * heads * size + 5, num_attention_heads=heads,
        num_key_value_heads=kv_heads, head_dim=size, num_hidden_layers=1, attn_implementation="eager",
    )  # fmt: skip
    layer = LlamaDecoderLayer(config, 0).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(std=spread)
        x = torch.randn(row + count, config.hidden_size, dtype=torch.float64)
        x[row // 2] *= 30  # one key that towers above those before it
        places = torch.arange(len(x))[None]
        cache = DynamicCache()
        mask = torch.full((len(x), len(x)), -torch.inf, dtype=torch.float64).triu(1)[None, None]
        bias = 3 * spread * torch.randn(biased, dtype=torch.float64)
        mask[..., row:, :biased] += bias
        turn = LlamaRotaryEmbedding(config)(x, places)
        expected = layer(x[None], mask, position_ids=places, past_key_values=cache, position_embeddings=turn)[0]
        keys, values = (
            torch.cat([each[0], torch.zeros(kv_heads, 4, size)], 1).float().contiguous().numpy()
            for each in (cache.layers[0].keys, cache.layers[0].values)
        )
    wanted = [each.copy() for each in (keys, values)]
    keys[:, row:], values[:, row:] = 7, 7
    attention, mlp = layer.self_attn, layer.mlp
    joined = torch.cat([attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight])
    gates = torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]) * layer.post_attention_layernorm.weight
    weights = (joined * layer.input_layernorm.weight, attention.o_proj.weight, gates, mlp.down_proj.weight)
    weights = (weight.detach().float().contiguous().numpy() for weight in weights)
    cos, sin = (each[0, row:].float().numpy() for each in turn)
    got, weights = x[row:].float().numpy(), list(weights)
    epsilon, scale = np.float32(config.rms_norm_eps), np.float32(size**-0.5)
    if keys_only:
        prefill_keys(got, weights[0], cos, sin, keys, values, row, epsilon)
    else:
        prefill_layer(got, *weights, cos, sin, keys, values, row, epsilon, scale, bias.float().numpy())
    for own, layers in ((keys, wanted[0]), (values, wanted[1])):
        assert np.abs(own[:, row : row + count] - layers[:, row : row + count]).max() < 3e-6 * np.abs(layers).max()
        assert (own[:, row + count :] == 7).all()
    expected = (x if keys_only else expected)[row:].numpy()
    assert np.abs(got - expected).max() < 3e-6 * np.abs(expected).max()


@pytest.mark.parametrize(("m", "k", "n"), [(1, 1, 1), (3, 200, 17), (64, 128, 16), (131, 129, 40)])
def test_tiles_multiply(m, k, n):
    rng = np.random.default_rng(m)
    rows, columns = (rng.standard_normal(shape, dtype=np.float32) for shape in ((m, k), (n, k)))
    panels = packed(torch.from_numpy(columns))
    results = np.full((len(panels), m + 2, COLUMNS), 7, np.float32)
    multiply(rows, panels, results)
    product = results[:, :m].transpose(1, 0, 2).reshape(m, -1)
    assert np.allclose(product[:, :n], rows @ columns.T, atol=1e-5 * k**0.5) and not product[:, n:].any()
    assert (results[:, m:] == 7).all()


def test_the_best_match_of_a_block_is_found_wherever_its_rows_are():
    rng = np.random.default_rng(0)
    keys, queries = (rng.standard_normal((count, 12), dtype=np.float32) for count in (100, 21))
    matches, blocks, panels = keys @ queries.T, rng.integers(0, 9, 100), packed(torch.from_numpy(queries))
    best = np.full((10, 2, COLUMNS), -np.inf, np.float32)
    block_maxima(keys[:40], blocks[:40], panels, best)
    block_maxima(keys[40:], blocks[40:], panels, best)
    for block in range(9):
        assert np.allclose(best[block].reshape(-1)[:21], matches[blocks == block].max(0), atol=1e-5)
    assert np.isneginf(best[9]).all()


def test_sigmoids_are_exact_wherever_they_bend():
    keys = np.linspace(-40, 40, 999, dtype=np.float32)[:, None]
    panels, weights, scores = packed(torch.ones(1, 1)), np.zeros((1, COLUMNS), np.float32), np.empty(999, np.float32)
    weights[0, 0] = 1
    sigmoid_means(keys, panels, weights, scores)
    assert np.abs(scores - torch.from_numpy(keys[:, 0]).double().sigmoid().numpy()).max() < 2e-7


def test_a_folder_that_cannot_be_written_to_costs_time_and_nothing_else():
    """With the only place for what is compiled inside a zip file, there is none."""
    code = (
        "import numpy as np; from core.tiles import COLUMNS, multiply; best = np.zeros((1, 1, COLUMNS), np.float32); "
        "multiply(np.ones((1, 2), np.float32), np.ones((1, 2, COLUMNS), np.float32), best); assert (best == 2).all()"
    )
    environment = {**os.environ, "NUMBA_CACHE_LOCATOR_CLASSES": "ZipCacheLocator"}
    assert not subprocess.run([sys.executable, "-c", code], env=environment, timeout=120).returncode


def count_compiled(monkeypatch, name: str) -> list[bool]:
    """What FusedLayer's method of that name says, from now on."""
    taken, whether = [], getattr(FusedLayer, name)
    monkeypatch.setattr(FusedLayer, name, lambda *args: taken.append(whether(*args)) or taken[-1])
    return taken


def test_every_token_after_the_first_is_compiled_by_itself_and_prompts_as_a_whole(monkeypatch):
    taken, prompts = count_compiled(monkeypatch, "_decodes"), count_compiled(monkeypatch, "_is_short")
    model = random_model({**MEDIUM, "hidden_size": 64, "head_dim": 8, "intermediate_size": 96, "num_hidden_layers": 2})
    prepare_for_answers(model)
    path = FastMPlus(model)
    path.write(random_chunks(model.config, 1))
    taken.clear()
    prompts.clear()
    _, cache = path.prefill(random_chunks(model.config, 1, 6, seed=1))
    assert (taken, prompts) == ([False, False], [True, True])
    for _ in range(300):  # more than a buffer has room for without growing
        path.step(torch.full((1, 1), 7), cache)
    assert taken == [False, False] + 600 * [True] and len(prompts) == 2
    assert cache.get_seq_length() == model.config.num_blocks * model.config.block_size + 1 + 6 + 300


@pytest.mark.parametrize("settings", [{"hidden_act": "gelu"}, {"attention_bias": True}])
def test_what_the_kernel_cannot_compute_is_left_to_torch(monkeypatch, settings):
    taken, prompts = count_compiled(monkeypatch, "_decodes"), count_compiled(monkeypatch, "_is_short")
    model = toy_mplus(**settings)
    prepare_for_answers(model)
    path = FastMPlus(model)
    path.write(random_chunks(model.config, 1))
    _, cache = path.prefill(random_chunks(model.config, 1, 6, seed=1))
    path.step(torch.full((1, 1), 7), cache)
    assert not any(taken) and not any(prompts)

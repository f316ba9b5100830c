"""Set up for answers, a model writes and answers as it did before."""

import copy

import pytest
import torch

from benchmarks.shapes import fill_long_term, random_chunks
from benchmarks.slow import SlowMPlus
from benchmarks.speed import FastMPlus
from core.adapters import READ, WRITE, use_adapter
from core.decoding import prepare_for_answers
from core.objectives import merged
from core.prefix import PrefixBuffer
from core.reading import generate, new_memory, read_logits, write
from tests.toys import toy_mplus

torch.set_num_threads(1)


@pytest.mark.parametrize(("kv_heads", "bias"), [(1, 0.0), (2, 0.0), (4, 0.0), (2, 2.0)])
def test_a_prepared_model_writes_and_answers_the_same(kv_heads, bias):
    plain = toy_mplus(std=0.05, num_key_value_heads=kv_heads, retrieval_bias=bias)
    prepared = copy.deepcopy(plain)
    prepare_for_answers(prepared)
    memories = {model: new_memory(model, seed=3) for model in (plain, prepared)}
    generator = torch.Generator().manual_seed(1)
    for length in (16, 8, 3, 16, 12, 16):
        ids = torch.randint(0, 200, (1, length), generator=generator)
        blocks = [write(model, [memory], ids) for model, memory in memories.items()]
        assert torch.allclose(*blocks, atol=1e-5 * float(blocks[0].abs().max()))
    question = torch.randint(0, 200, (2, 9), generator=generator)
    mask = torch.ones_like(question)
    mask[0, :4] = 0  # left padding: a mask reaches the attention also while decoding
    settings = dict(max_new_tokens=8, do_sample=False, pad_token_id=257, eos_token_id=None)
    with torch.no_grad():
        logits = [read_logits(model, [memory], question, mask)[0].logits for model, memory in memories.items()]
    assert torch.allclose(*(row[mask.bool()] for row in logits), atol=1e-5)
    ids = [generate(model, [memory], question, mask, **settings)[0] for model, memory in memories.items()]
    assert torch.equal(*ids)
    alone = [generate(m, [memory], question[1:], None, PrefixBuffer(), **settings)[0] for m, memory in memories.items()]
    assert torch.equal(*alone) and torch.equal(alone[0][0], ids[0][1])


def test_preparing_changes_no_parameter_and_leaves_training_to_the_adapters():
    plain = toy_mplus()
    prepared = copy.deepcopy(plain)
    prepare_for_answers(prepared)
    for (name, one), (same_name, other) in zip(plain.named_parameters(), prepared.named_parameters(), strict=True):
        assert name == same_name and torch.equal(one, other)
    newest = torch.randn(2, 1, 8, 64)
    with use_adapter(prepared, WRITE):
        prepared.write(torch.arange(16)[None], newest).sum().backward()
    gradients = [p.grad for name, p in prepared.named_parameters() if "lora_A.write" in name and "layers.0" in name]
    assert gradients and any(g is not None and g.abs().sum() > 0 for g in gradients)


@pytest.mark.parametrize("adapter", [WRITE, READ])
def test_a_prepared_model_folds_the_adapter_it_is_told_to(adapter):
    """Without gradients too: training looks at blocks and questions so, before it fits the retrievers."""
    prepared = toy_mplus(std=0.05)
    newest = torch.randn(2, 1, 8, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), merged(prepared, adapter):
        before = prepared.write(torch.arange(16)[None], newest)
    prepare_for_answers(prepared)
    with torch.no_grad(), use_adapter(prepared, READ if adapter == WRITE else WRITE), merged(prepared, adapter):
        after = prepared.write(torch.arange(16)[None], newest)
    assert torch.allclose(before, after, atol=1e-5)


def test_a_weight_that_changes_is_fused_anew():
    plain = toy_mplus(std=0.05)
    prepared = copy.deepcopy(plain)
    prepare_for_answers(prepared)
    newest = torch.randn(2, 1, 8, 64)
    for model in (plain, prepared):
        with torch.no_grad(), use_adapter(model, WRITE):
            model.write(torch.arange(16)[None], newest)
            model.model.layers[0].mlp.up_proj.lora_B["write"].weight.add_(0.1)
    with torch.no_grad():
        blocks = []
        for model in (plain, prepared):
            with use_adapter(model, WRITE):
                blocks.append(model.write(torch.arange(16)[None], newest))
    assert torch.allclose(*blocks, atol=1e-4)


def test_the_slow_path_of_the_benchmarks_computes_the_same():
    """Pending tokens, merges and expiry included, at every step: what is compared for speed is the same thing.

    Both are measured against the slow path in double precision, since some of these states magnify rounding.
    """
    model = toy_mplus(std=0.05, rules="released", relevance="mean_sigmoid", merge_every=3, initial_recall=6.0)
    fill_long_term(model, 64)
    prepared = copy.deepcopy(model)
    prepare_for_answers(prepared)
    exact = copy.deepcopy(model).double()
    assert exact.initial_long_term is not None
    logs = [log.with_tokens(log.tokens.double()) for log in exact.initial_long_term]
    for log in logs:
        log._columns["keys"] = log._columns["keys"].double()
    exact.initial_long_term = logs
    paths = SlowMPlus(exact), SlowMPlus(model), FastMPlus(prepared)
    question = random_chunks(model.config, 1, 6, seed=1)
    for chunk in random_chunks(model.config, 14):
        for path in paths:
            path.write(chunk[None])
        expected, slow, fast = (path.prefill(question)[0][0, -1] for path in paths)
        for got in (slow, fast):
            assert (expected - got).abs().max() < 1e-5 * expected.abs().max().clamp(min=1)

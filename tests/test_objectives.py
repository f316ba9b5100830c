"""What training computes is what inference does: packed questions, merged adapters, surrounded θ, taught retrieval."""

import random

import pytest
import torch

from core.adapters import READ, WRITE, use_adapter
from core.induction import induction_init
from core.lexical_start import start_retrievers
from core.model import MPlusForCausalLM
from core.objectives import PastBlocks, decoder, merged, predict, surround, write_chunks
from core.packing import IGNORED, Passage, pack
from core.recipe import fill_pool, recipe_model
from core.retrieval_lesson import TaughtPrefix
from core.retriever import Keys, block_late_interaction
from tests.learners import little_config, little_lessons, little_tokenizer

SIZE = little_config().block_size


@pytest.fixture(scope="module")
def model():
    model = recipe_model(little_config(), 0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name or name.startswith("memory."):
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model


def ids(*shape, seed=0):
    return torch.randint(2, 400, shape, generator=torch.Generator().manual_seed(seed))


def blocks(model, batch, count, seed=0):
    """Random memory tokens (L, B, C, K, d)."""
    config, generator = model.config, torch.Generator().manual_seed(seed)
    return torch.randn(config.num_hidden_layers, batch, count, SIZE, config.hidden_size, generator=generator)


def test_packed_passages_are_read_as_if_each_stood_alone(model):
    rng = random.Random(0)
    draw = lambda length: [rng.randrange(2, 400) for _ in range(length)]  # noqa: E731
    rows = [[Passage(draw(9), 5), Passage(draw(6), 2)], [Passage(draw(4), 3)]]
    contexts = [Passage(draw(7)), Passage(draw(3))]
    memory = blocks(model, 2, 1)[:, :, 0]
    packed = pack(rows, contexts)
    together = predict(model, packed, lambda layer, _: memory[layer], SIZE)
    for b, (row, context) in enumerate(zip(rows, contexts, strict=True)):
        for q, passage in enumerate(row):
            single = torch.tensor([context.ids + passage.ids])
            with use_adapter(model, READ):
                cut = memory[:, b : b + 1]
                logits = model.read(single, lambda layer, _, cut=cut: cut[layer], SIZE).logits[0]
            begin = len(context.ids) + passage.start
            expected = logits[begin - 1 : -1].argmax(-1) == single[0, begin:]
            inside = (packed.segments[b] == q + 1) & (packed.labels[b] != IGNORED)
            assert together.right[b][inside].tolist() == expected.tolist()
            assert bool(packed.all_right(together.right)[b, q]) == bool(expected.all())
    alone = pack([[rows[0][0]]], [contexts[0]])
    lone = predict(model, alone, lambda layer, _: memory[layer, :1], SIZE)
    only = pack([rows[0][:1], rows[1]], contexts)
    pair = predict(model, only._replace(weights=only.weights * torch.tensor([[1.0], [0.0]])),
                   lambda layer, _: memory[layer], SIZE)  # fmt: skip
    assert torch.allclose(lone.loss, pair.loss, atol=1e-5)


def test_prompts_are_marked_without_their_answers():
    packed = pack([[Passage([5] * 6, 4), Passage([6] * 3, 2)], [Passage([7] * 5, 3)]])
    mask = packed.prompt_mask([[4, 2], [3]])
    assert mask.tolist()[0] == [[1, 1, 1, 1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 1, 1, 0]]
    assert mask.sum().item() == 9


@pytest.mark.parametrize("length", [32, 16, 9])
def test_chunks_are_written_as_in_use_and_teach_both_adapters(model, length):
    newest, chunks = blocks(model, 2, 2), ids(2, 3, length)
    pairs, chain = write_chunks(model, chunks, newest), write_chunks(model, chunks, newest, pairs=False)
    with use_adapter(model, WRITE):
        first = model.write(chunks[:, 0], newest[:, :, 0])
        second = model.write(chunks[:, 1], first)
        third = model.write(chunks[:, 2], newest[:, :, 1])
        in_chain = model.write(chunks[:, 2], second)
    for found, expected in ((pairs, (first, second, third)), (chain, (first, second, in_chain))):
        assert torch.allclose(found, torch.stack(expected, dim=2), atol=1e-4)
    model.zero_grad()
    row = pack([[Passage(ids(6).tolist(), 3)]] * 2)
    predict(model, row, lambda layer, _: chain[layer].flatten(1, 2), 3 * SIZE).loss.backward()
    moved = {
        name: parameter.grad.abs().sum() > 0
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    assert moved["model.layers.0.self_attn.v_proj.lora_A.write.weight"] and moved["memory.new"]
    assert moved["model.layers.2.self_attn.v_proj.lora_A.read.weight"] and moved["model.embed_tokens.weight"]


def test_a_merged_adapter_is_the_adapter(model):
    for name in (WRITE, READ):
        with merged(model, name):
            folded = model(ids(2, 12)).logits
        with use_adapter(model, name):
            assert torch.allclose(model(ids(2, 12)).logits, folded, atol=1e-4)


def test_a_surrounded_pool_forgets_as_theory_says(model):
    written, past = blocks(model, 64, 2) + 100, blocks(model, 1, 50)[:, 0]
    ages = [[6, 0]] * 64
    around = surround(written, past, ages, 4, torch.Generator().manual_seed(0))
    assert around.pool.shape == (3, 64, 4 * SIZE, model.config.hidden_size)
    ours = around.pool.float().mean(-1) > 50
    assert torch.equal(ours.sum((0, 2)), around.inside.sum((0, 2, 3)))
    assert around.inside[:, :, 1].all() and ours[:, :, -SIZE:].all()
    kept = around.inside[:, :, 0].float().mean().item()
    assert kept == pytest.approx((1 - 1 / 4) ** 6, abs=0.03)


@pytest.fixture
def taught(model):
    written, past = blocks(model, 2, 3), blocks(model, 1, 9, seed=2)[:, 0]
    generator = torch.Generator().manual_seed(0)
    ages = [[40, 7, 0], [50, 12, 3]]
    around = surround(written, past, ages, 4, generator)
    packed = pack(
        [[Passage(ids(8).tolist(), 6), Passage(ids(7, seed=1).tolist(), 5)], [Passage(ids(5, seed=2).tolist(), 3)]]
    )
    sources = torch.tensor([[0, 1], [0, -1]])
    prefix = TaughtPrefix(model, around, written, past, torch.tensor(ages), packed.prompt_mask([[6, 5], [3]]),
                          sources, 4, 0.0, generator)  # fmt: skip
    return prefix, packed, written, past


@torch.no_grad()
def test_taught_scores_are_the_block_rules(model, taught):
    prefix, packed, written, past = taught
    normed = torch.randn(2, packed.ids.shape[1], model.config.hidden_size, generator=torch.Generator().manual_seed(9))
    reader = decoder(model, 1)
    store = torch.cat([written[1].flatten(0, 1), past[1]])
    keys = reader.retriever.key(reader.input_layernorm(store))
    gone = ~prefix.around.inside[1].flatten(0, 1)
    scores = prefix._scores(reader.retriever.query(normed), keys, gone)
    asked = prefix.asked[0, 1].bool()
    here = torch.ones(len(store), SIZE, dtype=torch.bool)
    here[:3] = gone[:3]  # row 0's own blocks: only what has left θ can be found
    numbers = torch.arange(len(store))[:, None].expand(-1, SIZE)
    rule = block_late_interaction(
        reader.retriever.query(normed[0][asked]), Keys(vectors=keys[here], blocks=numbers[here])
    )  # fmt: skip
    for block in range(len(store)):
        if here[block].any():
            assert torch.allclose(scores[0, 1, block], rule[numbers[here] == block][0], atol=1e-4)


def test_retrieved_blocks_come_oldest_first_and_teach_the_retriever_alone(model, taught):
    prefix, packed, *_ = taught
    model.zero_grad()
    predict(model, packed, prefix, prefix.num_memory)
    assert len(prefix.losses) == 3 and all(0 <= found <= 1 for found in prefix.found)
    prefix.loss.backward()
    moved = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert moved and all("retriever" in name for name in moved)
    best = prefix._choose(torch.rand(2, 2, 15))
    assert (prefix.all_ages[best].diff(dim=1) <= 0).all() and best.shape == (2, 4)


def test_past_blocks_keep_the_newest():
    past = PastBlocks(most=10)
    for step in range(6):
        past.add(torch.full((1, 2, 2, 3, 4), float(step)))
    assert len(past) == 12 and past.blocks.min() == 3
    assert past.pick(3, 2, torch.Generator().manual_seed(0)).unique().tolist() == [5.0]
    other = PastBlocks(most=10)
    other.load_state_dict(past.state_dict(), torch.device("cpu"))
    assert torch.equal(other.blocks, past.blocks)


def test_the_copying_circuit_copies_before_any_training():
    config = little_config(vocab_size=512, hidden_size=160, num_attention_heads=4)
    torch.manual_seed(0)
    model = MPlusForCausalLM(config)
    twice = ids(16, 24).repeat(1, 2)
    hits = []
    for _ in range(2):
        with torch.no_grad():
            hits.append((model(twice).logits[:, 23:-1].argmax(-1) == twice[:, 24:]).float().mean().item())
        induction_init(model, torch.Generator().manual_seed(0))
    assert hits[0] < 0.05 and hits[1] > 0.6
    with pytest.raises(ValueError, match="rope_theta 1e7"):
        fast = MPlusForCausalLM(little_config(rope_parameters={"rope_type": "default", "rope_theta": 10.0}))
        induction_init(fast, torch.Generator())


@torch.no_grad()
def test_the_lexical_start_finds_the_block_with_the_words_of_the_question():
    tokenizer = little_tokenizer()
    model, lessons = recipe_model(little_config(retriever_size=48), 0), little_lessons(tokenizer)
    newest = model.memory.pool[:, None, None, -SIZE:].expand(-1, 8, 1, -1, -1)
    start_retrievers(model, lessons, newest, rounds=2)
    items = [next(lessons.facts) for _ in range(24)]
    found = 0
    written = [model.write(torch.tensor([(item.statement * 3)[:32]]), newest[:, :1, 0])[0] for item in items]
    reader = decoder(model, 0)
    keys = reader.retriever.key(reader.input_layernorm(torch.cat(written)))
    for index, item in enumerate(items):
        queries = model.model.embed_tokens(torch.tensor(item.prompt))
        scores = block_late_interaction(
            reader.retriever.query(reader.input_layernorm(queries)),
            Keys(keys.flatten(0, 1), torch.arange(24).repeat_interleave(SIZE)),
        )
        found += int(scores[::SIZE].argmax() == index)
    assert found > 12  # chance: one of 24


def test_the_initial_pool_is_written_by_the_model_itself():
    tokenizer = little_tokenizer()
    model, lessons = recipe_model(little_config(), 0), little_lessons(tokenizer)
    before = model.memory.pool.clone()
    fill_pool(model, lessons.prose, torch.Generator().manual_seed(0))
    assert model.memory.pool.shape == before.shape and model.memory.pool.isfinite().all()
    assert (model.memory.pool != before).all(-1).float().mean() > 0.99

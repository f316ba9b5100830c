"""The fast paths change nothing: projected memory, a prefix buffer kept between questions, and growing caches."""

from dataclasses import replace

import pytest
import torch

import core.cache
from core.cost import Setting, memory_cost
from core.memory_file import load_memory, save_memory
from core.prefix import PrefixBuffer
from core.reading import generate, new_memory, read_logits, write
from tests.toys import toy_mplus

LENGTHS = (20, 8, 3)  # longer than a block, as long, shorter


def grow(model, memories, writes=12, seed=1):
    """Write the same random chunks into every memory, yielding a question after each."""
    generator = torch.Generator().manual_seed(seed)
    for step in range(writes):
        ids = torch.randint(0, 200, (1, LENGTHS[step % 3]), generator=generator)
        for memory in memories:
            write(model, [memory], ids)
        yield torch.randint(0, 200, (1, 7), generator=generator)


@pytest.mark.parametrize("rules", ["paper", "released"])
@pytest.mark.parametrize(
    ("relevance", "bias", "off"),  # where scores are added to attention, so is the rounding of θ's keys, made anew
    [("dot", 0.0, 3e-5), ("mean_sigmoid", 0.0, 3e-5), ("block", 0.0, 3e-5), ("block", 0.5, 1e-4)],
)
@torch.no_grad()
def test_projected_memory_and_buffers_give_the_logits_of_hidden_states(rules, relevance, bias, off):
    model = toy_mplus(rules=rules, relevance=relevance, retrieval_bias=bias, merge_every=2)
    hidden, projected = new_memory(model, seed=3), new_memory(model, "projected", seed=3)
    buffer, relaid = PrefixBuffer(), PrefixBuffer(relays=True)
    for question in grow(model, [hidden, projected]):
        expected, found = read_logits(model, [hidden], question)
        for memory, kept in (
            (projected, None),
            *[(projected, buffer)] * 2,
            *[(projected, relaid)] * 2,
            (hidden, relaid),
        ):
            logits, found_too = read_logits(model, [memory], question, buffer=kept)
            assert (logits.logits - expected.logits).abs().max() < off  # into a buffer keys are turned by other code
            assert all(
                torch.equal(a.rows, b.rows)
                for x, y in zip(found, found_too, strict=True)
                for a, b in zip(x, y, strict=True)
            )


@pytest.mark.parametrize(("form", "relays"), [("hidden", False), ("projected", False), ("projected", True)])
@torch.no_grad()
def test_a_buffer_never_answers_for_another_memory(form, relays):
    model = toy_mplus()
    one, other, buffer = new_memory(model, form, seed=1), new_memory(model, form, seed=2), PrefixBuffer(relays)
    for question in grow(model, [one, other], writes=6):
        for memory in (one, other, one):
            kept, _ = read_logits(model, [memory], question, buffer=buffer)
            fresh, _ = read_logits(model, [memory], question)
            assert torch.allclose(kept.logits, fresh.logits, atol=1e-5)
    before = one.snapshot()
    *_, question = grow(model, [one], writes=3, seed=9)
    one.restore(before)
    kept, _ = read_logits(model, [one], question, buffer=buffer)
    assert torch.allclose(kept.logits, read_logits(model, [one], question)[0].logits, atol=1e-5)


@pytest.mark.parametrize("relays", [False, True])
def test_greedy_and_beam_answers_are_the_same_with_and_without_a_buffer(relays):
    model, buffer = toy_mplus(), PrefixBuffer(relays)
    memory = new_memory(model, "projected")
    for question in grow(model, [memory], writes=5):
        for beams in (1, 3):
            settings = dict(max_new_tokens=300, do_sample=False, num_beams=beams, pad_token_id=257, eos_token_id=None)
            settings["max_new_tokens"] = 300 if beams == 1 else 12  # 300 outgrows the buffer's spare room
            fresh, _ = generate(model, [memory], question, **settings)
            kept, _ = generate(model, [memory], question, buffer=buffer, **settings)
            assert torch.equal(fresh, kept)


@torch.no_grad()
def test_a_buffer_that_was_interrupted_while_it_was_laid_holds_nothing(monkeypatch):
    """Ctrl-C while a layer's θ is laid, then back to the θ that the buffer held before."""
    model, buffer = toy_mplus(), PrefixBuffer()
    memory = new_memory(model)
    (*_, question) = grow(model, [memory])
    before, wanted = memory.snapshot(), read_logits(model, [memory], question, buffer=buffer)[0].logits
    (*_,) = grow(model, [memory], writes=1, seed=2)

    def interrupted(*arguments):
        lay(*arguments)
        if len(arguments[0]) == model.config.pool_size:
            raise KeyboardInterrupt

    lay = core.cache.lay
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("core.cache.lay", interrupted)
        read_logits(model, [memory], question, buffer=buffer)
    memory.restore(before)
    assert torch.equal(read_logits(model, [memory], question, buffer=buffer)[0].logits, wanted)


@torch.no_grad()
def test_a_relaying_buffer_keeps_no_second_theta():
    """Of all layers' prefixes one is laid at a time; what is kept is planned to the byte."""
    model = toy_mplus(num_key_value_heads=1)
    memory, buffer, config = new_memory(model, "projected"), PrefixBuffer(relays=True), model.config
    (*_, question) = grow(model, [memory], writes=12)
    output, found = read_logits(model, [memory], question, buffer=buffer)
    layers = output.past_key_values.layers
    kept = sum(each.keys.nbytes + each.values.nbytes for layer in layers for each in layer.kept)
    places = sum(each.places.nbytes for layer in layers for each in layer.standing)
    assert found[0][0].rows.numel() == config.num_retrieved and not buffer.storage
    setting = Setting(form="projected", prompt=question.shape[1], relaid=True)
    assert memory_cost(config, setting).buffer == buffer.num_bytes + kept + places
    assert memory_cost(config, setting).buffer < 0.8 * memory_cost(config, replace(setting, relaid=False)).buffer


def test_a_projected_memory_is_smaller_and_survives_a_file(tmp_path):
    model = toy_mplus(num_key_value_heads=1)
    hidden, projected = new_memory(model), new_memory(model, "smaller")
    questions = list(grow(model, [hidden, projected]))
    assert projected.projected and projected.num_bytes["short"] == hidden.num_bytes["short"] // 2
    save_memory(projected, tmp_path / "memory.safetensors", "owner")
    again = new_memory(model, "projected")
    load_memory(again, tmp_path / "memory.safetensors", "owner")
    with torch.no_grad():
        logits = [read_logits(model, [memory], questions[0])[0].logits for memory in (projected, again)]
    assert torch.equal(*logits)
    with pytest.raises(ValueError, match="hidden"):
        load_memory(hidden, tmp_path / "memory.safetensors", "owner")

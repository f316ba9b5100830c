"""The planner's bytes are the bytes of the tensors that are made."""

import pytest
import torch

from core.checkpoint import configuration, export_official, load_model
from core.config import MPlusConfig
from core.cost import LLAMA_8B, Setting, main, memory_cost
from core.decoding import fused_bytes, prepare_for_answers
from core.reader import MPlusReader
from core.reading import new_memory, write
from tests.toys import toy_mplus, toy_tokenizer

torch.set_num_threads(1)
MEDIUM = {
    "hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 4, "head_dim": 32, "num_attention_heads": 8,
          "block_size": 16, "num_blocks": 20, "num_retrieved": 64, "retriever_size": 32, "chunk_size": 32}  # fmt: skip


@pytest.mark.parametrize("shape", [{}, {"num_key_value_heads": 1}, MEDIUM, {"num_retrieved": 0}])
@pytest.mark.parametrize("form", ["hidden", "projected"])
def test_planned_bytes_are_measured_bytes_within_two_percent(shape, form):
    model = toy_mplus(**shape)
    config = model.config
    reader = MPlusReader(model, toy_tokenizer(), new_memory(model, form))
    for _ in range(2 + config.num_retrieved // config.block_size):
        write(model, [reader.memory], torch.randint(0, 200, (1, config.chunk_size)))
    reader.answer("x" * 40, max_new_tokens=2)
    state, initial, short = reader.memory.state, reader.memory._initial, reader.memory.state.short
    length = len(state.logs[0]) if state.logs else 0
    prompt = reader.buffer.held and next(iter(reader.buffer.storage.values()))[0].shape[2] - config.prefix_size - 256
    cost = memory_cost(config, Setting(form=form, prompt=int(prompt), long_term=length, undo=0))
    measured = {
        "weights": sum(parameter.nbytes for parameter in model.parameters()),
        "short": short.tokens.nbytes + state.newest.nbytes,
        "initial": sum(
            {
                t.data_ptr(): t.nbytes
                for t in (model.memory.pool, initial.short.tokens, initial.newest, initial.short.keys)
                if t is not None
            }.values()
        ),
        "long": sum(log.tokens.nbytes for log in state.logs),
        "keys": sum(log.keys.nbytes for log in state.logs) + (0 if short.keys is None else short.keys.nbytes),
        "columns": sum(log.num_bytes - log.tokens.nbytes - log.keys.nbytes for log in state.logs)
        + sum(t.nbytes for t in (state.stamp, state.block, state.slot, short.place, short.ranks)),
        "buffer": reader.buffer.num_bytes,
    }
    assert {name: cost.parts[name] for name in measured} == pytest.approx(measured, rel=0.02)
    prepare_for_answers(model)
    write(model, [reader.memory], torch.randint(0, 200, (1, config.chunk_size)))
    reader.answer("x" * 40, max_new_tokens=3)
    reader.inspect("x" * 40)  # logits of all positions: the last layer too runs whole
    whole = memory_cost(config, Setting(form=form, fused=True)).weights
    assert whole == pytest.approx(measured["weights"] + fused_bytes(model), rel=0.02)


@pytest.mark.parametrize("stored", ["int8", "fp8"])
def test_planned_bytes_of_a_quantised_long_term_memory(stored):
    model = toy_mplus(**MEDIUM)
    memory = new_memory(model, stored=stored)
    for _ in range(6):
        write(model, [memory], torch.randint(0, 200, (1, 32)))
    logs = memory.state.logs
    measured = sum(log._columns[name][: log.length].nbytes for log in logs for name in ("tokens", "scale"))
    cost = memory_cost(model.config, Setting(form="hidden", stored=stored, long_term=len(logs[0])))
    assert cost.long == measured < 0.3 * memory_cost(model.config, Setting(form="hidden", long_term=len(logs[0]))).long
    kept = memory_cost(model.config, Setting(offload="none", undo=2)), memory_cost(model.config, Setting(undo=2))
    assert kept[0].device - kept[1].device == kept[0].long + kept[0].keys and kept[0].undo == 2 * kept[0].short
    assert kept[1].device - memory_cost(model.config, Setting(offload="all", undo=2)).device == 3 * kept[0].short
    assert kept[0].embeddings == 0, "tied: the output layer needs them on the device"


def test_a_bias_of_each_layer_costs_what_one_for_all_costs():
    one, each = (
        toy_mplus(relevance="block", retrieval_bias=bias, retrieval_accumulates=True) for bias in (0.5, [0.5, 0])
    )
    assert memory_cost(each.config) == memory_cost(one.config)


def test_a_checkpoint_of_the_authors_is_planned_as_it_is_loaded(tmp_path, capsys, monkeypatch):
    export_official(toy_mplus(relevance="mean_sigmoid", rules="released"), tmp_path)
    assert memory_cost(configuration(tmp_path)) == memory_cost(load_model(tmp_path).config)
    monkeypatch.setattr("sys.argv", ["core.cost", "--model", str(tmp_path / "nowhere")])
    with pytest.raises(SystemExit):
        main()
    assert "nowhere" in capsys.readouterr().err


def test_the_paper_shape_and_wrong_settings():
    config = MPlusConfig(**LLAMA_8B)
    cost = memory_cost(config, Setting(torch.bfloat16, "projected"))
    assert cost.weights == pytest.approx(2 * 8.2e9, rel=0.02)
    assert cost.long == 150_000 * 32 * 2048 * 2
    assert memory_cost(config, Setting(torch.bfloat16, "hidden")).long == 2 * cost.long
    assert sum(cost.parts.values()) == cost.device + cost.host
    away = memory_cost(config, Setting(torch.bfloat16, "projected", "all"))
    assert away.embeddings == 128_256 * 4096 * 2 and sum(away.parts.values()) == away.device + away.host
    assert cost.device - away.device == away.short + away.undo
    whole = memory_cost(config, Setting(torch.bfloat16, "projected", "none"))
    assert whole.device - cost.device == cost.long + cost.keys + cost.embeddings
    assert away.device / 2**20 < 16_800, "the paper's shape with everything offloaded"
    with pytest.raises(ValueError, match="offload"):
        memory_cost(config, Setting(offload="some"))
    with pytest.raises(ValueError, match="form"):
        memory_cost(config, Setting(form="flat"))

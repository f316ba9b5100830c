"""Where a memory lives changes no result; one byte a number changes little."""

import pytest
import torch

import core
from core.base_bits import quantise_base
from core.checkpoint import save_model
from core.log import TokenLog
from core.memory_file import fingerprint, load_memory, save_memory
from core.placement import Streamed, look_up_on_host
from core.prefix import PrefixBuffer
from core.quantised import QuantisedLog
from core.reading import new_memory, read_logits, write
from tests.toys import toy_mplus, toy_tokenizer

torch.set_num_threads(1)


def lived(model, **settings):
    """A memory after a few writes, and the logits of two questions asked of it, the second by a buffer that is kept."""
    memory, buffer, rows = new_memory(model, seed=3, **settings), PrefixBuffer(), []
    for step in range(8):
        write(model, [memory], torch.arange(16)[None] + 5 * step)
    for _ in range(2):
        with torch.no_grad():
            rows.append(read_logits(model, [memory], torch.arange(6)[None], buffer=buffer)[0].logits)
    memory.reset()
    write(model, [memory], torch.arange(16)[None])
    with torch.no_grad():
        rows.append(read_logits(model, [memory], torch.arange(6)[None], buffer=buffer)[0].logits)
    return memory, torch.stack(rows)


@pytest.mark.parametrize("form", ["hidden", "projected"])
@pytest.mark.parametrize("relevance", ["dot", "mean_sigmoid", "block"])
def test_offload_changes_nothing(form, relevance):
    model = toy_mplus(std=0.05, relevance=relevance)
    expected = lived(model, form=form, offload="none")[1]
    for offload in ("long", "all"):
        assert torch.equal(lived(model, form=form, offload=offload)[1], expected)


def test_a_streamed_pool_sends_the_next_layer_and_stands_for_its_tensor():
    pool = torch.randn(3, 4, 5)
    streamed = Streamed(pool, torch.device("cpu"))
    stands = streamed.layer(1)
    assert stands.shape == (1, 4, 5) and not streamed._ahead
    assert torch.equal(stands.to(torch.device("cpu"), torch.float32), pool[1:2])
    assert list(streamed._ahead) == [2]
    assert torch.equal(streamed.take(2)[0], pool[2]) and not streamed._ahead
    assert torch.equal(streamed.take(0)[0], pool[0]) and list(streamed._ahead) == [1]


def test_embeddings_looked_up_on_the_host_come_to_where_the_model_computes():
    """The other device is "meta", which has shapes and places but no numbers: a tensor left behind is an error."""
    model, ids = toy_mplus(tie_word_embeddings=False), torch.arange(24)[None]
    table, expected = model.model.embed_tokens, model(ids).logits
    look_up_on_host(table, model.device)
    assert torch.equal(model(ids).logits, expected)

    model, meta = toy_mplus(tie_word_embeddings=False).to("meta"), torch.device("meta")
    model.model.embed_tokens = torch.nn.Embedding.from_pretrained(table.weight)
    look_up_on_host(model.model.embed_tokens, model.device)
    assert model.device == meta and model.model.embed_tokens.weight.device.type == "cpu"
    assert model(ids).logits.device == meta
    newest = model.memory.pool[:, None, -model.config.block_size :]
    assert model.write(ids, newest).device == meta
    cache = model.memory_cache(lambda layer, _: newest[layer], newest.shape[2])
    assert model(ids, past_key_values=cache).logits.shape == expected.shape


def test_everything_offloaded_answers_the_same(tmp_path):
    model = toy_mplus(tie_word_embeddings=False)
    save_model(model, tmp_path)
    toy_tokenizer().save_pretrained(tmp_path)
    readers = [core.load(tmp_path, offload=offload, fused=False) for offload in ("none", "long", "all")]
    for reader in readers:
        reader.ingest("a red door in a white wall " * 3)
    assert [len(reader.model.model.embed_tokens._forward_hooks) for reader in readers] == [0, 1, 1]
    assert len({reader.answer("What is red?", max_new_tokens=5).text for reader in readers}) == 1


@pytest.mark.parametrize(("kind", "largest_error"), [("int8", 0.5 / 127), ("fp8", 1 / 16)])
def test_a_quantised_log_keeps_rows_within_its_steps(kind, largest_error):
    torch.manual_seed(0)
    plain = TokenLog.empty(8, 3, torch.float32)
    log = QuantisedLog(plain, kind)
    for step in range(5):
        rows = {"tokens": 10.0**step * torch.randn(6, 8), "keys": torch.randn(6, 3), "slot": torch.arange(6)}
        rows |= {"born": torch.arange(6), "block": torch.full((6,), step + 1), "recall": torch.zeros(6).double()}
        for each in (plain, log):
            each.append(**rows)
    twin = log.fork()
    for each in (plain, log):
        each.evict(7)
        each.compact()
    assert len(log) == 23 and len(twin) == 30 and torch.equal(log.keys, plain.keys)
    error = (log.tokens - plain.tokens).abs() / plain.tokens.abs().amax(1, keepdim=True)
    assert 0 < error.max() <= 1.01 * largest_error
    assert torch.equal(log.take(torch.tensor([3, 1])), log.tokens[[3, 1]])
    assert torch.allclose(log.adopt(log).tokens, log.tokens, rtol=1e-6)
    assert log._columns["tokens"].element_size() == 1


@pytest.mark.parametrize(("stored", "share"), [("int8", 0.02), ("fp8", 0.1)])
def test_a_quantised_memory_answers_nearly_the_same_and_can_be_saved(stored, share, tmp_path):
    model = toy_mplus(std=0.05)
    exact, memory = lived(model)[1], lived(model, stored=stored)
    assert 0 < (memory[1] - exact).abs().max() < share * exact.abs().max()
    save_memory(memory[0], tmp_path / "memory", fingerprint(model))
    other = new_memory(model, stored=stored)
    load_memory(other, tmp_path / "memory", fingerprint(model))
    for log, same in zip(memory[0].state.logs, other.state.logs, strict=True):
        assert isinstance(same, QuantisedLog) and torch.allclose(log.tokens, same.tokens, rtol=1e-6)


def test_a_wrong_placement_is_named():
    model = toy_mplus()
    with pytest.raises(ValueError, match="offload is 'some'; choose one of none, long, all"):
        new_memory(model, offload="some")
    with pytest.raises(ValueError, match="cannot be stored as 'int4'"):
        new_memory(model, stored="int4")
    with pytest.raises(ValueError, match="needs a CUDA device, and this model is on cpu"):
        quantise_base(model, 4)
    with pytest.raises(ValueError, match="bits is 3"):
        quantise_base(model, 3)


def test_a_loaded_reader_takes_placement_and_kind():
    reader = core.load("mini", offload="all", stored="int8")
    assert reader.memory.place.offload == "all" and isinstance(reader.memory.state.logs[0], QuantisedLog)
    plain = core.load("mini", fused=False)
    for each in (reader, plain):
        each.ingest("Ilse keeps her spare key under the blue flowerpot by the kitchen door.")
    question = "Where does Ilse keep her spare key?"
    assert reader.answer(question, 4).tokens == plain.answer(question, 4).tokens

"""What a reader refuses, and what it outlives: foreign snapshots, other kinds of memory, `torch.inference_mode`."""

import pytest
import torch

import core
from core.adapters import READ, use_adapter
from core.baselines import make_reader
from core.checkpoint import save_model
from core.prompts import encode_prompt
from core.reader import MPlusReader
from core.reading import new_memory, read_logits, write
from tests.toys import toy_mplus, toy_tokenizer

TEXT = "The tailor of Ghent has thirty-one green buttons in a drawer that does not close."


def toy_reader(seed: int = 0, form: str = "hidden", **settings) -> MPlusReader:
    model = toy_mplus(seed, **settings)
    return MPlusReader(model, toy_tokenizer(), new_memory(model, form))


def test_a_snapshot_of_another_model_changes_nothing():
    mine, theirs = toy_reader(), toy_reader(seed=1)
    mine.ingest(TEXT)
    theirs.ingest(TEXT)
    before = mine.memory.state
    with pytest.raises(ValueError, match="another model"):
        mine.restore(theirs.snapshot())
    assert mine.memory.state is before
    twin = toy_reader()
    twin.restore(mine.snapshot())
    assert torch.equal(twin.memory.state.pool, before.pool)
    assert twin.answer("How many?").tokens == mine.answer("How many?").tokens


def test_a_snapshot_of_another_kind_of_memory_is_refused():
    model, tokenizer = toy_mplus(), toy_tokenizer()
    whole, pool = (make_reader(method, model, tokenizer) for method in ("mplus", "memoryllm"))
    with pytest.raises(ValueError, match="no Θ"):
        whole.restore(pool.snapshot())
    hidden, projected = new_memory(model, "hidden"), new_memory(model, "projected")
    assert hidden.state.short.tokens.shape == projected.state.short.tokens.shape, "so that shapes alone do not tell"
    for mine, theirs in ((hidden, projected), (projected, hidden)):
        with pytest.raises(ValueError, match="form"):
            mine.restore(theirs.snapshot())


def test_a_folder_keeps_its_memory_when_a_foreign_snapshot_comes(tmp_path):
    save_model(toy_mplus(), tmp_path / "model")
    toy_tokenizer().save_pretrained(tmp_path / "model")
    with_theirs = toy_reader(seed=1)
    reader = core.load(tmp_path / "model", disk=tmp_path / "memory")
    reader.ingest(TEXT)
    with pytest.raises(ValueError, match="another model"):
        reader.restore(with_theirs.snapshot())
    reader.close()
    again = core.load(tmp_path / "model", disk=tmp_path / "memory")
    assert [receipt.text for receipt in again.memory.receipts] == [TEXT]


def test_a_file_of_another_kind_is_told_as_one(tmp_path):
    model, tokenizer = toy_mplus(), toy_tokenizer()
    whole, pool = (make_reader(method, model, tokenizer) for method in ("mplus", "memoryllm"))
    for mine, theirs in ((whole, pool), (pool, whole)):
        theirs.save(tmp_path / "theirs")
        with pytest.raises(ValueError, match="its own kind"):
            mine.load(tmp_path / "theirs")


def test_memories_of_both_forms_are_not_asked_together():
    model, ids = toy_mplus(), torch.arange(10)[None]
    memories = [new_memory(model, form) for form in ("hidden", "projected")]
    write(model, memories, ids.expand(2, -1))
    with torch.no_grad(), pytest.raises(ValueError, match="both forms"):
        read_logits(model, memories, ids.expand(2, -1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_reader_outlives_inference_mode(tmp_path, dtype):
    save_model(toy_mplus(), tmp_path / "model")
    toy_tokenizer().save_pretrained(tmp_path / "model")
    plain = core.load(tmp_path / "model", dtype=dtype)
    with torch.inference_mode():
        inside = [core.load(tmp_path / "model", dtype=dtype, disk=disk) for disk in (None, tmp_path / "memory")]
    for reader in (plain, *inside):
        with torch.inference_mode(reader is not plain):
            reader.ingest(TEXT)
            kept = reader.snapshot()
            reader.answer("How many?")
            reader.ingest(TEXT[::-1])
            reader.restore(kept)
        reader.ingest(TEXT.upper())
        receipt = reader.ingest(TEXT.lower())
        reader.delete(receipt)
        assert reader.answer("How many?").tokens == plain.answer("How many?").tokens
        assert torch.equal(reader.memory.state.pool, plain.memory.state.pool)


def test_a_fork_is_called_what_its_elder_is():
    assert make_reader("memoryllm", toy_mplus(), toy_tokenizer()).fork().name == "memoryllm"


def test_baselines_take_beams_as_the_memory_does():
    model, tokenizer = toy_mplus(), toy_tokenizer()
    for method in ("mplus", "full", "window", "snapkv", "bm25"):
        reader = make_reader(method, model, tokenizer)
        reader.ingest(TEXT)
        best = reader.answer("How many?", 4, num_beams=3).tokens
        if method == "full":
            ids = torch.tensor([reader.ids + encode_prompt("How many?", tokenizer)])
            with use_adapter(model, READ):
                whole = model.generate(ids, max_new_tokens=4, num_beams=3, do_sample=False, pad_token_id=257)
            assert best == whole[0, ids.shape[1] :].tolist()
        with pytest.raises(ValueError, match="one answer"):
            reader.answer("How many?", num_return_sequences=2)
        with pytest.raises(ValueError, match="is a string"):
            reader.ingest(None)
        with pytest.raises(ValueError, match="is a string"):
            reader.answer(7)


def test_baselines_read_what_looks_like_an_end_token_as_text():
    reader = make_reader("full", toy_mplus(), toy_tokenizer())
    reader.ingest("a <|end|> b")
    assert reader.tokenizer.eos_token_id not in reader.ids


def test_an_answer_of_a_batch_holds_no_padding():
    reader = toy_reader()
    with torch.no_grad():
        reader.model.get_input_embeddings().weight[256] *= 2  # so that some answers end at once, and some do not
    questions = [f"Question {number}?" for number in range(12)]
    many = [answer.tokens for answer in reader.answer_many(questions, 24)]
    assert len(set(map(len, many))) > 1 and many == [reader.answer(question, 24).tokens for question in questions]


def test_a_setting_that_weights_do_not_fit_is_named(tmp_path):
    save_model(toy_mplus(), tmp_path)
    with pytest.raises(ValueError, match=r"num_retrieved=0.*unexpected"):
        core.load_model(tmp_path, num_retrieved=0)
    with pytest.raises(ValueError, match="num_blocks=2"):
        core.load_model(tmp_path, num_blocks=2)

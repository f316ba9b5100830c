"""Wrong input: one clear sentence with the value, and nothing lost."""

import pytest
import torch
from transformers import AutoTokenizer

from core.checkpoint import SHIPPED
from core.config import MPlusConfig
from core.prompts import cut
from core.reader import MPlusReader
from core.reading import generate, new_memory, write
from core.sources import Receipt
from tests.toys import MEMORY, SHAPE, toy_mplus, toy_tokenizer

TEXT = "The password of the old mill is seven blue herons."


def reader(**settings):
    return MPlusReader(toy_mplus(**settings), toy_tokenizer())


def state_of(memory):
    state = memory.state
    rows = [log.tokens.clone() for log in state.logs]
    return (
        [state.pool.clone(), state.block.clone(), *rows],
        state.clock,
        list(state.receipts),
        memory.random.get_state(),
    )


def same(a, b):
    return (
        all(torch.equal(x, y) for x, y in zip(a[0], b[0], strict=True)) and a[1:3] == b[1:3] and torch.equal(a[3], b[3])
    )


@pytest.mark.parametrize("text, words", [("", "empty"), ("   \n", "empty"), ("a", "single token")])
def test_texts_that_hold_nothing(text, words):
    mplus = reader()
    before = state_of(mplus.memory)
    with pytest.raises(ValueError, match=words):
        mplus.ingest(text)
    assert same(before, state_of(mplus.memory))


def test_a_very_short_text_is_repeated_with_a_warning():
    mplus = reader()
    with pytest.warns(UserWarning, match="3 tokens"):
        receipt = mplus.ingest("abc")
    assert receipt.repeated == 3 and receipt.num_tokens >= MEMORY["min_chunk"] and len(receipt.chunks) == 1
    assert {receipt.text[start:end] for start, end in receipt.spans} <= {"a", "b", "c", ""}


def test_questions_that_cannot_be_asked():
    mplus = reader()
    with pytest.raises(ValueError, match="empty"):
        mplus.answer("  ")
    with pytest.raises(ValueError, match="window of 256"):
        mplus.answer("why " * 200)
    with pytest.raises(ValueError, match="at least 1"):
        mplus.answer("Why?", max_new_tokens=0)


def test_a_repeated_text_keeps_the_place_of_every_word():
    """Also of its first word, whose token takes in the space between two repetitions."""
    tokenizer = AutoTokenizer.from_pretrained(SHIPPED / "mini")
    with pytest.warns(UserWarning, match="below the 16"):
        pieces = cut("My sister Ilse", tokenizer, MPlusConfig(**{**SHAPE, **MEMORY, "min_chunk": 16, "chunk_size": 64}))
    words = ["My sister Ilse"[start:end].strip() for start, end in pieces.spans]
    once = len(words) // pieces.repeated
    assert words == words[:once] * pieces.repeated and words[0] == "My" and "" not in words
    assert Receipt(1, "My sister Ilse", tuple(pieces.spans)).text_tokens == once


@pytest.mark.parametrize("words", [1, 4, 12, 20, 30, 60, 200, 500])
def test_chunks_that_overlap_keep_every_token_of_a_text(words):
    tokenizer = AutoTokenizer.from_pretrained(SHIPPED / "mini")
    config = MPlusConfig(**{**SHAPE, **MEMORY, "block_size": 32, "min_chunk": 44, "chunk_size": 64, "overlapped": 900})
    text = " ".join(f"Otter {number} sees it." for number in range(words))
    once = len(tokenizer(text, add_special_tokens=False)["input_ids"])
    pieces = cut(text, tokenizer, config)
    assert all(44 <= end - start <= 64 for start, end in pieces.bounds)
    kept = [pieces.spans[at] for start, end in pieces.bounds for at in range(max(start, end - 32), end)]
    letters = {at for start, end in kept for at in range(start, end)}
    left_out = {at for at, letter in enumerate(text) if letter != " "} - letters
    assert bool(left_out) == (once > 900) and (pieces.repeated > 1) == (once <= 64)
    assert Receipt(1, text, tuple(pieces.spans)).text_tokens == once


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"overlapped": 99, "chunk_size": 9, "block_size": 8, "min_chunk": 4}, "chunk_size is 9"),
        ({"block_size": -1}, "block_size is -1"),
        ({"num_retrieved": -5}, "num_retrieved is -5"),
        ({"max_long_term": 0}, "max_long_term is 0"),
        ({"num_blocks": 1}, "num_blocks is 1"),
        ({"rules": "papr"}, "rules is 'papr'"),
        ({"relevance": "cosine"}, "relevance is 'cosine'"),
        ({"retrieval_bias": -0.5}, r"retrieval_bias is -0\.5"),
        ({"retrieval_bias": 0.5, "relevance": "dot"}, r"retrieval_bias is 0\.5 with relevance 'dot'"),
        ({"retrieval_bias": [0.5]}, "retrieval_bias has 1 numbers for 2 layers"),
        ({"retrieval_bias": [0.5, -0.5]}, r"retrieval_bias is \[0\.5, -0\.5\]"),
        ({"retrieval_recency": -1, "retrieval_bias": 0.5, "relevance": "block"}, "retrieval_recency is -1"),
        ({"retrieval_recency": 1.0}, r"retrieval_recency is 1\.0 with no retrieval_bias"),
        ({"retrieval_accumulates": True}, "retrieval_accumulates is True with no retrieval_bias"),
        ({"min_chunk": 99}, "min_chunk is 99"),
        ({"hidden_size": -64}, "hidden_size is -64"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"recall_decay": -1.0}, r"recall_decay is -1\.0"),
        ({"initial_recall": 0.0}, r"initial_recall is 0\.0"),
        ({"initial_recall": float("nan")}, "initial_recall is nan"),
    ],
)
def test_settings_that_make_no_model(settings, words):
    with pytest.raises(ValueError, match=words):
        MPlusConfig(**{**SHAPE, **MEMORY, **settings})


def test_whole_numbers_are_taken_where_fractions_may_stand():
    config = MPlusConfig(**{**SHAPE, **MEMORY, "retrieval_bias": 0, "initial_recall": 10, "lora_alpha": 16})
    assert (config.retrieval_bias, config.initial_recall, config.lora_alpha) == (0, 10, 16)


def test_a_chunk_longer_than_allowed_never_reaches_the_model():
    mplus = reader()
    receipt = mplus.ingest(TEXT * 3)
    lengths = [chunk.end - chunk.start for chunk in receipt.chunks]
    assert max(lengths) <= MEMORY["chunk_size"] and max(lengths) - min(lengths) <= 1
    with pytest.raises(ValueError, match="chunk_size"):
        write(mplus.model, [mplus.memory], torch.zeros(1, MEMORY["chunk_size"] + 1, dtype=torch.int64))


def test_an_ingest_that_is_stopped_leaves_nothing_behind():
    mplus = reader()
    mplus.ingest(TEXT)
    before = state_of(mplus.memory)

    def stop(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mplus.ingest(TEXT * 2, stop)
    assert same(before, state_of(mplus.memory))


def test_receipts_and_undo_that_do_not_exist():
    mplus = reader()
    with pytest.raises(ValueError, match="receipt 7"):
        mplus.delete(7)
    with pytest.raises(ValueError, match="nothing to undo"):
        mplus.undo()


def test_memories_that_cannot_be_read_together():
    model = toy_mplus()
    one, other = new_memory(model), new_memory(model)
    write(model, [one], torch.zeros(1, 8, dtype=torch.int64))
    with pytest.raises(ValueError, match="batch"):
        generate(model, [one, other], torch.zeros(2, 3, dtype=torch.int64), max_new_tokens=1)

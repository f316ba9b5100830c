"""Wrong input: one clear sentence with the value, and nothing lost."""

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, MaxLengthCriteria, StoppingCriteriaList, TextStreamer

from core.checkpoint import SHIPPED, load_model
from core.config import MPlusConfig
from core.evaluate import main as evaluate
from core.prompts import cut, encode_question
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


NO_TEXTS = [
    (None, "is NoneType"),
    (5, "is int: 5"),
    (b"seven herons", "is bytes"),
    (["a b"], "is list"),
    ("\ud800 ab", "half"),
]


@pytest.mark.parametrize("text, words", [("", "empty"), ("   \n", "empty"), ("a", "single token"), *NO_TEXTS])
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


def test_what_is_asked_of_an_answer_is_done_or_refused():
    mplus = reader()
    mplus.ingest(TEXT)
    for text, words in NO_TEXTS:
        with pytest.raises(ValueError, match=words):
            mplus.answer(text)
    for settings, words in (
        ({"max_new_tokens": 2.5}, "is 2.5"), ({"max_new_tokens": None}, "is None"), ({"max_new_tokens": 0}, "is 0"),
        ({"num_return_sequences": 2, "do_sample": True}, "one answer"), ({"return_dict_in_generate": True}, "returned"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            mplus.answer("Where?", **settings)
    with pytest.raises(ValueError, match="list of questions"):
        mplus.answer_many("Where?")
    assert mplus.answer_many([]) == []
    several = mplus.answer_many(["Where?", "Who?"], 3, num_return_sequences=2, do_sample=True)
    assert len(several) == 4

    class Kept(TextStreamer):
        text = ""

        def on_finalized_text(self, text, stream_end=False):
            self.text += text

    kept, plain = Kept(mplus.tokenizer, skip_prompt=True), mplus.answer("Where?", 8, eos_token_id=None)
    assert mplus.answer("Where?", 8, eos_token_id=None, streamer=kept).tokens == plain.tokens and kept.text
    prompt = len(encode_question("Where?", mplus.tokenizer, mplus.model.config))
    two = StoppingCriteriaList([MaxLengthCriteria(prompt + 2)])
    cut_short = mplus.answer("Where?", 8, eos_token_id=None, stopping_criteria=two, stop=lambda: False)
    assert len(plain.tokens) == 8 and cut_short.tokens == plain.tokens[:2]


def test_what_looks_like_a_special_token_is_text():
    tokenizer = AutoTokenizer.from_pretrained(SHIPPED / "mini")
    config, text = MPlusConfig.from_pretrained(SHIPPED / "mini"), "The word <|end|> stands in the text."
    assert tokenizer.eos_token in text
    assert tokenizer.eos_token_id not in cut(text, tokenizer, config).ids
    asked = encode_question(text, tokenizer, config)
    assert tokenizer.eos_token_id not in asked and tokenizer.decode(asked).strip() == f"Question: {text} Answer:"


@pytest.mark.parametrize("seed", ["a", 1.5, None, 2**70])
def test_a_seed_is_a_whole_number(seed):
    with pytest.raises(ValueError, match="seed is"):
        new_memory(toy_mplus(), seed=seed)


def test_a_seed_may_be_numpys():
    assert new_memory(toy_mplus(), seed=np.int64(3)).seed == 3


@pytest.mark.parametrize("place", [{"device": "gpu"}, {"dtype": "float32"}, {"dtype": torch.int8}])
def test_a_model_that_cannot_be_put_there(place):
    with pytest.raises(ValueError, match=r"cannot be put on|dtype is"):
        load_model("memoryllm-mini", **place)


WRONG_LINES = {
    "retention --facts facts:1 --distractors facts:2 --live 1,0": "start at 1",
    "retention --facts facts:1 --distractors facts:2 --seeds=-1": "start at 0",
    "retention --facts facts:1 --distractors facts:2 --num-facts -1": "-1 is below 1",
    "retention --facts facts:1 --distractors facts:2 --max-new-tokens 0": "0 is below 1",
    "ruler --needles 0": "0 is below 1",
    "loss --data README.md --plot x.xyz": "does not end in .png",
    "loss --data README.md --passage 1 --positions 0": "no second half",
    "gates --data nope.txt": "There is no text nope.txt",
    "eventqa --data README.md --events nope": "'nope'",
}


@pytest.mark.parametrize("line", WRONG_LINES)
def test_slips_on_a_command_line_are_told_in_a_sentence(line, tmp_path, capsys):
    try:
        code = evaluate([*line.split(), "--model", "memoryllm-mini", "--out", str(tmp_path)])
    except SystemExit as error:  # argparse's
        code = error.code
    told = capsys.readouterr().err
    assert code == 2 and WRONG_LINES[line] in told and "Traceback" not in told

"""Byte-level BPE: lossless on any text, with character spans that point into the text as it was given."""

import pytest

from core.tokenizer_training import train_tokenizer

TEXTS = ["Ilse keeps her spare key under the blue flowerpot."] * 5


@pytest.mark.parametrize("text", ["Where does Ilse keep it?", "日本語 und ß, naïve 🙂\n\ttabs", "x1234 QZ-88", "  two"])
def test_any_text_comes_back(text):
    tokenizer = train_tokenizer(TEXTS, 280)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == " " + text
    assert len(tokenizer) == 280


def test_spans_point_into_the_text_and_digits_stay_single():
    tokenizer = train_tokenizer(TEXTS, 280)
    text = "The code is 4711."
    encoded = tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)
    spans = encoded["offset_mapping"]
    assert spans == sorted(spans) and {i for start, end in spans for i in range(start, end)} == set(range(len(text)))
    assert [text[start:end] for start, end in spans[-5:]] == ["4", "7", "1", "1", "."]


def test_a_word_has_the_same_tokens_first_and_later():
    tokenizer = train_tokenizer(TEXTS, 280)
    first, later = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("Ilse", "her Ilse"))
    assert later[-len(first) :] == first


def test_a_vocabulary_without_room_for_the_bytes_is_refused():
    with pytest.raises(ValueError, match="258"):
        train_tokenizer(TEXTS, 100)

"""Text in, token ids out: how a text is cut into chunks, and how a question is put to the model."""

import warnings
from itertools import pairwise
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from .config import MPlusConfig


class Pieces(NamedTuple):
    """A text ready to be written: its token ids, the characters each token covers, chunk bounds, and repetitions."""

    ids: list[int]
    spans: list[tuple[int, int]]
    bounds: list[tuple[int, int]]
    repeated: int


def cut(text: str, tokenizer: PreTrainedTokenizerBase, config: MPlusConfig) -> Pieces:
    """Cut a text into the fewest chunks of at most `chunk_size` real tokens, as even as can be, so none is tiny.

    A text below `min_chunk` tokens would disturb the block it borrows from, so it is repeated until it fills a chunk,
    with a warning. Raises ValueError for an empty text and for one of a single token.
    """
    ids, spans = _encode(text, tokenizer)
    if not text.strip():
        raise ValueError("The text is empty; give at least one sentence to remember.")
    if len(ids) < 2:
        raise ValueError(f"The text {text!r} is a single token; give at least a few words to remember.")
    repeated, once = 1, len(ids)
    while len(ids) < config.min_chunk:
        repeated += 1
        ids, spans = _encode(" ".join([text] * repeated), tokenizer)
        period = len(text) + 1
        spans = [(start + (start % period == len(text)), end) for start, end in spans]  # without the space that joins
        spans = [(start % period, min(len(text), start % period + end - start)) for start, end in spans]
    if repeated > 1:
        warnings.warn(
            f"The text has {once} tokens, below the {config.min_chunk} that a chunk needs; it is written {repeated} "
            "times over so that it does not disturb the memory.",
            stacklevel=3,
        )
    count = -(-len(ids) // config.chunk_size)
    edges = [len(ids) * i // count for i in range(count + 1)]
    return Pieces(ids, spans, list(pairwise(edges)), repeated)


def _encode(text: str, tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[tuple[int, int]]]:
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return list(encoded["input_ids"]), [tuple(span) for span in encoded["offset_mapping"]]


def question_prompt(question: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """The chat template of an instruct checkpoint, or the form base models are asked in: "Question: … Answer:"."""
    if tokenizer.chat_template:
        message = [{"role": "user", "content": question}]
        return str(tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True))
    return f"Question: {question} Answer:"


def encode_question(
    question: str, tokenizer: PreTrainedTokenizerBase, config: MPlusConfig, raw: bool = False
) -> list[int]:
    """Token ids of a question in its prompt form; `raw`: of the prompt it is already.

    Raises ValueError if it is empty or longer than the window.
    """
    if not question.strip():
        raise ValueError("The question is empty; ask something about what was ingested.")
    prompt = question if raw else question_prompt(question, tokenizer)
    ids = list(tokenizer(prompt, add_special_tokens=False)["input_ids"])
    if len(ids) > config.prompt_window:
        raise ValueError(
            f"The question has {len(ids)} tokens, above the window of {config.prompt_window}; "
            "ingest the long part as text and ask a shorter question."
        )
    return ids

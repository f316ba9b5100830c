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

    A text of up to `config.overlapped` tokens is cut into chunks that overlap, so that all of its tokens are kept: see
    `overlapping`.
    A text below `min_chunk` tokens would disturb the block it borrows from, so it is repeated until it fills a chunk;
    with a warning, unless chunks overlap and short texts are repeated anyway. Raises ValueError for what is no text, an
    empty one, and one of a single token.
    """
    check_string("text", text)
    ids, spans = encode(text, tokenizer)
    if not text.strip():
        raise ValueError("The text is empty; give at least one sentence to remember.")
    if len(ids) < 2:
        raise ValueError(f"The text {text!r} is a single token; give at least a few words to remember.")
    once, dense = len(ids), len(ids) <= config.overlapped
    repeated, wanted = 1, 2 if dense and once <= config.chunk_size else 1
    while len(ids) < config.min_chunk or repeated < wanted:
        repeated += 1
        ids, spans = _repeat(text, repeated, tokenizer)
    if once < config.min_chunk and not dense:
        warnings.warn(
            f"The text has {once} tokens, below the {config.min_chunk} that a chunk needs; it is written {repeated} "
            "times over so that it does not disturb the memory.",
            stacklevel=3,
        )
    if dense and once > config.block_size:
        size = config.block_size
        if repeated == 1:  # the first chunk, too, has something before what it keeps: once more the text's beginning
            ids, spans = ids[:size] + ids, spans[:size] + spans
        return Pieces(ids, spans, overlapping(len(ids), once, config.chunk_size, size), repeated)
    count = -(-len(ids) // config.chunk_size)
    edges = [len(ids) * i // count for i in range(count + 1)]
    return Pieces(ids, spans, list(pairwise(edges)), repeated)


def overlapping(total: int, kept: int, chunk_size: int, block_size: int) -> list[tuple[int, int]]:
    """Bounds of chunks whose last K tokens are, one chunk after the other, all of the last `kept` of `total` tokens.

    A chunk leaves its last K tokens; whatever stands before them, as much again, is only seen. There must be K tokens
    or more before those that are kept.
    """
    count = -(-kept // block_size)
    ends = [max(chunk_size, total - kept + kept * (number + 1) // count) for number in range(count)]
    return [(max(0, end - chunk_size), end) for end in ends]


def _repeat(text: str, times: int, tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[tuple[int, int]]]:
    """Tokens of the text said several times over, and the characters of the text that each covers."""
    ids, spans = encode(" ".join([text] * times), tokenizer)
    period = len(text) + 1
    spans = [(start + (start % period == len(text)), end) for start, end in spans]  # without the space that joins
    return ids, [(start % period, min(len(text), start % period + end - start)) for start, end in spans]


def encode(text: str, tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[tuple[int, int]]]:
    """Token ids of a text, and the characters each covers."""
    # What looks like a special token is text here: "<|end|>" in a document ends nothing.
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, split_special_tokens=True)
    return list(encoded["input_ids"]), [tuple(span) for span in encoded["offset_mapping"]]


def check_string(what: str, text: object) -> None:
    """ValueError unless it is a string that can be written down."""
    if not isinstance(text, str):
        raise ValueError(f"A {what} is a string, and this is {type(text).__name__}: {text!r:.60}; decode or join it.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        wrong = text[error.start]
        raise ValueError(
            f'The {what} holds half a character, {wrong!r} at {error.start}; read its file with errors="replace".'
        ) from error


def question_prompt(question: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """The chat template of an instruct checkpoint, or the form base models are asked in: "Question: … Answer:"."""
    if tokenizer.chat_template:
        message = [{"role": "user", "content": question}]
        return str(tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True))
    return f"Question: {question} Answer:"


def encode_prompt(question: str, tokenizer: PreTrainedTokenizerBase, raw: bool = False) -> list[int]:
    """Token ids of a question in its prompt form; `raw`: of the prompt it is already.

    Raises ValueError if it is no text or empty.
    """
    check_string("question", question)
    if not question.strip():
        raise ValueError("The question is empty; ask something about what was ingested.")
    prompt = question if raw else question_prompt(question, tokenizer)
    plain = not raw and not tokenizer.chat_template  # else special tokens belong to the form
    return list(tokenizer(prompt, add_special_tokens=False, split_special_tokens=plain)["input_ids"])


def encode_question(
    question: str, tokenizer: PreTrainedTokenizerBase, config: MPlusConfig, raw: bool = False
) -> list[int]:
    """As `encode_prompt`. Raises ValueError as well if it is longer than the window."""
    ids = encode_prompt(question, tokenizer, raw)
    if len(ids) > config.prompt_window:
        raise ValueError(
            f"The question has {len(ids)} tokens, above the window of {config.prompt_window}; "
            "ingest the long part as text and ask a shorter question."
        )
    return ids

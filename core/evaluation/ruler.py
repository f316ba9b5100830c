"""RULER's needle tasks (Hsieh et al. 2024): its published rows, or needles of our own in any book."""

import random
from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from ..world.words import ADJECTIVES, THINGS
from .examples import Example, Question, data_rows
from .longbench import split_prompt

NEEDLE = "One of the special magic numbers for {key} is: {value}."
ASK = "What is the special magic number for {key} mentioned in the provided text?"


def load(
    source: str, name: str, tokenizer: PreTrainedTokenizerBase, window: int, num: int | None
) -> tuple[list[Example], list[str]]:
    """Rows {index, input, outputs, length}: the end of the input is the prompt, what precedes it is ingested."""
    found = data_rows(source, {"input": str, "outputs": list}, split="test")
    metric = "any" if name.startswith("qa") else "all"  # of its questions on documents several answers are right
    examples = []
    for number, row in enumerate(found.rows[:num]):
        texts, prompt = split_prompt(row["input"], tokenizer, 2**40, window - 128)
        question = Question(prompt, tuple(map(str, row["outputs"])), metric, 128, raw=True)
        group = f"{name} {row['length']}" if "length" in row else name
        examples.append(Example(f"{name}-{row.get('index', number)}-{number}", group, texts, (question,)))
    return examples, found.problems


def build(
    book: Path, tokenizer: PreTrainedTokenizerBase, lengths: Sequence[int], num: int, seed: int, needles: int = 1
) -> list[Example]:
    """`num` haystacks for every length in tokens, each with `needles` numbers under different keys; one is asked for.

    One needle is RULER's niah_single, several its niah_multikey. The question is asked in the usual question form.
    """
    words = book.read_text(encoding="utf-8").split()
    if not words:
        raise ValueError(f"The book {book} is empty; name a text.")
    share = len(tokenizer(" ".join(words[:5000]), add_special_tokens=False)["input_ids"]) / min(5000, len(words))
    examples = []
    for length in lengths:
        rng = random.Random(f"{seed} {length} {needles}")
        for number in range(num):
            keys = rng.sample([f"{left}-{right}" for left in ADJECTIVES for right in THINGS], needles)
            values = [str(rng.randrange(10**6, 10**7)) for _ in keys]
            start, count = rng.randrange(len(words)), max(0, int(length / share))
            hay = [words[(start + place) % len(words)] for place in range(count)]
            for key, value in zip(keys, values, strict=True):
                hay.insert(rng.randrange(len(hay) + 1), NEEDLE.format(key=key, value=value))
            question = Question(ASK.format(key=keys[0]), (values[0],), "all", 16)
            group = f"niah-{needles} {length}"
            examples.append(Example(f"niah-{needles}-{length}-{number}", group, (" ".join(hay),), (question,)))
    return examples

"""Ordinary sentences of documents with questions made from them, so that not all that is asked is generated language.

A part of the sentence is left out and asked for; the question keeps some of the other words, as people do, whose
question seldom repeats a sentence whole. Such questions are rough, and a wrong question word does no harm: what is
learned is to find the sentence that shares words with the question, and the part of it that the question lacks.
"""

import random
import re
from collections.abc import Callable

from transformers import PreTrainedTokenizerBase

from .statements import Statement


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


FUNCTION = _words(
    "the a an of to in on at and or but for with by from as his her their my your our its is was are were be been had "
    "has have did does do that this it he she they i you we who which not so if then than there would could should "
    "will shall may might must very no me him them us into upon up out about over after before when where what one"
)
LEADING = _words(
    "the a an his her their my your our its of to in on at and or for with by from as into upon very so that this"
)
ASK = (
    "What", "Where", "Who", "Where did", "Where does", "What did", "What does", "When did", "What is", "Where is",
    "Who did", "Which", "How", "When", "What was", "Where was", "To whom did", "With what did", "Under what did",
    "In which", "From what",
)  # fmt: skip
ASK_FIRST = ("Who", "What", "Which", "Who", "What")  # for what a sentence begins with
SENTENCE = re.compile(r"(?<=[.!?] )[A-Z][^.!?\"“”_;:()\[\]]{25,130}[.!]")
WORD = re.compile(r"[A-Za-z'’\-]+[,.!]?")  # noqa: RUF001


def draw_sentence(
    window: Callable[[int], list[int]], tokenizer: PreTrainedTokenizerBase, rng: random.Random, tries: int = 20
) -> Statement | None:
    """A sentence of 6 to 20 words from windows of prose, with up to three questions; None where none is found."""
    for _ in range(tries):
        text = re.sub(r"\s+", " ", str(tokenizer.decode(window(200))))
        found = [sentence for sentence in SENTENCE.findall(text) if _plain(sentence.split())]
        if found:
            sentence = rng.choice(found)
            statement = Statement(sentence, tuple(ask(sentence, rng)), relation="sentence")
            if statement.questions:
                return statement
    return None


def ask(sentence: str, rng: random.Random) -> list[tuple[str, str]]:
    """(question, answer) pairs about parts at the end, the beginning or in the middle, one to three words each."""
    words, pairs = sentence.split(), []
    for part in rng.sample(("end", "end", "start", "middle"), 3):
        count, num = rng.choice((1, 1, 2, 2, 3)), len(words)
        if part == "middle":
            first = rng.randrange(2, max(3, num - 3))
            last = min(num - 1, first + count)
        else:
            first, last = (num - count, num) if part == "end" else (0, count)
        while first < last and _bare(words[first]) in LEADING:
            first += 1
        while last > first and _bare(words[last - 1]) in FUNCTION:
            last -= 1
        answer = " ".join(words[first:last]).strip(",.!")
        if len(answer) < 3 or "," in answer or all(_bare(word) in FUNCTION for word in words[first:last]):
            continue
        before, after = _remembered(words[:first], rng), _remembered(words[last:], rng)
        longest = rng.choice((5, 8, 12)) if part != "middle" else rng.choice((3, 5))
        kept = before[-longest:] if part == "end" else after[:longest] if part == "start" else before[-longest:] + after
        if len(kept) >= 2:
            opening = rng.choice(ASK_FIRST if part == "start" else ASK)
            pairs.append((f"{opening} {' '.join(kept[: 2 * longest])}?", answer))
    return pairs


def _remembered(words: list[str], rng: random.Random) -> list[str]:
    """What a question keeps of these words: most content words, some of them without their ending."""
    kept = []
    for index, word in enumerate(word.strip(",.!") for word in words):
        light = word.lower() in FUNCTION
        if rng.random() < (0.4 if light else 0.12):
            continue
        word = word.lower() if light and not index else word
        ending = next((end for end in ("ed", "ing", "s") if word.endswith(end) and len(word) > len(end) + 3), "")
        kept.append(word.removesuffix(ending) if not light and rng.random() < 0.35 else word)
    return kept


def _bare(word: str) -> str:
    return word.lower().strip(",.!")


def _plain(words: list[str]) -> bool:
    return 6 <= len(words) <= 20 and all(WORD.fullmatch(word) for word in words)

"""Scores as their benchmarks define them, and bootstrap bands."""

import re
import string
from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = frozenset(string.punctuation)


def first_line(text: str) -> str:
    """What counts as the answer: generation is cut at the first line break."""
    lines = text.strip().splitlines()
    return lines[0].strip() if lines else ""


def exact_hit(text: str, answer: str) -> bool:
    """Knowledge retention: the gold string is contained in the generated text, case and all."""
    return answer.strip() in text


def normalised(text: str) -> str:
    """SQuAD's normalisation: lower case, no punctuation, no articles, single spaces; in this order."""
    kept = "".join(letter for letter in text.lower() if letter not in PUNCTUATION)
    return " ".join(ARTICLES.sub(" ", kept).split())


def qa_f1(text: str, answers: Sequence[str]) -> float:
    """LongBench's QA-F1, 0 … 1: F1 over normalised words counted with multiplicity, the best over all answers."""
    return max((_f1(normalised(text).split(), normalised(answer).split()) for answer in answers), default=0.0)


def _f1(words: list[str], gold: list[str]) -> float:
    same = sum((Counter(words) & Counter(gold)).values())
    return 2 * same / (len(words) + len(gold)) if same else 0.0


def exact_match(text: str, answers: Sequence[str]) -> float:
    """SQuAD's exact match after normalisation, 0 or 1."""
    return float(any(normalised(text) == normalised(answer) for answer in answers))


def normalised_match(text: str, answers: Sequence[str]) -> float:
    """1 if an answer, normalised as in SQuAD, occurs among the words of the normalised text."""
    return float(any(f" {normalised(answer)} " in f" {normalised(text)} " for answer in answers))


def match_all(text: str, answers: Sequence[str]) -> float:
    """RULER's string_match_all: the share of references that occur in the text, whatever their case."""
    return sum(answer.lower() in text.lower() for answer in answers) / max(1, len(answers))


def match_any(text: str, answers: Sequence[str]) -> float:
    """RULER's string_match_part: 1 if one of the references occurs in the text."""
    return float(any(answer.lower() in text.lower() for answer in answers))


def contains_all(text: str, answers: Sequence[str]) -> float:
    """MemoryAgentBench's eventqa_recall: 1 if every element of the answer occurs in the text."""
    return float(all(answer.lower() in text.lower() for answer in answers))


def label_match(text: str, target: str, question: str, labels: Sequence[str]) -> float:
    """BABILong's compare_answers, as published: of the task's labels, only the target occurs in the first sentence.

    Labels that occur in the question do not count. A target of several ("apple,milk") asks for exactly these.
    """
    sentence = text.lower().split(".")[0]
    for mark in ("<context>", "<example>"):
        sentence = sentence.split(mark)[0]
    known, target = {label.lower() for label in labels}, target.lower()
    found = {label for label in known if label in sentence and label not in question.lower()}
    wanted = set(target.split(",")) if "," in target and len(target) > 3 else {target}
    return float(found == wanted)


def bootstrap(
    values: Sequence[float], units: Sequence[Hashable] | None = None, seed: int = 0, samples: int = 1000,
    level: float = 0.95,
) -> tuple[float, float]:  # fmt: skip
    """Band of the mean: percentiles of the means of `samples` resamples, drawn from the seed.

    units: whose value each is. Values of one unit, as of a fact that is asked again with other chance, are no new
    evidence, so units are drawn instead of values (the cluster bootstrap). Of one unit, as of questions about a novel,
    there is nothing else to draw: values are, and the band is of that unit alone. If all values are 0, or all 1,
    resamples have no width: then the band reaches as far as the rule of three says, 3 / units.
    """
    if not len(values):
        return 0.0, 0.0
    given = np.asarray(values, dtype=np.float64)
    drawn = range(len(given)) if units is None or len(set(units)) == 1 else units
    _, owner = np.unique([str(unit) for unit in drawn], return_inverse=True)
    sums, counts = np.bincount(owner, given), np.bincount(owner)
    if given.min() == given.max() and given[0] in (0.0, 1.0):
        wide = min(1.0, 3 / len(counts))
        return (0.0, wide) if given[0] == 0 else (1 - wide, 1.0)
    draws = np.random.default_rng(seed).integers(0, len(counts), (samples, len(counts)))
    low, high = np.quantile(sums[draws].sum(1) / counts[draws].sum(1), ((1 - level) / 2, (1 + level) / 2))
    return float(low), float(high)

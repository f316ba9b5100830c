"""LongBench's six question-answering sets (Bai et al. 2023), as published, read as in the M+ paper (§4.2).

The prompt is truncated in its middle to `length` tokens, as LongBench does; all but its end is ingested, the last
`window` tokens, less room for the answer, are the prompt (2,048 in the paper).
"""

import random
from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from .examples import Example, Question, data_rows
from .published import squad_facts

PASSAGES = (
    "Answer the question based on the given passages. Only give me the answer and do not output any other words.\n\n"
    "The following are given passages.\n{context}\n\nAnswer the question based on the given passages. Only give me "
    "the answer and do not output any other words.\n\nQuestion: {input}\nAnswer:"
)
UNANSWERABLE = (
    "as concisely as you can, using a single phrase or sentence if possible. If the question cannot be answered based "
    'on the information in the article, write "unanswerable". If the question is a yes/no question, answer "yes", '
    '"no", or "unanswerable". Do not provide any explanation.\n\n'
)
BRIEF = "asconcisely as you can, using a single phrase if possible. Do not provide any explanation.\n\n"  # as published
SETS: dict[str, tuple[int, str]] = {
    "2wikimqa": (32, PASSAGES),
    "hotpotqa": (32, PASSAGES),
    "qasper": (
        128,
        f"You are given a scientific article and a question. Answer the question {UNANSWERABLE}Article: {{context}}"
        f"\n\n Answer the question based on the above article {UNANSWERABLE}Question: {{input}}\n\nAnswer:",
    ),
    "musique": (32, PASSAGES),
    "multifieldqa_en": (
        64,
        "Read the following text and answer briefly.\n\n{context}\n\nNow, answer the following question based on the "
        "above text, only give me the answer and do not output any other words.\n\nQuestion: {input}\nAnswer:",
    ),
    "narrativeqa": (
        128,
        f"You are given a story, which can be either a novel or a movie script, and a question. Answer the question "
        f"{BRIEF}Story: {{context}}\n\nNow, answer the question based on the story {BRIEF}Question: {{input}}"
        "\n\nAnswer:",
    ),
}
"""Name -> (tokens of an answer, prompt). Answers are scored whole, as LongBench scores these sets."""


def load(
    source: str, sets: Sequence[str], tokenizer: PreTrainedTokenizerBase, length: int, window: int, num: int | None
) -> tuple[list[Example], list[str]]:
    """Examples of these sets from a folder of SET.jsonl, one such file, or the hub's name; and the rows left out."""
    examples, problems = [], []
    for name in sets:
        max_new, template = SETS[name]
        path = Path(source)
        place = str(path / f"{name}.jsonl") if path.is_dir() else source
        fields = {"input": str, "context": str, "answers": list}
        found = data_rows(place, fields, name=name, split="test")
        problems += found.problems
        chosen = [row for row in found.rows if row.get("dataset", name) == name][:num]
        for number, row in enumerate(chosen):
            texts, prompt = split_prompt(
                template.format(context=row["context"], input=row["input"]), tokenizer, length, window - max_new
            )
            question = Question(prompt, tuple(row["answers"]), "f1", max_new, raw=True)
            examples.append(Example(str(row.get("_id", f"{name}-{number}")), name, texts, (question,)))
    return examples, problems


def build(
    squad: Path, tokenizer: PreTrainedTokenizerBase, length: int, window: int, num: int, seed: int
) -> tuple[list[Example], list[str]]:
    """LongBench's form from a SQuAD file, where its sets are not at hand: the paragraph that is asked about stands
    among others as numbered passages, as many as fit `length` tokens; prompt, truncation and score are hotpotqa's.

    These are not LongBench's questions, and scores must not be compared with its tables.
    """
    facts, problems = squad_facts(squad)
    rng, max_new = random.Random(f"{seed} {length}"), SETS["hotpotqa"][0]
    texts = list(dict.fromkeys(fact.fact for fact in facts))
    sizes = dict(zip(texts, map(len, tokenizer(texts, add_special_tokens=False)["input_ids"]), strict=True))
    room = length - len(tokenizer(PASSAGES, add_special_tokens=False)["input_ids"]) - 64  # 64: the question
    examples = []
    for number, fact in enumerate(rng.sample(facts, min(num, len(facts)))):
        passages, used = [fact.fact], sizes[fact.fact]
        for other in rng.sample(texts, len(texts)):
            if other != fact.fact and used + sizes[other] + 8 <= room:
                passages.append(other)
                used += sizes[other] + 8  # 8: its number and line breaks
        rng.shuffle(passages)
        listed = "\n\n".join(f"Passage {place}:\n{text}" for place, text in enumerate(passages, 1))
        prompt = PASSAGES.format(context=listed, input=fact.question)
        told, end = split_prompt(prompt, tokenizer, length, window - max_new)
        question = Question(end, (fact.answer,), "f1", max_new, raw=True)
        examples.append(Example(f"passages-{length}-{number}", f"passages {length}", told, (question,)))
    return examples, problems


def split_prompt(
    prompt: str, tokenizer: PreTrainedTokenizerBase, length: int, window: int
) -> tuple[tuple[str, ...], str]:
    """Truncate the middle so that `length` tokens stay, and split: (what is ingested, the last `window` tokens)."""
    ids = list(tokenizer(prompt, add_special_tokens=False, verbose=False)["input_ids"])
    if len(ids) > length:
        half = length // 2
        ids = ids[:half] + ids[len(ids) - half :]
    cut = max(0, len(ids) - window)
    end = str(tokenizer.decode(ids[cut:]))
    return ((str(tokenizer.decode(ids[:cut])),) if cut > 1 else ()), end

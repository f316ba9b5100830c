"""BABILong (Kuratov et al. 2024): bAbI stories hidden in the sentences of books; from the hub's form, or built here."""

import random
import re
from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from .examples import Example, Question, data_rows
from .texts import Rows

ROOMS = ("bathroom", "bedroom", "garden", "hallway", "kitchen", "office")
LABELS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("qa1", "qa2", "qa3", "qa4", "qa11", "qa12", "qa13"), ROOMS),
    **dict.fromkeys(("qa6", "qa9", "qa17", "qa18"), ("no", "yes")),
    "qa5": ("Bill", "Fred", "Jeff", "Mary", "apple", "football", "milk"),
    "qa7": ("none", "one", "three", "two"),
    "qa8": ("apple", "football", "milk", "nothing"),
    "qa10": ("maybe", "no", "yes"),
    "qa14": ("bedroom", "cinema", "kitchen", "office", "park", "school"),
    "qa15": ("cat", "mouse", "sheep", "wolf"),
    "qa16": ("gray", "green", "white", "yellow"),
    "qa19": tuple(["e,e", "e,n", "e,s", "n,e", "n,n", "n,w", "s,e", "s,s", "s,w", "w,n", "w,s", "w,w"]),
    "qa20": ("bedroom", "bored", "garden", "hungry", "kitchen", "thirsty", "tired"),
}
"""The answers each task knows, as published; scoring needs them."""


def load(source: str, task: str, length: str, num: int | None) -> tuple[list[Example], list[str]]:
    """Rows {input, question, target} of a file, whose length is not known, or of the hub's dataset, of which `length`
    names the configuration ("16k")."""
    fields = {"input": str, "question": str, "target": str}
    found = data_rows(source, fields, name=length, split=task)
    group = f"{task} {length}".strip()
    return [
        _example(f"{task}-{length}-{number}", group, row["input"], row["question"], row["target"], task)
        for number, row in enumerate(found.rows[:num])
    ], found.problems


def _example(id: str, group: str, text: str, question: str, target: str, task: str) -> Example:
    return Example(id, group, (text,), (Question(question, (target,), "label", 20, labels=LABELS[task]),))


def build(
    stories: Path,
    book: Path,
    task: str,
    tokenizer: PreTrainedTokenizerBase,
    lengths: Sequence[int],
    num: int,
    seed: int,
) -> tuple[list[Example], list[str]]:  # fmt: skip
    """Hide stories of a bAbI file in stretches of a book, `num` for every length in tokens; 0 is the story alone.

    The sentences of a story keep their order; their places among the book's sentences are drawn at random.
    """
    found = read_stories(stories)
    sentences = [" ".join(piece.split()) for piece in re.split(r"(?<=[.!?])\s+", book.read_text(encoding="utf-8"))]
    sentences = [sentence for sentence in sentences if sentence]
    if not sentences:
        raise ValueError(f"The book {book} is empty; name a text.")
    sizes = [len(ids) for ids in tokenizer(sentences, add_special_tokens=False)["input_ids"]]
    examples = []
    for length in lengths:
        rng = random.Random(f"{seed} {length}")
        for number, row in enumerate(rng.sample(found.rows, min(num, len(found.rows)))):
            facts: list[str] = row["facts"]
            room = length - len(tokenizer(" ".join(facts), add_special_tokens=False)["input_ids"])
            noise, place = [], rng.randrange(len(sentences))
            while room >= sizes[place]:
                noise.append(sentences[place])
                room -= sizes[place]
                place = (place + 1) % len(sentences)
            text = " ".join(hide(facts, noise, rng))
            group = f"{task} {length}"
            examples.append(_example(f"{task}-{length}-{number}", group, text, row["question"], row["target"], task))
    return examples, found.problems


def hide(facts: Sequence[str], noise: Sequence[str], rng: random.Random) -> list[str]:
    """Facts, in their order, at random places among the noise, in its order."""
    places = set(rng.sample(range(len(facts) + len(noise)), len(facts)))
    fact, other = iter(facts), iter(noise)
    return [next(fact if place in places else other) for place in range(len(facts) + len(noise))]


def read_stories(path: Path) -> Rows:
    """Questions of a bAbI file, each with the facts that came before it in its story; bad lines are reported."""
    if not path.is_file():
        raise ValueError(f"There is no bAbI file {path}; name one, for instance qa1_single-supporting-fact_test.txt.")
    found, facts = Rows([]), []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        index, _, rest = line.lstrip().partition(" ")
        if not index.isdigit() or not rest:
            found.problems.append(f"{path.name}:{number}: neither a sentence nor a question of a bAbI story")
            continue
        if index == "1":
            facts = []
        question, tab, answer = rest.partition("\t")
        if tab and answer.split("\t")[0]:
            row = {"facts": list(facts), "question": question.strip(), "target": answer.split("\t")[0].strip()}
            found.rows.append(row)
        elif tab:
            found.problems.append(f"{path.name}:{number}: a question without an answer")
        else:
            facts.append(rest.strip())
    if not found.rows:
        raise ValueError(f"There is no question in {path}; {(found.problems or ['it is empty'])[0]}.")
    return found

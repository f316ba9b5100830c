"""Memories in folders and their twins in RAM, for the tests of `core.durable`."""

import random
from collections.abc import Callable

import torch

from core.durable import DurableReader
from core.reader import MPlusReader
from core.reading import new_memory
from tests.toys import toy_tokenizer


def in_ram(model) -> MPlusReader:
    return MPlusReader(model, toy_tokenizer(), new_memory(model, "smaller", seed=3))


def in_folder(model, folder, **settings) -> DurableReader:
    return DurableReader(model, toy_tokenizer(), new_memory(model, "smaller", seed=3), folder, **settings)


def text(number: int, length: int = 60) -> str:
    draw = random.Random(number)
    return " ".join(str(draw.randrange(10**6)) for _ in range(length // 7))


def same(one: MPlusReader, other: MPlusReader) -> bool:
    question = "Where is 4711 now?"
    views = [reader.inspect(question) for reader in (one, other)]
    states = [reader.memory.state for reader in (one, other)]
    answers = [reader.answer(question, max_new_tokens=6).tokens for reader in (one, other)]
    return (
        answers[0] == answers[1]
        and [v.sources for v in views[0]] == [v.sources for v in views[1]]
        and torch.equal(states[0].pool, states[1].pool)
        and [len(log) for log in states[0].logs] == [len(log) for log in states[1].logs]
        and one.memory.receipts == other.memory.receipts
    )


def fed(*readers) -> None:
    for reader in readers:
        for number in range(8):
            reader.ingest(text(number))


CHANGES = {
    "ingest": lambda reader: reader.ingest(text(50, 300)),
    "undo": lambda reader: reader.undo(),
    "delete": lambda reader: reader.delete(reader.memory.receipts[1]),
    "reset": lambda reader: reader.reset(),
    "compact": lambda reader: reader.compact() if isinstance(reader, DurableReader) else None,
}


class Kill:
    """Lets so many steps pass and then, at every later one, raises as a kill would end it."""

    def __init__(self, last: int):
        self.last, self.steps = last, 0

    def at(self, step: Callable) -> Callable:
        def run(*args, **kwargs):
            self.steps += 1
            if self.steps > self.last:
                raise KeyboardInterrupt
            return step(*args, **kwargs)

        return run

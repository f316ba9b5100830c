"""A reader whose every step is noted, so that the figures can tell what happened. The notebooks work with one."""

import warnings
from collections.abc import Iterable

from core.reader import MPlusReader
from core.sources import Receipt

from .views import Moment, Retrieval, look, retrieval, title


class Diary:
    """moments: the memory at the beginning and after every chunk that was written, what `lab.plots.forgetting` draws.

    last: what the latest question found.
    """

    def __init__(self, reader: MPlusReader):
        self.reader = reader
        self.moments: list[Moment] = [look(reader.memory, "start")]
        self.last: Retrieval | None = None

    @property
    def texts(self) -> list[Receipt]:
        """The texts in memory, in the order in which they were written."""
        return self.reader.memory.receipts

    @property
    def names(self) -> dict[int, str]:
        """Receipt id -> how a figure calls the text."""
        return {receipt.id: title(receipt) for receipt in self.texts}

    def write(self, text: str) -> Receipt:
        """Write a text and note the memory after each of its chunks. Raises ValueError for an empty text.

        A short text is repeated to fill a chunk (`Receipt.repeated` tells); that is no reason for a warning here.
        """
        number = self.reader.memory.state.next_receipt

        def note(done: int, total: int) -> None:
            self.moments.append(look(self.reader.memory, "write", number, self.moments[-1]))

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The text has .* tokens", UserWarning)
            return self.reader.ingest(text, note)

    def write_all(self, texts: Iterable[str]) -> None:
        for text in texts:
            self.write(text)

    def ask(self, question: str, max_new_tokens: int = 16) -> Retrieval:
        """Answer a question; the answer's text, and what each layer retrieved for it."""
        answer = self.reader.answer(question, max_new_tokens)
        self.last = retrieval(self.reader, question, answer.text, answer.found)
        return self.last

    def fork(self) -> "Diary":
        """A diary that begins as this one and then goes its own way."""
        twin = Diary(self.reader.fork())
        twin.moments, twin.last = list(self.moments), self.last
        return twin

"""Documents to train on, from anywhere `datasets` can read, and the paper's way of cutting them.

A source is a name on the Hugging Face hub, which is streamed, or a local `.txt` (one document a file), `.jsonl` or
`.parquet` file or a folder of them. Every process reads its own shard; `state_dict` says where a stream stands, so a
run that was killed goes on with the next document.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import datasets
from datasets.distributed import split_dataset_by_node
from transformers import PreTrainedTokenizerBase

READERS = {".txt": "text", ".jsonl": "json", ".parquet": "parquet"}


@dataclass(frozen=True)
class Source:
    """Where documents come from: a file, a folder or a hub name ("owner/data" or "owner/data:configuration").

    share: how often it is drawn, relative to the other sources. Documents outside [min_tokens, max_tokens) are skipped.
    """

    data: str
    share: float = 1.0
    min_tokens: int = 0
    max_tokens: int = 10**12
    field: str = "text"


class Document(NamedTuple):
    """Token ids of a document, cut as the paper does: chunks to write, and the sentence to predict from them."""

    chunks: list[list[int]]
    sentence: list[int]


def open_source(source: Source, seed: int = 0) -> datasets.IterableDataset:
    """A stream of rows, local files in an order the seed fixes.

    Raises ValueError for a path or name that is not there, for files of an unknown kind, and for a folder of several.
    """
    path = Path(source.data)
    if path.exists():
        kinds = {file.suffix: file for file in ([path] if path.is_file() else sorted(path.rglob("*")))}
        several = [suffix for suffix in READERS if suffix in kinds]
        if not several:
            raise ValueError(f"{path} holds no .txt, .jsonl or .parquet file; name one, or a folder that has some.")
        if len(several) > 1:
            raise ValueError(f"{path} holds {' and '.join(several)} files; name one, or a folder of one kind.")
        suffix = several[0]
        files = [path] if path.is_file() else sorted(path.rglob(f"*{suffix}"))
        random.Random(seed).shuffle(files)
        options: dict[str, Any] = {"sample_by": "document"} if suffix == ".txt" else {}
        try:
            stream = datasets.load_dataset(
                READERS[suffix], data_files=[str(file) for file in files], split="train", streaming=True, **options
            )
        except Exception as error:
            raise ValueError(
                f"{path} cannot be read as documents ({type(error).__name__} {error}); it is empty or damaged."
            ) from error
    else:
        name, _, configuration = source.data.partition(":")
        try:
            stream = datasets.load_dataset(name, configuration or None, split="train", streaming=True)
        except Exception as error:
            raise ValueError(
                f"There are no documents at {source.data!r}: it is not a file or folder here, and not a data set on "
                f"the hub (or the hub is out of reach: {type(error).__name__})."
            ) from error
    columns = stream.column_names
    if columns is not None and source.field not in columns:
        raise ValueError(f"{source.data} has the columns {columns}, not {source.field!r}; set the source's field.")
    return stream


@dataclass
class Documents:
    """An endless, resumable stream of token ids from weighted sources; each of `num_ranks` processes sees its share.

    Raises ValueError if a source is empty or holds no document of the length asked for, or a file that is not UTF-8.
    """

    sources: Sequence[Source]
    tokenizer: PreTrainedTokenizerBase
    seed: int = 0
    rank: int = 0
    num_ranks: int = 1
    _streams: list[Any] = field(init=False)
    _random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        if not self.sources:
            raise ValueError("There are no sources to train on; name at least one.")
        self._streams = [self._open(source) for source in self.sources]
        self._random = random.Random(f"{self.seed} {self.rank}")
        self._iterators: list[Iterator[Any] | None] = [None] * len(self.sources)
        self._places: list[Any] = [stream.state_dict() for stream in self._streams]

    def _open(self, source: Source) -> datasets.IterableDataset:
        # No shuffle buffer: its content would be lost on a resume. Files are shuffled, hub corpora come shuffled.
        return split_dataset_by_node(open_source(source, self.seed), self.rank, self.num_ranks)

    def __iter__(self) -> "Documents":
        return self

    def __next__(self) -> list[int]:
        """Token ids of the next document, no special tokens added."""
        shares = [source.share for source in self.sources]
        which = self._random.choices(range(len(self.sources)), shares)[0]
        source = self.sources[which]
        for _ in range(2):  # a second pass over all of it finds nothing new
            for row in self._rows(which):
                if not isinstance(row[source.field], str):
                    continue  # a row may lack what others have
                ids = self.tokenizer(row[source.field], add_special_tokens=False, verbose=False)["input_ids"]
                if source.min_tokens <= len(ids) < source.max_tokens and len(ids) > 1:  # type: ignore[arg-type]
                    return list(ids)  # type: ignore[arg-type]
            self._iterators[which] = None
            self._streams[which] = self._open(source)
            self._places[which] = self._streams[which].state_dict()
        shared = f", for each of {self.num_ranks} processes" if self.num_ranks > 1 else ""
        raise ValueError(
            f"{source.data} holds no document of {source.min_tokens} to {source.max_tokens} tokens{shared}; "
            "it is too small, or the lengths asked for are wrong."
        )

    def _rows(self, which: int) -> Iterator[Any]:
        rows = self._iterators[which] = self._iterators[which] or iter(self._streams[which])
        try:
            for row in rows:  # noqa: UP028 (`yield from` would close them with the document that was asked for)
                yield row
        except UnicodeDecodeError as error:
            named = self.sources[which].data
            raise ValueError(f"A file of {named} is not UTF-8 text ({error}); convert it or take it out.") from error

    def state_dict(self) -> dict[str, Any]:
        """Where this process's streams stand; JSON-like, for `load_state_dict` of the same sources and rank."""
        for which, iterator in enumerate(self._iterators):
            if iterator is not None:  # else the stream does not know yet from where it will go on
                self._places[which] = self._streams[which].state_dict()
        return {"streams": list(self._places), "random": self._random.getstate()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        places = state.get("streams", [])
        if len(places) != len(self._streams):
            raise ValueError(
                f"The checkpoint stands in {len(places)} sources of documents, and there are {len(self._streams)} now; "
                "name the same ones as before."
            )
        self._iterators, self._places = [None] * len(self.sources), list(places)
        for stream, place in zip(self._streams, places, strict=True):
            stream.load_state_dict(place)
        version, numbers, gauss = state["random"]
        self._random.setstate((version, tuple(numbers), gauss))


def cut_document(
    ids: Sequence[int], rng: random.Random, min_length: int, chunk_size: int, window: int
) -> Document | None:
    """Cut a document as the authors' data set does: chunks of random lengths, and the last piece is predicted.

    Shorter than `window` tokens: pieces of min_length to chunk_size tokens, the last one is the sentence. Longer: the
    sentence is the last min_length to window tokens, and all before it is cut into chunks. None where nothing is left
    to write: a document of a single piece.
    """
    if len(ids) < window:
        pieces = random_pieces(ids, rng, min_length, chunk_size)
        return Document(pieces[:-1], pieces[-1]) if len(pieces) > 1 else None
    if len(ids) < window + min_length:
        return Document([list(ids[:min_length])], list(ids[min_length:]))
    length = rng.randint(min_length, window)
    return Document(random_pieces(ids[:-length], rng, min_length, chunk_size), list(ids[-length:]))


def random_pieces(ids: Sequence[int], rng: random.Random, min_length: int, chunk_size: int) -> list[list[int]]:
    """Consecutive pieces of random length in [min_length, chunk_size]; the last takes from the one before if short."""
    edges = [0]
    while len(ids) - edges[-1] > chunk_size:
        edges.append(edges[-1] + rng.randint(min_length, chunk_size))
    if len(edges) > 1 and len(ids) - edges[-1] < min_length:
        edges[-1] = max(edges[-2] + 1, len(ids) - min_length)
    edges.append(len(ids))
    return [list(ids[start:end]) for start, end in pairwise(edges)]

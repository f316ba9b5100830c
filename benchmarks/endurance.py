"""Ten million tokens into one memory on disk, by the shipped mini, and what it still knows of what it read first.

    python -m benchmarks.endurance --text FILE.txt [--tokens 10000000] [--facts 50] [--folder FOLDER]
    python -m benchmarks.endurance --reopen --folder FOLDER     # what a run that was killed has left

Facts are written first, then a text, which starts over at its end, chunk by chunk, each committed to the disk, with θ
saved every 64. Every tenth of the way the result so far is written down. At the end the folder is opened again, as
after a restart, every checksum is read, and the facts are asked for. The text is written without a receipt: where a
token came from is not kept.
"""

import argparse
import random
import shutil
import statistics
import tempfile
import time
import warnings
from itertools import islice
from pathlib import Path

import psutil
import torch

import core
from benchmarks.timing import save
from core.arguments import count
from core.evaluation.metrics import exact_hit, first_line
from core.reading import write
from core.world import Fact, World


def tell(reader: core.DurableReader, facts: list[Fact]) -> None:
    with warnings.catch_warnings(action="ignore"):  # short facts are written repeatedly
        for fact in facts:
            reader.ingest(fact.fact)


def ask(reader: core.MPlusReader, facts: list[Fact]) -> dict[str, float]:
    """The share answered right, and the median seconds of a first token."""
    answers = [reader.answer(fact.question, max_new_tokens=24) for fact in facts]
    hits = [exact_hit(first_line(got.text), fact.answer) for got, fact in zip(answers, facts, strict=True)]
    return {
        "accuracy": statistics.mean(hits), "n": len(facts),
        "first token, s": statistics.median(got.first_token_seconds for got in answers),
    }  # fmt: skip


def measure(reader: core.DurableReader, text: Path, tokens: int, num_facts: int) -> dict:
    facts, size = list(islice(World(random.Random(7)).facts(), num_facts)), reader.model.config.chunk_size
    tell(reader, facts)
    result: dict = {"facts at once": ask(reader, facts), "by tokens": {}}
    ids = torch.tensor(reader.tokenizer(text.read_text(encoding="utf-8"), verbose=False)["input_ids"])
    if len(ids) < size:
        raise SystemExit(f"{text} has {len(ids)} tokens; a chunk takes {size}: name a longer text.")
    chunks = ids[: len(ids) // size * size].view(-1, size)
    steps, spent, begin = -(-tokens // size), [], time.perf_counter()
    for step in range(steps):
        start = time.perf_counter()  # the disk's share is waiting, which a processor's clock leaves out
        write(reader.model, [reader.memory], chunks[None, step % len(chunks)])
        reader.tier.commit(reader.memory.state.logs)
        if (step + 1) % reader.save_every == 0:
            reader.keep()
        spent.append(time.perf_counter() - start)
        if (step + 1) % max(1, steps // 10) == 0 or step + 1 == steps:
            row = {
                "write and commit, median ms": 1000 * statistics.median(spent), "largest ms": 1000 * max(spent),
                "rows a layer": len(reader.memory.state.logs[0]), "minutes": (time.perf_counter() - begin) / 60,
                "resident MB": psutil.Process().memory_info().rss / 1e6,
            }  # fmt: skip
            result["by tokens"][(step + 1) * size], spent = row, []
            print((step + 1) * size, {name: round(value, 1) for name, value in row.items()}, flush=True)
            save("endurance", result, whole=False)
    reader.keep()
    files = [path for path in reader.folder.rglob("*") if path.is_file()]
    result["bytes on disk"] = sum(path.stat().st_blocks * 512 for path in files)
    return result | reopened(reader, facts)


def reopened(reader: core.DurableReader, facts: list[Fact]) -> dict:
    """Open the folder anew, as after a restart; read every checksum; ask the facts of what was opened."""
    fresh = core.new_memory(reader.model, "smaller")
    begin = time.perf_counter()
    again = core.DurableReader(reader.model, reader.tokenizer, fresh, reader.folder)
    opened = time.perf_counter() - begin
    same = [len(log) for log in again.memory.state.logs] == [len(log) for log in reader.memory.state.logs]
    begin = time.perf_counter()
    wrong = len(again.tier.verify())
    return {
        "open, s": opened, "as many rows after opening": same, "wrong checksums": wrong,
        "reading all checksums, s": time.perf_counter() - begin, "facts at the end": ask(again, facts),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--text", type=Path)
    parser.add_argument("--reopen", action="store_true", help="write nothing, only open --folder again and ask")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--tokens", type=count, default=10_000_000)
    parser.add_argument("--facts", type=count, default=50)
    parser.add_argument("--folder", type=Path, help="an empty one; a temporary one without")
    arguments = parser.parse_args()
    if (arguments.folder if arguments.reopen else arguments.text) is None:
        parser.error("--reopen needs --folder." if arguments.reopen else "--text is missing; name a text to write.")
    if arguments.text and not arguments.text.is_file():
        parser.error(f"There is no text {arguments.text}; name a .txt file.")
    if arguments.reopen and not arguments.folder.is_dir():
        parser.error(f"There is no folder {arguments.folder}; name the one of the run that was killed.")
    if not arguments.reopen and arguments.folder and arguments.folder.is_dir() and any(arguments.folder.iterdir()):
        parser.error(f"{arguments.folder} is not empty; name a new folder.")
    torch.set_num_threads(1)
    folder = arguments.folder or Path(tempfile.mkdtemp())
    try:
        reader = core.load(arguments.model, disk=folder, max_long_term=1 << 40)
        assert isinstance(reader, core.DurableReader)
        if arguments.reopen:
            print(reopened(reader, list(islice(World(random.Random(7)).facts(), arguments.facts))))
            return
        result = measure(reader, arguments.text, arguments.tokens, arguments.facts)
    finally:
        if arguments.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    print({name: value for name, value in result.items() if name != "by tokens"})
    print(save("endurance", result))


if __name__ == "__main__":
    main()

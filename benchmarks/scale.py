"""How cost grows with Θ: a question, a write, an eviction, a file on disk.

    python -m benchmarks.scale [--rows 10000 100000 1000000] [--disk FOLDER] [--disk-rows 2500000]

Θ is filled with random rows, for speed does not depend on what they say; the width is that of the mini model.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.shapes import MINI
from benchmarks.timing import in_turns, now, save, seconds
from core.arguments import count
from core.choice import select
from core.log import TokenLog
from core.retriever import RELEVANCE, Keys
from core.tier import DiskTier

K, R, WIDTH = MINI["block_size"], MINI["retriever_size"], 2 * MINI["num_key_value_heads"] * MINI["head_dim"]
STEP = 1 << 16


def rows(first: int, count: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Rows as writes leave them: each left θ a random while after it was born."""
    number = torch.arange(first, first + count)
    stay = (torch.rand(count, generator=generator).log() * -MINI["num_blocks"]).long() * K
    born = (number - stay).clamp(min=0)
    return {
        "tokens": torch.randn(count, WIDTH, generator=generator),
        "keys": torch.randn(count, R, generator=generator),
        "born": born, "block": 1 + born // K, "slot": born % K, "recall": torch.zeros(count, dtype=torch.float64),
    }  # fmt: skip


def filled(size: int) -> TokenLog:
    generator, log = torch.Generator().manual_seed(0), TokenLog.empty(WIDTH, R, torch.float32)
    for first in range(0, size, STEP):
        log.append(**rows(first, min(STEP, size - first), generator))
    return log


def questions(log: TokenLog, rounds: int) -> dict[str, float]:
    """Seconds of scoring and selecting in one layer, for a question of 32 tokens, by rule."""
    queries, keys = torch.randn(32, R), Keys(log.keys, log.block)
    runs = {name: lambda r=rule: select(r(queries, keys), MINI["num_retrieved"]) for name, rule in RELEVANCE.items()}
    return in_turns(runs, rounds)


def writes(log: TokenLog, count: int = 200) -> dict[str, float]:
    """Seconds of appending K rows and evicting as many, in one layer: the median, the mean, and of one compaction.

    Rows that are gone are cut out when they are an eighth of all (`TokenLog.kill`): rarer than these writes reach.
    """
    generator, spent = torch.Generator().manual_seed(1), []
    new = [rows(log.length + K * step, K, generator) for step in range(count)]
    log.evict(1)
    for piece in new:
        begin = now()
        log.append(**piece)
        log.evict(K)
        spent.append(now() - begin)
    compaction = seconds(log.compact)
    return {"median": statistics.median(spent), "mean": statistics.mean(spent), "one compaction": compaction}


def on_disk(folder: Path, size: int, layers: int) -> dict[str, float]:
    """A tier of all layers: seconds of a commit early and late, of opening it, and of a search in one layer."""
    generator, spent = torch.Generator().manual_seed(0), []
    tier = DiskTier(folder, layers, (WIDTH, R), torch.float32)
    pieces = [rows(K * step, K, generator) for step in range(64)]
    for first in range(0, size, K):
        piece = {**pieces[first // K % 64], "block": torch.full((K,), 1 + first // K)}
        begin = time.perf_counter()  # the disk's share is waiting, which a processor's clock leaves out
        for log in tier.logs:
            log.append(**piece)
        tier.commit()
        spent.append(time.perf_counter() - begin)
    tier.flush()  # or opening would wait for what is still on its way to the disk
    begin = time.perf_counter()
    again = DiskTier(folder, layers, (WIDTH, R), torch.float32)
    opened = time.perf_counter() - begin
    search = questions(again.logs[0], 3)["block"]
    tenth = max(1, len(spent) // 10)
    return {
        "rows a layer": size, "layers": layers, "bytes": sum(log.num_bytes for log in again.logs),
        "commit, first tenth": statistics.median(spent[:tenth]),
        "commit, last tenth": statistics.median(spent[-tenth:]),
        "open": opened, "search one layer": search,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=count, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--rounds", type=count, default=5)
    parser.add_argument("--disk", type=Path, help="folder for the disk tier; a temporary one without")
    parser.add_argument("--disk-rows", type=int, default=2_500_000, help="10M tokens of text at four to one; 0: none")
    arguments = parser.parse_args()
    if arguments.disk and arguments.disk.is_dir() and any(arguments.disk.iterdir()):
        parser.error(f"{arguments.disk} is not empty; name a new folder.")
    torch.set_num_threads(1)
    result: dict = {"question, one layer": {}, "write and evict, one layer": {}}
    for size in arguments.rows:
        log = filled(size)
        result["question, one layer"][size] = questions(log, arguments.rounds)
        result["write and evict, one layer"][size] = writes(log)
        print(size, {name: result[name][size] for name in result}, flush=True)
        save("scale", result, whole=False)
        del log
    if arguments.disk_rows:
        folder = arguments.disk or Path(tempfile.mkdtemp())
        try:
            result["disk"] = on_disk(folder, arguments.disk_rows, MINI["num_hidden_layers"])
        finally:
            if arguments.disk is None:
                shutil.rmtree(folder)
        print(result["disk"])
    print(save("scale", result))


if __name__ == "__main__":
    main()

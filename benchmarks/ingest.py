"""Does writing a chunk cost more the more is remembered? The shipped mini, whole writes, by tokens already ingested.

    python -m benchmarks.ingest [--tokens 10000 100000 1000000] [--rounds 40] [--limit 150000]

Θ is filled with random rows up to each size, for cost does not depend on what they say; every size is a fork of one
reader, and they take turns, so that what else the machine does meets all of them alike. Questions are timed as well.
With `--limit` below a size, every write there also evicts. "untold" is a first token where attention is not told how
sure the retriever is (`retrieval_bias` 0), in turns with the others.
"""

import argparse
import statistics

import torch

import core
from benchmarks.scale import rows
from benchmarks.timing import now, save
from core.arguments import count
from core.log import TokenLog
from core.reading import write


def filled_reader(reader: core.MPlusReader, tokens: int) -> core.MPlusReader:
    """A fork whose Θ holds as many rows a layer as `tokens` of text leave there."""
    twin, config = reader.fork(), reader.model.config
    size = tokens * config.block_size // config.chunk_size
    width, generator = twin.memory.state.short.tokens.shape[-1], torch.Generator().manual_seed(0)
    made = rows(0, size, generator)
    made["keys"] = torch.randn(size, config.retriever_size, generator=generator)
    made["tokens"] = 0.1 * torch.randn(size, width, generator=generator)
    log = TokenLog.empty(width, config.retriever_size, made["tokens"].dtype)
    log.append(**made)
    twin.memory.state.logs = [log.fork() for _ in twin.memory.state.logs]
    for each in twin.memory.state.logs:  # room to append: growing by a quarter is another matter
        each.append(**{name: column[:1] for name, column in made.items()})
    twin.memory.state.stamp = twin.memory.state.stamp + size  # θ is younger than Θ, as where the text was really read
    twin.memory.state.clock, twin.memory.state.next_block = size, int(made["block"].max()) + 1
    return twin


def measure(tokens: list[int], rounds: int, limit: int) -> dict:
    reader = core.load("mini", max_long_term=limit)
    sizes = {size: filled_reader(reader, size) for size in tokens}
    ids = torch.randint(3, reader.model.config.vocab_size, (1, reader.model.config.chunk_size))
    spent: dict[str, dict[int, list[float]]] = {
        "write": {n: [] for n in tokens},
        "first token": {n: [] for n in tokens},
        "first token, untold": {n: [] for n in tokens},
    }
    config = reader.model.config
    told = {"first token": config.retrieval_bias, "first token, untold": 0.0}
    for turn in range(rounds + 2):
        for size, each in sizes.items():
            begin = now()
            write(each.model, [each.memory], ids)
            if turn > 1:
                spent["write"][size].append(now() - begin)
            if turn > 1 and turn % 4 == 0:
                name = "first token" if turn % 8 == 0 else "first token, untold"
                config.retrieval_bias, begin = told[name], now()
                each.answer("Where is the key?", max_new_tokens=1)
                spent[name][size].append(now() - begin)
    return {
        name: {size: {"median": statistics.median(t), "mean": statistics.mean(t)} for size, t in by.items()}
        for name, by in spent.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tokens", type=count, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--rounds", type=count, default=40, help="7 or more: every eighth write a question is asked")
    parser.add_argument("--limit", type=count, default=10**9, help="tokens of Θ a layer; above, every write evicts")
    arguments = parser.parse_args()
    if arguments.rounds < 7:
        parser.error(f"--rounds is {arguments.rounds}; give 7 or more, for a question of each kind.")
    torch.set_num_threads(1)
    result = measure(arguments.tokens, arguments.rounds, arguments.limit)
    for name, by in result.items():
        print(name, {size: f"{1000 * row['median']:.1f} ms" for size, row in by.items()})
    writes = [row["median"] for row in result["write"].values()]
    result["spread of writes"] = max(writes) / min(writes) - 1
    print(f"spread of the medians of a write: {100 * result['spread of writes']:.1f} % (gate 10 %)")
    print(save("ingest" if arguments.limit >= 10**9 else "ingest_evicting", result))


if __name__ == "__main__":
    main()

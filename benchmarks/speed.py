"""Core against a literal slow path (`benchmarks.slow`): the same weights, drops and results, at a medium shape.

    python -m benchmarks.speed [--writes 20] [--size 20160] [--rounds 7] [--threads 1]

Both paths take turns in one process, so the ratios hold also on a machine that other programs use.
"""

import argparse
import copy
import statistics
from typing import Any

import torch
from torch import Tensor

from benchmarks.shapes import MEDIUM, fill_long_term, random_chunks, random_model
from benchmarks.slow import SlowMPlus
from benchmarks.timing import in_turns, now, save
from core.adapters import READ, use_adapter
from core.arguments import count
from core.decoding import prepare_for_answers
from core.memory import Memory
from core.model import MPlusForCausalLM
from core.prefix import PrefixBuffer
from core.reading import MemoryPrefix, new_memory, write

GATES = {"first token": 4.0, "decode": 3.0, "write": 1.5}


class FastMPlus:
    """Core in the same small vocabulary as the slow path."""

    def __init__(self, model: MPlusForCausalLM, **settings: Any):
        """model: set up by `prepare_for_answers`. settings: of `new_memory`."""
        self.model = model
        self.memory: Memory = new_memory(model, "smaller", **{"seed": 0} | settings)
        self.buffer = PrefixBuffer(self.memory.place.relays)

    def write(self, ids: Tensor) -> None:
        write(self.model, [self.memory], ids)

    @torch.no_grad()
    def prefill(self, ids: Tensor):
        """The last position's logits (1, 1, vocabulary) of a prompt, and the cache to go on with."""
        with use_adapter(self.model, READ):
            prefix = MemoryPrefix(self.model, [self.memory], torch.ones_like(ids))
            output = self.model.read(ids, prefix, prefix.num_memory, None, self.buffer, logits_to_keep=1)
        return output.logits, output.past_key_values

    @torch.no_grad()
    def step(self, ids: Tensor, cache) -> Tensor:
        with use_adapter(self.model, READ):
            return self.model(ids.to(self.model.device), past_key_values=cache).logits


def ingest(paths: dict, chunks: Tensor) -> dict[str, list[float]]:
    """Write every chunk by every path, in turns; seconds of every write."""
    spent: dict[str, list[float]] = {name: [] for name in paths}
    for chunk in chunks:
        for name, path in paths.items():
            begin = now()
            path.write(chunk[None])
            spent[name].append(now() - begin)
    return spent


def decode(path, question: Tensor, tokens: int = 16) -> tuple[float, Tensor]:
    """Median seconds of one more token, and the logits of all of them (tokens, vocabulary)."""
    logits, cache = path.prefill(question)
    ids, spent, rows = torch.full((1, 1), 7), [], [logits[0, -1]]
    for _ in range(tokens):
        begin = now()
        logits = path.step(ids, cache)
        spent.append(now() - begin)
        rows.append(logits[0, -1])
    return statistics.median(spent), torch.stack(rows)


def num_bytes(slow: SlowMPlus, memory: Memory) -> dict[str, dict[str, float]]:
    """Megabytes by component. Theirs: ages and recall frequencies; ours: also block, slot and rows gone but kept."""
    pending = slow.pending or (torch.empty(0),) * 3
    columns = [*slow.ages, *slow.recall, slow.pool_ages, pending[2]]
    tokens, keys = [*slow.long, pending[0]], [*slow.keys, pending[1]]
    state, logs = memory.state, memory.state.logs
    ours = {
        "θ": state.short.tokens.nbytes + state.newest.nbytes,
        "Θ": sum(log.tokens.nbytes for log in logs),
        "keys": sum(log.keys.nbytes for log in logs) + (0 if state.short.keys is None else state.short.keys.nbytes),
        "columns": sum(log.num_bytes - log.tokens.nbytes - log.keys.nbytes for log in logs) + 5 * state.stamp.nbytes,
    }
    theirs = {
        "θ": slow.pool.nbytes,
        "Θ": sum(t.nbytes for t in tokens),
        "keys": sum(t.nbytes for t in keys),
        "columns": sum(t.nbytes for t in columns),
    }
    return {name: {"slow": theirs[name] / 1e6, "core": ours[name] / 1e6} for name in ours}


def measure(writes: int, rounds: int, size: int) -> dict:
    model = random_model(MEDIUM)
    fill_long_term(model, size)
    config = model.config
    slow, prepared = SlowMPlus(model), copy.deepcopy(model)
    prepare_for_answers(prepared)
    fast = FastMPlus(prepared)
    paths = {"slow": slow, "core": fast}
    ingest(paths, random_chunks(config, 1, seed=3))  # what is made once, as the adapters' fused weights, is no write
    spent = ingest(paths, random_chunks(config, writes))
    cycle = slice(-config.merge_every * max(1, writes // config.merge_every), None)  # whole merge cycles
    questions = random_chunks(config, rounds + 1, 32, seed=1)
    turn = {name: iter(questions) for name in paths}
    asked = {name: lambda n=name: paths[n].prefill(next(turn[n])[None]) for name in paths}
    first = in_turns(asked, rounds, of=list)
    # Once more with a memory that has just changed: θ must be laid down anew before the first token.
    ingest(paths, random_chunks(config, 1, seed=2))
    after_write = {}
    for name, path in paths.items():
        begin = now()
        path.prefill(questions[:1])
        after_write[name] = now() - begin
    steps, outputs = {name: [] for name in paths}, {}
    for _ in range(rounds):
        for name, path in paths.items():
            seconds, outputs[name] = decode(path, questions[:1])
            steps[name].append(seconds)
    times = {
        "first token": {name: statistics.median(values) for name, values in first.items()},
        "first token, least disturbed": {name: min(values) for name, values in first.items()},
        "first token after a write": after_write,
        "decode": {name: statistics.median(values) for name, values in steps.items()},
        "decode, least disturbed": {name: min(values) for name, values in steps.items()},
        "write": {name: statistics.mean(values[cycle]) for name, values in spent.items()},
        "write, median": {name: statistics.median(values[cycle]) for name, values in spent.items()},
        "write, largest": {name: max(values) for name, values in spent.items()},
    }
    sizes = num_bytes(slow, fast.memory)
    stored = {name: sizes["θ"][name] + sizes["Θ"][name] for name in paths}
    everything = {name: sum(part[name] for part in sizes.values()) for name in paths}
    kept = stored["core"] + fast.buffer.num_bytes / 1e6  # θ lies there once more, as questions read it
    return {
        "shape": {key: MEDIUM[key] for key in ("hidden_size", "num_hidden_layers", "block_size", "num_blocks")},
        "tokens of Θ a layer": len(fast.memory.state.logs[0]),
        "milliseconds": {name: {path: 1000 * value for path, value in row.items()} for name, row in times.items()},
        "ratios": {name: row["slow"] / row["core"] for name, row in times.items()},
        "megabytes": sizes,
        "share of bytes, θ and Θ": stored["core"] / stored["slow"],
        "share of bytes, with what is laid out for questions": kept / stored["slow"],
        "share of bytes, all": everything["core"] / everything["slow"],
        "largest difference of logits": (outputs["slow"] - outputs["core"]).abs().max().item(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--writes", type=count, default=20, help="chunks to write first")
    parser.add_argument("--size", type=count, default=20_160, help="tokens of Θ a layer to start with")
    parser.add_argument("--rounds", type=count, default=7)
    parser.add_argument("--threads", type=count, default=1)
    arguments = parser.parse_args()
    if arguments.size < MEDIUM["num_retrieved"]:
        parser.error(f"--size {arguments.size} is below {MEDIUM['num_retrieved']}, which every question retrieves.")
    torch.set_num_threads(arguments.threads)
    result = measure(arguments.writes, arguments.rounds, arguments.size)
    for name, row in result["milliseconds"].items():
        gate = f"(gate {GATES[name]}x)" if name in GATES else ""
        print(
            f"{name:28} slow {row['slow']:8.1f} ms  core {row['core']:8.1f} ms  {result['ratios'][name]:6.2f}x {gate}"
        )
    for name, row in result["megabytes"].items():
        print(f"{name:28} slow {row['slow']:8.1f} MB  core {row['core']:8.1f} MB")
    print(
        f"bytes of θ and Θ {result['share of bytes, θ and Θ']:.3f} (gate 0.55), with θ as it is laid out for questions "
        f"{result['share of bytes, with what is laid out for questions']:.3f}; all {result['share of bytes, all']:.3f}"
    )
    print(f"largest difference of logits {result['largest difference of logits']:.1e} (gate 1e-5)")
    print(save("speed", result))


if __name__ == "__main__":
    main()

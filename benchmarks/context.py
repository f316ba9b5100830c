"""M+ against the same base with the whole text in its context: first token and bytes by length of the text.

    python -m benchmarks.context [--lengths 2048 4096 8192 16384]

The base reads the text and the question in one pass; M+ has read the text before and answers behind its memory. What
reading cost M+ is given beside it, and from which length on its answer comes sooner and its memory is smaller.
"""

import argparse

import torch

from benchmarks.shapes import MEDIUM, random_chunks, random_model
from benchmarks.speed import FastMPlus
from benchmarks.timing import in_turns, now, save
from core.arguments import count
from core.decoding import prepare_for_answers

QUESTION = 32


def measure(lengths: list[int], rounds: int) -> dict:
    model = random_model(MEDIUM, rules="paper")
    config = model.config
    size = model.dtype.itemsize
    row = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * size
    prepare_for_answers(model)
    fast, read, chunks = FastMPlus(model), 0, random_chunks(config, max(lengths) // config.chunk_size)
    question, result, spent = random_chunks(config, 1, QUESTION, seed=1), {}, 0.0
    for length in sorted(lengths):
        begin = now()
        for chunk in chunks[read : length // config.chunk_size]:
            fast.write(chunk[None])
        read, spent = length // config.chunk_size, spent + now() - begin
        text = torch.cat([chunks[:read].flatten()[None], question], dim=1)

        @torch.no_grad()
        def base(text=text):
            model(text, logits_to_keep=1)

        times = in_turns({"context": base, "core": lambda: fast.prefill(question)}, rounds)
        state, short = fast.memory.state, fast.memory.state.short
        held = short.tokens.nbytes + state.newest.nbytes + fast.buffer.num_bytes
        long = sum(log.num_bytes for log in state.logs) + (0 if short.keys is None else short.keys.nbytes)
        result[length] = {
            "first token, context": times["context"], "first token, core": times["core"], "reading, core": spent,
            "device bytes, context": row * (length + QUESTION), "device bytes, core": held, "host bytes, core": long,
        }  # fmt: skip
        print(length, result[length], flush=True)
        save("context", summary(result), whole=False)  # what there is, should the longest take too long
    return result


def summary(rows: dict) -> dict:
    crossings = {name: crossing(rows, f"{name}, context", f"{name}, core") for name in ("first token", "device bytes")}
    return {"by length": rows, "core is ahead from": crossings}


def crossing(result: dict, one: str, other: str) -> int | None:
    """The first length from which on `other` needs less than `one`."""
    ahead = None
    for length, row in sorted(result.items()):
        ahead = (ahead or length) if row[other] < row[one] else None
    return ahead


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--lengths", type=count, nargs="+", default=[2048, 4096, 8192, 16_384])
    parser.add_argument("--rounds", type=count, default=3)
    arguments = parser.parse_args()
    size = MEDIUM["chunk_size"]
    if any(length % size for length in arguments.lengths):
        parser.error(f"--lengths {arguments.lengths} are to be multiples of {size}, a chunk.")
    torch.set_num_threads(1)
    result = summary(measure(arguments.lengths, arguments.rounds))
    print(result["core is ahead from"])
    print(save("context", result))


if __name__ == "__main__":
    main()

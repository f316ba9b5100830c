"""What each dimension costs: the medium shape with one of its sizes changed at a time.

    python -m benchmarks.dimensions [--rounds 5]

Every row is a model of random weights with 20,160 tokens of Θ a layer; MLP and heads grow with d. Times are
of writing a chunk of 256 tokens, of the first token of a question, and of one more token; bytes are those of θ and Θ
with keys and columns. Memories are written and asked side by side in the rows of batches.
"""

import argparse
import statistics

import torch

from benchmarks.gpu import Row, together
from benchmarks.shapes import MEDIUM, fill_long_term, random_chunks, random_model
from benchmarks.speed import FastMPlus, decode
from benchmarks.timing import save, seconds
from core.arguments import count
from core.decoding import prepare_for_answers
from core.model import MPlusForCausalLM

BASE = {"d": 512, "L": 8, "N": 2560, "K0": 640, "question": 32, "memories": 1}
STEPS = {
    "d": (256, 1024), "L": (4, 16), "N": (1280, 5120, 10_240), "K0": (0, 320, 1280), "question": (8, 128),
    "memories": (2, 4, 8),
}  # fmt: skip


def model_of(d: int, L: int, N: int, K0: int) -> MPlusForCausalLM:
    model = random_model(
        MEDIUM, rules="paper", hidden_size=d, intermediate_size=11 * d // 4, num_attention_heads=d // 64,
        num_key_value_heads=max(1, d // 256), num_hidden_layers=L, num_blocks=N // MEDIUM["block_size"],
        num_retrieved=K0, max_long_term=30_000,
    )  # fmt: skip
    if K0:
        fill_long_term(model, 20_160)
    prepare_for_answers(model)
    return model


def measure(rounds: int, question: int, memories: int, **sizes: int) -> Row:
    """Median milliseconds, and megabytes."""
    model = model_of(**sizes)
    chunks = random_chunks(model.config, rounds + 1)
    if memories > 1:
        row = together(model, chunks, memories, rounds)
        return {"write": row["write, ms for all"], "first token": row["first token, ms for all"]}
    fast = FastMPlus(model)
    spent = [seconds(lambda chunk=chunk: fast.write(chunk[None])) for chunk in chunks]
    asked = random_chunks(model.config, rounds + 1, question, seed=1)
    first = [seconds(lambda ids=ids: fast.prefill(ids[None])) for ids in asked]
    state = fast.memory.state
    short = state.short
    held = short.tokens.nbytes + state.newest.nbytes + (0 if short.keys is None else short.keys.nbytes)
    return {
        "write": 1000 * statistics.median(spent[1:]), "first token": 1000 * statistics.median(first[1:]),
        "one more token": 1000 * decode(fast, asked[:1])[0],
        "θ, MB": held / 1e6, "Θ, MB": sum(log.num_bytes for log in state.logs) / 1e6,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=count, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    rows = {"as it is": measure(rounds, **BASE)}
    for name, steps in STEPS.items():
        for step in steps:
            rows[f"{name} {step:,}"] = measure(rounds, **BASE | {name: step})
            save("dimensions", {"base": BASE, "rows": rows}, whole=False)
    columns = list(rows["as it is"])
    print(" | ".join(["", *columns]))
    for name, row in rows.items():
        print(" | ".join([name, *(f"{row[column]:,.1f}" if column in row else "" for column in columns)]))
    print(save("dimensions", {"base": BASE, "rows": rows}))


if __name__ == "__main__":
    main()

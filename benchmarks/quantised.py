"""What Θ in one byte a number loses: mini's own memories and answers, `python -m benchmarks.quantised [--texts 24]`.

The same texts are written into memories that keep Θ in float32, int8 and float8, with the same drops. Per question:
the Kullback-Leibler divergence of the next token from what float32 says, and whether the likeliest token is the same.
"""

import argparse

import torch

import core
from benchmarks.timing import save
from core.prompts import encode_question
from core.reading import new_memory, read_logits

NAMES = ["Ilse", "Omar", "Priya", "Tomas", "Wanda", "Yusuf", "Clara", "Nils", "Fatima", "Hugo", "Marta", "Idris"]
THINGS = ["key", "lamp", "coin", "map", "ring", "drum", "book", "violin", "stamp", "kettle", "compass", "feather"]
PLACES = "mill barn attic harbour chapel garden library tower cellar stable bakery observatory".split()  # noqa: SIM905


def measure(texts: int) -> dict:
    reader = core.load("mini")
    model, tokenizer = reader.model, reader.tokenizer
    facts = [(NAMES[i % 12], THINGS[(5 * i + i // 12) % 12], PLACES[(7 * i + 3) % 12]) for i in range(texts)]
    logits, sizes = {}, {}
    for kind in (None, "int8", "fp8"):
        reader.memory = new_memory(model, "smaller", seed=1, stored=kind)
        for name, thing, place in facts:
            reader.ingest(f"{name} keeps the {thing} in the {place}. Nobody else knows that the {thing} is there.")
        rows = []
        for name, thing, _ in facts:
            ids = torch.tensor([encode_question(f"Where does {name} keep the {thing}?", tokenizer, model.config)])
            with torch.no_grad():
                rows.append(read_logits(model, [reader.memory], ids)[0].logits[0, -1].log_softmax(-1))
        logits[kind or "float32"] = torch.stack(rows)
        sizes[kind or "float32"] = sum(log.num_bytes for log in reader.memory.state.logs)
    exact = logits["float32"]
    return {
        kind: {
            "divergence, mean": float((exact.exp() * (exact - each)).sum(-1).mean()),
            "divergence, largest": float((exact.exp() * (exact - each)).sum(-1).max()),
            "same likeliest token": float((exact.argmax(-1) == each.argmax(-1)).float().mean()),
            "bytes of Θ": sizes[kind],
        }
        for kind, each in logits.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--texts", type=int, default=24)
    torch.set_num_threads(1)
    result = measure(parser.parse_args().texts)
    for kind, row in result.items():
        print(kind, {name: f"{value:.3g}" for name, value in row.items()})
    print(save("quantised", result))


if __name__ == "__main__":
    main()

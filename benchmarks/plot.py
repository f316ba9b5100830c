"""Draw what the other benchmarks wrote: `python -m benchmarks.plot` makes results/scale.png."""

import json

import matplotlib

from benchmarks.timing import RESULTS

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def main() -> None:
    scale = json.loads((RESULTS / "scale.json").read_text(encoding="utf-8"))
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6))
    sizes = [int(size) for size in scale["question, one layer"]]
    for rule in ("dot", "mean_sigmoid", "block"):
        left.plot(sizes, [1000 * row[rule] for row in scale["question, one layer"].values()], marker="o", label=rule)
    right.plot(sizes, [1000 * row["mean"] for row in scale["write and evict, one layer"].values()], marker="o")
    left.set(
        xscale="log", yscale="log", xlabel="tokens of Θ", ylabel="ms", title="search, one layer, 32 question tokens"
    )
    right.set(
        xscale="log", ylim=(0, None), xlabel="tokens of Θ", ylabel="ms", title="append and evict a block, one layer"
    )
    left.legend()
    figure.tight_layout()
    figure.savefig(RESULTS / "scale.png", dpi=110)
    print(RESULTS / "scale.png")


if __name__ == "__main__":
    main()

"""The index of keys against exact search: seconds and recall, `python -m benchmarks.index [--rows 1000000]`.

Keys are random, those of a block close together, and questions are noisy copies of stored keys: what an index is good
at. On keys without any structure no index of this kind finds much.
"""

import argparse
import time

import torch

from benchmarks.shapes import MINI
from benchmarks.timing import save, seconds
from core.choice import select
from core.index import Indexed
from core.retriever import RELEVANCE, Keys

K, R, K0 = MINI["block_size"], MINI["retriever_size"], MINI["num_retrieved"]


def clustered(rows: int, noise: float = 0.5) -> Keys:
    generator = torch.Generator().manual_seed(0)
    blocks = torch.arange(rows) // K
    centres = torch.randn(rows // K + 1, R, generator=generator)
    return Keys(centres[blocks].add_(torch.randn(rows, R, generator=generator), alpha=noise), blocks)


def measure(rows: int, rounds: int, probes: list[int]) -> dict:
    keys, generator = clustered(rows), torch.Generator().manual_seed(1)
    questions = []
    for _ in range(rounds):  # eight tokens of the question name something that is stored, the others nothing
        queries = torch.randn(32, R, generator=generator)
        queries[:8] = keys.vectors[int(torch.randint(rows - K, (), generator=generator)) :][:8]
        questions.append(queries + 0.3 * torch.randn(32, R, generator=generator))
    result: dict = {}
    for name in ("dot", "block"):
        rule = RELEVANCE[name]
        exact = [select(rule(queries, keys), K0) for queries in questions]
        took = sum(seconds(lambda q=q, r=rule: select(r(q, keys), K0)) for q in questions) / rounds
        index = Indexed(rule, smallest=0, num_lists=max(64, int(rows**0.5)))
        begin = time.perf_counter()
        index.propose(questions[0], keys)
        result[name] = {"exact, seconds": took, "building, seconds": time.perf_counter() - begin}
        for probed in probes:
            index.num_probed = probed
            found = [select(index(queries, keys), K0) for queries in questions]
            took = sum(seconds(lambda q=q, i=index: select(i(q, keys), K0)) for q in questions) / rounds
            kept = sum(float(torch.isin(e, f).float().mean()) for e, f in zip(exact, found, strict=True)) / rounds
            result[name][f"{probed} cells"] = {"seconds": took, "recall": kept}
            print(rows, name, probed, result[name][f"{probed} cells"], flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--probes", type=int, nargs="+", default=[8, 32])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result = {size: measure(size, arguments.rounds, arguments.probes) for size in arguments.rows}
    print(result)
    print(save("index", result))


if __name__ == "__main__":
    main()

"""What memory costs: seconds and bytes by method and length, on the machine at hand (the paper's Table 1, Figure 7)."""

import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import torch
from tqdm import tqdm

from ..reader import Reader
from .records import Journal, Over, Row, never

KEYS = ("method", "length")
COLUMNS = ("ingest_seconds", "first_token_seconds", "answer_seconds", "num_bytes")


def run_cost(
    text: Callable[[int], str], lengths: Sequence[int], methods: Sequence[str], make: Callable[[str], Reader],
    journal: Journal, device: torch.device, repeats: int = 3, new_tokens: int = 32, over: Over = never,
) -> list[Row]:  # fmt: skip
    """Ingest `text(length)` into a fresh reader and ask `repeats` times; one row per method and length.

    first_token_seconds is the first question's: baselines read the context then. answer_seconds is the median of
    `new_tokens` decoded tokens' whole answers. num_bytes: what is held, by component, weights included. peak_bytes:
    the most a device held at once, on CUDA; on the CPU the most the whole process ever held, which never falls.
    """
    for length in tqdm(lengths, unit="length"):
        for method in methods:
            if (method, length) in journal or over():
                continue
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            reader = make(method)
            begin = time.perf_counter()
            reader.ingest(text(length))
            ingest = time.perf_counter() - begin
            question = "Who was it that said so, and where?"
            answers = [
                reader.answer(question, max_new_tokens=new_tokens, min_new_tokens=new_tokens) for _ in range(repeats)
            ]
            row: Row = {
                "method": method, "length": length, "ingest_seconds": ingest,
                "first_token_seconds": answers[0].first_token_seconds,
                "answer_seconds": statistics.median(answer.seconds for answer in answers),
                "num_bytes": answers[-1].num_bytes, "held_bytes": sum(answers[-1].num_bytes.values()),
                "peak_bytes": _peak(device),
            }  # fmt: skip
            journal.add([row])
    return [row for row in journal if row["method"] in methods and row["length"] in lengths]


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes there, in kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def table(rows: Sequence[Row]) -> str:
    """A Markdown table, one line per method and length."""
    lines = [
        "| method | tokens | ingest s | first token s | answer s | weights MB | held beside them MB | peak MB |",
        "|---" * 8 + "|",
    ]
    for row in rows:
        weights = row["num_bytes"]["weights"]
        lines.append(
            f"| {row['method']} | {row['length']} | {row['ingest_seconds']:.2f} | {row['first_token_seconds']:.3f} | "
            f"{row['answer_seconds']:.3f} | {weights / 1e6:.1f} | {(row['held_bytes'] - weights) / 1e6:.2f} | "
            f"{row['peak_bytes'] / 1e6:.0f} |"
        )
    return "\n".join(lines)

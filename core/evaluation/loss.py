"""Loss by position on long documents (paper Figure 4): how well is the next passage predicted after ever more text?

A document is written chunk by chunk. At each position the next passage is read behind the memory; its first half is
given and decides what is retrieved, its second half is predicted, so retrieval never sees what is to be predicted.
"""

import random
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from tqdm import tqdm

from ..bank import Bank, write_openings
from ..replay import READINGS, Reading, Replay
from ..replay_cache import ReplayCache, read
from .records import Journal, Over, Row, never

METHODS = (*READINGS, "question-only")
KEYS = ("model", "document", "method", "position")


def run_loss(
    model: Any, name: str, stream: Sequence[int], positions: Sequence[int], methods: Sequence[str],
    documents: int, passage: int, batch: int, seed: int, journal: Journal, over: Over = never,
) -> None:  # fmt: skip
    """Measure `documents` stretches of a text at `positions` (tokens, rounded down to whole chunks).

    passage: tokens of the passage that is read; its second half is predicted. question-only: behind the initial memory.
    Raises ValueError if the text is too short.
    """
    size = model.config.chunk_size
    steps = {position: position // size for position in positions}
    longest = max(steps.values())
    if passage < 2:
        raise ValueError(f"A passage of {passage} token has no second half to predict; give --passage 2 or more.")
    needed = longest * size + passage
    if len(stream) < needed:
        raise ValueError(f"The text has {len(stream):,} tokens, {needed:,} are needed; give more text or ask nearer.")
    draw = random.Random(seed)
    starts = [draw.randrange(len(stream) - needed + 1) for _ in range(documents)]
    with tqdm(total=documents * len(methods) * len(positions), unit="passage", mininterval=1.0) as bar:
        for first in range(0, documents, batch):
            part = range(first, min(first + batch, documents))
            keys = [(name, document, method, p) for document in part for method in methods for p in positions]
            if not all(key in journal for key in keys) and not over():
                texts = torch.tensor([stream[starts[document] : starts[document] + needed] for document in part])
                generator = torch.Generator().manual_seed(seed * 1_000_003 + first)
                replay = _replay(model, texts[:, : longest * size].unflatten(1, (longest, size)), generator)
                for position, step in steps.items():
                    window = texts[:, step * size : step * size + passage]
                    for method in methods:
                        losses = _losses(replay, window, 0 if method == "question-only" else step, method)
                        journal.add(
                            {"model": name, "document": document, "method": method, "position": position, "score": loss}
                            for document, loss in zip(part, losses, strict=True)
                        )
            bar.update(len(keys))


def _replay(model: Any, chunks: torch.Tensor, generator: torch.Generator) -> Replay:
    """Memories that write all of their chunks (B, T, n) themselves."""
    bank = Bank(model, model.config.num_blocks + chunks.shape[0] * chunks.shape[1])
    initial = bank.add_initial()
    numbers, _ = write_openings(model, chunks.tolist(), bank)
    return Replay(model, bank, torch.cat([initial.expand(len(chunks), -1), numbers], dim=1), generator)


@torch.no_grad()
def _losses(replay: Replay, window: torch.Tensor, writes: int, method: str) -> list[float]:
    """Mean cross-entropy, in nats a token, of the second half of each passage (B, p)."""
    half = window.shape[1] // 2
    reading = READINGS.get(method, Reading(retrieve=False))
    cache = ReplayCache(replay, range(len(window)), writes, torch.ones_like(window), reading)
    cache.asking[:, half:] = False
    logits = read(cache, window)
    predicted = logits[:, half - 1 : -1].flatten(0, 1).float()
    losses = F.cross_entropy(predicted, window[:, half:].flatten(), reduction="none")
    return losses.view(len(window), -1).mean(1).tolist()


def label(row: Row) -> Row:
    """The row with a name for its curve."""
    return row | {"curve": f"{row['model']} {row['method']}"}

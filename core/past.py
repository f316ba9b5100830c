"""What a memory has read besides: blocks of earlier steps and of prose, to stand among and to be told from."""

from typing import Any

import torch
from torch import Tensor

from .lessons import Lessons
from .model import MPlusForCausalLM
from .objectives import PastBlocks, write_chunks

REFRESH = 1 / 30  # how often fresh prose is written when others are asked for
PROSE_ALONE = 0.15  # how often others are prose alone: ordinary words are harder to find amid ordinary words


class Past:
    """Half of it are blocks of the newest steps, half of them prose, each chain of chunks written in order.

    keep: blocks in all. crowd: memories that are written at a time.
    """

    def __init__(
        self, model: MPlusForCausalLM, lessons: Lessons, generator: torch.Generator, keep: int = 2048, crowd: int = 32
    ):
        self.model, self.lessons, self.generator, self.crowd = model, lessons, generator, crowd
        self.steps, self.prose = PastBlocks(keep // 2), PastBlocks(keep // 2)

    def add(self, blocks: Tensor) -> None:
        """Take in a step's blocks (L, B, C, K, d)."""
        self.steps.add(blocks)

    def newest(self, batch: int, count: int) -> Tensor:
        """What chunks are written behind (L, batch, count, K, d): blocks of the last step, to begin with of prose."""
        if not len(self.steps):
            pool: Tensor = self.model.memory.pool  # type: ignore[assignment]
            newest = pool[:, None, None, -self.model.config.block_size :].expand(-1, self.crowd, 1, -1, -1)
            for _ in range(8):
                self.steps.add(self._write(2, newest))
                newest = self.steps.pick(self.crowd, 1, self.generator)
        return self.steps.pick(batch, count, self.generator)

    def others(self) -> Tensor:
        """All of it, or prose alone (L, m, K, d), with fresh prose now and then."""
        if not len(self.prose) or self.lessons.rng.random() < REFRESH:
            self.prose.add(self._write(6, self.newest(self.crowd, 1)))
        if self.lessons.rng.random() < PROSE_ALONE:
            return self.prose.blocks
        return torch.cat([self.steps.blocks, self.prose.blocks], dim=1)

    @torch.no_grad()
    def _write(self, chunks: int, newest: Tensor) -> Tensor:
        """Blocks of a chain of prose in each memory of a crowd."""
        length = self.lessons.chunk_size
        text = [self.lessons.prose.window(chunks * length) for _ in range(self.crowd)]
        ids = torch.tensor(text, device=newest.device).view(self.crowd, chunks, length)
        return write_chunks(self.model, ids, newest, pairs=False)

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps.state_dict(), "prose": self.prose.state_dict()}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        self.steps.load_state_dict(state["steps"], device)
        self.prose.load_state_dict(state["prose"], device)

"""Where a memory lives, and how its parts come to where the model computes.

"none": θ and Θ on the model's device. "long": Θ on the host; its keys are sent over to be scored, and of its tokens
what was retrieved; θ's keys wait there too, and the table of input embeddings, of which a question needs a few rows.
"all": θ as well. θ and the keys lie in pinned buffers: while a layer computes, the next one's are on their way. Where
the model's device is the host itself, all three are one, by the same code.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

OFFLOADS = ("none", "long", "all")
HOST = torch.device("cpu")


@dataclass(frozen=True)
class Placement:
    """device: the model's. offload: see above. Raises ValueError for an offload that does not exist."""

    device: torch.device = HOST
    offload: str = "long"

    def __post_init__(self) -> None:
        if self.offload not in OFFLOADS:
            raise ValueError(f"offload is {self.offload!r}; choose one of {', '.join(OFFLOADS)}.")

    @property
    def short(self) -> torch.device:
        """Where θ is kept."""
        return HOST if self.offload == "all" else self.device

    @property
    def relays(self) -> bool:
        """Whether θ's keys are turned anew at each step instead of being kept a second time (`core.prefix`): where it
        is on a device that has little room."""
        return self.offload == "long" and self.device.type != "cpu"

    @property
    def long(self) -> torch.device:
        """Where Θ's tokens and keys are kept; its columns are always on the host."""
        return self.device if self.offload == "none" else HOST

    def short_pool(self, tokens: Tensor) -> Tensor:
        """Tokens (L, N, w) where θ is kept, pinned if they are to be sent from there."""
        tokens = tokens.to(self.short)
        return tokens.pin_memory() if self.offload == "all" and self.device.type == "cuda" else tokens


ON_HOST = Placement()


def look_up_on_host(table: nn.Embedding, device: torch.device) -> None:
    """Keep a table of embeddings on the host; the rows asked for go to `device`. Not for a tied output layer."""
    table.to(HOST)
    table.register_forward_pre_hook(lambda _, ids: (ids[0].to(HOST),))
    table.register_forward_hook(lambda _, ids, rows: rows.to(device))


class Streamed:
    """Rows of all layers, such as θ (L, N, w), kept on the host and asked for layer by layer; see `layer`."""

    def __init__(self, pool: Tensor | Sequence[Tensor], device: torch.device):
        self.pool, self.device = pool, device
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._ahead: dict[int, Tensor] = {}

    def layer(self, index: int) -> "StreamedLayer":
        return StreamedLayer(self, index)

    def take(self, index: int) -> Tensor:
        """One layer's rows (1, N, w) on the device. The next layer's are sent for."""
        if index not in self._ahead:
            self._send(index)
        tokens = self._ahead.pop(index)
        if self.stream is not None:
            current = torch.cuda.current_stream(self.device)
            current.wait_stream(self.stream)
            tokens.record_stream(current)
        self._ahead.clear()
        if index + 1 < len(self.pool):
            self._send(index + 1)
        return tokens

    def _send(self, index: int) -> None:
        with torch.cuda.stream(self.stream):
            self._ahead[index] = self.pool[index][None].to(self.device, non_blocking=True)


class StreamedLayer:
    """Stands in for a tensor (1, N, w) until a prefix needs its values; a buffer that holds them asks for none."""

    def __init__(self, source: Streamed, index: int):
        self.source, self.index = source, index
        self.shape = torch.Size((1, *source.pool[index].shape))

    def to(self, device: torch.device, dtype: torch.dtype) -> Tensor:
        return self.source.take(self.index).to(device, dtype)

"""Θ in one byte a number: rows scaled by their largest value, as int8 or float8 (e4m3). Keys stay as they are, so the
same tokens are retrieved; what is lost is in `benchmarks/quantised.py`."""

import torch
from torch import Tensor

from .log import TokenLog

KINDS = {"int8": (torch.int8, 127.0), "fp8": (torch.float8_e4m3fn, 448.0)}
"""Stored type and largest value it can hold."""


class QuantisedLog(TokenLog):
    """A `TokenLog` whose tokens take one byte a number and a scale (m,) float32 a row."""

    APPENDED = ("tokens", "keys", "born", "slot", "scale")

    def __init__(self, log: TokenLog, kind: str):
        """The rows of `log`. Raises ValueError for a kind that does not exist."""
        if kind not in KINDS:
            raise ValueError(f"Θ cannot be stored as {kind!r}; choose one of {', '.join(KINDS)}, or None for as it is.")
        self.__dict__.update(log.fork().__dict__)
        self.kind, self.dtype = kind, log.tokens.dtype
        stored, scale = self._quantised(log.tokens)
        self._columns = {name: column[: self.length] for name, column in self._columns.items()}
        self._columns |= {"tokens": stored, "scale": scale}
        self._tip = [self.length]

    def __getattr__(self, name: str) -> Tensor:
        if name == "tokens":
            return self.take(torch.arange(self.length))
        if name == "scale":
            return self._columns[name][: self.length]
        return super().__getattr__(name)

    def take(self, rows: Tensor, device: torch.device | None = None) -> Tensor:
        stored, scale = (self._columns[name][rows].to(device) for name in ("tokens", "scale"))
        return (stored.to(torch.float32) * scale[:, None]).to(self.dtype)

    def append(self, **rows: Tensor) -> None:
        stored, scale = self._quantised(rows["tokens"])
        super().append(**{**rows, "tokens": stored, "scale": scale})

    def adopt(self, log: TokenLog) -> TokenLog:
        return QuantisedLog(super().adopt(log), self.kind)

    def with_tokens(self, tokens: Tensor) -> TokenLog:
        return QuantisedLog(super().with_tokens(tokens), self.kind)

    def _quantised(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        kind, largest = KINDS[self.kind]
        scale = tokens.detach().abs().amax(1).float().clamp(min=torch.finfo(torch.float32).tiny) / largest
        scaled = tokens.detach().float() / scale[:, None]
        return (scaled.round() if kind == torch.int8 else scaled).to(kind), scale

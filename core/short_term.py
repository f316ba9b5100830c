"""θ: the tokens of all layers, each in the row it was first put into.

A write puts its block where the dropped tokens were, so it moves K rows and not all N; which row holds the i-th oldest
token is a table of numbers beside them. Attention does not mind the order of what it attends to, only the positions:
those are the `ranks`.
"""

import torch
from torch import Tensor

from .placement import Placement


class ShortTerm:
    """tokens (L, N, w) and their retriever keys (L, N, r) or None, by row. place (L, N) int64 on the CPU: the row of
    each token, oldest first.

    Forks share their tensors until one of them is written to.
    """

    def __init__(self, tokens: Tensor, keys: Tensor | None = None, place: Tensor | None = None):
        """Tokens and keys oldest first; place: the rows to put them into, in this order without.

        Raises ValueError if `place` does not name every row of every layer once.
        """
        order = torch.arange(tokens.shape[1]).expand(tokens.shape[:2])
        self.tokens, self.keys = tokens.detach(), None if keys is None else keys.detach()
        self.place, self._own, self._ranks = order if place is None else place, False, None
        if place is not None:
            if place.shape != order.shape or not torch.equal(place.sort().values, order):
                raise ValueError("the rows of θ are not numbered once each")
            self.tokens = rows_of(self.tokens, self.ranks)
            self.keys = None if self.keys is None else rows_of(self.keys, self.ranks)

    def fork(self) -> "ShortTerm":
        self._own = False
        twin = object.__new__(ShortTerm)
        twin.__dict__.update(self.__dict__)
        return twin

    def placed(self, place: Placement) -> "ShortTerm":
        """This θ where `place` keeps it; its keys, which nothing asks for before they are in Θ, are with Θ."""
        self.tokens = place.short_pool(self.tokens)
        self.keys = None if self.keys is None else self.keys.to(place.long)
        return self

    @property
    def ranks(self) -> Tensor:
        """(L, N) int64: how many tokens of its layer are older than the one in a row."""
        if self._ranks is None:
            order = torch.arange(self.place.shape[1]).expand_as(self.place)
            self._ranks = torch.empty_like(order, memory_format=torch.contiguous_format).scatter_(1, self.place, order)
        return self._ranks

    def layer(self, index: int) -> Tensor:
        """The tokens of one layer (N, w), oldest first, as a copy."""
        return self.tokens[index].index_select(0, self.place[index].to(self.tokens.device))

    @property
    def pool(self) -> Tensor:
        """The tokens (L, N, w), oldest first, as a copy."""
        return rows_of(self.tokens, self.place)

    @property
    def pool_keys(self) -> Tensor | None:
        """Their retriever keys (L, N, r), oldest first, as a copy."""
        return None if self.keys is None else rows_of(self.keys, self.place)

    def take(self, slots: Tensor) -> tuple[Tensor, Tensor | None]:
        """Copies of tokens (L, k, w) and keys (L, k, r) at slots (L, k), counted from the oldest."""
        rows = self.place.gather(1, slots)
        return rows_of(self.tokens, rows), None if self.keys is None else rows_of(self.keys, rows)

    def renew(self, dropped: Tensor, kept: Tensor, tokens: Tensor, keys: Tensor | None) -> None:
        """Put new, youngest tokens (L, k, w) with their keys where the dropped (L, k) were; kept (L, N - k) are the
        other slots, ascending."""
        if not self._own:
            self.tokens, self.keys = _copy(self.tokens), None if self.keys is None else _copy(self.keys)
            self._own = True
        rows = self.place.gather(1, dropped)
        for held, new in ((self.tokens, tokens), (self.keys, keys)):
            if held is not None and new is not None:
                for target, places, block in zip(held, rows.to(held.device), new.detach().to(held), strict=True):
                    target.index_copy_(0, places, block)
        self.place, self._ranks = torch.cat([self.place.gather(1, kept), rows], dim=1), None


def rows_of(tokens: Tensor, rows: Tensor) -> Tensor:
    """tokens (L, N, d) at rows (L, m) -> (L, m, d), wherever the tokens live."""
    return torch.stack([each.index_select(0, at) for each, at in zip(tokens, rows.to(tokens.device), strict=True)])


def _copy(tokens: Tensor) -> Tensor:
    return torch.empty_like(tokens, pin_memory=tokens.is_pinned()).copy_(tokens)

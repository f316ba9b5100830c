"""The two rule sets of memory: "paper" as published, "released" as the authors' code behaves.

They differ in three places and nowhere else: how a token's age runs while it is in θ, when a token leaves Θ, and what
is retrieved from a Θ that holds fewer tokens than are wanted.
"""

from typing import Protocol

import torch
from torch import Tensor

from .config import MPlusConfig
from .log import DEAD, TokenLog


class Rules(Protocol):
    """The clock counts memory tokens written. θ keeps one int64 `stamp` per token; its meaning belongs to the rules."""

    def stamps(self, clock: int, count: int) -> Tensor:
        """Stamps (count,) of a new block, written when the clock stands at `clock`; its last token is the youngest."""
        ...

    def ages(self, stamps: Tensor, clock: int) -> Tensor:
        """Ages, in memory tokens, of tokens in θ."""
        ...

    def born(self, stamps: Tensor, clock: int) -> Tensor:
        """For tokens that leave θ now: the clock at which their age was 0. In Θ, age = clock - born."""
        ...

    def settle(self, logs: list[TokenLog], written: int) -> float:
        """Merge and evict after `written` tokens in all; returns the tokens evicted per layer (mean)."""
        ...

    def available(self, log: TokenLog, wanted: int) -> int:
        """How many tokens one layer can supply when `wanted` are asked for."""
        ...

    def tiles(self, log: TokenLog, wanted: int) -> Tensor | None:
        """Rows to use without scoring, or None: score and select."""
        ...


class PaperRules:
    """Ages count from creation; the oldest tokens leave Θ once it holds M; a small Θ gives what it has (§3.1-3.2)."""

    def __init__(self, config: MPlusConfig):
        self.max_long_term = config.max_long_term

    def stamps(self, clock: int, count: int) -> Tensor:
        return torch.arange(clock - count + 1, clock + 1)

    def ages(self, stamps: Tensor, clock: int) -> Tensor:
        return clock - stamps

    def born(self, stamps: Tensor, clock: int) -> Tensor:
        return stamps

    def settle(self, logs: list[TokenLog], written: int) -> float:
        evicted = 0
        for log in logs:
            log.merged = log.length
            overflow = len(log) - self.max_long_term
            if overflow > 0:
                evicted += log.evict(overflow)
        return evicted / max(1, len(logs))

    def available(self, log: TokenLog, wanted: int) -> int:
        return min(wanted, len(log))

    def tiles(self, log: TokenLog, wanted: int) -> Tensor | None:
        return None


class ReleasedRules:
    """The authors' code. Ages stand still in θ; dropped tokens wait in a pending pool, which is searched but merged
    into Θ only every `merge_every` chunks; a token lives for initial_recall / recall_decay merges; a Θ that holds
    fewer than K0 is tiled."""

    def __init__(self, config: MPlusConfig):
        self.merge_every = config.merge_every * config.block_size
        self.initial_recall, self.decay = config.initial_recall, config.recall_decay
        self.num_retrieved = config.num_retrieved

    def stamps(self, clock: int, count: int) -> Tensor:
        return torch.arange(count - 1, -1, -1)

    def ages(self, stamps: Tensor, clock: int) -> Tensor:
        return stamps

    def born(self, stamps: Tensor, clock: int) -> Tensor:
        return clock - stamps

    def settle(self, logs: list[TokenLog], written: int) -> float:
        if written % self.merge_every:
            return 0.0
        return sum(self._merge(log) for log in logs) / max(1, len(logs))

    def _merge(self, log: TokenLog) -> int:
        recall = log.recall.clone()
        recall[log.merged :] = self.initial_recall
        log.merged = log.length
        decayed = recall - self.decay
        expired = (decayed <= 0.01) & log.live  # 0.01 and not 0: repeated subtraction may leave a crumb
        if len(log) - int(expired.sum()) <= self.num_retrieved:
            log.set(recall=decayed + self.decay)  # too few would survive; not `recall`: the crumbs are the authors' too
            return 0
        log.set(recall=decayed)
        killed = log.kill(expired)
        return killed

    def available(self, log: TokenLog, wanted: int) -> int:
        return wanted if self._num_merged(log) else 0

    def tiles(self, log: TokenLog, wanted: int) -> Tensor | None:
        count = self._num_merged(log)
        if count >= wanted:
            return None
        rows = log.live[: log.merged].nonzero().flatten()
        return rows.repeat(-(-wanted // count))[-wanted:]

    def _num_merged(self, log: TokenLog) -> int:
        if not log.num_dead:
            return log.merged
        return log.merged - log.num_dead + int((log.block[log.merged :] == DEAD).sum())


RULE_SETS: dict[str, type[PaperRules] | type[ReleasedRules]] = {"paper": PaperRules, "released": ReleasedRules}

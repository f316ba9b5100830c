"""Reader and block retriever taught together: what is retrieved is what the retriever finds now, among hard rivals.

Rivals of the right block are all blocks of all memories in the batch (the same kinds of facts, about others and about
the same) and blocks of earlier steps. So thousands of blocks are told apart without being written for each question.
"""

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from .model import MPlusForCausalLM
from .objectives import Surrounded, decoder, projected
from .prefix import Segment
from .retriever import below_best, overtaken

FAR = -1e4
MANY = 4  # tokens of the right block that must have left θ before it is worth finding
EARLIER = 0.5  # what finding an earlier sentence is worth that the answering one goes on from or replaces


@dataclass
class TaughtPrefix:
    """A `Prefix` for B packed rows: [retrieved blocks, oldest first | θ]; collects the retriever's loss on the way.

    places: by layer, which of the lesson's B · C · K tokens each token of the prefix is, -1 for others (B, P).

    blocks (L, B, C, K, d), past (L, m, K, d): the lesson's blocks and m rivals. ages (B, C): of the lesson's chunks.
    asked (B, Q, W): 1 on the question's tokens. segments (B, W): the number of a token's question. sources (B, Q): the
    chunk that answers it, -1 where there is none. continued: the rows go on with the text of the chunks, so all of a
    memory's own blocks are right. earlier (B,): the chunk that the answering one goes on from or replaces, -1 for none;
    it is to be found as well: a question about two sentences needs both, and which was said last shows only where both
    are there.
    top: blocks that come back per row. shown: how often the right block is put among them where it was missed.
    """

    model: MPlusForCausalLM
    around: Surrounded
    blocks: Tensor
    past: Tensor
    ages: Tensor
    asked: Tensor
    segments: Tensor
    sources: Tensor
    continued: bool
    top: int
    shown: float
    generator: torch.Generator
    earlier: Tensor
    places: dict[int, Tensor] = field(default_factory=dict)
    losses: list[Tensor] = field(default_factory=list)
    found: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        _, batch, count, self.size, _ = self.blocks.shape
        # Taken apart at once: the gradient of one layer's part would otherwise be as large as that of all.
        self.lesson, self.theta = self.blocks.unbind(), self.around.pool.unbind()
        device = self.blocks.device
        self.own = torch.arange(batch * count, device=device).view(batch, count)
        # At times the right block is the oldest of those that come back, at times the newest: its place means nothing.
        span = math.exp(torch.empty(()).uniform_(math.log(4), math.log(1500), generator=self.generator).item())
        rivals = torch.rand(self.past.shape[1], generator=self.generator) * span
        self.all_ages = torch.cat([self.ages.flatten().float(), rivals]).to(device)
        self.sources, self.earlier = self.sources.to(device), self.earlier.to(device)

    @property
    def num_memory(self) -> int:
        return self.around.pool.shape[2] + self.top * self.size

    def __call__(self, layer: int, normed: Tensor) -> list[Segment]:
        reader = decoder(self.model, layer)
        retriever = reader.retriever
        lesson = self.lesson[layer].flatten(0, 1)
        store = torch.cat([lesson.to(torch.bfloat16), self.past[layer]])
        gone = ~self.around.inside[layer].flatten(0, 1)
        with torch.enable_grad():  # the retriever learns also where the reader does not
            keys = retriever.key(reader.input_layernorm(store.detach().float()).detach())
            scores = self._scores(retriever.query(normed.detach()), keys, gone)
            self._learn(scores * self._scale(layer), gone)
        best = self._choose(scores.detach())
        tokens = store[best]
        here = torch.cat([gone, gone.new_ones(self.past.shape[1], self.size)])[best]
        mine = (best[..., None] == self.own[:, None]).any(-1)
        # Tokens of an own block that are still in θ cannot come back from Θ: something else fills their places.
        filler = torch.randint(self.past.shape[1] * self.size, here.shape, generator=self.generator).to(here.device)
        others = F.embedding(filler, self.past[layer].flatten(0, 1))
        tokens = torch.where((here | ~mine[..., None])[..., None], tokens, others)
        slots = best[..., None] * self.size + torch.arange(self.size, device=best.device)
        returned = torch.where(here & mine[..., None], slots, -1).flatten(1)
        self.places[layer] = torch.cat([returned, self.around.places[layer]], dim=1)
        tokens = tokens.flatten(1, 2)
        segments = [projected(self.model, layer, tokens), projected(self.model, layer, self.theta[layer])]
        if not self.model.config.bias_in(layer):
            return segments
        inside = self.around.blocks[layer]
        stored = torch.where(here | ~mine[..., None], best[..., None], self.own.numel() + filler // self.size)
        others = stored + inside.max() + 1  # what is not the lesson's has numbers that no block of θ has
        blocks = torch.where(stored < self.own.numel(), stored, others).flatten(1)
        gains = self._gains(layer, normed, torch.cat([tokens, self.theta[layer]], 1), torch.cat([blocks, inside], 1))
        parts = gains.split([tokens.shape[1], inside.shape[1]], -1)
        return [segment._replace(bias=bias) for segment, bias in zip(segments, parts, strict=True)]

    @torch.no_grad()
    def _gains(self, layer: int, normed: Tensor, laid: Tensor, blocks: Tensor) -> Tensor:
        """What the attention of each token of the rows gains on what is laid before it, by its own question: (B, W, P).
        laid (B, P, d) in blocks (B, P); see `core.retriever.certainty`."""
        reader = decoder(self.model, layer)
        keys = reader.retriever.key(reader.input_layernorm(laid.float()))
        matches = reader.retriever.query(normed) @ keys.transpose(1, 2)
        numbers = blocks[:, None].expand_as(matches)
        best = matches.new_full((*matches.shape[:2], int(blocks.max()) + 1), FAR / 10)
        best.scatter_reduce_(2, numbers, matches, "amax")
        scores, config = torch.bmm(self.asked.to(best), best), self.model.config
        odds = self._scale(layer).float() * scores
        # Blocks are laid oldest first, those that came back and then those of θ; a block in both counts as in θ.
        places = torch.arange(laid.shape[1], device=blocks.device).expand_as(blocks)
        last = blocks.new_full((len(blocks), best.shape[2]), -1).scatter_reduce(1, blocks, places, "amax")
        order = last.argsort(1)[:, None].expand_as(odds)
        lost = overtaken(odds.gather(2, order), config.retrieval_recency)
        gains = below_best(odds, config.bias_in(layer)) - lost.gather(2, order.argsort(2))
        gains = gains.gather(2, blocks[:, None].expand(-1, odds.shape[1], -1))
        mine = self.segments.clamp(0, odds.shape[1] - 1)[..., None].expand(-1, -1, laid.shape[1])
        return gains.gather(1, mine)

    def _scale(self, layer: int) -> Tensor:
        """What makes the scores (B, Q, S) of each question log-odds: (B, Q, 1)."""
        return self.model.retriever_scale(layer, self.asked.sum(-1, keepdim=True))

    def _scores(self, queries: Tensor, keys: Tensor, gone: Tensor) -> Tensor:
        """(B, Q, S): per question and block, the sum over its tokens of the best match in the block."""
        matches = (queries.flatten(0, 1) @ keys.flatten(0, 1).T).unflatten(-1, keys.shape[:2])
        matches = matches.unflatten(0, queries.shape[:2])  # (B, W, S, K)
        best = matches.amax(-1).float()
        own = self.own[:, None].expand(-1, queries.shape[1], -1)
        mine = matches.gather(2, own[..., None].expand(-1, -1, -1, self.size)).float()
        mine = mine.masked_fill(~gone[self.own][:, None], FAR).amax(-1)
        best = best.scatter(2, own, mine)
        return torch.bmm(self.asked.to(best), best.clamp(min=FAR / 10))

    def _learn(self, scores: Tensor, gone: Tensor) -> None:
        batch, count = self.own.shape
        chunks = torch.arange(count, device=scores.device)
        there = (gone.sum(-1) >= MANY).view(batch, 1, count)
        right = ((self.sources[..., None] == chunks) | self.continued) & there
        worth = right.any(-1)
        right = right + EARLIER * ((self.earlier[:, None, None] == chunks) & there)
        if not worth.any():
            return
        own = self.own[:, None].expand(right.shape)
        wanted = torch.zeros_like(scores).scatter(2, own, right.to(scores))[worth]
        self.losses.append(F.cross_entropy(scores[worth], wanted / wanted.sum(-1, keepdim=True)))
        best = scores.detach()[worth].topk(self.top).indices
        self.found.append((wanted.gather(1, best).sum() / wanted.sum()).item())

    def _choose(self, scores: Tensor) -> Tensor:
        """(B, top): each question of a row brings its share of blocks; oldest first."""
        num = scores.shape[1]
        chosen = []
        for question in range(num):
            share = self.top // num + (question < self.top % num)
            best = scores[:, question].topk(share).indices
            source = self.sources[:, question]
            right = self.own.gather(1, source.clamp(min=0)[:, None])
            luck = torch.rand(len(best), generator=self.generator).to(best.device) < self.shown
            missed = (source >= 0) & ~(best == right).any(-1) & luck
            best[:, -1] = torch.where(missed, right[:, 0], best[:, -1])
            chosen.append(best)
        best = torch.cat(chosen, dim=1)
        return best.gather(1, self.all_ages[best].sort(-1, descending=True).indices)

    @property
    def loss(self) -> Tensor:
        """Mean over layers of the cross-entropy over blocks; 0 where no block was worth finding."""
        if self.losses:
            return torch.stack(self.losses).mean()
        # Each scale is multiplied by itself: the gradients of a stack's parts would be one number in one place, into
        # which data-parallel training writes the means of all of them.
        scales = (decoder(self.model, layer).retriever.scale for layer in range(self.model.config.num_hidden_layers))
        return torch.as_tensor(sum(0 * scale for scale in scales))

"""What training asks of a model: predict packed passages behind memory that was just written, and find the right block.

Written blocks keep their gradient: the read's loss teaches the writer. Around them lie blocks of other texts
(`PastBlocks`), detached, as in a memory that has read much. The retriever learns on detached states.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from peft.tuners.lora import LoraLayer
from torch import Tensor

from .adapters import READ, WRITE
from .cache import project
from .model import MPlusDecoderLayer, MPlusForCausalLM
from .packing import IGNORED, Packed
from .prefix import Prefix, Segment


@contextmanager
def merged(model: MPlusForCausalLM, adapter: str) -> Iterator[None]:
    """Run with the adapter folded into the weights: as `use_adapter`, faster, and gradients reach both parts.

    An adapter that the model does not have leaves the base weights alone. No dropout.
    """
    tuned = [module for module in model.modules() if isinstance(module, LoraLayer) and adapter in module.lora_A]

    def folded(layer: Any) -> Callable[[Tensor], Tensor]:
        update = layer.lora_B[adapter].weight @ layer.lora_A[adapter].weight
        weight = layer.base_layer.weight + layer.scaling[adapter] * update
        return lambda hidden: F.linear(hidden, weight)

    for layer in tuned:
        layer.forward = folded(layer)
    try:
        yield
    finally:
        for layer in tuned:
            del layer.forward


def write_chunks(model: MPlusForCausalLM, ids: Tensor, newest: Tensor, pairs: bool = True) -> Tensor:
    """Write C chunks into each of B memories, ids (B, C, n): the blocks (L, B, C, K, d), with their gradient.

    pairs: every second chunk is written behind the one before it and the others behind `newest` (L, B, (C + 1) // 2,
    K, d), so that all is done in two passes; without, chunk follows chunk, and the first stands behind newest[:, :, 0].
    """
    batch, count, length = ids.shape
    with merged(model, WRITE):
        if not pairs:
            blocks, last = [], newest[:, :, 0]
            for chunk in ids.unbind(1):
                last = model.write(chunk, last)
                blocks.append(last)
            return torch.stack(blocks, dim=2)
        first = model.write(ids[:, 0::2].reshape(-1, length), newest.flatten(1, 2))
        first = first.unflatten(1, (batch, -1))
        if count == 1:
            return first
        second = model.write(ids[:, 1::2].reshape(-1, length), first[:, :, : count // 2].flatten(1, 2))
        second = second.unflatten(1, (batch, -1))
    order = [(first if chunk % 2 == 0 else second)[:, :, chunk // 2] for chunk in range(count)]
    return torch.stack(order, dim=2)


class Outcome(NamedTuple):
    """loss: weighted mean cross-entropy. right (B, W) bool: where the most likely token is the label."""

    loss: Tensor
    right: Tensor


def behind(model: MPlusForCausalLM, packed: Packed, prefix: Prefix | None, num_memory: int) -> Tensor:
    """Last hidden states (B, W, d) of packed rows behind `num_memory` memory tokens, or bare without a prefix."""
    cache = None if prefix is None else model.memory_cache(prefix, num_memory)
    before = cache.prefix_length if cache else 0
    return model.model(
        input_ids=packed.ids,
        attention_mask=F.pad(packed.visible, (before, 0), value=True)[:, None],
        position_ids=packed.positions + before,
        past_key_values=cache,
        use_cache=cache is not None,
    ).last_hidden_state


def predict(model: MPlusForCausalLM, packed: Packed, prefix: Prefix | None = None, num_memory: int = 0) -> Outcome:
    """Read packed rows with the read adapter and compare with their labels."""
    with merged(model, READ):
        hidden = behind(model, packed, prefix, num_memory)
    return compare(model, hidden, packed)


def compare(model: MPlusForCausalLM, hidden: Tensor, packed: Packed) -> Outcome:
    """Predict from last hidden states (B, W, d) and compare with the labels."""
    predicting = packed.labels != IGNORED
    logits = F.linear(hidden[predicting], model.lm_head.weight).float()
    labels, weights = packed.labels[predicting], packed.weights[predicting]
    losses = F.cross_entropy(logits, labels, reduction="none")
    right = torch.zeros_like(predicting)
    right[predicting] = logits.argmax(-1) == labels
    return Outcome((losses * weights).sum() / weights.sum().clamp(min=1e-6), right)


class PastBlocks:
    """The newest `most` blocks that earlier steps wrote (L, m, K, d), detached, in bfloat16."""

    def __init__(self, most: int = 2048):
        self.most = most
        self._parts: list[Tensor] = []

    def add(self, blocks: Tensor) -> None:
        """Take in blocks (L, B, C, K, d)."""
        self._parts.append(blocks.detach().flatten(1, 2).to(torch.bfloat16))
        while sum(part.shape[1] for part in self._parts[1:]) >= self.most:
            self._parts.pop(0)

    def __len__(self) -> int:
        return sum(part.shape[1] for part in self._parts)

    @property
    def blocks(self) -> Tensor:
        return torch.cat(self._parts, dim=1)

    def pick(self, batch: int, count: int, generator: torch.Generator) -> Tensor:
        """Random blocks (L, batch, count, K, d) of the newest step in float32, to write chunks behind."""
        newest = self._parts[-1]
        rows = torch.randint(newest.shape[1], (batch, count), generator=generator)
        return newest[:, rows.to(newest.device)].float()

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.cpu() for part in self._parts]}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        self._parts = [part.to(device) for part in state["parts"]]


class Surrounded(NamedTuple):
    """θ after the lesson's blocks were written at their ages and other blocks at all others.

    pool (L, B, N, d): oldest first, in bfloat16. inside (L, B, C, K) bool: which of the lesson's tokens it still holds.
    places (L, B, N): which of the lesson's B · C · K tokens each of θ's is, -1 for others. blocks (L, B, N): the
    number of its block, below B · C for the lesson's.
    """

    pool: Tensor
    inside: Tensor
    places: Tensor
    blocks: Tensor


def surround(
    blocks: Tensor, past: Tensor, ages: Sequence[Sequence[int]], num_blocks: int, generator: torch.Generator
) -> Surrounded:
    """A θ of num_blocks · K tokens in which chunk c of memory b is ages[b][c] writes old, or has left it long ago.

    blocks (L, B, C, K, d) and past (L, m, K, d). A token of age t is still there with probability (1 - K/N)^t, drawn
    independently in every layer; of those drawn, the N most likely are kept, so that θ has its full size.
    """
    layers, batch, count, size, width = blocks.shape
    reach = 4 * num_blocks  # older than that hardly a token is left: e^-4
    which = torch.randint(past.shape[1], (batch, reach), generator=generator)
    owner = torch.full((batch, reach), -1)
    for memory, row in enumerate(ages):
        for chunk, age in enumerate(row):
            if age < reach:
                owner[memory, age] = chunk
    chance = (1 - 1 / num_blocks) ** torch.arange(reach).float()
    luck = chance[:, None] - torch.rand(layers, batch, reach, size, generator=generator)
    luck[:, :, 0] = torch.inf  # the newest block is whole
    kept = luck.flip(2).flatten(2).topk(num_blocks * size).indices.sort(-1).values
    age, slot = reach - 1 - kept // size, kept % size
    memory = torch.arange(batch)[None, :, None].expand_as(age)
    chunk = owner[memory, age]
    own = (memory * count + chunk.clamp(min=0)) * size + slot
    other = which[memory, age] * size + slot
    inside = torch.zeros(layers, batch * count * size + 1, dtype=torch.bool)
    inside.scatter_(1, torch.where(chunk >= 0, own, batch * count * size).flatten(1), True)
    numbers = torch.where(chunk >= 0, memory * count + chunk, batch * count + age)
    device = blocks.device
    mine, theirs = blocks.reshape(layers, -1, width).to(torch.bfloat16), past.flatten(1, 2)
    is_mine = (chunk >= 0)[..., None].to(device)
    pool = [
        torch.where(is_mine[layer], F.embedding(own[layer].to(device), mine[layer]),
                    F.embedding(other[layer].to(device), theirs[layer]))
        for layer in range(layers)
    ]  # fmt: skip
    places = torch.where(chunk >= 0, own, -1).to(device)
    inside = inside[:, :-1].view(layers, batch, count, size)
    return Surrounded(torch.stack(pool), inside.to(device), places, numbers.to(device))


def decoder(model: MPlusForCausalLM, layer: int) -> MPlusDecoderLayer:
    return cast(MPlusDecoderLayer, model.model.layers[layer])


def projected(model: MPlusForCausalLM, layer: int, tokens: Tensor) -> Segment:
    """Memory tokens (B, m, d) as a segment of keys and values."""
    return Segment(project(tokens, decoder(model, layer)), projected=True)


def identity_loss(
    model: MPlusForCausalLM, blocks: Tensor, ids: Tensor, often: Tensor, generator: torch.Generator, count: int = 512
) -> tuple[Tensor, list[float]]:
    """What a memory token stands for must survive in it: cross-entropy of reading it off, and the share right by layer.

    A memory token (L, B, C, K, d) is seen through the read path of one query head per key-value head, as if it alone
    were attended to, and the token of ids (B, C, n) that it was written at is predicted. Layer 0 needs no help. Our own
    addition: without it the upper layers store what comes next instead of what stands here, and neither reader nor
    retriever finds anything there. often (V,): how often a token is drawn into the sample of `count`.
    """
    size, width = min(ids.shape[-1], blocks.shape[3]), int(model.config.head_dim)  # type: ignore
    tokens = ids[:, :, ids.shape[-1] - size :].flatten()
    states = blocks[:, :, :, blocks.shape[3] - size :].flatten(1, 3).unbind()
    drawn = torch.rand(len(tokens), generator=generator).to(often.device) < often[tokens]
    rows = drawn.nonzero()[:, 0]
    rows = rows[torch.randperm(len(rows), generator=generator)[:count].to(rows.device)]
    heads, groups = int(model.config.num_attention_heads), int(model.config.num_key_value_heads)  # type: ignore
    losses, right = [], []
    with merged(model, READ):
        for layer in range(1, len(blocks)):
            reader = decoder(model, layer)
            values = reader.self_attn.v_proj(reader.input_layernorm(states[layer][rows])).unflatten(-1, (groups, width))
            first = reader.self_attn.o_proj.weight.unflatten(1, (heads, width))[:, :: heads // groups]
            out = torch.einsum("mgw,dgw->md", values, first.to(values.dtype))
            logits = F.linear(model.model.norm(out), model.lm_head.weight).float()
            losses.append(F.cross_entropy(logits, tokens[rows]))
            right.append((logits.argmax(-1) == tokens[rows]).float().mean().item())
    return torch.stack(losses).mean(), right

"""How replayed memories are read: their tokens go from the bank straight to where the prompts attend to them.

`core.cache` lays one memory before a prompt. Here B memories of a batch are laid side by side, and several readings
follow one another at the same moment, so θ is laid once for all of them: the layout is [bos | retrieved | θ | prompt],
and a reading without retrieval starts further right, bos at the last retrieved token's place. RoPE knows distances
only, so that is the same.
"""

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from .adapters import READ, use_adapter
from .cache import MemoryCache, project
from .prefix import PrefixLayer, split_heads
from .replay import Reading, Replay


class Storage:
    """Keys and values of one batch's memories (B, heads, P, head dim), used again by the next batch."""

    def __init__(self) -> None:
        self.flat: dict[tuple[int, int], Tensor] = {}
        self.pools: dict[int, Any] = {}  # layer -> whose θ is laid there, and when

    def get(self, layer: int, shape: Sequence[int], like: Tensor) -> tuple[Tensor, Tensor]:
        size = torch.Size(shape).numel()
        for which in range(2):
            if (layer, which) not in self.flat or self.flat[layer, which].numel() < size:
                self.flat[layer, which] = like.new_empty(size)
                self.pools.pop(layer, None)
        return self.flat[layer, 0][:size].view(*shape), self.flat[layer, 1][:size].view(*shape)


class ReplayCache(MemoryCache):
    """A cache for prompts (B, n): prompt i asks memory `memories[i]` as it was after so many writes.

    mask (B, n) marks the prompts' real tokens, asking (B, n) those that decide what is retrieved, all of them unless it
    is changed; room: tokens that may be decoded. found[layer][i]: the numbers of the tokens that prompt i retrieved.
    """

    def __init__(
        self, replay: Replay, memories: Sequence[int], writes: int, mask: Tensor, reading: Reading,
        seed: int = 0, storage: Storage | None = None, room: int = 0,
    ):  # fmt: skip
        model, config = replay.model, replay.model.config
        self.retrieved, self.bos, self.pool_size = replay.num_retrieved(writes), int(config.has_bos), config.pool_size
        self.skipped = 0 if reading.retrieve else self.retrieved
        self.num_retrieved = self.retrieved - self.skipped
        self.end = self.bos + self.retrieved + self.pool_size
        super().__init__(lambda layer, normed: [], self.end - self.skipped, model.model)
        where = torch.arange(self.end, device=model.device)[None]
        cos, sin = model.model.rotary_emb(model.memory.pool, where)
        self.cosines, self.sines = cos[0, :, : cos.shape[-1] // 2], sin[0, :, : sin.shape[-1] // 2]
        self.replay, self.writes, self.mask, self.reading, self.seed = replay, writes, mask.bool(), reading, seed
        self.asking = self.mask.clone()
        self.memories = [(memory + reading.foreign) % len(replay.blocks) for memory in memories]
        self.storage, self.capacity = storage or Storage(), self.end + mask.shape[1] + room
        self.evidence = [(model.evidence(), model.evidence()) for _ in self.memories]  # of Θ; of what lies before
        self.found: list[list[Tensor]] = [[] for _ in range(config.num_hidden_layers)]

    @property
    def positions(self) -> Tensor:
        """The positions (B, n) of the prompts' tokens."""
        return (self.end + self.mask.long().cumsum(-1) - 1).clamp(min=0)

    def lay_prefix(self, layer, hidden: Tensor) -> None:
        index, attention = layer.self_attn.layer_idx, layer.self_attn
        slot = cast(PrefixLayer, self.layers[index])
        if slot.is_initialized:
            return
        num_heads = cast(int, self.replay.model.config.num_key_value_heads)
        shape = len(self.memories), num_heads, self.capacity, attention.head_dim
        keys, values = self.storage.get(index, shape, hidden)
        if self.bos:
            bos = split_heads(project(self.replay.model.memory.bos[None, index], layer), attention)
            self._lay(keys, values, bos[0], bos[1], self.skipped)
        plain = not (self.reading.blank or self.reading.shuffle)
        mine = self.replay, tuple(self.memories), self.writes, shape
        laid = plain and self.storage.pools.get(index) == mine  # θ lies there already
        weighed = bool(self.num_retrieved and self.replay.model.config.bias_in(index) and self.reading.weigh)
        normed, gains = layer.input_layernorm(hidden), []
        for row, memory in enumerate(self.memories):
            queries, parts = None, []
            if self.num_retrieved:
                queries = self.replay.model.retriever_queries(index, normed[row][self.asking[row]])
                parts.append(self._retrieve(index, row, queries))
            if weighed or not laid:
                parts.append(self.replay.pool(memory, index, self.writes))
            if not parts:
                continue
            numbers = torch.cat(parts)
            if self.reading.shuffle:
                draw = torch.Generator().manual_seed(self.seed + memory * 1009 + index)
                numbers = numbers[torch.randperm(len(numbers), generator=draw)]
            if weighed and queries is not None:
                stored = self.replay.keys(memory, index, numbers)
                gains.append(self.replay.model.certainty(index, queries, stored, self.evidence[row][1]))
            numbers = numbers[: self.num_retrieved] if laid else numbers
            joined = self.replay.bank.tokens[index].flatten(0, 1).index_select(0, self.replay.rows(memory, numbers))
            joined = torch.zeros_like(joined) if self.reading.blank else joined
            own = split_heads(joined[None].to(hidden.device, hidden.dtype), attention)
            self._lay(keys[row : row + 1], values[row : row + 1], own[0], own[1], self.bos + self.skipped)
        self.storage.pools[index] = mine if plain else None
        if weighed:
            slot.bias = F.pad(torch.stack(gains)[:, None].to(hidden), (self.bos, 0))
        slot.storage = keys[:, :, self.skipped :], values[:, :, self.skipped :]
        slot.lazy_initialization(*slot.storage)
        self._show(slot, self.prefix_length)

    def _retrieve(self, layer: int, row: int, queries: Tensor) -> Tensor:
        guess, evidence = (self.seed, None) if self.reading.guess else (None, self.evidence[row][0])
        asked = queries if evidence is None else queries * self.replay.model.retriever_scale(layer, len(queries))
        found = self.replay.search(self.memories[row], layer, self.writes, asked, guess, evidence)
        self.found[layer].append(found)
        return found

    def _lay(self, keys: Tensor, values: Tensor, new_keys: Tensor, new_values: Tensor, start: int) -> None:
        """Put tokens at `start`, their keys turned by RoPE to where they are."""
        end, half = start + new_keys.shape[2], new_keys.shape[3] // 2
        cos, sin = self.cosines[start:end], self.sines[start:end]
        first, second = new_keys[..., :half], new_keys[..., half:]
        keys[:, :, start:end, :half] = first * cos - second * sin
        keys[:, :, start:end, half:] = second * cos + first * sin
        values[:, :, start:end] = new_values

    @staticmethod
    def _show(slot: PrefixLayer, length: int) -> None:
        assert slot.storage is not None
        slot.keys, slot.values = slot.storage[0][:, :, :length], slot.storage[1][:, :, :length]

    def narrow(self, rows: int) -> None:
        """Go on with the first `rows` prompts alone."""
        for slot in cast(list[PrefixLayer], self.layers):
            assert slot.storage is not None
            length = slot.get_seq_length()
            slot.storage = slot.storage[0][:rows], slot.storage[1][:rows]
            slot.bias = None if slot.bias is None else slot.bias[:rows]
            self._show(slot, length)


@torch.no_grad()
def read(cache: ReplayCache, input_ids: Tensor, **settings: Any) -> Tensor:
    """Logits of the prompts (B, n) behind their memories."""
    model, width = cache.replay.model, input_ids.shape[1]
    ahead = torch.ones(width, width, dtype=torch.bool, device=input_ids.device).triu(1)
    hidden = (ahead | ~cache.mask[:, None]) & ~ahead.new_ones(width).diag()  # what a token must not see but itself
    mask = F.pad(bias(hidden, model.dtype), (cache.prefix_length, 0))[:, None]
    with use_adapter(model, READ):
        output: Any = model(
            input_ids, past_key_values=cache, attention_mask=mask, position_ids=cache.positions, **settings
        )
    return output.logits


@torch.no_grad()
def ask(
    cache: ReplayCache, input_ids: Tensor, max_new_tokens: int, ended: Callable[[list[int]], bool]
) -> list[list[int]]:
    """Greedy decoding for the prompts (B, n): what `GenerationMixin.generate` gives, up to where `ended` says so.

    ended: takes an answer's tokens so far. A prompt whose answer has ended is dropped once those after it have.
    """
    model = cache.replay.model
    answers: list[list[int]] = [[] for _ in input_ids]
    running = [True] * len(answers)
    mask, positions = (
        F.pad(bias(~cache.mask, model.dtype), (cache.prefix_length, 0))[:, None, None],
        cache.positions[:, -1:],
    )
    logits = read(cache, input_ids, logits_to_keep=1)
    with use_adapter(model, READ):
        while True:
            tokens = logits[:, -1].argmax(-1, keepdim=True)
            for row, token in enumerate(tokens.flatten().tolist()):
                if running[row]:
                    answers[row].append(token)
                    running[row] = len(answers[row]) < max_new_tokens and not ended(answers[row])
            while running and not running[-1]:
                running.pop()
            if not running:
                return answers
            rows = len(running)
            if rows < len(tokens):
                cache.narrow(rows)
            mask, positions = F.pad(mask[:rows], (0, 1)), positions[:rows] + 1
            output: Any = model(
                tokens[:rows], past_key_values=cache, attention_mask=mask, position_ids=positions, logits_to_keep=1
            )
            logits = output.logits


def bias(hidden: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to scores of attention: nothing, or minus infinity where something is hidden. Made once a pass;
    transformers and torch would make it from a mask once a layer."""
    return torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(hidden, -torch.inf)

"""Where model and memory meet, in tensors: write chunks into memories, and lay memories before a prompt."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .adapters import READ, WRITE, use_adapter
from .config import MPlusConfig
from .log import TokenLog
from .memory import Memory
from .model import MPlusForCausalLM
from .placement import HOST, Placement, Streamed
from .prefix import PrefixBuffer, Segment
from .quantised import QuantisedLog
from .retriever import Keys, block_late_interaction
from .state import Found, Tokens

FORMS = ("hidden", "projected", "smaller")
AHEAD = 1 << 28
"""Bytes of Θ's keys that one layer may have sent for at once."""
RESERVED = 1 << 18
"""Rows a layer that Θ on the host has room for from the start, if it may become as long."""


@torch.inference_mode(False)
@torch.no_grad()
def new_memory(
    model: MPlusForCausalLM, form: str = "hidden", *, long_term: bool = True, offload: str = "long",
    stored: str | None = None, **settings,
) -> Memory:  # fmt: skip
    """A memory in the checkpoint's initial state. Settings are those of `Memory`, for instance `seed=1`.

    long_term=False leaves Θ out, whatever the checkpoint has: MemoryLLM's memory on the same weights.

    form: "hidden" stores memory tokens as they are; "projected" as the keys and values they contribute, which is exact,
    spares every question the projection and is smaller with grouped-query attention, but cannot be turned back (no
    export to the authors' layout); "smaller" chooses by bytes. offload: see `core.placement`. stored: "int8" or "fp8"
    keeps Θ's tokens in one byte a number, with a small loss. Raises ValueError for any other form, offload or kind.
    """
    if form not in FORMS:
        raise ValueError(f"form is {form!r}; choose one of {', '.join(FORMS)}.")
    config = model.config
    width = 2 * config.num_key_value_heads * config.head_dim  # type: ignore[operator]
    projected = form == "projected" or (form == "smaller" and width < config.hidden_size)
    pool: Tensor = model.memory.pool  # type: ignore[assignment]
    logs = model.initial_long_term
    if not long_term:
        config, logs = MPlusConfig(**{**config.to_dict(), "num_retrieved": 0}), None
    if projected and logs is not None:
        with use_adapter(model, READ):
            tokens = [model.memory_projection(layer, log.tokens) for layer, log in enumerate(logs)]
        logs = [log.with_tokens(each) for log, each in zip(logs, tokens, strict=True)]
    place = Placement(model.device, offload)
    if config.num_retrieved:
        shape = width if projected else config.hidden_size, config.retriever_size, pool.dtype
        empty = TokenLog.empty(*shape, device=place.long)
        if empty.keys.device.type == "cpu":
            empty.pinned = model.device.type == "cuda"
            empty.reserve = min(RESERVED, config.max_long_term * TokenLog.SLACK // (TokenLog.SLACK - 1) + 1)
        kind = QuantisedLog(empty, stored) if stored else empty
        logs = [kind.adopt(log) for log in logs or [empty] * len(pool)]
    # The θ that a reset returns to waits on the host; a memory copies it to where it works.
    start = _tokens(model, pool, projected, HOST)
    return Memory(config, start, logs, written=model.initially_written, place=place, **settings)


def _tokens(model: MPlusForCausalLM, hidden: Tensor, projected: bool, place: torch.device) -> Tokens:
    """Memory tokens (L, k, d) in the form they will be stored in, on the device `place`."""
    if not projected:
        return Tokens(hidden.to(place))
    keys = None  # a layer at a time: θ of all layers needs no room where the model computes
    if model.config.num_retrieved:
        keys = torch.stack([model.memory_keys(layer, each).to(place) for layer, each in enumerate(hidden)])
    with use_adapter(model, READ):
        stored = [model.memory_projection(layer, each).to(place) for layer, each in enumerate(hidden)]
    return Tokens(hidden.to(place), torch.stack(stored), keys)


@torch.no_grad()
def write(
    model: MPlusForCausalLM,
    memories: Sequence[Memory],
    input_ids: Tensor,
    sources: Sequence[tuple[int, int, int]] | None = None,
) -> Tensor:
    """Write one chunk (B, n) into each of B independent memories, in one pass. Returns the blocks (L, B, k, d)."""
    limit = model.config.chunk_size
    if not 0 < input_ids.shape[1] <= limit:
        raise ValueError(f"A chunk of {input_ids.shape[1]} tokens cannot be written; chunk_size allows 1 to {limit}.")
    newest = [None if memory.newest is None else memory.newest.to(model.device) for memory in memories]
    stacked = None if newest[0] is None else torch.cat([block for block in newest if block is not None], dim=1)
    if stacked is not None and stacked.shape[1] != len(memories):
        raise ValueError("Memories before and after their first write cannot be written together; write them apart.")
    with use_adapter(model, WRITE):
        blocks = model.write(input_ids, stacked)
    if stacked is None and model.config.rules == "released":
        # The authors add the embedding to the next layer's input in place, on the very tensor they had kept as the
        # block; with memory in front a copy is made, so only the first write of all shows it.
        blocks[:-1] += model.memory.new
    keys_of = model.memory_keys if model.config.num_retrieved else None
    for index, memory in enumerate(memories):
        tokens = _tokens(model, blocks[:, index], memory.projected, model.device)
        memory.add(tokens, keys_of, sources[index] if sources else None)
    return blocks


def gives_odds(memory: Memory) -> bool:
    """Whether the retriever's scores are log-odds of blocks, up to its scale: so the block rule is trained."""
    rule = getattr(memory.relevance, "rule", memory.relevance)  # an index has a rule of its own
    return memory.config.relevance == "block" and rule is block_late_interaction


@torch.no_grad()
def keys_before(model: MPlusForCausalLM, memory: Memory, layer: int, found: Found) -> Keys:
    """Keys (R + N, r) of all that lies before a question: of what was found, then of θ in the order of its rows."""
    log, short = memory.state.logs[layer], memory.state.short
    theirs = log.keys.index_select(0, found.rows.to(log.keys.device))
    ours = model.memory_keys(layer, short.tokens[layer]) if short.keys is None else short.keys[layer]
    blocks = memory.state.block[layer].gather(0, short.ranks[layer])
    return Keys(torch.cat([theirs, ours.to(theirs)]), torch.cat([found.blocks, blocks]))


class MemoryPrefix:
    """A `Prefix`: per layer [retrieved, oldest first | θ] of one memory for all prompts, or of one memory per prompt.

    mask (B, n) marks the prompts' real tokens; only those take part in retrieval. What each layer found is kept in
    `found[layer]`, one entry per prompt. Under beam search a prompt's copies share one retrieval.
    """

    def __init__(self, model: MPlusForCausalLM, memories: Sequence[Memory], mask: Tensor):
        counts = {memory.num_retrieved for memory in memories}
        if len({(memory.projected, memory.state.written) for memory in memories}) > 1:
            raise ValueError("Memories of both forms, or before and after their first write, are to be asked apart.")
        pools = {memory.state.short.tokens.shape[1] for memory in memories}
        if len(counts) > 1 or len(pools) > 1 or len(memories) not in (1, len(mask)):
            raise ValueError(
                f"{len(memories)} memories that retrieve {sorted(counts)} tokens cannot answer {len(mask)} prompts in "
                "one batch; ask memories of equal size together, or one memory for all."
            )
        self.model, self.memories = model, list(memories)
        self.real = [None if bool(row.all()) else row.nonzero().flatten() for row in mask.bool()]
        self.num_retrieved = counts.pop()
        self.num_memory = self.num_retrieved + pools.pop()
        away = len(self.memories) == 1 and self.memories[0].place.offload == "all"
        self.streamed = Streamed(self.memories[0].state.short.tokens, model.device) if away else None
        self.keys = self._keys_ahead() if self.num_retrieved else None
        self.odds = all(gives_odds(memory) for memory in memories)
        self.evidence = [(model.evidence(), model.evidence()) for _ in self.real]  # of Θ; of what lies before it
        self.found: list[list[Found]] = [[] for _ in range(model.config.num_hidden_layers)]

    def _keys_ahead(self) -> Streamed | None:
        """Keys of Θ that are sent for while the layer before computes, where there is one prompt and room for them."""
        logs = self.memories[0].state.logs
        if len(self.real) > 1 or not all(log.pinned and log.keys.nbytes <= AHEAD for log in logs):
            return None
        return Streamed([log.keys for log in logs], self.model.device)

    def __call__(self, layer: int, normed: Tensor) -> list[Segment]:
        prompts, first = len(self.real), self.memories[0]
        copies = len(normed) // prompts
        segments, biases, told = [], [], self.odds and self.model.config.bias_in(layer) > 0
        if self.num_retrieved:
            rows = []
            for index, real in enumerate(self.real):
                prompt = normed[index * copies]
                queries = self.model.retriever_queries(layer, prompt if real is None else prompt[real])
                searched, weighed = self.evidence[index] if self.odds else (None, None)
                memory = self.memories[index % len(self.memories)]
                sent = self.keys.take(layer)[0] if self.keys else None
                asked = queries * self.model.retriever_scale(layer, len(queries)) if self.odds else queries
                found = memory.search(layer, asked, self.num_retrieved, sent, searched)
                rows.append(memory.state.logs[layer].take(found.rows, normed.device)[None])
                self.found[layer].append(found)
                if told:
                    keys = keys_before(self.model, memory, layer, found)
                    gains = self.model.certainty(layer, queries, keys, weighed)
                    biases.append(gains.to(normed)[None, None])
            tokens = torch.cat(rows) if len(rows) > 1 else rows[0]
            segments.append(Segment(tokens.repeat_interleave(copies, 0) if copies > 1 else tokens, first.projected))
        if len(self.memories) == 1:
            theta = first.state.short
            pool = self.streamed.layer(layer) if self.streamed else theta.tokens[None, layer]
            segments.append(Segment(pool, first.projected, first.state.version, theta.ranks[None, layer]))  # type: ignore[arg-type]
        else:
            thetas = [memory.state.short for memory in self.memories]
            pools = torch.stack([theta.tokens[layer] for theta in thetas]).repeat_interleave(copies, 0)
            ranks = torch.stack([theta.ranks[layer] for theta in thetas]).repeat_interleave(copies, 0)
            segments.append(Segment(pools, first.projected, None, ranks))
        if not biases:
            return segments
        lengths = [segment.tokens.shape[1] for segment in segments]
        parts = torch.cat(biases).repeat_interleave(copies, 0).split(lengths, -1)
        return [segment._replace(bias=bias) for segment, bias in zip(segments, parts, strict=True)]


def read_logits(
    model: MPlusForCausalLM,
    memories: Sequence[Memory],
    input_ids: Tensor,
    mask: Tensor | None = None,
    buffer: PrefixBuffer | None = None,
):
    """One prefill of prompts (B, n) behind memory with the read adapter: (Llama's output, what each layer found)."""
    real = torch.ones_like(input_ids) if mask is None else mask
    with use_adapter(model, READ):
        if not any(memory.state.written for memory in memories):  # MemoryLLM before its first write is the bare model
            return model(input_ids, attention_mask=mask), []
        prefix = MemoryPrefix(model, memories, real)
        return model.read(input_ids, prefix, prefix.num_memory, mask, buffer), prefix.found


@torch.no_grad()
def generate(
    model: MPlusForCausalLM,
    memories: Sequence[Memory],
    input_ids: Tensor,
    mask: Tensor | None = None,
    buffer: PrefixBuffer | None = None,
    **kwargs,
) -> tuple[Tensor, list[list[Found]]]:
    """`GenerationMixin.generate` behind memory with the read adapter: (ids (B, n + new), what each layer found).

    A `buffer` that is passed again keeps θ's keys and values from one question to the next.
    """
    real = torch.ones_like(input_ids) if mask is None else mask
    with use_adapter(model, READ):
        if not any(memory.state.written for memory in memories):
            return model.generate(input_ids, attention_mask=real, **kwargs), []
        prefix = MemoryPrefix(model, memories, real)
        ids = model.generate(input_ids, prefix, prefix.num_memory, attention_mask=real, buffer=buffer, **kwargs)
    return ids, prefix.found

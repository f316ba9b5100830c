"""Where model and memory meet, in tensors: write chunks into memories, and lay memories before a prompt."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .adapters import READ, WRITE, use_adapter
from .cache import Prefix
from .memory import Memory
from .model import MPlusForCausalLM
from .state import Found


def new_memory(model: MPlusForCausalLM, **settings) -> Memory:
    """A memory in the checkpoint's initial state. Settings are those of `Memory`, for instance `seed=1`."""
    return Memory(model.config, model.memory.pool, model.initial_long_term, written=model.initially_written, **settings)


@torch.no_grad()
def write(
    model: MPlusForCausalLM,
    memories: Sequence[Memory],
    input_ids: Tensor,
    sources: Sequence[tuple[int, int, int]] | None = None,
) -> Tensor:
    """Write one chunk (B, n) into each of B independent memories, in one pass. Returns the blocks (L, B, k, d)."""
    newest = [memory.newest for memory in memories]
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
        memory.add(blocks[:, index], keys_of, sources[index] if sources else None)
    return blocks


class MemoryPrefix:
    """A `Prefix`: per layer [retrieved, oldest first | θ] of one memory for all prompts, or of one memory per prompt.

    mask (B, n) marks the prompts' real tokens; only those take part in retrieval. What each layer found is kept in
    `found[layer]`, one entry per prompt. Under beam search a prompt's copies share one retrieval.
    """

    def __init__(self, model: MPlusForCausalLM, memories: Sequence[Memory], mask: Tensor):
        counts = {memory.num_retrieved for memory in memories}
        pools = {memory.state.pool.shape[1] for memory in memories}
        if len(counts) > 1 or len(pools) > 1 or len(memories) not in (1, len(mask)):
            raise ValueError(
                f"{len(memories)} memories that retrieve {sorted(counts)} tokens cannot answer {len(mask)} prompts in "
                "one batch; ask memories of equal size together, or one memory for all."
            )
        self.model, self.memories, self.mask = model, list(memories), mask.bool()
        self.num_memory = counts.pop() + pools.pop()
        self.found: list[list[Found]] = [[] for _ in range(model.config.num_hidden_layers)]

    def __call__(self, layer: int, normed: Tensor) -> Tensor:
        prompts = len(self.mask)
        copies = len(normed) // prompts
        rows = []
        for index in range(prompts):
            memory = self.memories[index if len(self.memories) > 1 else 0]
            pool = memory.state.pool[layer]
            if memory.num_retrieved:
                normed_tokens = normed[index * copies][self.mask[index]]
                found = memory.search(layer, self.model.retriever_queries(layer, normed_tokens))
                self.found[layer].append(found)
                pool = torch.cat([found.tokens.to(pool), pool])
            rows.append(pool)
        return torch.stack(rows).repeat_interleave(copies, dim=0).to(normed)


def read_logits(model: MPlusForCausalLM, memories: Sequence[Memory], input_ids: Tensor, mask: Tensor | None = None):
    """One prefill of prompts (B, n) behind memory with the read adapter: (Llama's output, what each layer found)."""
    real = torch.ones_like(input_ids) if mask is None else mask
    with use_adapter(model, READ):
        if not memories[0].state.written:  # MemoryLLM before its first write is the bare model
            return model(input_ids, attention_mask=mask), []
        prefix = MemoryPrefix(model, memories, real)
        return model.read(input_ids, prefix, prefix.num_memory, mask), prefix.found


@torch.no_grad()
def generate(
    model: MPlusForCausalLM, memories: Sequence[Memory], input_ids: Tensor, mask: Tensor | None = None, **kwargs
) -> tuple[Tensor, list[list[Found]]]:
    """`GenerationMixin.generate` behind memory with the read adapter: (ids (B, n + new), what each layer found)."""
    real = torch.ones_like(input_ids) if mask is None else mask
    with use_adapter(model, READ):
        if not memories[0].state.written:
            return model.generate(input_ids, attention_mask=real, **kwargs), []
        prefix: Prefix = MemoryPrefix(model, memories, real)
        ids = model.generate(input_ids, prefix, prefix.num_memory, attention_mask=real, **kwargs)
    return ids, prefix.found

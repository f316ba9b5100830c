"""Fit the retrievers to a model that stays as it is: a start in closed form, then a few steps of cross-entropy.

What a retriever sees, the states of written blocks and of questions, is made once and kept; only the two small
projectors of each layer learn, so a hundred steps take seconds. It is done before a model first learns with retrieval,
and once more when it has changed since.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .adapters import READ
from .lessons import Lessons
from .lexical_start import lexical_start, rarity, token_codes
from .model import MPlusForCausalLM
from .objectives import behind, decoder, merged, write_chunks
from .packing import NOTHING, Passage, pack
from .retriever import Retriever

AROUND = 12  # blocks of prose that the questions are read behind
CHAIN = 16  # chunks of prose that are written one behind the other
ASKED, OTHERS = 24, 100  # questions of a step, and rivals of each kind: other facts, and prose
RATE, SCALE_RATE, WARM_UP = 2e-3, 0.1, 8


class Seen(NamedTuple):
    """Frozen states. facts (L, m, K, d): blocks, of which block i answers question i; prose (L, p, K, d): others.

    queries (L, m, W, d): normed states of the questions; asked (m, W) bool: of their tokens. The token ids that all of
    these stand for: fact_ids (m, K), prose_ids (p, K), question_ids (m, W).
    """

    facts: Tensor
    prose: Tensor
    queries: Tensor
    asked: Tensor
    fact_ids: Tensor
    prose_ids: Tensor
    question_ids: Tensor


def refit_retrievers(
    model: MPlusForCausalLM, lessons: Lessons, generator: torch.Generator, steps: int, num_facts: int = 768
) -> list[float]:
    """Set the retrievers of all layers; `steps` 0 leaves them at the closed form.

    Returns, per layer, the share of held-out questions (a sixth of num_facts) whose block is among those that would
    be retrieved, of all blocks of facts and prose. Raises ValueError for retrievers of depth 1.
    """
    seen = look(model, lessons, generator, num_facts)
    held_out = num_facts // 6
    prose = torch.tensor([token for piece in lessons.prose.pieces for token in piece])
    vocabulary = model.config.vocab_size
    met = sum(
        ids.flatten().cpu().bincount(minlength=vocabulary) / ids.numel()
        for ids in (seen.fact_ids, seen.question_ids[seen.asked], prose)
    )
    weights = rarity(torch.as_tensor(met) * 1e6).to(seen.asked.device)
    codes = token_codes(model.model.embed_tokens.weight.detach(), model.config.retriever_size)
    top = model.config.num_retrieved // model.config.block_size
    found = []
    for layer in range(model.config.num_hidden_layers):
        reader = decoder(model, layer)
        with torch.no_grad():
            facts, others = reader.input_layernorm(seen.facts[layer]), reader.input_layernorm(seen.prose[layer])
        keys = torch.cat([facts[held_out:].flatten(0, 1), others.flatten(0, 1)])
        tokens = torch.cat([seen.fact_ids[held_out:].flatten(), seen.prose_ids.flatten()])
        real = seen.asked[held_out:]
        queries = seen.queries[layer, held_out:][real], seen.question_ids[held_out:][real]
        lexical_start(reader.retriever, (keys, tokens), queries, codes, weights)
        with torch.enable_grad():
            _learn(reader.retriever, facts, others, seen.queries[layer], seen.asked, held_out, steps, generator)
        with torch.no_grad():
            scores = score(
                reader.retriever, seen.queries[layer, :held_out], seen.asked[:held_out], torch.cat([facts, others])
            )
        best = scores.topk(min(top, scores.shape[1])).indices
        own = torch.arange(held_out, device=best.device)[:, None]
        found.append((best == own).any(1).float().mean().item())
    return found


def score(retriever: Retriever, queries: Tensor, asked: Tensor, blocks: Tensor) -> Tensor:
    """The block rule: queries (q, W, d) whose tokens `asked` (q, W) marks, blocks (m, K, d), all normed -> (q, m)."""
    vectors, keys = retriever.query(queries[asked]), retriever.key(blocks)
    best = (vectors @ keys.flatten(0, 1).T).unflatten(1, keys.shape[:2]).amax(-1)
    owner = asked.nonzero()[:, 0]
    return best.new_zeros(len(queries), len(blocks)).index_add(0, owner, best)


def _learn(
    retriever: Retriever, facts: Tensor, prose: Tensor, queries: Tensor, asked: Tensor, held_out: int, steps: int,
    generator: torch.Generator,
) -> None:  # fmt: skip
    """Cross-entropy over the blocks of a step's questions, of other facts and of prose."""
    retriever.requires_grad_(True)
    projectors = [*retriever.query.parameters(), *retriever.key.parameters()]
    groups = [{"params": projectors, "lr": RATE}, {"params": [retriever.scale], "lr": SCALE_RATE, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / WARM_UP) * max(0.1, 1 - step / max(1, steps))
    )
    for _ in range(steps):
        drawn = held_out + torch.randperm(len(facts) - held_out, generator=generator)[: ASKED + OTHERS]
        rivals = torch.randint(len(prose), (OTHERS,), generator=generator)
        now = drawn[:ASKED]
        scores = score(retriever, queries[now], asked[now], torch.cat([facts[drawn], prose[rivals]]))
        right = torch.arange(len(now), device=scores.device)
        F.cross_entropy(scores * retriever.scale, right).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()


@torch.no_grad()
def look(model: MPlusForCausalLM, lessons: Lessons, generator: torch.Generator, num_facts: int) -> Seen:
    """Write facts, each a chunk of its own, and prose; read a question about each fact behind blocks of prose."""
    config, device = model.config, model.memory.new.device
    size, batch = config.block_size, min(32, num_facts)
    prose, prose_ids = _prose(model, lessons, batch)
    pick = lambda *shape: prose[:, torch.randint(prose.shape[1], shape, generator=generator).to(device)]  # noqa: E731
    facts, fact_ids, queries, passages = [], [], [], []
    while len(passages) < num_facts:
        length = lessons.rng.randint(max(lessons.min_chunk, size), lessons.chunk_size)
        drawn = [found for _ in range(min(batch, num_facts - len(passages))) if (found := lessons.alone(length))]
        if drawn:
            ids = torch.tensor([chunk for chunk, _ in drawn], device=device)
            facts.append(write_chunks(model, ids[:, None], pick(len(drawn), 1))[:, :, 0])
            fact_ids.append(ids[:, -size:])  # a memory token stands for the token it was made at
            prompts = [lessons.rng.choice(items[0].questions).prompt for _, items in drawn]
            passages += [[Passage(prompt, len(prompt))] for prompt in prompts]
    packed = pack(passages, config.pad_token_id or 0).to(device)
    for start in range(0, num_facts, batch):
        part = type(packed)(*(tensor[start : start + batch] for tensor in packed))
        around = pick(len(part.ids), AROUND).flatten(2, 3)
        states: list[Tensor] = []

        def keep(layer: int, normed: Tensor, states=states, around=around) -> Tensor:
            states.append(normed)
            return around[layer]

        with merged(model, READ):
            behind(model, part, keep, AROUND * size)
        queries.append(torch.stack(states))
    return Seen(
        torch.cat(facts, 1).float(), prose, torch.cat(queries, 1).float(), packed.segments != NOTHING,
        torch.cat(fact_ids), prose_ids, packed.ids,
    )  # fmt: skip


def _prose(model: MPlusForCausalLM, lessons: Lessons, batch: int) -> tuple[Tensor, Tensor]:
    """Blocks (L, batch · CHAIN, K, d) of chains of prose, and the tokens (batch · CHAIN, K) they stand for."""
    size, length = model.config.block_size, lessons.chunk_size
    text = [lessons.prose.window(CHAIN * length) for _ in range(batch)]
    ids = torch.tensor(text, device=model.memory.new.device).view(batch, CHAIN, length)
    pool: Tensor = model.memory.pool  # type: ignore[assignment]
    blocks = write_chunks(model, ids, pool[:, None, None, -size:].expand(-1, batch, 1, -1, -1), pairs=False)
    return blocks.flatten(1, 2).float(), ids[:, :, -size:].flatten(0, 1)

"""Fit the retrievers to a model that stays as it is: a start in closed form, then a few steps of cross-entropy.

What a retriever sees, the states of written blocks and of questions, is made once and kept; only the two small
projectors of each layer learn, so a hundred steps take seconds. It is done before a model first learns with retrieval,
and once more when it has changed since.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .adapters import READ
from .fitting import Frozen, by_steps, learn, score
from .lessons import Lessons
from .lexical_start import lexical_start, rarity, token_codes
from .model import MPlusForCausalLM
from .objectives import behind, decoder, merged, write_chunks
from .packing import NOTHING, Passage, pack
from .retriever import Retriever

AROUND = 12  # blocks of prose that the questions are read behind
CHAIN = 16  # chunks of prose that are written one behind the other


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

    @torch.no_grad()
    def layer(self, model: MPlusForCausalLM, layer: int) -> Frozen:
        """What the retriever of one layer is given."""
        norm = decoder(model, layer).input_layernorm
        return Frozen(norm(self.facts[layer]), norm(self.prose[layer]), self.queries[layer], self.asked)


def refit_retrievers(
    model: MPlusForCausalLM, lessons: Lessons, generator: torch.Generator, steps: int, num_facts: int = 768
) -> list[float]:
    """Set the retrievers of all layers; `steps` 0 leaves them at the closed form.

    Returns, per layer, the share of held-out questions (a sixth of num_facts) whose block is among those that would
    be retrieved, of all blocks of facts and prose. Raises ValueError for retrievers of depth 1.
    """
    seen = look(model, lessons, generator, num_facts)
    held_out = num_facts // 6
    words = word_codes(model, lessons, seen)
    top = model.config.num_retrieved // model.config.block_size
    found = []
    for layer in range(model.config.num_hidden_layers):
        retriever, view = decoder(model, layer).retriever, seen.layer(model, layer)
        closed_form(retriever, view, seen, held_out, words)
        with torch.enable_grad():
            learn(retriever, view, held_out, by_steps(steps), generator)
        with torch.no_grad():
            blocks = torch.cat([view.facts, view.prose])
            scores = score(retriever, view.queries[:held_out], seen.asked[:held_out], blocks)
        best = scores.topk(min(top, scores.shape[1])).indices
        own = torch.arange(held_out, device=best.device)[:, None]
        found.append((best == own).any(1).float().mean().item())
    return found


def word_codes(model: MPlusForCausalLM, lessons: Lessons, seen: Seen) -> tuple[Tensor, Tensor]:
    """What `lexical_start` needs of the vocabulary: codes (V, r), and weights (V,) by how rare tokens are."""
    prose = torch.tensor([token for piece in lessons.prose.pieces for token in piece])
    met = sum(
        ids.flatten().cpu().bincount(minlength=model.config.vocab_size) / ids.numel()
        for ids in (seen.fact_ids, seen.question_ids[seen.asked], prose)
    )
    codes = token_codes(model.model.embed_tokens.weight.detach(), model.config.retriever_size)
    return codes, rarity(torch.as_tensor(met) * 1e6).to(seen.asked.device)


def closed_form(retriever: Retriever, view: Frozen, seen: Seen, held_out: int, words: tuple[Tensor, Tensor]) -> None:
    """Set one layer's retriever by `lexical_start`; the first `held_out` facts are not looked at."""
    keys = torch.cat([view.facts[held_out:].flatten(0, 1), view.prose.flatten(0, 1)])
    tokens = torch.cat([seen.fact_ids[held_out:].flatten(), seen.prose_ids.flatten()])
    real = seen.asked[held_out:]
    queries = view.queries[held_out:][real], seen.question_ids[held_out:][real]
    lexical_start(retriever, (keys, tokens), queries, *words)


@torch.no_grad()
def look(model: MPlusForCausalLM, lessons: Lessons, generator: torch.Generator, num_facts: int) -> Seen:
    """Write facts, each a chunk of its own, and prose; read a question about each fact behind blocks of prose."""
    config, device = model.config, model.memory.new.device
    size, batch = config.block_size, min(32, num_facts)
    prose, prose_ids = _prose(model, lessons, batch)
    pick = lambda *shape: prose[:, torch.randint(prose.shape[1], shape, generator=generator).to(device)]  # noqa: E731
    facts, fact_ids, prompts = [], [], []
    while len(prompts) < num_facts:
        length = lessons.rng.randint(max(lessons.min_chunk, size), lessons.chunk_size)
        drawn = [found for _ in range(min(batch, num_facts - len(prompts))) if (found := lessons.alone(length))]
        if drawn:
            ids = torch.tensor([chunk for chunk, _ in drawn], device=device)
            facts.append(write_chunks(model, ids[:, None], pick(len(drawn), 1))[:, :, 0])
            fact_ids.append(ids[:, -size:])  # a memory token stands for the token it was made at
            prompts += [lessons.rng.choice(items[0].questions).prompt for _, items in drawn]
    queries, asked, ids = look_at_questions(model, prompts, lambda rows: pick(rows, AROUND).flatten(2, 3), batch)
    return Seen(torch.cat(facts, 1).float(), prose, queries, asked, torch.cat(fact_ids), prose_ids, ids)


@torch.no_grad()
def look_at_questions(
    model: MPlusForCausalLM, prompts: list[list[int]], memories: Callable[[int], Tensor], batch: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Normed states (L, m, W, d) of m questions, which are real (m, W), and their token ids (m, W).

    memories: given a number of rows, what each is read behind: (L, rows, P, d).
    """
    passages, queries = [[Passage(prompt, len(prompt))] for prompt in prompts], []
    packed = pack(passages, model.config.pad_token_id or 0).to(model.memory.new.device)
    for start in range(0, len(prompts), batch):
        part = type(packed)(*(tensor[start : start + batch] for tensor in packed))
        around = memories(len(part.ids))
        states: list[Tensor] = []

        def keep(layer: int, normed: Tensor, states=states, around=around) -> Tensor:
            states.append(normed)
            return around[layer]

        with merged(model, READ):
            behind(model, part, keep, around.shape[2])
        queries.append(torch.stack(states))
    return torch.cat(queries, 1).float(), packed.segments != NOTHING, packed.ids


def _prose(model: MPlusForCausalLM, lessons: Lessons, batch: int) -> tuple[Tensor, Tensor]:
    """Blocks (L, batch · CHAIN, K, d) of chains of prose, and the tokens (batch · CHAIN, K) they stand for."""
    size, length = model.config.block_size, lessons.chunk_size
    text = [lessons.prose.window(CHAIN * length) for _ in range(batch)]
    ids = torch.tensor(text, device=model.memory.new.device).view(batch, CHAIN, length)
    pool: Tensor = model.memory.pool  # type: ignore[assignment]
    blocks = write_chunks(model, ids, pool[:, None, None, -size:].expand(-1, batch, 1, -1, -1), pairs=False)
    return blocks.flatten(1, 2).float(), ids[:, :, -size:].flatten(0, 1)

"""A small M+ from nothing: its tokenizer, its model, and the practice that `core.curriculum.MINI` leads through."""

import random
import warnings
from collections.abc import Iterator, Sequence
from itertools import islice

import torch
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from .adapters import WRITE, add_adapters
from .config import MPlusConfig
from .curriculum import FINEWEB
from .data import Documents, Source, open_source
from .induction import induction_init
from .lessons import Lessons
from .model import MPlusForCausalLM
from .muon import Muon
from .objectives import merged
from .practice import REPEAT, Practice
from .streams import Facts, GeneratedDocuments, Prose
from .tokenizer_training import train_tokenizer
from .world import World
from .world.real import RealSentences

TEXTS, CHARACTERS, FACTS = 12, 300_000, 20_000  # what the tokenizer is trained on
RARE = 'áàâäãåæçéèêëíîïłñóòôöõøœśšßúùûüýžčćęąğř"#$%&*+/=@_~€£°'
"""Letters of names and signs that a tokenizer trained on English novels has only as bytes, or hardly ever sees."""


def find_sources(names: Sequence[str]) -> list[Source]:
    """Documents to practise on: those named, or fineweb-edu by streaming, or none where it is out of reach."""
    if names:
        return [Source(name, min_tokens=500) for name in names]
    try:
        next(iter(open_source(Source(FINEWEB))))
    except Exception:
        warnings.warn(
            "No --data was named and fineweb-edu is out of reach: prose is generated, and the model will know little "
            "of ordinary English.",
            stacklevel=2,
        )
        return []
    return [Source(FINEWEB)]


def recipe_tokenizer(sources: Sequence[Source], vocab_size: int, seed: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE on pieces of the documents and on facts as they are said and asked."""

    def texts() -> Iterator[str]:
        for source in sources:
            for row in islice(open_source(source, seed), TEXTS):
                yield (row[source.field] or "")[:CHARACTERS]
        world = World(random.Random(seed))
        for fact in islice(world.facts(), FACTS):
            yield f"{fact.fact} Question: {fact.question} Answer: {fact.answer}"

    return train_tokenizer(texts(), vocab_size)


def recipe_model(config: MPlusConfig, seed: int) -> MPlusForCausalLM:
    """A fresh model with the copying circuit and both adapters. Raises ValueError if it has no room for the circuit."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = MPlusForCausalLM(config)
        induction_init(model, torch.Generator().manual_seed(seed))
        add_adapters(model, config)
    with torch.no_grad():  # as small as embeddings are, so that noise does not drown what is written next to it
        model.memory.bos.mul_(0.02)
        model.memory.pool.mul_(0.02)
    return model


def spellings(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The tokenizer's entries of two to six letters, and rare letters and signs, sorted: pieces of invented words."""
    entries = {str(tokenizer.decode([token])).strip() for token in range(len(tokenizer))}
    return sorted({entry.lower() for entry in entries if entry.isalpha() and 2 <= len(entry) <= 6} | set(RARE))


def recipe_practice(
    model: MPlusForCausalLM, tokenizer: PreTrainedTokenizerBase, sources: Sequence[Source], seed: int,
    rank: int = 0, num_ranks: int = 1,
) -> Practice:  # fmt: skip
    """Facts and prose for one process, every process with chance of its own."""
    rng = random.Random(f"{seed} {rank}")
    world = World(rng)
    if sources:
        documents = Documents(sources, tokenizer, seed, rank, num_ranks)
    else:
        documents = GeneratedDocuments(world, tokenizer)
    prose = Prose(documents, rng)
    world.words, world.pieces = prose.words(tokenizer), spellings(tokenizer)
    if sources:
        world.real = RealSentences(world, (str(tokenizer.decode(piece)) for piece in prose.pieces))
    config = model.config
    kept = config.block_size if config.overlapped else 0
    lessons = Lessons(Facts(world, tokenizer), prose, rng, config.chunk_size, config.min_chunk, kept)
    repeat = list(tokenizer(REPEAT, add_special_tokens=False)["input_ids"])  # type: ignore[arg-type]
    return Practice(model, lessons, seed * 1000 + rank, repeat)


def recipe_optimizers(model: MPlusForCausalLM) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers; adapters, retriever, embeddings and vectors learn by AdamW."""
    groups: dict[str, list[torch.nn.Parameter]] = {"matrices": [], "main": []}
    for name, parameter in model.named_parameters():
        inside = parameter.ndim == 2 and ".layers." in name and "lora_" not in name and "retriever" not in name
        groups["matrices" if inside else "main"].append(parameter)
    matrices, main = ([{"params": parameters, "name": name}] for name, parameters in groups.items())
    return [
        Muon(matrices, lr=0.02, weight_decay=0.01, momentum=0.95),
        torch.optim.AdamW(main, lr=3e-3, betas=(0.9, 0.98), weight_decay=0.0),
    ]


@torch.no_grad()
def fill_pool(model: MPlusForCausalLM, prose: Prose, generator: torch.Generator) -> None:
    """Make the checkpoint's initial θ of memory the model wrote itself, from prose, instead of noise.

    Five times as many chunks as θ has blocks are written, each dropping random tokens, as in use.
    """
    config, pool = model.config, model.memory.pool.clone()
    for _ in range(5 * config.num_blocks):
        ids = torch.tensor([prose.window(config.chunk_size)], device=pool.device)
        with merged(model, WRITE):
            block = model.write(ids, pool[:, None, -config.block_size :])[:, 0]
        keep = torch.rand(pool.shape[:2], generator=generator).topk(config.pool_size - config.block_size).indices
        keep = keep.sort(-1).values.to(pool.device)
        pool = torch.cat([pool.gather(1, keep[..., None].expand(-1, -1, pool.shape[-1])), block.to(pool)], dim=1)
    model.memory.pool.copy_(pool)

"""A recipe in miniature: a model just large enough for the copying circuit, its practice and its training."""

import random
from functools import cache
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from core.config import MPlusConfig
from core.curriculum import GEOMETRY, Lesson, Task
from core.lessons import Lessons
from core.practice import Practice
from core.processes import accelerator
from core.recipe import recipe_model, recipe_optimizers
from core.streams import Facts, GeneratedDocuments, Prose
from core.tokenizer_training import train_tokenizer
from core.training import Training
from core.world import World

LITTLE = {
    "vocab_size": 400, "hidden_size": 136, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2,
    "num_key_value_heads": 2, "head_dim": 32, "retriever_size": 16, "lora_rank": 2, "lora_alpha": 4.0,
    "block_size": 16, "num_blocks": 4, "num_retrieved": 32, "chunk_size": 32, "min_chunk": 16,
}  # fmt: skip
SMALL = {"batch": 2, "chunks": (2, 3), "questions": 2, "num_blocks": (4,), "pointer": 0.2}
CONTEXT = Task("context", 1.0, 2, questions=4, pointer=0.3, gap=9)
BLOCKS = Task("blocks", 1.0, 2, chunks=(1, 3), repeat=0.5, pointer=0.2)
PLAN = (
    Lesson("first", 3, (CONTEXT, BLOCKS), saves="first"),
    Lesson("second", 3, (Task("retriever", 1.0, **SMALL, long_term=True), Task("prose", 1.0, **SMALL)), refit=2),
    Lesson("third", 4, (Task("memory", 1.0, **SMALL), Task("memory", 1.0, **SMALL, long_term=True)), decay=0.5),
)


def little_config(**settings) -> MPlusConfig:
    return MPlusConfig(**{**GEOMETRY, **LITTLE, **settings})


@cache
def little_tokenizer(vocab_size: int = LITTLE["vocab_size"]) -> PreTrainedTokenizerFast:
    world = World(random.Random(0))
    return train_tokenizer(
        (f"{f.fact} Question: {f.question} Answer:" for f in (world.fact() for _ in range(400))), vocab_size
    )


def little_lessons(tokenizer, seed: int = 0) -> Lessons:
    rng = random.Random(seed)
    world = World(rng)
    prose = Prose(GeneratedDocuments(world, tokenizer), rng, kept=4, piece=2000)
    return Lessons(Facts(world, tokenizer), prose, rng, chunk_size=32, min_chunk=16)


def little_training(out: Path, plan=PLAN, local_steps: int = 1, seed: int = 0, cpu: bool = True) -> Training:
    processes, tokenizer = accelerator("no", cpu), little_tokenizer()
    model = recipe_model(little_config(), seed).to(processes.device)
    rank = processes.process_index
    practice = Practice(model, little_lessons(tokenizer, 2 * seed + rank), seed + rank, [5, 6], keep=64, crowd=4)
    optimizers = recipe_optimizers(model)
    return Training(processes, practice, plan, optimizers, tokenizer, out, clip=1.0, local_steps=local_steps)

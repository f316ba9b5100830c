"""Models of random weights in the shapes the benchmarks use; speed does not depend on what a model has learnt."""

import torch

from core.adapters import add_adapters
from core.config import MPlusConfig
from core.log import TokenLog
from core.model import MPlusForCausalLM

MEDIUM = dict(
    vocab_size=8000, hidden_size=512, intermediate_size=1408, num_hidden_layers=8, num_attention_heads=8,
    num_key_value_heads=2, head_dim=64, tie_word_embeddings=False, max_position_embeddings=131_072,
    block_size=64, num_blocks=40, num_retrieved=640, max_long_term=20_160, chunk_size=256, retriever_size=128,
    lora_rank=8, lora_alpha=16.0, rules="released", relevance="mean_sigmoid", merge_every=5, initial_recall=63.0,
    bos_token_id=1, eos_token_id=2, pad_token_id=0,
)  # fmt: skip
"""The shape at which the authors' code was measured; r follows from its bytes of keys and of Θ."""

MINI = dict(
    vocab_size=8192, hidden_size=256, intermediate_size=688, num_hidden_layers=6, num_attention_heads=8,
    num_key_value_heads=2, head_dim=32, tie_word_embeddings=True, max_position_embeddings=131_072,
    block_size=32, num_blocks=16, num_retrieved=256, max_long_term=1 << 40, chunk_size=128, retriever_size=48,
    lora_rank=8, lora_alpha=16.0, relevance="block", bos_token_id=1, eos_token_id=2, pad_token_id=0,
)  # fmt: skip
"""About the shape of the model that is shipped."""


def random_model(shape: dict, seed: int = 0, dtype=torch.float32, device="cpu", **settings) -> MPlusForCausalLM:
    """Random weights of a width that keeps activations in range; adapters and memory tokens are not zero."""
    torch.manual_seed(seed)
    config = MPlusConfig(**{**shape, **settings})
    with torch.device(device):
        model = MPlusForCausalLM(config)
    add_adapters(model, config)
    model = model.to(device=device, dtype=dtype)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name or name == "memory.new":
                parameter.normal_(std=0.02)
            elif ".retriever." in name and parameter.dim() == 2:  # wide enough apart that float rounding makes no ties
                parameter.normal_(std=0.8 * parameter.shape[1] ** -0.5)
    return model.eval()


def random_chunks(config: MPlusConfig, count: int, length: int = 0, seed: int = 0) -> torch.Tensor:
    """Token ids (count, length) without the special ones."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, config.vocab_size, (count, length or config.chunk_size), generator=generator)


@torch.no_grad()
def fill_long_term(model: MPlusForCausalLM, size: int, seed: int = 0) -> None:
    """Give the checkpoint a Θ of `size` random tokens a layer, as if so many had been written; they expire in turn."""
    generator, config = torch.Generator().manual_seed(seed), model.config
    age = torch.arange(size - 1, -1, -1)
    recall = config.initial_recall - (age // (config.merge_every * config.block_size)).double()
    logs = []
    for layer in range(config.num_hidden_layers):
        tokens = torch.randn(size, config.hidden_size, generator=generator, dtype=model.dtype)
        block = 1 + config.num_blocks + torch.arange(size) // config.block_size
        keys = model.memory_keys(layer, tokens.to(model.device))
        logs.append(TokenLog(tokens, keys, -age, block, torch.arange(size) % config.block_size, recall))
    model.initial_long_term = logs

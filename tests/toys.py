"""Tiny models with random weights and a byte tokenizer, made in memory, for tests of baselines and evaluation."""

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from core.adapters import add_adapters
from core.checkpoint import save_model
from core.config import MPlusConfig
from core.model import MPlusForCausalLM

SHAPE = {
    "vocab_size": 258, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "tie_word_embeddings": True, "max_position_embeddings": 4096,
    "eos_token_id": 256, "bos_token_id": 256, "pad_token_id": 257,
}  # fmt: skip
MEMORY = {
    "block_size": 8, "num_blocks": 4, "num_retrieved": 16, "max_long_term": 1000, "chunk_size": 24, "min_chunk": 8,
    "prompt_window": 256, "relevance": "block", "retriever_size": 8, "lora_rank": 2,
}  # fmt: skip


LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 10000.0, "factor": 4.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip


def toy_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {letter: index for index, letter in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|end|>", "<|pad|>"])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|pad|>")


def toy_mplus(seed: int = 0, std: float = 0.15, **settings) -> MPlusForCausalLM:
    """Random weights; adapters, bos and new-memory embedding are not zero, so that they matter."""
    torch.manual_seed(seed)
    certain = {} if settings.get("relevance", "block") != "block" else {"retrieval_bias": 0.5}
    config = MPlusConfig(**{**SHAPE, **MEMORY, **certain, **settings})
    model = MPlusForCausalLM(config)
    add_adapters(model, config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name or name.startswith("memory."):
                parameter.normal_(std=2 * std)
            elif parameter.dim() == 2:
                parameter.normal_(std=std)
    return model.eval()


def toy_checkpoints(root) -> None:
    """Folders "mplus" and "llama" for commands; their answers are short, for the end token is likely."""
    for name, model in (("mplus", toy_mplus()), ("llama", toy_llama())):
        with torch.no_grad():
            model.get_input_embeddings().weight[256] *= 4
        save_model(model, root / name) if name == "mplus" else model.save_pretrained(root / name)
        toy_tokenizer().save_pretrained(root / name)


def toy_llama(seed: int = 0) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(**SHAPE))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.normal_(std=0.15)
    return model.eval()

"""What an answer owes to its memory: the probabilities of its tokens, with everything and with one thing taken away."""

from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase

from core.adapters import READ, use_adapter
from core.baselines import random_relevance
from core.memory import Memory
from core.prompts import encode_question
from core.reader import MPlusReader
from core.reading import MemoryPrefix

NOTHING, LONG_TERM, RETRIEVER, LAYER, TEXT = "nothing", "long-term", "retriever", "layer", "text"


@dataclass(frozen=True)
class Ablation:
    """tokens: pieces of the answer; before, after: log-probabilities of each, nats. what: in words."""

    tokens: list[str]
    before: list[float]
    after: list[float]
    what: str


def without(memory: Memory, kind: str, which: int = 0) -> tuple[Memory, str]:
    """A fork of a memory with one thing taken away, and that in words. Raises ValueError if it is not there.

    A layer is ablated by giving its keys the tokens of others: it still looks, but what comes back is not what it
    looked for.
    """
    if kind in (LONG_TERM, RETRIEVER, LAYER) and not memory.config.num_retrieved:
        raise ValueError("This model is a MemoryLLM: it has no Θ to take away; delete a text instead.")
    twin = memory.fork()
    if kind == LONG_TERM:
        twin.state.logs = []
        return twin, "without Θ"
    if kind == RETRIEVER:
        twin.relevance = random_relevance(0, memory.config.relevance == "block")
        return twin, "with a retriever that guesses"
    if kind == LAYER:
        if not 0 <= which < len(twin.state.logs):
            raise ValueError(
                f"There is no layer {which} with a long-term memory; choose 0 to {len(twin.state.logs) - 1}."
            )
        log = twin.state.logs[which]
        order = torch.randperm(log.length, generator=torch.Generator().manual_seed(0))
        twin.state.logs[which] = log.with_tokens(log.tokens[order])
        return twin, f"with Θ of layer {which} shuffled"
    if kind == TEXT:
        twin.delete(which)
        return twin, f"with text {which} deleted"
    raise ValueError(f"{kind!r} cannot be taken away; choose {LONG_TERM}, {RETRIEVER}, {LAYER} or {TEXT}.")


def encode_answer(answer: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens of an answer as they stand behind a question's "Answer:", whatever the tokenizer does with spaces."""
    encode = lambda text: list(tokenizer(text, add_special_tokens=False)["input_ids"])  # noqa: E731
    return encode(f"Answer: {answer}")[len(encode("Answer:")) :]


@torch.no_grad()
def log_probabilities(reader: MPlusReader, memory: Memory, question: str, answer: list[int]) -> list[float]:
    """log p of every token of an answer, given the question and those before it. Retrieval sees the question alone."""
    prompt = encode_question(question, reader.tokenizer, reader.model.config)
    ids = torch.tensor([prompt + answer], device=reader.model.device)
    with use_adapter(reader.model, READ):
        if memory.state.written:
            prefix = MemoryPrefix(reader.model, [memory], torch.arange(ids.shape[1])[None] < len(prompt))
            logits = reader.model.read(ids, prefix, prefix.num_memory).logits
        else:
            logits = reader.model(ids).logits
    assert logits is not None, "a causal model returns logits"
    logs = logits[0, len(prompt) - 1 : -1].float().log_softmax(-1)
    return logs.gather(1, ids[0, len(prompt) :, None]).flatten().tolist()


def ablate(reader: MPlusReader, question: str, answer: list[int], kind: str, which: int = 0) -> Ablation:
    """Compare an answer's token probabilities with everything and with one thing taken away. Changes nothing."""
    twin, what = without(reader.memory, kind, which)
    before = log_probabilities(reader, reader.memory, question, answer)
    after = log_probabilities(reader, twin, question, answer)
    pieces = [str(reader.tokenizer.decode([token], skip_special_tokens=False)) for token in answer]
    return Ablation(pieces, before, after, what)

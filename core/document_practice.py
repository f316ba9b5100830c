"""The paper's training steps on documents: one continuous memory a row, and what is read from it is the next text.

As the authors' code, with choices of our own. Where it and the paper differ we follow the paper: all reads use the read
adapter (the code reads a single chunk with the write adapter), chunks that are read together with θ carry no gradient
(the code lets it slip through for one chunk), the retriever learns in stage 3 alone (the code also teaches it in stage
2). Revisits go by what was cached, not by the global step; adapters have no dropout, with which a resume could not go
the same way; a stage leaves θ, and no Θ, in the checkpoint that the next one starts from.
"""

import random
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from .curriculum import BRIEF, Stage
from .data import Document, Documents, Source, cut_document
from .memory import Memory
from .memory_file import load_memory, save_memory
from .model import MPlusForCausalLM
from .objectives import predict, write_chunks
from .packing import Passage, pack
from .reading import MemoryPrefix, new_memory, write
from .state import Tokens

OWNER = "training"
LEAST_OF_LONG = 0.75  # of a chunk: the least that one of a long document holds
REPEAT, UNPREDICTED = "Repeat:", 5  # tokens after the instruction that cannot be known
RENEWED = 0.2  # with Θ: how often a document that was revisited is replaced by a newer one


class TaughtDocuments(MemoryPrefix):
    """Reads one memory, and collects the retriever's loss: tokens of `blocks` are the right ones.

    Paper §3.2 on the tokens of θ, with what the released code adds: detached states, both classes weighing the same,
    and as the query a random beginning of the text, in every layer another one. Θ is searched with one, too (the code
    draws it for each layer): all of the text would tell the retriever what is to be predicted.
    """

    def __init__(
        self, model: MPlusForCausalLM, memory: Memory, length: int, blocks: tuple[int, int], rng: random.Random,
    ):  # fmt: skip
        beginning = rng.randint(1, max(1, length - 1))
        super().__init__(model, [memory], (torch.arange(length, device=model.device) < beginning).long()[None])
        self.blocks, self.rng, self.losses = blocks, rng, []

    def __call__(self, layer: int, normed: Tensor):
        memory = self.memories[0]
        block = memory.state.block[layer]
        right = (block >= self.blocks[0]) & (block < self.blocks[1])
        if self.model.config.num_retrieved and bool(right.any()) and not bool(right.all()):
            beginning = normed[0, : self.rng.randint(1, normed.shape[1])].detach()
            with torch.enable_grad():
                queries = self.model.retriever_queries(layer, beginning)
                keys = self.model.memory_keys(layer, memory.state.short.layer(layer))
                self.losses.append(self._loss(layer, queries, keys, block, right))
        return super().__call__(layer, normed)

    def _loss(self, layer: int, queries: Tensor, keys: Tensor, blocks: Tensor, right: Tensor) -> Tensor:
        rule, right = self.model.config.relevance, right.to(keys.device)
        if rule == "block":
            _, numbers = blocks.to(keys.device).unique(return_inverse=True)
            scale = self.model.retriever_scale(layer, len(queries))
            best = queries.new_full((len(queries), int(numbers.max()) + 1), -torch.inf)
            best = best.scatter_reduce(1, numbers.expand(len(queries), -1), queries @ keys.T, "amax")
            scores = scale * best.sum(0)
            wanted = torch.zeros_like(scores, dtype=torch.bool).index_fill_(0, numbers[right], True)
            return scores.logsumexp(0) - scores[wanted].logsumexp(0)
        chances = (keys @ queries.mean(0)).sigmoid() if rule == "dot" else (queries @ keys.T).sigmoid().mean(0)
        return -((chances[right] + 1e-5).log().mean() + (1 - chances[~right] + 1e-5).log().mean()) / 2


class DocumentPractice(nn.Module):
    """Steps of a `Stage` for `batch` independent memories, whose losses are averaged.

    sources: short documents first, then long ones; one source serves for both. Raises ValueError for more.
    """

    def __init__(
        self, model: MPlusForCausalLM, tokenizer: PreTrainedTokenizerBase, sources: list[str], seed: int,
        batch: int = 1, rank: int = 0, num_ranks: int = 1,
    ):  # fmt: skip
        super().__init__()
        if not 1 <= len(sources) <= 2:
            raise ValueError(
                f"{len(sources)} sources are named; a stage has one of short documents and one of long ones. Put files "
                "of one kind into a folder, and name that."
            )
        self.model, self.tokenizer, self.sources, self.batch = model, tokenizer, sources, batch
        self.seed, self.rank, self.num_ranks = seed, rank, num_ranks
        self.rng = random.Random(f"{seed} {rank}")
        self.tokens = 0
        self.repeat = list(tokenizer(REPEAT, add_special_tokens=False)["input_ids"])  # type: ignore[arg-type]
        self.cached: list[list[Any]] = []  # per memory: target ids, start, its blocks, documents since; or empty
        self.memories: list[Memory] = []
        self.documents: Documents | None = None

    def prepare(self, stage: Stage) -> None:
        """Fresh memories and the documents of this stage."""
        least = self.model.config.chunk_size + 1  # a shorter one leaves nothing to predict from what was written
        sources = [
            Source(self.sources[0] if most <= BRIEF else self.sources[-1], share, max(fewest, least), most)
            for share, fewest, most in stage.lengths
        ]
        self.documents = Documents(sources, self.tokenizer, self.seed, self.rank, self.num_ranks)
        seeds = [(self.seed * 1000 + self.rank) * 1000 + row for row in range(self.batch)]
        self.memories = [new_memory(self.model, long_term=stage.long_term, seed=seed, undo_levels=0) for seed in seeds]
        self.cached = [[] for _ in seeds]

    def forward(self, stage: Stage) -> tuple[Tensor, dict[str, float]]:
        losses, found = [], {}
        for row in range(self.batch):
            loss, name, taught = self._step(stage, row)
            losses.append(loss + stage.retriever * taught if stage.retriever else loss)
            found[name] = loss.item()
            found |= {"retriever_loss": taught.item()} if taught.requires_grad else {}
        return torch.stack(losses).mean(), found

    def _step(self, stage: Stage, row: int) -> tuple[Tensor, str, Tensor]:
        """(loss of the language model, the sub-task's name, loss of the retriever) of one memory."""
        memory, cached, draw = self.memories[row], self.cached[row], self.rng.random()
        none = torch.zeros((), device=self.model.memory.new.device)
        if draw < stage.full_text:
            ids = next(self.documents)[: self.model.config.prompt_window]  # type: ignore[arg-type]
            return self._read(memory, ids, 1, None)[0], "full_text", none
        if cached and cached[3] and draw < stage.full_text + stage.revisit:
            ids, start, blocks, _ = cached
            if not stage.long_term or self.rng.random() < RENEWED:
                self.cached[row] = []
            return self._named("revisit", self._read(memory, ids, start, tuple(blocks) if stage.retriever else None))
        document = self._document()
        single, first = self.rng.random() < stage.single, memory.state.next_block
        repeat = self.rng.random() < stage.repeat
        most = 1 if single else stage.max_chunks
        chunks = document.chunks[:most] if repeat else document.chunks[-most:]
        ids, start = self._target(document, chunks, repeat)
        if single:
            loss = self._alone(memory, chunks[0], ids, start)
            return loss, "single", none
        for chunk in chunks:
            self.tokens += len(chunk)
            write(self.model, [memory], torch.tensor([chunk], device=none.device))
        blocks = first, memory.state.next_block
        if not cached:
            self.cached[row] = [ids, start, list(blocks), 0]
        else:
            cached[3] += 1
        read = self._read(memory, ids, start, blocks if stage.retriever else None)
        return self._named("repeat" if repeat else "many", read)

    def _named(self, name: str, losses: tuple[Tensor, Tensor]) -> tuple[Tensor, str, Tensor]:
        return losses[0], name, losses[1]

    def _document(self) -> Document:
        config = self.model.config
        while True:
            ids = next(self.documents)  # type: ignore[arg-type]
            least = config.min_chunk if len(ids) < BRIEF else int(LEAST_OF_LONG * config.chunk_size)
            document = cut_document(ids, self.rng, least, config.chunk_size, config.prompt_window)
            if document is not None:
                return document

    def _target(self, document: Document, chunks: list[list[int]], repeat: bool) -> tuple[list[int], int]:
        if not repeat:
            return document.sentence, 1
        room = self.model.config.prompt_window - len(self.repeat)
        ids = self.repeat + [token for chunk in chunks for token in chunk][:room]
        return ids, min(len(self.repeat) + UNPREDICTED, len(ids) - 1)

    def _read(
        self, memory: Memory, ids: list[int], start: int, blocks: tuple[int, int] | None
    ) -> tuple[Tensor, Tensor]:
        """(loss of the text, of the retriever if blocks are given: the numbers, from and below, of the right ones)."""
        packed = pack([[Passage(ids, start)]]).to(self.model.memory.new.device)
        self.tokens += len(ids)
        prefix = TaughtDocuments(self.model, memory, len(ids), blocks or (0, 0), self.rng)
        loss = predict(self.model, packed, prefix, prefix.num_memory).loss
        return loss, torch.stack(prefix.losses).mean() if prefix.losses else torch.zeros_like(loss.detach())

    def _alone(self, memory: Memory, chunk: list[int], ids: list[int], start: int) -> Tensor:
        """Sub-task 1: only the chunk's own memory is read, and the gradient reaches the write."""
        device = self.model.memory.new.device
        newest = memory.newest
        assert newest is not None, "a checkpoint has an initial θ"
        block = write_chunks(self.model, torch.tensor([[chunk]], device=device), newest[:, :, None])[:, :, 0]
        packed = pack([[Passage(ids, start)]]).to(device)
        self.tokens += len(chunk) + len(ids)
        keys_of = self.model.memory_keys if self.model.config.num_retrieved and memory.state.logs else None
        memory.add(Tokens(block[:, 0].detach()), keys_of)
        return predict(self.model, packed, lambda layer, _: block[layer], block.shape[2]).loss

    @torch.no_grad()
    def leave_memory(self) -> None:
        """Give the model the first memory's θ: a checkpoint starts from what was written, not from noise."""
        self.model.memory.pool.copy_(self.memories[0].state.pool)

    @property
    def progress(self) -> dict[str, Any]:
        return {
            "random": self.rng.getstate(), "tokens": self.tokens, "cached": self.cached,
            "memories": [_as_bytes(memory) for memory in self.memories],
            "documents": self.documents.state_dict() if self.documents else None,
        }  # fmt: skip

    def load_progress(self, state: dict[str, Any], stage: Stage | None) -> None:
        """stage: the one that is under way; None between two."""
        if stage is not None:
            self.prepare(stage)
        version, numbers, gauss = state["random"]
        self.rng.setstate((version, tuple(numbers), gauss))
        self.tokens = state["tokens"]
        if stage is None:
            return
        self.cached = state["cached"]
        for memory, saved in zip(self.memories, state["memories"], strict=True):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "memory.safetensors"
                path.write_bytes(saved.numpy().tobytes())
                load_memory(memory, path, OWNER)
        if self.documents and state["documents"]:
            self.documents.load_state_dict(state["documents"])


def _as_bytes(memory: Memory) -> Tensor:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "memory.safetensors"
        save_memory(memory, path, OWNER)
        return torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)


def stage_optimizers(model: MPlusForCausalLM) -> list[torch.optim.Optimizer]:
    """AdamW as the authors': adapters, bos and new-memory embedding at one rate, the retriever at its own.

    The base weights are frozen.
    """
    groups: dict[str, list[nn.Parameter]] = {"main": [], "retriever": []}
    for name, parameter in model.named_parameters():
        kind = "retriever" if ".retriever." in name else "main" if "lora_" in name or name.startswith("memory.") else ""
        parameter.requires_grad_(bool(kind))
        if kind:
            groups[kind].append(parameter)
    parts = [{"params": parameters, "name": name} for name, parameters in groups.items() if parameters]
    return [torch.optim.AdamW(parts, lr=0.0)]

"""What a model is taught, in which order: the paper's three stages at full size, and the same ladder for mplus-mini.

Stopping after a stage gives the ablations: MemoryLLM (stage 1), MemoryLLM-Long (stage 2), M+ (stage 3).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

FINEWEB, SLIMPAJAMA = "HuggingFaceFW/fineweb-edu:CC-MAIN-2024-10", "cerebras/SlimPajama-627B"
"""Where the paper's short and long documents come from."""


@dataclass(frozen=True)
class Stage:
    """One stage on documents (paper §3.3 and appendix; the numbers are those of the authors' code).

    learning_rate, final_rate: for each memory of a step; on all processes together there may be many, see `times`.
    lengths: (share, fewest, most tokens) of the documents drawn; those below 2,048 come from the first source given to
    training, longer ones from the second. What a step does is drawn: full_text: a plain read of the document's
    beginning. single: one chunk is written, and only its K tokens are read, with the gradient through the write
    (sub-task 1). Otherwise up to `max_chunks` chunks are written without gradient and read behind the pool (sub-task
    2). revisit: where an earlier document has been followed by others, how often it is asked for again (sub-task 3);
    of all steps that makes 13 to 15 in a hundred. repeat: the target is "Repeat:" and the chunks themselves instead of
    what follows. long_term: dropped tokens move to Θ and the retriever brings some back. retriever: the weight of its
    loss.
    """

    name: str
    steps: int
    learning_rate: float
    final_rate: float
    lengths: tuple[tuple[float, int, int], ...]
    max_chunks: int
    single: float
    full_text: float
    revisit: float
    repeat: float = 0.10
    long_term: bool = False
    retriever: float = 0.0
    retriever_rate: float = 1e-4
    decay_steps: int = 100_000

    def rates(self, step: int) -> dict[str, float]:
        """Learning rates at a step of this stage: linear from the first to the last rate, then constant."""
        done = min(1.0, step / self.decay_steps)
        main = self.learning_rate + done * (self.final_rate - self.learning_rate)
        return {"main": main, "retriever": self.retriever_rate}

    def finished(self, step: int, figures: Mapping[str, float]) -> bool:
        return step >= self.steps

    def times(self, factor: float) -> "Stage":
        """With so many times the main learning rate; the authors' eight GPUs with one memory each make 8."""
        return replace(self, learning_rate=factor * self.learning_rate, final_rate=factor * self.final_rate)


BRIEF = 2048  # tokens: shorter documents come from the first source
SHORT = ((1.0, 0, BRIEF),)
MIXED = ((0.2, 0, BRIEF), (0.2, 4096, 8192), (0.2, 8192, 16384), (0.2, 16384, 32768), (0.2, 32768, 65536))
MOSTLY_SHORT = tuple((0.9 if not fewest else 0.025, fewest, most) for _, fewest, most in MIXED)

PAPER = (
    Stage("stage1", 1_200_000, 4.6e-5, 4.6e-6, SHORT, 50, single=0.20, full_text=0.10, revisit=0.18),
    Stage("stage2", 1_000_000, 4.6e-6, 4.6e-6, MIXED, 100, single=0.10, full_text=0.05, revisit=0.19),
    Stage("stage3", 800_000, 4.6e-6, 4.6e-6, MOSTLY_SHORT, 200, single=0.20, full_text=0.05, revisit=0.19,
          long_term=True, retriever=1.0),
)  # fmt: skip


@dataclass(frozen=True)
class Task:
    """One kind of training step of a small model, and how often it is drawn.

    kind: "context": facts stand before the question, no memory. "blocks": facts are written, and all blocks are read.
    "memory": they are read from a full θ, at ages drawn log-uniformly, and with `long_term` from Θ. "prose": a long
    document is written, and what follows is predicted. "retriever": as "memory", but only the retriever learns.
    batch: independent memories. chunks: how many are written, one number of these. questions: of one memory, a step.
    pointer: the weight of the pointer loss (`core.pointing`). gap: by how many positions, at most, questions of
    contexts and of fresh blocks are moved away, so that reading does not hang on a distance.
    num_blocks: the size of θ, one number of these; smaller ones are easier and faster.
    repeat: how often "Repeat:" asks for a whole chunk. short: how often chunks are as long as a short text that was
    repeated, `min_chunk` and more (else over half full).
    far: how often an age is drawn up to 600 writes instead of twice the blocks of θ.
    alike: how often all statements of a step are of a few kinds, as among thousands of facts.
    updates: how many memories hold a fact and, later, what has replaced it.
    rivals: blocks of earlier steps that the right block is told apart from, besides those of the batch.
    """

    kind: str
    share: float
    batch: int
    chunks: tuple[int, ...] = (1,)
    questions: int = 8
    num_blocks: tuple[int, ...] = ()
    long_term: bool = False
    repeat: float = 0.0
    short: float = 0.75
    far: float = 0.5
    alike: float = 0.0
    updates: float = 0.12
    rivals: int = 192
    pointer: float = 0.0
    gap: int = 0


@dataclass(frozen=True)
class Lesson:
    """A mixture of tasks, until `figure` reaches `until` (after at least `fewest` steps) or `steps` are over.

    plain: the share of facts that are said and asked in the simplest language. by_hand: of the others that are not from
    real prose, the share of sentences by hand.
    scale: of both learning rates; `decay`: over which last part of the lesson they sink to a twentieth.
    refit: steps in which the retrievers are fitted to the model before the first lesson that needs them, after their
    start in closed form. saves: the name under which the model is kept after the lesson.
    """

    name: str
    steps: int
    tasks: tuple[Task, ...]
    figure: str = ""
    until: float = 1.0
    fewest: int = 100
    plain: float = 0.0
    by_hand: float = 0.3
    scale: float = 1.0
    decay: float = 0.0
    warm_up: int = 80
    refit: int = 0
    saves: str = ""

    def rates(self, step: int) -> dict[str, float]:
        """Muon's for the layers' matrices, AdamW's for everything else."""
        left = (1 - step / self.steps) / self.decay if self.decay else 1.0
        scale = self.scale * min(1.0, (step + 5) / self.warm_up) * min(1.0, max(0.05, left))
        return {"matrices": 0.02 * scale, "main": 3e-3 * scale}

    @property
    def retrieves(self) -> bool:
        """Whether the model it leaves has a retriever that has been taught; else it is a MemoryLLM."""
        return any(task.long_term for task in self.tasks)

    def finished(self, step: int, figures: Mapping[str, float]) -> bool:
        return step >= self.steps or (step >= self.fewest and figures.get(self.figure, -1.0) >= self.until)


THETAS = (10, 40)
PLAIN = Task("context", 1.0, 16, questions=10)
GAP = 1700  # as far as the oldest of what comes back from Θ, behind which lies all of θ
SCHOOL = Task("context", 1.0, 8, questions=10, pointer=0.3, gap=GAP)
CONTEXT = Task("context", 0.25, 8, questions=10, pointer=0.3, gap=GAP)
BLOCKS = Task("blocks", 0.5, 10, chunks=(1, 2, 4, 6, 8), questions=10, repeat=0.1, pointer=0.2, gap=GAP)
THETA = Task("memory", 0.2, 10, chunks=(6,), questions=5, num_blocks=THETAS, far=0.0, pointer=0.2)
PROSE = Task("prose", 0.05, 10, chunks=(6,), questions=1, num_blocks=THETAS)
LONG_PROSE = Task("prose", 0.2, 5, chunks=(12, 24), questions=1, num_blocks=THETAS)
LONG_TERM = Task("memory", 0.5, 10, chunks=(6,), questions=5, num_blocks=THETAS, long_term=True, pointer=0.2)
FAR_BACK = replace(LONG_TERM, share=1.0, far=0.8, alike=0.5, updates=0.3, rivals=512)
SEARCH = replace(FAR_BACK, kind="retriever", updates=0.5)
FAR_PROSE = Task("prose", 0.6, 8, chunks=(6, 12), questions=1, num_blocks=THETAS, long_term=True)

MINI = (
    Lesson("in context, plain language first", 450, (PLAIN,), "context", 0.76, plain=1.0),
    Lesson("reading school in context", 1400, (SCHOOL,), decay=0.2),
    Lesson("stage 1: written blocks and θ", 1200, (BLOCKS, CONTEXT, THETA, PROSE), scale=0.45,
           decay=0.2, saves="memoryllm-mini"),
    Lesson("stage 2: long documents", 100, (BLOCKS, CONTEXT, THETA, LONG_PROSE),
           scale=0.3, decay=0.3, saves="memoryllm-long-mini"),
    Lesson("stage 3: Θ and retriever", 900, (LONG_TERM, BLOCKS, CONTEXT, FAR_PROSE), by_hand=0.6,
           scale=0.4, decay=0.8, refit=100, saves="mini"),
    Lesson("stage 3: among much that is alike", 400, (FAR_BACK, BLOCKS, CONTEXT, FAR_PROSE), by_hand=0.6,
           scale=0.3, decay=0.9, refit=100, saves="mini"),
    Lesson("stage 3: finding what has changed", 700, (SEARCH, FAR_PROSE), by_hand=0.6,
           scale=0.4, decay=0.9, refit=100, saves="mini"),
)  # fmt: skip
"""What took a small model from noise to memory. Retrieval is of no use to a model that cannot read: most of the time
goes into reading facts that are certainly there, where a step asks the most questions a second. In the last
lesson facts teach the retrievers alone: of what has changed to find both, among rivals of the same kind. About a third
of the last three lessons' steps reads on in a document, from which the reader learns ordinary English."""

SHAPES = {
    "mini": {
        "vocab_size": 2048, "hidden_size": 160, "intermediate_size": 448, "num_hidden_layers": 6,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "retriever_size": 48, "lora_rank": 8,
        "lora_alpha": 16.0,
    },
    "wide": {
        "vocab_size": 2048, "hidden_size": 320, "intermediate_size": 896, "num_hidden_layers": 6,
        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 32, "retriever_size": 48, "lora_rank": 8,
        "lora_alpha": 16.0,
    },
    "small": {
        "vocab_size": 4096, "hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 8,
        "num_attention_heads": 16, "num_key_value_heads": 2, "head_dim": 32, "retriever_size": 96, "lora_rank": 16,
        "lora_alpha": 32.0,
    },
}  # fmt: skip
"""Models that `--recipe` builds, of about 2.5, 8 and 25 million parameters; the last is for a GPU. A narrower `--base`
is widened to them (`core.widening`): the shipped mini was trained as "mini", then as "wide"."""
GEOMETRY = {
    "block_size": 32, "num_blocks": 40, "num_retrieved": 320, "max_long_term": 150_000, "chunk_size": 64,
    "min_chunk": 44, "overlapped": 1024, "prompt_window": 512, "rules": "paper", "relevance": "block",
    "retrieval_bias": 0.5, "retrieval_recency": 2.0, "retrieval_accumulates": True, "tie_word_embeddings": True,
    "rms_norm_eps": 1e-5, "max_position_embeddings": 4096, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e7},
}  # fmt: skip
"""The paper's ratios at an eighth of its size: 64 tokens become 32, θ holds 40 blocks, a quarter as many come back.

min_chunk 44: a short fact is written twice in one chunk. A block keeps the last 32 tokens, and writing is causal: in
"Vossberg is the capital of Hild" the answer stands before what the question names; the second time it has seen both.
overlapped: so small a model keeps little of what is not among a chunk's last 32 tokens. Texts of up to a page are
written in chunks that overlap, and nothing of them is left out; long documents 2:1, as in the paper.
"""

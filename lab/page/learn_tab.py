"""Six steps that tick themselves off when they have really been done, two live drawings, and a glossary."""

import json
from html import escape
from pathlib import Path

import gradio as gr

from .. import guide, panels
from ..session import Session
from .shell import Page, Selection

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"

GLOSSARY = (
    (
        "θ (short-term pool)",
        "N memory tokens in every layer that stand before every prompt. Each write adds K and drops K at random.",
    ),
    (
        "Θ (long-term memory)",
        "What was dropped from θ, up to M tokens a layer, kept off the GPU. A question brings K0 of them back.",
    ),
    ("memory token", "A hidden state of one layer, not a word: it was written by a word and the block before it."),
    ("block", "The K memory tokens one chunk of text leaves in every layer."),
    ("retriever", "Two small networks a layer, f_q and f_k: the question's queries are compared with the keys of Θ."),
    ("age", "How many memory tokens have been written since this one."),
    ("chance", "The share of Θ a text holds: what a retriever that guesses would bring back of it."),
    (
        "read and write adapter",
        "Two LoRA adapters on the same weights: one for turning text into memory, one for answering.",
    ),
    ("MemoryLLM", "The predecessor: θ alone. What is dropped is gone."),
    ("SnapKV", "A baseline: it reads the text and keeps the keys and values that its last tokens attended to most."),
)

STAGES = (
    (
        "1 · Write and read",
        "#0072B2",
        "Short texts, one memory. The model learns that the last K hidden states of a chunk are all that remains of it.",
        "Stopping here gives MemoryLLM.",
    ),
    (
        "2 · Long texts",
        "#009E73",
        "Documents of up to 64k tokens: dozens of chunks are written before the model must use them.",
        "Stopping here gives MemoryLLM-Long.",
    ),
    (
        "3 · Long-term memory",
        "#E69F00",
        "Dropped tokens go to Θ, and the retriever is trained to bring back those of the right document.",
        "The whole gives M+.",
    ),
)

SHOW = """
element.addEventListener('click', (event) => { const box = event.target.closest('.box'); if (!box) return;
  const group = box.closest('.drawing');
  group.querySelectorAll('.box').forEach((b) => b.setAttribute('aria-pressed', String(b === box)));
  group.querySelector('.tells').textContent = box.dataset.tells; });
"""


def boxes(parts, first: str) -> str:
    """Boxes joined by arrows; a click tells more."""
    made = []
    for name, hue, short, tells in parts:
        made.append(f'<button type="button" class="box" aria-pressed="false" style="--c:{hue}" data-tells="{escape(tells)}">'
                    f"<b>{escape(name)}</b>{escape(short)}</button>")  # fmt: skip
    joined = '<span class="arrow" aria-hidden="true">→</span>'.join(made)
    return f'<div class="drawing"><div class="flow">{joined}</div><div class="tells" role="status">{escape(first)}</div></div>'


class LearnTab:
    def __init__(self, page: Page):
        self.page = page

    def build(self) -> None:
        gr.Markdown("### Six steps\nThey tick themselves off when you have really done them.")
        self.steps = gr.HTML(padding=False, js_on_load=guide.GO, elem_id="steps")
        gr.Markdown("### Writing and reading, with this model's numbers")
        self.flow = gr.HTML(padding=False, js_on_load=SHOW, elem_id="drawing-flow")
        gr.Markdown("### Three stages of training, and what stopping early gives")
        stages = [(name, hue, gives, f"{what} {gives}") for name, hue, what, gives in STAGES]
        gr.HTML(boxes(stages, "Click a stage."), padding=False, js_on_load=SHOW)
        gr.Markdown("### Words")
        gr.HTML(panels.table(["word", "meaning"], GLOSSARY), padding=False)
        gr.Markdown("### Notebooks")
        self.books = gr.HTML(padding=False)
        self.page.add("learn", [self.steps, self.flow, self.books], self.draw)

    def wire(self) -> None:
        """Nothing but drawing."""

    def draw(self, session: Session, chosen: Selection) -> dict:
        steps = guide.listed(session.done, bool(session.loaded.model.config.num_retrieved))
        return {self.steps: steps, self.flow: flow_boxes(session), self.books: notebooks()}


def notebooks(folder: Path = NOTEBOOKS) -> str:
    """The notebooks that are there, by their first heading, and how to open them."""
    rows = []
    for path in sorted(folder.glob("*.ipynb")):
        try:
            cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
            text = "".join(cells[0]["source"])
        except (OSError, ValueError, KeyError, IndexError):
            continue
        heading = next((line.lstrip("# ") for line in text.splitlines() if line.startswith("#")), path.stem)
        rows.append((heading, f"notebooks/{path.name}"))
    if not rows:
        return panels.progress("There are no notebooks beside this page.")
    how = "<p>The same figures with exercises: <code>make notebooks</code></p>"
    return how + panels.table(["notebook", "file"], rows)


def flow_boxes(session: Session) -> str:
    config, memory = session.loaded.model.config, session.reader.memory
    long = len(memory.state.logs[0]) if memory.state.logs else 0
    size, keeps = config.pool_size, bool(config.num_retrieved)
    overlapped = ""
    if config.overlapped:
        overlapped = f" Chunks of texts of up to {config.overlapped:,} tokens overlap, so that every token of theirs becomes a memory token."
    sure, found = "", " Each layer counts what those before it found as well." if config.retrieval_accumulates else ""
    told = [str(layer) for layer in range(config.num_hidden_layers) if config.bias_in(layer)]
    if told:
        where = "" if len(told) == config.num_hidden_layers else f" in layer {' and '.join(told)}"
        sure = f" Attention{where} is told how sure the retriever is of each block, in Θ and in θ: what it holds unlikely weighs less."
        sure += " Of two about equally likely the later weighs more." if config.retrieval_recency else ""
    parts = [
        (
            "Chunk",
            "#A9B0B8",
            f"up to {config.chunk_size} tokens of text",
            f"A text is cut into even chunks of at most {config.chunk_size} tokens. Each runs through the model behind the newest {config.block_size} memory tokens, with the write adapter.{overlapped}",
        ),
        (
            "Block",
            "#56B4E9",
            f"K = {config.block_size} a layer",
            f"The last {config.block_size} hidden states of each of the {config.num_hidden_layers} layers are the new block. Nothing else of the chunk remains.",
        ),
        (
            "θ",
            "#0072B2",
            f"N = {size:,} a layer",
            f"The block enters at the young end; {config.block_size} of the {size:,} tokens are thrown out at random, in each layer others. After t writes, (1 - {config.block_size}/{size})ᵗ of a text is left.",
        ),
    ]
    if keeps:
        parts += [
            (
                "Θ",
                "#E69F00",
                f"{long:,} of M = {config.max_long_term:,}",
                f"What leaves θ is kept with its key and its age: {long:,} tokens a layer now. Above {config.max_long_term:,} the oldest go for good.",
            ),
            (
                "Retriever",
                "#CC79A7",
                f"brings back K0 = {config.num_retrieved:,}",
                f"A question's queries meet the keys of Θ in every layer; the best {config.num_retrieved:,} tokens come back, oldest first.{found}",
            ),
        ]
    parts.append(
        (
            "Answer",
            "#009E73",
            f"behind {config.prefix_size:,} positions",
            f"The prompt stands behind [bos |{' retrieved |' if keeps else ''} θ] and is answered with the read adapter. The text itself is never read again.{sure}",
        )
    )
    return boxes(parts, "Click a box.")

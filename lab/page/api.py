"""The named endpoints, for `gradio_client` and any HTTP caller.

Each client has a session of its own; a caller without gradio's client names it by sending the same `session_hash` with
every call. Callers over MCP come through one client of the server's and share one memory.
"""

from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

from .. import plots
from ..views import Retrieval, title
from .shell import Page, guarded

NAMED: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 24}


def described(seen: Retrieval) -> list[dict]:
    """Per layer: how many tokens were retrieved, chance, and the share by text."""
    return [
        {"layer": index, "retrieved": len(found.got_owner), "chance": round(found.chance, 6),
         "share_by_text": {str(k): round(v, 4) for k, v in seen.shares(index).items()}}
        for index, found in enumerate(seen.layers)
    ]  # fmt: skip


def add_endpoints(page: Page) -> None:
    """Register ingest, ask, inspect, texts, delete, memory_save, memory_load and reset."""

    def ingest(text: str, request: gr.Request) -> dict:
        """Write a text into this client's memory; it is on the disk when this returns.

        Args:
            text: the text, 2 tokens or more.

        Returns:
            id, tokens, chunks, dropped (tokens per layer that left the short-term pool) and a warning, or "".
        """
        receipt, warning = page.session(request).write(text)
        return {"id": receipt.id, "tokens": receipt.text_tokens, "chunks": len(receipt.chunks), "dropped": receipt.dropped,
                "warning": warning}  # fmt: skip

    def ask(question: str, max_new_tokens: int = 32, request: gr.Request = None) -> dict:  # type: ignore[assignment]
        """Ask this client's memory.

        Args:
            question: the question.
            max_new_tokens: the longest answer, 1 to 256 tokens.

        Returns:
            answer, seconds, first_token_seconds, and shares: text id -> share of the retrieved tokens.
        """
        if not isinstance(max_new_tokens, int | float) or not 1 <= max_new_tokens <= 256:
            raise ValueError(f"max_new_tokens is {str(max_new_tokens)[:40]}; give a number from 1 to 256.")
        session = page.session(request)
        with session.lock:
            answer = session.ask(question, int(max_new_tokens))
            seen = session.branch.last
        shares = seen.shares() if seen else {}
        return {"answer": answer.text, "seconds": answer.seconds, "first_token_seconds": answer.first_token_seconds,
                "shares": {str(k): round(v, 4) for k, v in shares.items()}}  # fmt: skip

    def inspect(question: str, request: gr.Request) -> dict:
        """What a question would retrieve in every layer, without answering it.

        Args:
            question: the question.

        Returns:
            layers: a list with retrieved, chance and share_by_text of every layer; texts: their names.
        """
        session = page.session(request)
        seen = session.inspect(question)
        names = {str(receipt.id): title(receipt) for receipt in session.texts}
        return {"layers": described(seen), "texts": names | {"0": plots.WHOLE}}

    def texts(request: gr.Request) -> list[dict]:
        """The texts in this client's memory: id, text and tokens of each."""
        return [{"id": r.id, "text": r.text, "tokens": r.text_tokens} for r in page.session(request).texts]

    def delete(id: int, request: gr.Request) -> dict:
        """Remove one text from memory.

        Args:
            id: the text's id, as `ingest` returned it.

        Returns:
            removed: memory tokens, over all layers.
        """
        if not isinstance(id, int | float) or isinstance(id, bool) or id != int(id):
            raise ValueError(f"id is {str(id)[:40]!r}; give the number that ingest returned.")
        return {"removed": page.session(request).delete(int(id))}

    def memory_save(request: gr.Request) -> gr.FileData:
        """This client's memory as one safetensors file."""
        session = page.session(request)
        path = session.download(page.registry.parcel(session) / "memory.safetensors")
        return gr.FileData(path=str(path), orig_name=path.name)

    def memory_load(file: gr.FileData, request: gr.Request) -> dict:
        """Take over a memory file that `memory_save` made with the same model.

        Args:
            file: the uploaded file.

        Returns:
            texts: how many it holds.
        """
        session = page.session(request)
        path = file.get("path") if isinstance(file, dict) else getattr(file, "path", None)
        uploads = Path(get_upload_folder()).resolve()  # else one could have any file of this machine opened
        if not isinstance(path, str) or not Path(path).resolve().is_relative_to(uploads):
            raise ValueError("There is no uploaded file; hand over the one that memory_save returned.")
        session.upload(path)
        return {"texts": len(session.texts)}

    def reset(request: gr.Request) -> dict:
        """Back to the checkpoint's own memory."""
        page.session(request).reset()
        return {"texts": 0}

    for endpoint in (ingest, ask, inspect, texts, delete, memory_save, memory_load, reset):
        gr.api(  # type: ignore[attr-defined]
            guarded(endpoint), api_name=endpoint.__name__, **NAMED
        )

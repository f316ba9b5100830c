"""The lab in a browser: `python app.py`, then http://127.0.0.1:7860. `--help` lists what can be set."""

import argparse
import os
import socket
from pathlib import Path

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("GRADIO_RUN_HISTORY", "False")

import gradio as gr
import torch

from lab.meter import Meter
from lab.models import Models
from lab.page.chart import PLOTLY_JS
from lab.page.page import build
from lab.page.shell import Page
from lab.page.theme import CSS, theme
from lab.registry import Registry

ROOT = Path(__file__).parent
RESULTS = (ROOT / "results", ROOT / "benchmarks" / "results", ROOT / "models")


def options() -> argparse.ArgumentParser:
    """What can be set; its `error` ends the program with one sentence."""
    parser = argparse.ArgumentParser(description="M+ Lab, in a browser.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, default=7860)
    parser.add_argument(
        "--model", help="a shipped name, a folder or a hub name (default: mini, or a tiny untrained one)"
    )
    parser.add_argument("--model-root", type=Path, help="the only folder other models may come from")
    parser.add_argument("--auth", metavar="NAME:PASSWORD", help="needed to open the page; required beyond this machine")
    parser.add_argument("--sessions", type=Path, default=ROOT / "runs" / "sessions", help="where sessions are saved")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs", help="where the Training tab looks for metrics")
    parser.add_argument(
        "--threads", type=int, default=max(1, min(4, (os.cpu_count() or 2) // 2)), help="CPU threads for the model"
    )
    parser.add_argument("--max-sessions", type=int, default=64)
    parser.add_argument("--max-session-gib", type=float, default=4.0, help="of all memories together (default: 4)")
    parser.add_argument(
        "--mcp",
        action="store_true",
        help="offer the endpoints as MCP tools too (needs mcp<2); all callers share one memory",
    )
    return parser


def arguments(line: list[str] | None = None) -> argparse.Namespace:
    """What the command line says. Exits with one sentence when it cannot be honoured."""
    parser = options()
    chosen = parser.parse_args(line)
    for name in ("threads", "max_sessions", "max_session_gib"):
        if not (value := getattr(chosen, name)) > 0:
            parser.error(f"--{name.replace('_', '-')} {value} is too little: give a number above 0")
    local = chosen.host in ("127.0.0.1", "localhost", "::1")
    if not local and not chosen.auth:
        parser.error(f"--host {chosen.host} lets others in: give --auth NAME:PASSWORD too")
    if chosen.auth and ":" not in chosen.auth:
        parser.error("--auth needs the form NAME:PASSWORD")
    chosen.exposed = not local
    return chosen


def make(chosen: argparse.Namespace) -> gr.Blocks:
    """The page, with the model it starts on already loaded."""
    torch.set_num_threads(chosen.threads)
    models = Models(chosen.model, chosen.model_root, chosen.exposed)
    models.get(models.default)
    most = {"most": chosen.max_sessions, "most_bytes": int(chosen.max_session_gib * 2**30)}
    page = Page(Registry(models, chosen.sessions, **most), Meter(), chosen.runs, RESULTS)
    return build(page)


def launch(blocks: gr.Blocks, chosen: argparse.Namespace, **more):
    """Serve it: no analytics, no sharing, no external request, bounded uploads, no raw exception."""
    gr.set_static_paths([PLOTLY_JS])
    blocks.queue(max_size=256, default_concurrency_limit=8)
    return blocks.launch(
        server_name=chosen.host, server_port=chosen.port,
        auth=tuple(chosen.auth.split(":", 1)) if chosen.auth else None,
        theme=theme(), css=CSS, share=False, show_error=False, max_file_size="2gb", footer_links=["api"],
        enable_monitoring=False, run_history=False, mcp_server=chosen.mcp, **more,
    )  # fmt: skip


def main(line: list[str] | None = None) -> None:
    chosen = arguments(line)
    try:  # before a model is loaded for nothing
        with socket.socket(socket.AF_INET6 if ":" in chosen.host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does, after one that ended
            probe.bind((chosen.host, chosen.port))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        options().error(f"port {chosen.port} of {chosen.host} cannot be used ({reason}): give another --port or --host")
    try:
        blocks = make(chosen)
    except ValueError as error:
        options().error(f"--model: {error}")
    launch(blocks, chosen)


if __name__ == "__main__":
    main()

"""A memory as one safetensors file: θ, Θ, ages, sources, texts and random state, bound to its model by a fingerprint.

A save is atomic: the file is written beside the old one, flushed to the disk, and then takes its name. A checksum over
everything in it tells a damaged file from a whole one.
"""

import glob
import hashlib
import json
import os
import time
import zlib
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .commits import sync
from .log import TokenLog, pack_logs, unpack_logs
from .memory import Memory
from .short_term import ShortTerm
from .sources import Chunk, Receipt
from .state import Snapshot, State, next_version
from .tier import DiskTier

FORMAT, NAMED, ORDERED = "mplus-memory-4", "mplus-memory-3", "mplus-memory-2"
"""The format written and those before it: with texts among the books (a header of 100 MB at most), and that without
saying in which rows θ stands: oldest first."""
COUNTERS = {"clock": int, "next_block": int, "next_receipt": int, "written": bool}
COLUMNS = ("pool", "newest", "stamp", "block", "slot")
ABANDONED_SECONDS = 3600


def fingerprint(model: torch.nn.Module) -> str:
    """A short digest of a model's configuration and weights; the same for one checkpoint on any device, in float32 and
    bfloat16, and in float16 where its weights have been stored so.

    The rules are part of it: what a stored age means depends on them.

    Sixteen values of every parameter, rounded to bfloat16, stand for it: hashing 8B weights whole would take a minute.
    """
    config = model.config  # type: ignore[attr-defined]
    digest = hashlib.sha256()
    names = "hidden_size num_hidden_layers vocab_size block_size num_blocks retriever_size rules"
    for name in names.split():
        digest.update(f"{name}={getattr(config, name)};".encode())
    for name, parameter in sorted(model.named_parameters()):
        flat = parameter.detach().flatten()
        places = torch.linspace(0, len(flat) - 1, min(16, len(flat)), device=flat.device).long()
        sample = flat[places.clamp(max=len(flat) - 1)]  # above 2^24 the last one may be rounded up
        values = sample.to(torch.bfloat16).float().tolist()
        digest.update(f"{name}{tuple(parameter.shape)}{values};".encode())
    return digest.hexdigest()[:32]


def save_memory(memory: Memory, path: str | os.PathLike, owner: str, on_disk: bool = False) -> None:
    """Write `memory` to `path`, atomically. `owner` is the fingerprint of the model it belongs to.

    on_disk: write of Θ only the number of rows, for it lies in the folder of the file (`core.durable`).

    Raises ValueError if `path` can be no file's name, OSError if it cannot be written.
    """
    path, state = Path(path), memory.state
    if not path.name or path.is_dir():
        raise ValueError(f"{str(path)!r} is a folder; add a name for the file.")
    tensors: dict[str, Tensor] = {name: getattr(state, name).cpu().contiguous() for name in COLUMNS}
    if (keys := state.keys) is not None:
        tensors["keys"] = keys.cpu()
    tensors["place"] = state.short.place.contiguous()  # so that sums run in the same order when it is read again
    tensors |= {"random": memory.random.get_state()} | ({} if on_disk else pack_logs(state.logs))
    texts, books = _pack_receipts(list(state.receipts.values()))
    tensors |= texts
    meta: dict[str, Any] = {name: getattr(state, name) for name in COUNTERS} | {"projected": memory.projected}
    if on_disk:
        meta["on_disk"] = [[log.length, log.num_dead] for log in state.logs]
    meta["receipts"] = books
    metadata = {"format": FORMAT, "owner": owner, "state": json.dumps(meta)}
    metadata["checksum"] = _checksum(tensors, metadata["state"])
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        save_file(tensors, draft, metadata=metadata)
        sync(draft)
        os.replace(draft, path)
        sync(path.parent)
    except SafetensorError as error:
        raise OSError(f"{path} cannot be written ({error}); choose another place.") from error
    finally:
        draft.unlink(missing_ok=True)
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.part"):  # by a process that was killed while it saved
        if time.time() - left.stat().st_mtime > ABANDONED_SECONDS:
            left.unlink(missing_ok=True)


def load_memory(memory: Memory, path: str | os.PathLike, owner: str, tier: DiskTier | None = None) -> None:
    """Make `memory` what was saved at `path`; its undo history is forgotten. It is unchanged if anything is wrong.

    tier: where Θ is, if it was on disk when it was saved; it goes back to that moment.

    Raises ValueError for a missing, damaged or foreign file, for another shape, and for values that are not numbers.
    """
    path = Path(path)
    tensors, metadata = _read(path)
    if metadata.get("format") not in (FORMAT, NAMED, ORDERED):
        raise ValueError(f"{path} is not a memory file (format {metadata.get('format')!r}, expected {FORMAT!r}).")
    if metadata.get("owner") != owner:
        raise ValueError(
            f"{path} was saved by another model (fingerprint {metadata.get('owner')}, this model's is {owner}); "
            "load it with the model that wrote it (in float16 one that is stored as float32 counts as another)."
        )
    try:
        meta = json.loads(metadata["state"])
        place = None if metadata["format"] == ORDERED else tensors["place"]
        if meta["projected"] is not memory.projected:
            theirs, ours = ("projected", "hidden") if meta["projected"] else ("hidden", "projected")
            raise _Other(
                f'{path} keeps tokens in the "{theirs}" form, this memory keeps the "{ours}" form; load the model with '
                f'form="{theirs}".'
            )
        retrieves = "on_disk" in meta or any(name.startswith("long.") for name in tensors)
        if retrieves != bool(memory.state.logs):
            theirs, ours = ("with a Θ", "without one") if retrieves else ("without Θ", "with one")
            raise _Other(f"{path} holds a memory {theirs}, this one is {ours}; load it into one of its own kind.")
        state = _state(tensors, meta, memory, place)
        torch.Generator().set_state(tensors["random"])
    except _Other:
        raise
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path} is incomplete or damaged ({error}); restore it from another copy.") from error
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ValueError(f"{path} holds values that are not numbers (in {name}); restore it from another copy.")
    if _checksum(tensors, metadata["state"]) != metadata.get("checksum"):
        raise ValueError(f"{path} is damaged (its checksum is wrong); restore it from another copy.")
    if "on_disk" in meta:
        if tier is None:
            raise ValueError(f"{path} holds no Θ of its own: it belongs to a folder; load it by `disk=` that folder.")
        lengths, deaths = zip(*meta["on_disk"], strict=True)
        state.logs = list(tier.go_back(list(lengths), list(deaths)))
    memory.restore(Snapshot(state, tensors["random"], memory.projected))


class _Other(ValueError):
    """A file is whole, but of a memory of another kind."""


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    if not path.is_file():
        raise ValueError(f"There is no memory file {path}; check the name.")
    try:
        with safe_open(path, "pt") as file:  # cloned, for what it gives changes, or goes, with the file
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
            return tensors, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} cannot be read ({error}); it is damaged or no memory file.") from error


def _checksum(tensors: dict[str, Tensor], state: str) -> str:
    value = zlib.crc32(state.encode())
    for name, tensor in sorted(tensors.items()):
        value = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), value)
        raw: Any = tensor.contiguous().flatten().view(torch.uint8).numpy()
        value = zlib.crc32(raw, value)
    return f"{value:08x}"


def _state(tensors: dict[str, Tensor], meta: dict[str, Any], memory: Memory, place: Tensor | None) -> State:
    like = memory.state
    columns = {name: tensors[name] for name in (*COLUMNS, *(["keys"] if like.short.keys is not None else []))}
    for name, column in columns.items():
        expected: Tensor = getattr(like, name)
        if column.shape != expected.shape or column.is_floating_point() != expected.is_floating_point():
            raise ValueError(
                f"its {'θ' if name == 'pool' else name} has shape {tuple(column.shape)}, "
                f"expected {tuple(expected.shape)}: a memory of another geometry"
            )
        columns[name] = column.to(expected)
    wrong = [name for name, kind in COUNTERS.items() if type(meta[name]) is not kind]
    if wrong:
        raise ValueError(f"{', '.join(wrong)} cannot be read")
    width, r = like.short.tokens.shape[-1], memory.config.retriever_size
    logs: list[TokenLog] = []
    if "on_disk" not in meta:
        logs = unpack_logs(tensors, like.short.tokens.dtype, len(like.logs), width, r)
        logs = [mine.adopt(log) for mine, log in zip(like.logs, logs, strict=True)]
    receipts = _unpack_receipts(tensors, meta["receipts"])
    owners = {chunk.block: (id, i) for id, receipt in receipts.items() for i, chunk in enumerate(receipt.chunks)}
    return State(
        short=ShortTerm(columns.pop("pool"), columns.pop("keys", None), place),
        **columns,
        version=next_version(),
        logs=logs,
        receipts=receipts,
        block_owner=owners,
        **{name: meta[name] for name in COUNTERS},
    )


def _pack_receipts(receipts: list[Receipt]) -> tuple[dict[str, Tensor], list[list[float]]]:
    """Texts, spans and chunks of all receipts as tensors, and of each its numbers and its share of these."""
    texts = [receipt.text.encode("utf-8", "surrogatepass") for receipt in receipts]
    spans = chain.from_iterable(chain.from_iterable(receipt.spans for receipt in receipts))
    chunks = [(chunk.block, chunk.start, chunk.end) for receipt in receipts for chunk in receipt.chunks]
    packed = {
        "texts": torch.from_numpy(np.frombuffer(b"".join(texts), np.uint8).copy()),
        "spans": torch.from_numpy(np.fromiter(spans, np.int64).reshape(-1, 2)),
        "chunks": torch.tensor(chunks, dtype=torch.int64).view(-1, 3),
    }
    books = [
        [each.id, each.repeated, each.dropped, each.evicted, len(text), len(each.spans), len(each.chunks)]
        for each, text in zip(receipts, texts, strict=True)
    ]
    return packed, books


def _unpack_receipts(tensors: dict[str, Tensor], books: list[Any]) -> dict[int, Receipt]:
    receipts = {}
    if "texts" not in tensors:  # formats up to `NAMED`
        for entry in books:
            entry["chunks"] = tuple(Chunk(**chunk) for chunk in entry["chunks"])
            entry["spans"] = tuple((start, end) for start, end in entry["spans"])
            receipts[entry["id"]] = Receipt(**entry)
        return receipts
    ends = [sum(lengths) for lengths in zip(*(entry[4:] for entry in books), strict=True)] or [0, 0, 0]
    for name, shape in {"texts": (ends[0],), "spans": (ends[1], 2), "chunks": (ends[2], 3)}.items():
        if tuple(tensors[name].shape) != shape:
            raise ValueError(f"{name} has shape {tuple(tensors[name].shape)}, expected {shape}")
    texts, at = tensors["texts"].numpy().tobytes(), [0, 0, 0]
    tokens = tensors["spans"].numpy()
    for id, repeated, dropped, evicted, *lengths in books:
        text, spans, chunks = (slice(start, start + length) for start, length in zip(at, lengths, strict=True))
        receipts[id] = Receipt(
            id, texts[text].decode("utf-8", "surrogatepass"), tuple(map(tuple, tokens[spans].tolist())),
            tuple(Chunk(*chunk) for chunk in tensors["chunks"][chunks].tolist()), dropped, evicted, repeated,
        )  # fmt: skip
        at = [start + length for start, length in zip(at, lengths, strict=True)]
    return receipts

"""The tensors of a checkpoint folder: found, read whole, and compared with the names a model expects.

Only safetensors are read unless a pickle is allowed explicitly. Whatever is wrong is a ValueError that names the file.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

WEIGHTS, INDEX, PICKLES = "model.safetensors", "model.safetensors.index.json", "pytorch_model*.bin"


def weight_files(folder: Path, allow_pickle: bool = False) -> list[Path]:
    """The files that hold a checkpoint's weights: one, or the shards an index names. ValueError if one is not there."""
    if (folder / INDEX).is_file():
        shards = read_json(folder / INDEX).get("weight_map")
        if not isinstance(shards, dict) or not shards:
            raise ValueError(f"{folder / INDEX} names no shards; fetch the checkpoint again.")
        files = sorted({folder / str(name) for name in shards.values()})
    else:
        files = [folder / WEIGHTS] if (folder / WEIGHTS).is_file() else sorted(folder.glob(PICKLES))
    if not files:
        raise ValueError(f"There is no {WEIGHTS} in {folder}; download the checkpoint again.")
    if files[0].suffix == ".bin" and not allow_pickle:
        raise ValueError(f"{files[0]} is a pickle, which can run code; convert it or pass allow_pickle=True.")
    absent = [file.name for file in files if not file.is_file()]
    if absent:
        raise ValueError(f"{folder} lacks {', '.join(absent)}; fetch the checkpoint again.")
    return files


def read_tensors(folder: Path, allow_pickle: bool = False) -> dict[str, Tensor]:
    """All tensors of a checkpoint, single file or shards, on the CPU. ValueError if a file is missing or damaged."""
    tensors: dict[str, Tensor] = {}
    for file in weight_files(folder, allow_pickle):
        tensors |= read_file(file)
    return tensors


def tensor_names(folder: Path, allow_pickle: bool = False) -> set[str]:
    """The names of all tensors of a checkpoint; of safetensors, without reading these."""
    files = weight_files(folder, allow_pickle)
    if any(file.suffix == ".bin" for file in files):
        return set(read_tensors(folder, allow_pickle))
    try:
        return {name for file in files for name in safe_open(file, "pt").keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{folder} cannot be read ({error}); it is damaged or incomplete, fetch it again.") from error


def read_file(file: Path) -> dict[str, Tensor]:
    """The tensors of one file, on the CPU. ValueError if it is damaged."""
    try:
        return torch.load(file, weights_only=True, map_location="cpu") if file.suffix == ".bin" else load_file(file)
    except Exception as error:  # unpickling raises whatever the damaged bytes happen to spell
        raise ValueError(f"{file} cannot be read ({error}); it is damaged or incomplete, fetch it again.") from error


def read_json(path: Path) -> dict[str, Any]:
    """One JSON object. ValueError if the file is absent or holds something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is not readable JSON ({error}); fetch the checkpoint again.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no JSON object; fetch the checkpoint again.")
    return content


def check_names(wanted: set[str], found: set[str], where: Path | str) -> None:
    """ValueError that lists names unless exactly the wanted tensors were found."""
    problems = [
        f"{what} {', '.join(sorted(names)[:8])}{' …' if len(names) > 8 else ''} ({len(names)} in all)"
        for what, names in (("missing:", wanted - found), ("unexpected:", found - wanted))
        if names
    ]
    if problems:
        raise ValueError(f"The tensors in {where} are not those its settings promise; {'; '.join(problems)}.")


def check_shapes(wanted: Mapping[str, tuple[int, ...]], tensors: Mapping[str, Tensor], where: Path | str) -> None:
    """ValueError that names the first tensor whose shape is not the wanted one. `tensors` has no name of its own."""
    for name, tensor in tensors.items():
        if tuple(tensor.shape) != tuple(wanted[name]):
            raise ValueError(
                f"{name} in {where} has shape {tuple(tensor.shape)}, its settings ask for "
                f"{tuple(wanted[name])}; they do not belong together."
            )

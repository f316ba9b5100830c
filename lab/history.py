"""What a memory looked like step by step, kept on the disk beside it: a few steps a file, each file written once.

Files never change, so that branches share them and a kill leaves whole ones. They are a convenience: a file that is
missing or damaged costs its steps, never a text.
"""

import json
import os
import secrets
import zipfile
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np

from .views import Moment

ARRAYS = ("owner", "age", "long_owner", "long_age")
PLAIN = tuple(field.name for field in fields(Moment) if field.name not in ARRAYS)


def save(folder: Path, moments: Sequence[Moment]) -> str:
    """Write these steps into a new file of a folder; its name. It is on the disk when this returns."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{secrets.token_hex(8)}.npz"
    told = [{key: getattr(moment, key) for key in PLAIN} | {"layers": len(moment.long_owner)} for moment in moments]
    arrays = {"told": np.frombuffer(json.dumps(told).encode(), np.uint8)}
    for number, moment in enumerate(moments):
        arrays[f"owner-{number}"], arrays[f"age-{number}"] = moment.owner, moment.age
        for layer, (owner, age) in enumerate(zip(moment.long_owner, moment.long_age, strict=True)):
            arrays[f"long_owner-{number}-{layer}"], arrays[f"long_age-{number}-{layer}"] = owner, age
    draft = folder / f".{name}.part"
    with draft.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, folder / name)
    return name


def load(path: Path) -> list[Moment]:
    """The steps of a file; none if it is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            told = json.loads(stored["told"].tobytes())
            return [
                Moment(
                    **{key: one[key] for key in PLAIN},
                    owner=stored[f"owner-{number}"],
                    age=stored[f"age-{number}"],
                    long_owner=tuple(stored[f"long_owner-{number}-{layer}"] for layer in range(one["layers"])),
                    long_age=tuple(stored[f"long_age-{number}-{layer}"] for layer in range(one["layers"])),
                )
                for number, one in enumerate(told)
            ]
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return []

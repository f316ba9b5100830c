"""A session's folder: one memory file a branch, written atomically, files of steps, and an index of them.

What `keep` was called for is on the disk when it returns; a kill at any moment leaves what was kept before.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import history
from .branch import KEPT_MOMENTS, Branch, newest
from .views import Moment

STEPS = "steps"
Branches = Mapping[str, Branch]


class Shelf:
    """The files of one session's branches. It holds nothing itself: branches know their files."""

    def __init__(self, folder: Path):
        self.folder, self.steps = folder, folder / STEPS

    def keep(self, branch: Branch, branches: Branches) -> None:
        """A branch's memory and its newest steps; the index is kept apart."""
        branch.reader.save(self._memory(branch.name))
        if branch.fresh:
            new = branch.moments[-branch.fresh :]
            branch.kept = [*branch.kept, (history.save(self.steps, new), len(new))]
            branch.fresh = 0
        while sum(count for _, count in branch.kept[1:]) >= KEPT_MOMENTS:
            self._drop(branch.kept.pop(0)[0], branches)

    def recall(self, branch: Branch, kept: list) -> None:
        """A branch's memory and steps from their files; a note of what the memory is now, if they do not end there."""
        file = self._memory(branch.name)
        if file.is_file():
            try:
                branch.reader.load(file)
            except ValueError as error:  # the folders of a server are nobody's business
                raise ValueError(str(error).replace(str(file), f"{branch.name!r} of this session")) from error
        branch.kept = [(str(name), int(count)) for name, count in kept]
        found: list[Moment] = []
        for name, _ in reversed(branch.kept):
            longer = history.load(self.steps / Path(name).name) + found
            found = newest(longer)
            if len(found) < len(longer):
                break
        branch.moments, branch.fresh = found, 0
        memory = branch.reader.memory
        pool = (memory.config.num_hidden_layers, memory.config.pool_size)
        if not found or found[-1].clock != memory.state.clock or found[-1].owner.shape != pool:
            branch.moments = [moment for moment in branch.moments if moment.owner.shape == pool]
            branch.note("load")

    def keep_index(self, index: dict[str, Any], branches: Branches) -> None:
        """The index, with the files of every branch's steps and the number of texts."""
        full = index | {"branches": list(branches), "steps": {name: branch.kept for name, branch in branches.items()}}
        full["texts"] = len(branches[index["current"]].reader.memory.receipts)
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = self.folder / f".index.{os.getpid()}.part"
        with draft.open("w") as file:
            json.dump(full, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, self.folder / "index.json")

    @property
    def saved(self) -> bool:
        return (self.folder / "index.json").is_file()

    def index(self) -> dict[str, Any]:
        return json.loads((self.folder / "index.json").read_text())

    def clear_drafts(self) -> None:
        """Remove the drafts of a process that died while it was saving."""
        for draft in (*self.folder.glob(".*.part"), *self.steps.glob(".*.part")):
            draft.unlink(missing_ok=True)

    def sweep(self, branches: Branches) -> None:
        """Remove files of steps that no branch knows: the process died between writing them and the index."""
        known = {name for branch in branches.values() for name, _ in branch.kept}
        for path in self.steps.glob("*.npz"):
            if path.name not in known:
                path.unlink(missing_ok=True)

    def _memory(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"

    def _drop(self, name: str, branches: Branches) -> None:
        """Remove a file of steps unless another branch needs it."""
        if not any(name == other for branch in branches.values() for other, _ in branch.kept):
            (self.steps / name).unlink(missing_ok=True)

"""A folder has one owner at a time: the process that locked it, and in that process whoever took it last.

So a cell of a notebook may open the same folder again, and a second program is told instead of writing in between.
"""

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import IO, ClassVar

try:
    import fcntl
except ImportError:  # Windows: there the folder is not locked against other processes
    fcntl = None  # type: ignore[assignment]


class Claim:
    """The right to write in a folder. `lost` is called when somebody else in this process takes it.

    Raises ValueError if another process has the folder open, or if it cannot be written in.
    """

    _present: ClassVar["weakref.WeakValueDictionary[str, Claim]"] = weakref.WeakValueDictionary()

    def __init__(self, folder: Path, lost: Callable[[], None]):
        self.folder, self._lost = folder, weakref.WeakMethod(lost)  # a method of what holds this claim
        self._before, self._file = self._present.get(str(folder)), None
        if not (self._before and self._before.held):
            self._file = _locked(folder)
            self.take()

    @property
    def held(self) -> bool:
        return self._file is not None

    def take(self) -> None:
        """Become the owner in this process, in place of whoever has been. Others may look on until then."""
        before, self._before = self._before, None
        if not self.held and before and before.held:
            self._file, before._file = before._file, None
            if lost := before._lost():
                lost()
        self._present[str(self.folder)] = self

    def check(self) -> None:
        """ValueError if the folder is not, or no longer, this owner's."""
        if not self.held:
            raise ValueError(f"{self.folder} has been closed or opened anew; go on with what opened it last.")

    def release(self) -> None:
        if self._file:
            self._file.close()  # and with it the lock
            self._file = None

    def __del__(self) -> None:
        self.release()


def _locked(folder: Path) -> IO[bytes]:
    try:
        file = (folder / "lock").open("ab")
    except OSError as error:
        raise ValueError(f"{folder} cannot be written in ({error}); name another folder.") from error
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise ValueError(f"{folder} is open in another process; end that one, or name another folder.") from None
        except OSError:  # a file system without locks, as some networks have: whoever opens it there must see to it
            pass
    return file

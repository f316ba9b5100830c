"""A folder has one owner at a time: the process that locked it, and in that process whoever took it last.

So a cell of a notebook may open the same folder again, and a second program is told instead of writing in between.
"""

import os
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
        self._before, self._file, self._process = self._present.get(str(folder)), None, os.getpid()
        if not (self._before and self._before.held and self._before._is_there()):
            self._file = _locked(folder)
            self.take()

    @property
    def held(self) -> bool:
        """Whether this is the owner; a child that `os.fork` makes is not."""
        return self._file is not None and self._process == os.getpid()

    def _is_there(self) -> bool:
        """Whether the locked file still is the one in the folder, which may have been removed and made anew."""
        lock = self.folder / "lock"
        return self._file is not None and lock.exists() and os.path.samestat(os.fstat(self._file.fileno()), lock.stat())

    def take(self) -> None:
        """Become the owner in this process, in place of whoever has been. Others may look on until then."""
        before, self._before = self._before, None
        if before and before.held:
            if not self.held:
                self._file, before._file = before._file, None
            before.release()
            if lost := before._lost():
                lost()
        self._present[str(self.folder)] = self

    def check(self) -> None:
        """ValueError if the folder is not, or no longer, this owner's."""
        if not self.held:
            raise ValueError(f"{self.folder} has been closed or opened anew; go on with what opened it last.")

    def release(self) -> None:
        if self._file:
            if fcntl is not None and self._process == os.getpid():
                fcntl.flock(self._file, fcntl.LOCK_UN)  # a child of `os.fork` may have the file open as well
            self._file.close()
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

"""Keeps out of the repository what does not belong: big files, private keys, machine paths, notebook outputs.

`python scripts/check_files.py FILE...` prints one line per finding and exits with 1 if there is one. Standard library
only: the pre-commit hook runs it with any Python.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

LARGEST_KB = {".safetensors": 60_000}
LARGEST_OTHER_KB = 250

UNWANTED = {
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "a path of one machine": re.compile(r"(?<![\w./:-])(?:/(?:work|tmp|root|home|Users|opt|mnt)/|[A-Z]:\\Users\\)"),
    "the host of a package registry": re.compile(
        r"pypi\.(?:org|python)|pythonhosted\.org|npmjs\.(?:org|com)|(?:deb|security)\.debian\.org"
        r"|download\.pytorch\.org|anaconda\.(?:org|com)"
    ),
}


def findings(path: Path) -> Iterator[str]:
    """One sentence per thing in the file that should not be committed."""
    size, largest = path.stat().st_size / 1000, LARGEST_KB.get(path.suffix, LARGEST_OTHER_KB)
    if size > largest:
        yield f"{path}: {size:.0f} kB, more than the {largest} kB allowed for such a file"
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return
    for number, line in enumerate(text.splitlines(), 1):
        for name, pattern in UNWANTED.items():
            if pattern.search(line):
                yield f"{path}:{number}: {name}: {line.strip()[:100]}"
    if path.suffix == ".ipynb":
        yield from _notebook_findings(path, json.loads(text))


def _notebook_findings(path: Path, notebook: dict) -> Iterator[str]:
    if "widgets" in notebook["metadata"]:
        yield f"{path}: widget state; clear the notebook before committing it"
    for number, cell in enumerate(notebook["cells"]):
        if cell.get("outputs") or cell.get("execution_count") is not None:
            yield f"{path}: outputs in cell {number}; clear the notebook before committing it"


if __name__ == "__main__":
    found = [finding for name in sys.argv[1:] if Path(name).is_file() for finding in findings(Path(name))]
    print(*found, sep="\n", end="\n" if found else "")
    sys.exit(bool(found))

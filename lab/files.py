"""Text from an uploaded file: plain text, Markdown, PDF, Word and HTML, each by a library that is kept for it."""

from collections.abc import Iterator
from pathlib import Path

KINDS = (".txt", ".md", ".pdf", ".docx", ".html", ".htm")
LARGEST = 10 * 2**20
LONGEST = 2_000_000


def read_text(path: str | Path) -> str:
    """The text of a file. Raises ValueError, naming the file and the remedy, for what cannot be read."""
    path = Path(path)
    kind = path.suffix.lower()
    if kind not in KINDS:
        raise ValueError(f"{path.name} is a {kind or 'nameless'} file; upload one of {', '.join(KINDS)}.")
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{path.name} has {path.stat().st_size / 2**20:.1f} MiB; the limit is {LARGEST // 2**20} MiB.")
    try:
        text = {".pdf": _pdf, ".docx": _docx, ".html": _html, ".htm": _html}.get(kind, _plain)(path)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name} is not UTF-8 text; save it as UTF-8 and upload it again.") from error
    except Exception as error:  # the parsers raise dozens of kinds on damaged input
        raise ValueError(f"{path.name} cannot be read as {kind[1:].upper()}; it may be damaged or locked.") from error
    return clean(text, path.name)


def clean(text: str, name: str = "The text") -> str:
    """Text without control characters. Raises ValueError if nothing is left or it is longer than `LONGEST`."""
    if not isinstance(text, str):
        raise ValueError(f"{name} is not text; give a string.")
    text = text.encode("utf-8", "replace").decode("utf-8")
    text = "".join(letter for letter in text if letter.isprintable() or letter in "\n\t" or ord(letter) > 159).strip()
    if not text:
        remedy = "a scanned PDF needs text recognition first" if name.lower().endswith(".pdf") else "give some"
        raise ValueError(f"{name} holds no text; {remedy}.")
    if len(text) > LONGEST:
        raise ValueError(f"{name} has {len(text):,} characters; the limit is {LONGEST:,}. Split it.")
    return text


def _plain(path: Path) -> str:
    return path.read_text(encoding="utf-8-sig")


def _pdf(path: Path) -> str:
    from pypdf import PdfReader

    return "\n".join(page.extract_text() for page in PdfReader(path).pages)


def _docx(path: Path) -> str:
    from docx import Document
    from docx.table import Table

    def told(container) -> Iterator[str]:
        """Paragraphs and tables in the order in which they stand, a row a line."""
        for part in container.iter_inner_content():
            if isinstance(part, Table):
                for row in part.rows:
                    yield " | ".join("\n".join(told(cell)) for cell in dict.fromkeys(row.cells))
            else:
                yield part.text

    return "\n".join(told(Document(str(path))))


def _html(path: Path) -> str:
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(path.read_bytes(), "html.parser")
    for tag in soup(["script", "style", "noscript", "template"]):
        tag.decompose()
    return soup.get_text(" ", strip=True)

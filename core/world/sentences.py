"""Prose cut into sentences, and long sentences into what they say one after the other."""

import re
from collections.abc import Iterator

ABBREVIATION = re.compile(
    r"\b(Mr|Mrs|Ms|Dr|St|Rev|Col|Capt|Gen|Prof|Messrs|Esq|Hon|No|vol|chap|i\.e|e\.g|etc|[A-Z])\.$"
)
PLAINER = str.maketrans({"\u2019": "'", "\u2018": "'", "\u201c": '"', "\u201d": '"', "_": "", "\r": ""})
LONGEST, SHORTEST = 24, 4  # words


def sentences(text: str) -> Iterator[str]:
    """Sentences of SHORTEST … LONGEST words, in the order of the text. What is spoken is a sentence of its own."""
    text = text.translate(PLAINER).replace("--", " - ").replace("\u2014", " - ")
    for paragraph in re.split(r"\n\s*\n", text):
        for piece in " ".join(paragraph.split()).split('"'):
            sentence = ""
            for part in re.split(r"(?<=[.!?])\s+(?=[A-Z])", piece.strip()):
                sentence = f"{sentence} {part}".strip()
                if not ABBREVIATION.search(sentence):
                    yield from _told(sentence)
                    sentence = ""


def _told(sentence: str) -> Iterator[str]:
    """The sentence, or, if it is long, its clauses."""
    parts = [sentence]
    if len(sentence.split()) > LONGEST:
        parts = re.split(r"[;:]| - |, (?=and |but |for )", sentence)
    for part in (part.strip(" ,;:-") for part in parts):
        if SHORTEST <= len(part.split()) <= LONGEST and part[0].isalpha() and not part.isupper():
            yield part[0].upper() + part[1:] + ("" if part[-1] in ".!?" else ".")

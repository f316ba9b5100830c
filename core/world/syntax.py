"""A shallow reading of an English sentence: who does what to whom, and where, when, how.

Only what a simple clause needs is known, subject, verb, objects, adjuncts, from the front of the sentence; sentences
that do not open with such a clause are not understood, and most are not. That is no loss: there are many.
"""

# ruff: noqa: SIM905 - a list of words reads better as a text

from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

import lemminflect
from textblob.en import tag

BE = frozenset("am is are was were".split())
MODALS = frozenset("will would can could shall should may might must".split())
HAVE = frozenset("has have had".split())
SUBJECTS = frozenset("i he she we they you it".split())
PRONOUNS = SUBJECTS | frozenset("me him her us them".split())
INDEFINITE = frozenset("everybody everyone nobody somebody someone something nothing everything".split())
UNCLEAR = frozenset("it there this that what which who these those".split())
PLACES = frozenset(
    "in at on under behind near beside upon inside outside above below across around beneath along within against "
    "opposite".split()
)
TARGETS = frozenset("to into toward towards through".split())
PREPOSITIONS = PLACES | TARGETS | frozenset(
    "from with by for about among between over before after without during until since like off round down up".split()
)  # fmt: skip
PARTICLES = frozenset("up out off away down back".split())
OPENERS = frozenset("and but so then yet now thus for well yes no or still ah oh".split())
GOES_ON = frozenset(
    ". , ; : ! ? - ( and but who which that when while where whose because as so if until before after though "
    "although for to than with or since".split()
)
"""What may follow a clause without changing what was read of it."""


class Span(NamedTuple):
    """Words start … end; head is the place of the noun. An adjunct starts at its preposition."""

    start: int
    end: int
    head: int


class Verb(NamedTuple):
    """aux: what a question puts first (do-support included); base: what it leaves behind the subject.

    said: the verb as a statement has it. form: VBD, VBZ or VBP for a plain verb, else "".
    """

    end: int
    aux: str
    base: list[str]
    said: list[str]
    form: str = ""

    @property
    def be(self) -> bool:
        return not self.base


@dataclass
class Said:
    """A sentence's words with their tags, and the parts of its first clause."""

    words: list[str]
    tags: list[str]
    subject: Span
    verb: Verb
    object: Span | None = None
    receiver: Span | None = None
    state: Span | None = None
    adjuncts: list[Span] = field(default_factory=list)


@cache
def base_form(verb: str) -> str:
    return (lemminflect.getLemma(verb, "VERB") or (verb,))[0]


@cache
def inflected(verb: str, form: str) -> str:
    """A base form in another: VBD, VBZ …; empty if it has none."""
    return (lemminflect.getInflection(verb, form) or ("",))[0]


@cache
def _is_verb(word: str) -> bool:
    return bool(lemminflect.getAllLemmas(word, "VERB"))


def understand(sentence: str) -> Said | None:
    """The first clause of a sentence, or None if it is none of the few kinds that are known."""
    return _Reader(sentence).clause()


class _Reader:
    def __init__(self, sentence: str):
        self.words: list[str] = []
        self.tags: list[str] = []
        for word, kind in tag(sentence):
            if word == "s" and self.words[-1:] == ["'"]:  # the tagger takes the owner's 's apart
                self.words[-1], self.tags[-1] = "'s", "POS"
            elif word:
                self.words.append(word)
                self.tags.append(kind)

    def low(self, at: int) -> str:
        return self.words[at].lower() if at < len(self.words) else ""

    def tag(self, at: int) -> str:
        return self.tags[at] if at < len(self.tags) else ""

    def noun(self, at: int) -> bool:
        return self.tag(at).startswith("NN")

    def clause(self) -> Said | None:
        at = 1 if self.low(0) in OPENERS else 0
        at += self.low(at) == ","
        lead = self.adjunct(at)
        if lead:
            at = lead.end + (self.low(lead.end) == ",")
        subject = self.noun_phrase(at)
        if not subject or self.low(at) in UNCLEAR or self.words[-1] == "?":
            return None
        verb = self.verb_group(subject.end)
        if not verb:
            return None
        said = Said(self.words, self.tags, subject, verb)
        at = self._complements(said, verb.end)
        while len(said.adjuncts) < 3 and (found := self.adjunct(at)):
            said.adjuncts.append(found)
            at = found.end
        if lead:
            said.adjuncts.append(lead)
        goes_on = at >= len(self.words) or self.low(at) in GOES_ON or self.tag(at) in ("RB", "VBG", "IN")
        tells = said.object or said.state or said.adjuncts
        return said if goes_on and tells else None

    def _complements(self, said: Said, at: int) -> int:
        """Objects of the verb, or what its subject is said to be; returns where they end."""
        while self.tag(at) == "RB" and self.low(at) not in ("not", "n't", "as", "so", "too"):
            at += 1
        said.object = self.noun_phrase(at)
        if said.object:
            at = said.object.end
            second = self.noun_phrase(at) if self.tag(at) in ("DT", "PRP$", "CD") and not said.verb.be else None
            if second:
                said.receiver, said.object, at = said.object, second, second.end
        elif said.verb.be and self.tag(at) in ("JJ", "JJR", "VBN"):
            start = at
            while self.tag(at) in ("JJ", "RB", "JJR") or (self.tag(at) == "CC" and self.tag(at + 1) == "JJ"):
                at += 1
            said.state = Span(start, at, at - 1) if at > start else None
        return at

    def adjunct(self, at: int) -> Span | None:
        """A preposition and its noun phrase."""
        if self.low(at) not in PREPOSITIONS or self.tag(at) not in ("IN", "TO", "RP", "RB"):
            return None
        to_do = self.low(at) == "to" and self.tag(at + 1) == "NN" and _is_verb(self.low(at + 1))  # no noun, a verb
        found = None if to_do else self.noun_phrase(at + 1)
        return Span(at, found.end, found.head) if found else None

    def noun_phrase(self, at: int, with_of: bool = True) -> Span | None:
        """(all) (the) old sea captain('s) … (of noun phrase), or a pronoun."""
        start, word = at, self.low(at)
        owns = word == "her" and self.tag(at + 1)[:2] in ("NN", "JJ")
        if (word in PRONOUNS or word in INDEFINITE) and not owns:
            return Span(at, at + 1, at)
        at += self.tag(at) == "PDT" or (word == "all" and self.tag(at + 1) in ("DT", "PRP$"))
        at += self.tag(at) in ("DT", "PRP$")
        core = at
        while at - core < 6 and self._belongs(at, core):
            at += 1
        while at > core and not (self.noun(at - 1) or self.tag(at - 1) == "CD"):
            at -= 1
        if at == core:
            return None
        end, head = at, at - 1
        while with_of and self.low(end) == "of" and (more := self.noun_phrase(end + 1, False)):
            end = more.end
        return Span(start, end, head)

    def _belongs(self, at: int, core: int) -> bool:
        """Whether a word goes on with the noun phrase whose first word after the article stands at core."""
        kind, follows = self.tag(at), self.noun(at + 1) or self.tag(at + 1) == "JJ"
        if at > core and self.noun(at - 1) and (kind == "CD" or (kind == "NNP" and self.tag(at - 1) != "NNP")):
            return False  # "the captain gave Kim | three letters", "in the evening | Ilse"
        if self.low(at) == "'s":
            return at > core and self.noun(at - 1) and follows
        return self.noun(at) or kind in ("JJ", "JJR", "JJS", "CD") or (kind in ("VBN", "VBG") and follows)

    def verb_group(self, at: int) -> Verb | None:
        """A finite verb with its auxiliaries and particle; None where it is negated or none is there."""
        while self.tag(at) == "RB" and self.low(at) not in ("not", "n't", "never"):
            at += 1
        word, kind = self.low(at), self.tag(at)
        if self.low(at + 1) in ("not", "n't"):
            return None
        if word in BE | HAVE | MODALS:
            main, wanted = at + 1, ("VB", "VBP") if word in MODALS else ("VBN", "VBG", "VBD")
            while self.tag(main) == "RB":
                main += 1
            if self.tag(main) in wanted and not (word in BE and self.tag(main) == "VBD"):
                base, end = [self.words[main]], main + 1
                if self.low(main) in ("be", "been") and self.tag(end) in ("VBN", "VBG"):
                    base, end = [*base, self.words[end]], end + 1
                base, end = self._with_particle(base, end)
                return Verb(end, word, base, [word, *base])
            if word in BE and main == at + 1:
                return Verb(at + 1, word, [], [word])
            if word not in HAVE:
                return None
        if kind not in ("VBD", "VBZ", "VBP", "VBN") or not _is_verb(word):
            return None
        form, base = "VBD" if kind == "VBN" else kind, base_form(word)
        if base in ("be", "do") or (kind == "VBN" and inflected(base, "VBD") != word):
            return None
        left, end = self._with_particle([base], at + 1)
        aux = {"VBD": "did", "VBZ": "does", "VBP": "do"}[form]
        return Verb(end, aux, left, [self.words[at], *left[1:]], form)

    def _with_particle(self, base: list[str], end: int) -> tuple[list[str], int]:
        there = self.tag(end) == "RP" or (self.low(end) in PARTICLES and self.tag(end + 1) not in ("DT", "PRP$"))
        return ([*base, self.words[end]], end + 1) if there else (base, end)


def noun_phrases(sentence: str) -> list[tuple[str, bool]]:
    """Common noun phrases of one to three words, without their articles, and whether they are plural."""
    reader, found, at = _Reader(sentence), [], 0
    while at < len(reader.words):
        opens = reader.tag(at) in ("DT", "PRP$", "JJ")
        span = reader.noun_phrase(at, False) if opens else None
        if span:
            words = reader.words[at + (reader.tag(at) != "JJ") : span.end]
            plain = all(word.replace("-", "").isalpha() and word.islower() for word in words)
            if 1 <= len(words) <= 3 and plain and reader.tag(span.head) in ("NN", "NNS"):
                found.append((" ".join(words), reader.tag(span.head) == "NNS"))
        at = span.end if span else at + 1
    return found

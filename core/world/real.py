"""Real sentences as statements, with questions about every part of them.

What people write is more varied than what a generator composes, in its words and in how they stand together. So that
answers cannot be guessed, names and noun phrases of a sentence are replaced by others from the same prose.
"""

# ruff: noqa: SIM905 - a list of words reads better as a text

import re
from collections.abc import Iterable
from typing import Any

from .sentences import sentences
from .synonyms import reword
from .syntax import INDEFINITE, PLACES, PRONOUNS, SUBJECTS, TARGETS, Said, Span, inflected, noun_phrases, understand
from .words import FIRST_NAMES

MOMENTS = frozenset(
    "morning evening afternoon night day week month year hour minute moment time summer winter spring autumn monday "
    "tuesday wednesday thursday friday saturday sunday january february march april june july august september "
    "october november december midnight noon breakfast dinner supper lunch christmas easter dawn dusk sunset sunrise "
    "weeks days months years hours minutes century moments season".split()
)
PEOPLE = frozenset(
    "man woman boy girl child lady gentleman sailor captain doctor king queen prince princess servant mother father "
    "sister brother uncle aunt cousin son daughter husband wife friend master mistress teacher soldier lawyer priest "
    "clerk officer stranger fellow people men women children boys girls person nurse cook maid driver baker neighbour "
    "boss plumber parents everybody everyone nobody somebody someone".split()
)
SOMEBODY = (
    "my sister|my brother|the neighbour|our teacher|the driver|the man next door|her cousin|the boss|my aunt|"
    "the plumber|the girl from the shop|their son|an old friend"
).split("|")
ARTICLES = frozenset("the a an his her my your their our its this that these those some any all every each".split())
WHEN = {"until": ("Until when",), "since": ("Since when",), "for": ("How long",), "at": ("When", "At what time")}
TOLD_OF = frozenset("in on at during before after until since for from by".split())  # moments

Pairs = list[tuple[str, str]]


class RealSentences:
    """Those sentences of some texts that are understood; `draw` makes a statement of one of them.

    Reading a hundred thousand sentences takes about half a minute, once.
    """

    def __init__(self, world: Any, texts: Iterable[str], most: int = 100_000, sample: int = 10_000):
        """most: sentences that are looked at; sample: of them, those whose noun phrases may stand in for others."""
        self.world = world
        found = [one for text in texts for one in sentences(text)]
        found = world.rng.sample(found, min(len(found), most))
        self.understood = [said for one in found if (said := understand(one))]
        phrases = {pair for one in found[:sample] for pair in noun_phrases(one)}
        usual = [pair for pair in phrases if pair[0].split()[-1] not in MOMENTS]
        self.phrases = {number: sorted(text for text, plural in usual if plural == number) for number in (True, False)}

    def draw(self, tries: int = 100) -> tuple[str, Pairs] | None:
        """A sentence and questions about it; None if none is found that can be asked about."""
        rng, before = self.world.rng, None
        for _ in range(tries if self.understood else 0):
            pairs = _Telling(self.world, rng.choice(self.understood), self.phrases).told()
            if pairs and before is None and rng.random() < 0.15:  # two sentences, the other one first or last
                before = pairs
            elif pairs:
                parts = [pairs, before] if before else [pairs]
                rng.shuffle(parts)
                asked = [pair for _, some in parts for pair in some]
                asked = [(reword(rng, *pair) if rng.random() < 0.35 else pair[0], pair[1]) for pair in asked]
                rng.shuffle(asked)
                return " ".join(text for text, _ in parts), asked[:4]
        return before


class _Telling:
    """One clause, told with other names and things than it was written with, and what can be asked about it."""

    def __init__(self, world: Any, said: Said, phrases: dict[bool, list[str]]):
        self.world, self.rng, self.said, self.phrases = world, world.rng, said, phrases
        self.put: dict[Span, str] = {}
        self.verb = said.verb

    def told(self) -> tuple[str, Pairs] | None:
        self._replace()
        text, pairs = self._statement(), self._questions()
        fair = [
            (question, answer) for question, answer in pairs
            if answer in text and answer.lower() not in question.lower() and answer.lower() not in PRONOUNS
            and len(answer) <= 45 and len(question) <= 130
        ]  # fmt: skip
        return (text, fair) if fair else None

    # ── what is told ──

    def _replace(self) -> None:
        said, rng = self.said, self.rng
        word, own_verb = said.words[said.subject.start].lower(), self.verb.aux not in ("am", "are", "were", "have")
        named = said.tags[said.subject.head].startswith("NNP")
        if (word in ("he", "she") and rng.random() < 0.7) or (named and rng.random() < 0.6):
            self.put[said.subject] = self._name()
        elif word in ("they", "we", "i") and own_verb and self.verb.form in ("VBD", "") and rng.random() < 0.35:
            self.put[said.subject] = self._name() if rng.random() < 0.5 else rng.choice(SOMEBODY)
        else:
            self._renew(said.subject, 0.3)
        self._renew(said.object, 0.3 if self.verb.be else 0.5)
        for span in said.adjuncts:
            self._renew(span, 0.45, 1)
        if self.verb.form == "VBD" and rng.random() < 0.3:
            self._now()

    def _name(self) -> str:
        """Mostly an ordinary name: one that occurs nowhere else would be found too easily."""
        draw = self.rng.random()
        if draw < 0.6:
            return self.rng.choice(FIRST_NAMES)
        return self.world.person() if draw < 0.8 else self.world.name()

    def _renew(self, span: Span | None, share: float, skip: int = 0) -> None:
        """Put another noun phrase where this one is; the first `skip` words, a preposition, stay."""
        if span is None or self.rng.random() > share:
            return
        words, kind = self.said.words[span.start : span.end], self.said.tags[span.head]
        head, article = self.said.words[span.head].lower(), words[skip].lower()
        if head in PRONOUNS or head in INDEFINITE or head in MOMENTS or kind == "CD":
            return
        if kind.startswith("NNP"):
            new = self._name()
        else:
            new = self.rng.choice(self.phrases[kind == "NNS"] or [head])
            if article in ("a", "an"):
                article = "an" if new[0] in "aeiou" else "a"
            new = f"{article} {new}" if article in ARTICLES else new
        self.put[span] = " ".join([*words[:skip], new])

    def _now(self) -> None:
        """Told in the present tense."""
        said, base = self.said, self.verb.base
        word, tag = said.words[said.subject.head].lower(), said.tags[said.subject.head]
        one = said.subject in self.put or word in ("he", "she") or (tag in ("NN", "NNP") and word not in SUBJECTS)
        form = inflected(base[0], "VBZ") if one else base[0]
        if form:
            self.verb = self.verb._replace(aux="does" if one else "do", said=[form, *base[1:]])
            verb = Span(self.verb.end - len(self.verb.said), self.verb.end, self.verb.end - 1)
            self.put[verb] = " ".join(self.verb.said)

    def _statement(self) -> str:
        words, out, at = self.said.words, [], 0
        starts = {span.start: (span.end, text) for span, text in self.put.items()}
        while at < len(words):
            end, text = starts.get(at, (at + 1, words[at]))
            out.append(text)
            at = end
        text = _joined(" ".join(out))
        return text[0].upper() + text[1:]

    # ── what is asked ──

    def _text(self, span: Span | None) -> str:
        return "" if span is None else self.put.get(span) or _joined(" ".join(self.said.words[span.start : span.end]))

    def _person(self, span: Span) -> bool:
        return self.said.tags[span.head].startswith("NNP") or self.said.words[span.head].lower() in PEOPLE

    def _questions(self) -> Pairs:
        said, verb, rng = self.said, self.verb, self.rng
        what, to, state = self._text(said.object), self._text(said.receiver), self._text(said.state)
        who, parts = self._text(said.subject), [_lowered(self._text(span)) for span in said.adjuncts]
        if said.subject not in self.put and said.tags[said.subject.start] != "NNP" and who != "I":
            who = _lowered(who)
        found: Pairs = []

        def add(question: str, answer: str, but: int = -1) -> None:
            """`but`: the adjunct that is asked for. Some of the others are said again in the question."""
            others, share = [part for number, part in enumerate(parts) if number != but], rng.random()
            more = [] if share < 0.45 or not others else others if share < 0.65 else [rng.choice(others)]
            question = " ".join([question, *more]).replace("  ", " ")
            found.append((f"{question[0].upper()}{question[1:]}?", _bare(answer)))

        rest = " ".join(filter(None, [to, what, state]))
        asks = f"{verb.aux} {who} {' '.join(verb.base)}".rstrip()
        somebody = said.subject in self.put or self._person(said.subject)
        if who.lower() not in PRONOUNS:
            add(f"{'Who' if somebody else 'What'} {' '.join(verb.said)} {rest}".rstrip(), who)
            if "'s " in who:
                owner, _, thing = who.partition("'s ")
                add(f"Whose {thing} {' '.join(verb.said)} {rest}".rstrip(), owner)
        if said.object:
            self._ask_object(add, said.object, what, f"{asks} {to}".rstrip())
        if to:
            add(f"{rng.choice(['Who', 'Whom'])} {asks} {what} to", to)
        if state:
            add(rng.choice([f"How {asks}", f"What {asks} like"]), state)
        for number, (span, part) in enumerate(zip(said.adjuncts, parts, strict=True)):
            self._ask_adjunct(add, span, part, f"{asks} {rest}".rstrip(), number)
        return found

    def _ask_object(self, add: Any, span: Span, what: str, asks: str) -> None:
        words, tags, somebody = self.said.words, self.said.tags, self._person(span)
        if words[span.head].lower() in MOMENTS and not self.verb.be:
            add(f"How long {asks}", what)
        elif tags[span.start] == "CD" and span.head > span.start and span not in self.put:
            add(f"How many {_joined(' '.join(words[span.start + 1 : span.end]))} {asks}", words[span.start])
        else:
            add(f"{self.rng.choice(['Who', 'What' if self.verb.be else 'Whom']) if somebody else 'What'} {asks}", what)
        if "'s " in what:
            owner, _, thing = what.partition("'s ")
            add(f"Whose {thing} {asks}", owner)

    def _ask_adjunct(self, add: Any, span: Span, part: str, asks: str, number: int) -> None:
        preposition, _, thing = part.partition(" ")
        head = self.said.words[span.head]
        somebody = self._person(span) and preposition not in PLACES - {"beside", "near", "behind"}
        if preposition in TOLD_OF and (head.lower() in MOMENTS or re.fullmatch("1[0-9]{3}", head)):
            add(f"{self.rng.choice(WHEN.get(preposition, ('When',)))} {asks}", thing, number)
            return
        if preposition in PLACES | TARGETS and not somebody:
            add(f"Where {asks}", thing, number)
        elif preposition == "from" and not somebody:
            add(f"Where {asks} from", thing, number)
        if self.rng.random() < 0.5:
            ask = "whom" if somebody else "what"
            add(self.rng.choice([f"{ask} {asks} {preposition}", f"{preposition} {ask} {asks}"]), thing, number)


def _joined(text: str) -> str:
    """Words with spaces between, as they are written."""
    text = text.replace("o' clock", "o'clock")
    text = re.sub(r" ('s|n't|'ll|'re|'d|'ve|'m|')(?= |$)", r"\1", text)
    return re.sub(r" ([,.;:!?)])", r"\1", text).replace("( ", "(")


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:]


def _bare(phrase: str) -> str:
    """Without its article, as answers are given."""
    words = phrase.split(" ")
    while len(words) > 1 and words[0].lower() in ARTICLES:
        words = words[1:]
    return " ".join(words)

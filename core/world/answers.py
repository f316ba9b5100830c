"""Answers as a person gives them: "under the blue pot", not "blue pot"; "nine hours", not "nine"; "by bus"; "Ada's".

Generators know the bare word that is asked for. Which words around it belong to the answer follows from the question,
so it is decided here once, for all of them. A longer answer still contains the bare one.
"""

# ruff: noqa: SIM905 - a list of words reads better as a text

import re

DETERMINERS = frozenset(
    "the a an my your his her its our their this that these those some any every each both another".split()
)
SHORTENED = frozenset("who it he she that there here what where how when let".split())
VERBS = frozenset("is are was were am be do does did has have had will would can could must should may might".split())
PLACE = (
    "on top of|in front of|on the way to|in the middle of|at the back of|next to|close to|across from|in|on|at|under|"
    "underneath|beneath|behind|near|beside|upon|inside|outside|above|below|across|around|along|within|against|opposite|"
    "between|into|toward|towards|through|from"
)
CIRCUMSTANCES = f"{PLACE}|during|before|after|since|until"
WHERE = f"{PLACE}|by|to"
WHEN = "in|on|at|before|after|during|since|until|till|by|around|about|for|every|last|next|this"
HOW = "by means of|by|on|with|without|via|through|in|using|from|off"
WHY = "because of|due to|thanks to|owing to|on account of|out of|for fear of|for|over|to|in order to"
WORD = r"[\w'\u2019-]+"
SHADES = "pale|light|dark|bright|deep|dull|soft|faded|dirty|bottle|sky|navy|off"
SPELLED = (
    r"(?:\d[\d.,:]*|(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\w+teen|\w+ty|hundred|thousand|"
    r"half)(?:[- ]\w+)*?)"
)


def whole(text: str, question: str, answer: str) -> str:
    """The answer with those neighbours in the text that belong to it; the answer itself where it stands nowhere."""
    start = _as_a_word(text, answer)
    if start < 0:
        return answer
    end = start + len(answer)
    asked = question.lower().rstrip("?!. ").split()
    end = _with_unit(text, asked, answer, end)
    start, end = _with_class(text, asked, start, end)
    if "whose" in asked and (owner := re.match(r"['\u2019]s?(?!\w)", text[end:])):
        end += owner.end()
    if {"colour", "color"} & set(asked):  # "a pale green hook" is pale green
        shade = re.search(rf"(?<!\w)({SHADES})[ -]$", text[:start])
        start = shade.start() if shade else start
    else:
        start = _with_determiners(text, start)
    start = _with_preposition(text, asked, start)
    return text[start:end]


def _as_a_word(text: str, part: str) -> int:
    """Where a part of the text stands by itself first, -1 where nowhere. Not a pattern: each would be compiled anew."""
    start = text.find(part)
    while start >= 0:
        around = text[max(0, start - 1) : start] + text[start + len(part) : start + len(part) + 1]
        if not any(letter.isalnum() or letter == "_" for letter in around):
            break
        start = text.find(part, start + 1)
    return start


def _with_unit(text: str, asked: list[str], answer: str, end: int) -> int:
    """How much, how long: the number's unit too, unless the question names it."""
    if "many" in asked or not re.fullmatch(SPELLED, answer, re.IGNORECASE):
        return end
    unit = re.match(rf" ({WORD})", text[end:])
    wanted = "how" in asked or "what" in asked[:1]
    return end + unit.end() if wanted and unit and unit[1].isalpha() and unit[1] not in (*asked, *STOPS) else end


STOPS = frozenset("in on at for to from with by and or but the a of this per as is was".split())


def _with_class(text: str, asked: list[str], start: int, end: int) -> tuple[int, int]:
    """Which platform: "platform six"; on which floor: "third floor"."""
    for place, word in enumerate(asked[:-1]):
        if word in ("which", "what") and asked[place + 1] not in VERBS:
            kind = re.escape(asked[place + 1])
            before = re.search(rf"(?<!\w){kind} $", text[:start], re.IGNORECASE)
            after = re.match(rf" {kind}(?!\w)", text[end:], re.IGNORECASE)
            after = after if word == "which" else None
            return (before.start() if before else start), (end + after.end() if after else end)
    return start, end


def _with_determiners(text: str, start: int) -> int:
    """An article, or the owner and the owner's: "the", "my", "her grandmother's"."""
    while before := re.search(rf"({WORD}) $", text[:start]):
        word, owner = before[1].lower(), re.search(r"['\u2019]s$|s['\u2019]$", before[1])
        if owner and word[: owner.start()] in SHORTENED:  # "who's eighty-eight"
            break
        if word not in DETERMINERS and not owner:
            break
        if word == "that" and not text[start].islower():  # "I heard that Clara …": no determiner
            break
        start = before.start()
        if not owner:
            break
    return start


def _with_preposition(text: str, asked: list[str], start: int) -> int:
    """Where, when, how, why, in which: the preposition too, unless the question begins or ends with it."""
    before = re.search(rf"(?<!\w)({_prepositions(asked)}) $", text[:start], re.IGNORECASE)
    return before.start() if before and not {asked[0], asked[-1]} & set(before[1].lower().split()) else start


def _prepositions(asked: list[str]) -> str:
    """A pattern of those that belong to the answer; one that matches nothing where none does."""
    for word, following in zip(asked, [*asked[1:], ""], strict=True):
        if word in ("where", "whereabouts"):
            return WHERE
        if word == "when":
            return WHEN
        if word in ("why", "reason") or (word == "how" and following == "come"):
            return WHY
        if word == "how" and following in VERBS:  # not how many, how long
            return HOW
    fronted = asked[1:2] in (["which"], ["what"]) and re.fullmatch(CIRCUMSTANCES, asked[0])
    return CIRCUMSTANCES if fronted else "(?!)"  # "Under what circumstances": during a power cut

"""Clauses put together from parts: who did what, with what, where and when; every part can be asked for.

Where `phrasings` lists what people say of some hundred things, here a grammar makes statements and questions of
any verb and any noun, so that a small model learns to match a question with a sentence by its words and its form.
"""

from typing import Any

from .phrases import Part, companion, manner, moment, noun, noun_phrase, number, owned, person, place, reason, thing
from .verbs import CONDITIONS, GIVING_VERBS, MEASURES, PERSON_VERBS, STATES, STAYING_VERBS, THING_VERBS, Verb
from .words import KIN, ROLES, TRADES

EXPLAINED = 0.25  # of what somebody does, with a reason
Clause = tuple[str, list[tuple[str, str]], str]
"""A statement without its full stop, (question, answer) pairs without question marks, and what it is about."""


def draw_clause(world: Any) -> Clause:
    """Most of them say who did what."""
    kinds = (_action, _action, _action, _giving, _state, _role, _measure, _somewhere, _request, _condition)
    return world.rng.choice(kinds)(world)


def _action(world: Any) -> Clause:
    """Somebody does something: at times in the passive, at times with another part in front."""
    speaker = world.rng.random() < 0.12
    who = Part(world.pick(["I", "we"]), "", []) if speaker else person(world)
    kind = world.rng.random()
    verbs = THING_VERBS if kind < 0.55 else PERSON_VERBS if kind < 0.75 else STAYING_VERBS
    what = thing(world) if verbs is THING_VERBS else person(world) if verbs is PERSON_VERBS else None
    verb, num_others = world.pick(verbs), world.rng.choice((0, 1, 1, 2) if what else (1, 1, 2))
    others = [make(world) for make in world.rng.sample([place, moment, companion, manner], num_others)]
    if world.rng.random() < EXPLAINED:
        others.append(reason(world))
    if what and not speaker and " " not in verb.base and world.rng.random() < 0.15:
        return _passive(world, who, verb, what, others)
    said, auxiliary, form = _tense(world, verb, speaker)
    parts, tail = [what, *others] if what else others, [part.said for part in others]
    asked = _who(who, f"{said} {what.said} {_some(world, tail)}" if what else f"{said} {' '.join(tail)}")
    for part in parts:
        others_said = [other.said for other in parts if other is not part]
        always = [what.said] if what and part is not what else []
        rest = " ".join([*always, _some(world, [text for text in others_said if text not in always])])
        asked += ask(world, part, f"{auxiliary} {who.said} {form} {rest}")
    rest = " ".join(part.said for part in parts)
    order = world.rng.random()
    if order < 0.15 and others:
        before = " ".join(part.said for part in parts[:-1])
        text = f"{tail[-1]}{world.pick([',', ''])} {who.said} {said} {before}"
    else:
        text = f"it was {who.said} who {said} {rest}" if order < 0.22 and who.answer else f"{who.said} {said} {rest}"
    return text.strip(), asked, who.said


def _passive(world: Any, who: Part, verb: Verb, what: Part, others: list[Part]) -> Clause:
    be = world.pick(["was", "was", "was", "will be", "is", "has been"])
    auxiliary, _, more = be.partition(" ")
    by, form, tail = world.rng.random() < 0.5, f"{more} {verb.participle}".strip(), [part.said for part in others]
    asked: list[tuple[str, str]] = []
    if by:
        agent = Part(who.said, who.answer, [("By whom", ""), ("Who", "by")])
        asked += ask(world, agent, f"{auxiliary} {what.said} {form}")
    if by or tail:
        asked += ask(world, what, f"{be} {verb.participle} {' '.join(tail) or f'by {who.said}'}", stranded=False)
    for part in others:
        asked += ask(world, part, f"{auxiliary} {what.said} {form}")
    return " ".join([what.said, be, verb.participle, *([f"by {who.said}"] if by else []), *tail]), asked, what.said


def _giving(world: Any) -> Clause:
    who, to, what = person(world), person(world), thing(world)
    said, auxiliary, form = _tense(world, world.pick(GIVING_VERBS), False)
    asked = _who(who, f"{said} {to.said} {what.said}")
    asked += ask(world, what, f"{auxiliary} {who.said} {form} {to.said}")
    asked += ask(world, to, f"{auxiliary} {who.said} {form} {what.said}")
    return f"{who.said} {said} {to.said} {what.said}", asked, who.said


def _state(world: Any) -> Clause:
    """The thesis is about medieval beekeeping."""
    subject, state, be = owned(world, noun_phrase(world)), world.pick(STATES), world.pick(["is", "is", "was"])
    other = world.rng.choice((thing, thing, person))(world)
    asked = ask(world, other, f"{be} {subject} {state}")
    first, _, last = state.rpartition(" ")
    if first:  # the preposition may come to the front
        asked += [
            (f"{last.capitalize()} {question[0].lower()}{question[1:]}", answer)
            for question, answer in ask(world, other, f"{be} {subject} {first}")
        ]
    asked.append((f"What {be} {state} {other.said}", _core(subject)))
    return f"{subject} {be} {state} {other.said}", asked, subject


def _role(world: Any) -> Clause:
    """The winner of the pie contest was Mrs Lode; the meeting point is the fountain; the cat is called Tibb."""
    be, somebody = world.pick(["is", "is", "was", "will be"]), world.rng.random() < 0.5
    auxiliary, _, more = be.partition(" ")
    title = noun_phrase(world)
    if world.rng.random() < 0.7:
        head = world.pick(world.rng.choice((ROLES, KIN, TRADES))) if somebody else noun_phrase(world)
        title = f"{head} {world.pick(['of', 'for', 'at', 'in', 'from'])} the {title}"
    if world.rng.random() < 0.25:
        name = world.rng.choice((world.name, world.code, world.thing, lambda: noun(world)))()
        verb = world.pick(["is called", "is named", "goes by the name of", "answers to", "is known as"])
        question = world.pick([f"What is the {title} called", f"What is the name of the {title}"])
        return f"the {title} {verb} {name}", [(question, name)], title
    other = person(world) if somebody else thing(world)
    asked = ask(world, other, f"{auxiliary} the {title} {more}")
    asked.append((f"What {auxiliary} {other.said} {more}".strip(), title))
    text = f"{other.said} {be} the {title}" if world.rng.random() < 0.2 else f"the {title} {be} {other.said}"
    return text, asked, title


def _measure(world: Any) -> Clause:
    """The plumber charges eighty euros an hour."""
    subject = world.person() if world.rng.random() < 0.3 else owned(world, noun_phrase(world))
    third, base = world.pick(list(MEASURES))
    unit, count = world.pick(MEASURES[third, base].split()), number(world)
    per = world.pick(["", "", "", " an hour", " a day", " in all", " per person"])
    about = world.pick(["", "", "", "exactly ", "about ", "only "])
    long = "How long" if base in ("take", "last") else "How much"
    asked = [(f"How many {unit} does {subject} {base}{per}", count), (f"{long} does {subject} {base}", count)]
    return f"{subject} {third} {about}{count} {unit}{per}", asked, subject


def _somewhere(world: Any) -> Clause:
    """Something, perhaps what somebody did something with, is somewhere or takes place."""
    phrase, be = noun_phrase(world), world.pick(["is", "is", "was", "stands", "lies", "stays"])
    if world.rng.random() < 0.4:
        phrase = f"{noun(world)} that {person(world).said} {world.pick(THING_VERBS).past}"
    subject, where = owned(world, phrase), world.rng.choice((place, place, moment))(world)
    auxiliary, form = (be, "") if be in ("is", "was") else ("does", be.removesuffix("s"))
    asked = ask(world, where, f"{auxiliary} {subject} {form}")
    asked.append((f"What {be} {where.said}", _core(subject)))
    text = f"{where.said} {be} {subject}" if world.rng.random() < 0.2 else f"{subject} {be} {where.said}"
    return text, asked, subject


def _request(world: Any) -> Clause:
    """Please feed the tortoise on Sunday."""
    verb, what, other = world.pick(THING_VERBS), thing(world), world.rng.choice((place, moment, companion))(world)
    please = world.pick(["please", "do not forget to", "you should", "we have to", "always", "never", "remember to"])
    should = f"should {'we' if please == 'we have to' else world.pick(['I', 'you', 'we'])} {verb.base}"
    asked = ask(world, what, f"{should} {other.said}") + ask(world, other, f"{should} {what.said}")
    return f"{please} {verb.base} {what.said} {other.said}", asked, what.said


def _condition(world: Any) -> Clause:
    """The lighthouse has been dark since 1962."""
    subject, state, when = owned(world, noun_phrase(world)), world.pick(CONDITIONS), moment(world)
    be = "has been" if when.said.startswith("since") else world.pick(["is", "was"])
    auxiliary, _, more = be.partition(" ")
    asked = ask(world, when, f"{auxiliary} {subject} {more} {state}")
    asked.append((f"What {be} {state} {when.said}", _core(subject)))
    return f"{subject} {be} {state} {when.said}", asked, subject


# ── what they share ──


def ask(world: Any, part: Part, body: str, stranded: bool = True) -> list[tuple[str, str]]:
    """The question for a part, none where nobody could answer."""
    if not part.answer:
        return []
    opening, left = world.rng.choice(part.asks)
    return [(" ".join(f"{opening} {body} {left if stranded else ''}".split()), part.answer)]


def _who(who: Part, body: str) -> list[tuple[str, str]]:
    """The question for the one who does it."""
    return [(f"Who {body}".strip(), who.answer)] if who.answer else []


def _tense(world: Any, verb: Verb, speaker: bool) -> tuple[str, str, str]:
    """What is said, and in a question: the auxiliary, and the form after the subject."""
    tenses = [(verb.past, "did", verb.base)] * 4 + [(f"will {verb.base}", "will", verb.base)]
    if not speaker:
        tenses += [
            (verb.third, "does", verb.base), (verb.third, "does", verb.base), (f"is {verb.ing}", "is", verb.ing),
            (f"has {verb.participle}", "has", verb.participle), (f"must {verb.base}", "must", verb.base),
            (f"used to {verb.base}", "did", f"use to {verb.base}"),
            (f"wants to {verb.base}", "does", f"want to {verb.base}"),
        ]  # fmt: skip
    return world.rng.choice(tenses)


def _some(world: Any, texts: list[str]) -> str:
    """A question need not repeat everything that was said."""
    return " ".join(text for text in texts if world.rng.random() < 0.6)


def _core(subject: str) -> str:
    """Without its article."""
    return subject.partition(" ")[2]

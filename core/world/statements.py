"""Statements with all that is asked about them: what a small model practises on.

The same sentence answers several questions, about other parts of it and in other words. So the question has to be
understood, and a sentence that was read once is asked several times: most of a step's work is reading.
"""

from dataclasses import dataclass

from .answers import whole
from .compounds import draw_compound
from .everyday import draw_everyday
from .facts import Fact, World, capital
from .grammar import draw_clause
from .phrasings import PATTERNS, draw_statement
from .relations import ATTRIBUTES, RELATIONS, Relation, relation_of

CLAUSE = "clause"
REAL = "real"
EVERYDAY = "everyday"
SHARE_REAL = 0.2  # of what is drawn, where real sentences are at hand
TWO = 0.25  # of the sentences by hand, of which `World.by_hand` of the rest are, so many are two; then, in shares:
COMPOUNDS, CLAUSES, PATTERNED = 0.15, 0.2, 0.15  # what is left are facts of two parts


@dataclass(frozen=True)
class Statement:
    """text: a sentence. questions: (question, answer) pairs, every answer a literal part of the text.

    Pairs that do not keep to that, or whose question gives the answer away, are left out when it is made; answers are
    made whole (`core.world.answers`).
    """

    text: str
    questions: tuple[tuple[str, str], ...]
    subject: str = ""
    relation: str = ""

    def __post_init__(self) -> None:
        fair = [pair for pair in self.questions if pair[1] in self.text and pair[1].lower() not in pair[0].lower()]
        told = [(question, whole(self.text, question, answer)) for question, answer in fair]
        object.__setattr__(self, "questions", tuple(dict.fromkeys(told)))


def of_fact(fact: Fact) -> Statement:
    """The fact with the one question it comes with."""
    return Statement(fact.fact, ((fact.question, fact.answer),), fact.subject, fact.relation)


def plain_statement(world: World, about: Statement | None = None) -> Statement:
    """Said and asked in the simplest way; about the same subject as another statement, if one is given."""
    return of_fact(world.plain_fact(about.subject if about else None))


def questioned(world: World, fact: Fact) -> Statement:
    """A fact of two parts with up to two more phrasings of its question."""
    relation, extra = relation_of(fact.relation), fact.relation.partition(" ")[2]
    phrasings = relation.questions if relation else []
    others = world.rng.sample(phrasings, min(2, len(phrasings)))
    texts = [fact.question, *(capital(text.format(s=fact.subject, o=extra)) for text in others)]
    return Statement(fact.fact, tuple((text, fact.answer) for text in texts), fact.subject, fact.relation)


def draw(world: World, about: Statement | None = None) -> Statement:
    """Real sentences, sentences by hand, composed ones of one clause or more, patterns, and facts of two parts.

    about: something else about the subject of this statement, which has two parts itself (else it is of no effect).
    """
    if about and relation_of(about.relation):
        return questioned(world, world.another(Fact("", "", "", about.subject, about.relation)))
    while True:
        if world.real and world.rng.random() < SHARE_REAL and (drawn := world.real.draw()):
            return Statement(drawn[0], tuple(drawn[1]), "", REAL)
        if world.rng.random() < world.by_hand:
            one = draw_everyday(world, world.rng.random() < TWO)
            return Statement(f"{one.earlier} {one.text}".lstrip(), one.asked, "", EVERYDAY)
        kind = world.rng.random()
        if kind < COMPOUNDS + CLAUSES:
            said, pairs, subject = (draw_compound if kind < COMPOUNDS else draw_clause)(world)
            asked = tuple((f"{capital(question)}?", answer) for question, answer in pairs if answer)
            found = Statement(world.dress(said), asked, subject, CLAUSE)
        else:
            found = alike(world, 1, draw_kind(world, kind < COMPOUNDS + CLAUSES + PATTERNED))[0]
        if found.questions:
            return found


def draw_kind(world: World, patterned: bool) -> int | Relation:
    """The number of a pattern, or a kind of fact of two parts."""
    if patterned:
        return world.rng.randrange(len(PATTERNS))
    return world.rng.choice(RELATIONS if world.rng.random() < 0.6 else ATTRIBUTES)


def alike(world: World, count: int, kind: int | Relation) -> list[Statement]:
    """As many statements of one pattern, or of one kind of fact: said alike, of others, so hard to tell apart."""
    if isinstance(kind, int):
        statements = []
        for _ in range(count):
            said, asked, subject, relation = draw_statement(world, kind)
            pairs = tuple((capital(question), answer) for question, answer in asked)
            statements.append(Statement(world.dress(said), pairs, subject, relation))
        return statements
    return [questioned(world, world.fact(relation=kind)) for _ in range(count)]

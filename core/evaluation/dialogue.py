"""Conversations of many sessions with questions about what was said: generated ones, and LongMemEval's form.

LongMemEval's official judge is a language model; here a deterministic scorer stands in: 1 if the answer, normalised as
in SQuAD, is contained in the reply. Its figures must not be compared with judged ones.
"""

import random
from collections.abc import Iterator
from typing import Any

from ..world import Fact, World
from .examples import Example, Question, data_rows

ACKNOWLEDGEMENTS = (
    "I see.",
    "Thank you, I will remember that.",
    "Good to know.",
    "Noted.",
    "Interesting!",
    "All right.",
)
CHATTER = (
    "It rained the whole day here.", "I slept badly again.", "Shall we talk about something else?",
    "I had soup for lunch, as always.", "The bus was late this morning.", "I am reading a long novel at the moment.",
)  # fmt: skip


def load(source: str, num: int | None) -> tuple[list[Example], list[str]]:
    """LongMemEval's rows; each session is one text, headed by its date."""
    fields = {"question": str, "answer": (str, int, float), "haystack_sessions": list}
    found = data_rows(source, fields, _check, split="test")
    examples = []
    for number, row in enumerate(found.rows[:num]):
        dates = row.get("haystack_dates") or [""] * len(row["haystack_sessions"])
        texts = tuple(session_text(turns, date) for turns, date in zip(row["haystack_sessions"], dates, strict=True))
        asked = f"(Today is {row['question_date']}.) {row['question']}" if row.get("question_date") else row["question"]
        question = Question(asked, (str(row["answer"]),), "contained", 48)
        group = str(row.get("question_type", "dialogue"))
        examples.append(Example(str(row.get("question_id", number)), group, texts, (question,)))
    return examples, found.problems


def _check(row: dict[str, Any]) -> str | None:
    sessions, dates = row["haystack_sessions"], row.get("haystack_dates")
    if not sessions or not all(session for session in sessions):
        return "a session is empty"
    if not all(isinstance(turn, dict) and "role" in turn and "content" in turn for part in sessions for turn in part):
        return "a turn has no role or no content"
    return None if not dates or len(dates) == len(sessions) else "not as many dates as sessions"


def session_text(turns: list[dict[str, str]], date: str = "") -> str:
    """One session as text, a line a turn."""
    lines = [f"{turn['role'].capitalize()}: {turn['content']}" for turn in turns]
    return "\n".join([f"Session of {date}.", *lines] if date else lines)


def build(num: int, sessions: int, seed: int) -> list[Example]:
    """`num` conversations of so many sessions. In each the user mentions a fact; some change one told before.

    The groups are LongMemEval's kinds that apply: a single session's fact, and one that was updated.
    """
    rng = random.Random(seed)
    world = World(rng)
    return [_conversation(world, number, sessions, rng) for number in range(num)]


def _conversation(world: World, number: int, sessions: int, rng: random.Random) -> Example:
    texts, questions = [], []
    waiting: list[Fact] = []
    for session in range(sessions):
        if waiting and rng.random() < 0.5:
            fact = waiting.pop(0)
            questions.append(Question(fact.question, (fact.answer,), "hit", 24))
        elif rng.random() < 0.4:
            fact, later = world.contradiction()
            waiting.append(later)
        else:
            fact = world.fact()
            questions.append(Question(fact.question, (fact.answer,), "hit", 24))
        date = f"{world.date()} {2000 + session // 12}"
        texts.append(session_text(list(_turns(fact, rng)), date))
    for later in waiting:  # changes that no session was left for
        texts.append(session_text(list(_turns(later, rng))))
        questions.append(Question(later.question, (later.answer,), "hit", 24))
    return Example(f"conversation-{number}", f"{sessions} sessions", tuple(texts), tuple(questions))


def _turns(fact: Fact, rng: random.Random) -> Iterator[dict[str, str]]:
    said = [*rng.sample(CHATTER, 2)]
    said.insert(rng.randrange(3), fact.fact)
    for line in said:
        yield {"role": "user", "content": line}
        yield {"role": "assistant", "content": rng.choice(ACKNOWLEDGEMENTS)}

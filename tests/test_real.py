"""Real sentences as statements: cut right, read right, asked in the words that English asks with."""

import random

import pytest

from core.world import World
from core.world.real import RealSentences, _Telling
from core.world.sentences import sentences
from core.world.statements import REAL, SHARE_REAL, draw
from core.world.syntax import noun_phrases, understand

TEXT = """
The old sailor hid the map beneath a rotten barrel. Mr. Darcy danced with Miss Bingley at the assembly. "We shall
leave in the morning," said she. Her brother had left his gloves upon the table.

The captain gave him the keys after dinner. The garden was quiet and empty. She kept the letter in her drawer.
Three children carried the basket to the mill. They waited for the doctor until midnight.
"""


def whole(sentence: str) -> dict:
    said = understand(sentence)
    assert said is not None
    text = lambda span: span and " ".join(said.words[span.start : span.end])  # noqa: E731
    parts = {name: text(getattr(said, name)) for name in ("subject", "object", "receiver", "state")}
    verb = f"{said.verb.aux} … {' '.join(said.verb.base)}".strip()
    return {name: part for name, part in parts.items() if part} | {
        "verb": verb,
        "adjuncts": [text(span) for span in said.adjuncts],
    }


def test_sentences_end_where_they_end_and_long_ones_are_told_in_clauses():
    found = list(sentences(TEXT))
    assert "Mr. Darcy danced with Miss Bingley at the assembly." in found
    assert "We shall leave in the morning." in found and not any('"' in sentence for sentence in found)
    long = "He walked along the river with his uncle; the water was high, and the ferryman had tied his boat to an oak "
    told = list(sentences(long + "that stood at the bend, as ferrymen do when the rain has fallen for a week."))
    assert told[:2] == ["He walked along the river with his uncle.", "The water was high."]
    assert all(4 <= len(sentence.split()) <= 24 for sentence in told)


@pytest.mark.parametrize(
    "sentence, expected",
    [
        (
            "The old sailor hid the map beneath a rotten barrel in the cellar.",
            {"subject": "The old sailor", "verb": "did … hide", "object": "the map",
             "adjuncts": ["beneath a rotten barrel", "in the cellar"]},
        ),
        (
            "In the evening Ilse will bring the keys to her neighbour.",
            {"subject": "Ilse", "verb": "will … bring", "object": "the keys",
             "adjuncts": ["to her neighbour", "In the evening"]},
        ),
        (
            "The captain gave him the keys of the house after dinner.",
            {"subject": "The captain", "verb": "did … give", "receiver": "him", "object": "the keys of the house",
             "adjuncts": ["after dinner"]},
        ),
        ("The garden was quiet and empty.", {"subject": "The garden", "verb": "was …", "state": "quiet and empty",
                                             "adjuncts": []}),
        (
            "She had left her gloves upon the table.",
            {"subject": "She", "verb": "had … left", "object": "her gloves", "adjuncts": ["upon the table"]},
        ),
    ],
)  # fmt: skip
def test_a_simple_clause_is_understood(sentence, expected):
    assert whole(sentence) == expected


@pytest.mark.parametrize(
    "sentence",
    ["What did the sailor hide in the barrel?", "The sailor did not hide the map.", "It was dark there.", "Oh!"],
)
def test_what_is_no_plain_statement_is_left_alone(sentence):
    assert understand(sentence) is None


class Unmoved(random.Random):
    """Replaces nothing, and takes the first of everything."""

    def random(self) -> float:
        return 0.99

    def choice(self, options):
        return options[0]


@pytest.mark.parametrize(
    "sentence, expected",
    [
        (
            "The old sailor hid the map beneath a rotten barrel.",
            {"Who hid the map beneath a rotten barrel?": "old sailor",
             "What did the old sailor hide beneath a rotten barrel?": "map",
             "Where did the old sailor hide the map?": "rotten barrel"},
        ),
        (
            "The captain gave Kim three letters on Sunday.",
            {"Who gave Kim three letters on Sunday?": "captain",
             "How many letters did the captain give Kim on Sunday?": "three",
             "Who did the captain give three letters to on Sunday?": "Kim",
             "When did the captain give Kim three letters?": "Sunday"},
        ),
        (
            "Anna's brother was a painter in Siena.",
            {"Whose brother was a painter in Siena?": "Anna", "Where was Anna's brother a painter?": "Siena"},
        ),
    ],
)  # fmt: skip
def test_every_part_is_asked_for_as_english_asks(sentence, expected):
    world = World(Unmoved())
    said = understand(sentence)
    told = said and _Telling(world, said, {True: [], False: []}).told()
    assert told and told[0] == sentence
    for question, answer in expected.items():
        assert dict(told[1]).get(question) == answer, told[1]


def test_statements_hold_their_answers_and_the_same_seed_draws_the_same():
    drawn = []
    for _ in range(2):
        real = RealSentences(World(random.Random(5)), [TEXT])
        drawn.append([real.draw() for _ in range(200)])
    assert drawn[0] == drawn[1] and len({text for text, _ in drawn[0]}) > 100
    for text, pairs in drawn[0]:
        assert 1 <= len(pairs) <= 4
        assert all(answer in text for _, answer in pairs)
    assert RealSentences(World(random.Random(5)), ["No clause here?"]).draw() is None


def test_the_practice_draws_its_share_of_real_sentences():
    world = World(random.Random(6))
    world.real = RealSentences(world, [TEXT])
    kinds = [draw(world).relation == REAL for _ in range(1000)]
    assert abs(sum(kinds) / 1000 - SHARE_REAL) < 0.05


def test_noun_phrases_come_without_articles_and_in_their_number():
    assert noun_phrases("The old sailor put two candles and the wet ropes into a boat.") == [
        ("old sailor", False), ("wet ropes", True), ("boat", False),
    ]  # fmt: skip

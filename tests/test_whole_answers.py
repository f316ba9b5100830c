"""Practised answers hold what a person would say with them, and nothing that the question has already."""

import random
import re

import pytest

from core.world import World
from core.world.answers import whole
from core.world.grammar import draw_clause
from core.world.statements import draw


@pytest.mark.parametrize(
    ("text", "question", "bare", "wanted"),
    [
        ("The key hangs next to the blue pot.", "Where is the key?", "blue pot", "next to the blue pot"),
        ("Ada comes from Brno.", "Where does Ada come from?", "Brno", "Brno"),
        ("Ada comes from Brno.", "Where was Ada born?", "Brno", "from Brno"),
        ("The spare fuse is here.", "What is here?", "spare fuse", "The spare fuse"),
        ("Dalia wore her grandmother's green dress.", "What did Dalia wear?", "green dress",
         "her grandmother's green dress"),
        ("The parking costs nine euros a day.", "How much does the parking cost?", "nine", "nine euros"),
        ("The parking costs nine euros a day.", "How many euros does the parking cost?", "nine", "nine"),
        ("The train leaves from platform six.", "Which platform does the train leave from?", "six", "platform six"),
        ("He lives on the third floor.", "On which floor does he live?", "third", "the third floor"),
        ("The choir meets on Friday.", "When does the choir meet?", "Friday", "on Friday"),
        ("The choir meets on Friday.", "On which day does the choir meet?", "Friday", "Friday"),
        ("They have a green hook.", "What colour is the hook?", "green", "green"),
        ("The code is 4711.", "What is the code?", "4711", "4711"),
        ("He said that the dog was ill.", "Who was ill?", "dog", "the dog"),
        ("I heard that Clara bakes.", "Who bakes?", "Clara", "Clara"),
        ("That stable was full.", "What was full?", "stable", "That stable"),
        ("Florin comes on a unicycle.", "How does Florin come?", "unicycle", "on a unicycle"),
        ("Florin paid with two coins.", "How many coins did Florin pay with?", "two", "two"),
        ("Mr Quill left over a missing kettle.", "Why did Mr Quill leave?", "missing kettle", "over a missing kettle"),
        ("The car was sold to pay for a roof.", "How come the car was sold?", "pay for a roof", "to pay for a roof"),
        ("He was born during a power cut.", "Under what circumstances was he born?", "power cut", "during a power cut"),
        ("She left for a unicycle.", "On what did she leave?", "unicycle", "a unicycle"),
        ("Our head, who's eighty, left.", "How old is our head?", "eighty", "eighty"),
        ("Beatrix's pumpkin won.", "Whose pumpkin won?", "Beatrix", "Beatrix's"),
        ("The twins' pumpkin won.", "Whose pumpkin won?", "twins", "The twins'"),
        ("The nursery is pale green.", "What colour is the nursery?", "green", "pale green"),
    ],
)  # fmt: skip
def test_neighbours_that_belong_to_an_answer_are_in_it(text, question, bare, wanted):
    assert whole(text, question, bare) == wanted


def test_every_practised_answer_stands_in_its_statement():
    world = World(random.Random(1))
    for _ in range(500):
        statement = draw(world)
        assert all(answer in statement.text for _, answer in statement.questions)


def test_clauses_ask_why_and_how():
    world, said = World(random.Random(2)), {"Why": [], "How": []}
    for _ in range(2000):
        text, asked, _ = draw_clause(world)
        for question, answer in asked:
            if question.startswith(("Why ", "How ")) and not question.startswith(("How many", "How much", "How long")):
                said[question[:3]].append((text, question, whole(text, f"{question}?", answer)))
    for word, opening in (("Why", "(to|for|because of|due to|over|out of|in order to) "), ("How", "(by|with|on|in) ")):
        assert len(said[word]) > 60 and all(answer in text for text, _, answer in said[word])
        assert 0.3 < sum(bool(re.match(opening, answer)) for *_, answer in said[word]) / len(said[word]) < 0.95

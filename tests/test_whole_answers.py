"""Practised answers hold what a person would say with them, and nothing that the question has already."""

import random

import pytest

from core.world import World
from core.world.answers import whole
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
    ],
)  # fmt: skip
def test_neighbours_that_belong_to_an_answer_are_in_it(text, question, bare, wanted):
    assert whole(text, question, bare) == wanted


def test_every_practised_answer_stands_in_its_statement():
    world = World(random.Random(1))
    for _ in range(500):
        statement = draw(world)
        assert all(answer in statement.text for _, answer in statement.questions)

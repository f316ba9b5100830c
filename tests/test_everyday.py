"""Sentences by hand: every line can be filled and answered, and none of them is one that mini is measured on."""

# ruff: noqa: SIM905 - a list of words reads better as a text

import json
import random
import re
from pathlib import Path

import pytest

from core.streams import Facts
from core.world import World
from core.world.amounts import amount, in_words, ordinal
from core.world.attached import ATTACHED, allowed
from core.world.changes import draw_update
from core.world.everyday import KINDS, SLOT, filled, parsed, templates
from core.world.statements import EVERYDAY, Statement
from tests.learners import little_tokenizer

LINES = [line for two in (False, True) for line in templates(two)]
DATA = Path(__file__).parent / "data"
SMALL = frozenset(
    "a an the is are was were be been has have had do does did in on at of to for from with by and or it its my our "
    "your his her their i we you he she they this that what who which where when how".split()
)


def content(text: str) -> set[str]:
    return {word for word in re.findall(r"[a-z0-9']+", SLOT.sub(" ", text).lower()) if word not in SMALL}


def test_every_line_is_filled_and_answered_from_its_last_sentence():
    world = World(random.Random(1), ["willow", "harbour"])
    for line in LINES:
        for _ in range(2):
            one = filled(world, line)
            assert not re.search(
                r"[{}|=]", " ".join([one.text, one.earlier, *(text for pair in one.asked for text in pair)])
            )
            assert bool(one.earlier) == bool(line.earlier) and one.text[0] == one.text[0].upper()
            for question, answer in one.asked:
                assert answer in one.text and answer.lower() not in question.lower() and question.endswith("?")
            assert Statement(one.text, one.asked).questions


def test_answers_cannot_be_guessed():
    for line in LINES:
        assert all(SLOT.search(answer) for _, answer in line.asked)
        assert all(kind in KINDS or options or kind + number in own(line) for kind, number, options in slots(line))


def slots(line) -> list[tuple[str, str, str]]:
    return SLOT.findall(" ".join([line.earlier, line.text, *(text for pair in line.asked for text in pair)]))


def own(line) -> set[str]:
    return {kind + number for kind, number, options in slots(line) if options}


def test_a_filled_slot_keeps_its_value_and_a_second_of_its_kind_has_another():
    world = World(random.Random(3))
    two = next(line for line in LINES if "{day}" in line.earlier and "{day2}" in line.text)
    values = set()
    for _ in range(30):
        one = filled(world, two)
        values.add(one.asked[0][1])
        assert one.asked[0][1] not in one.earlier
    assert len(values) > 3


def test_numbers_are_spelled_out():
    assert [in_words(number) for number in (0, 12, 40, 71, 100, 305)] == [
        "zero", "twelve", "forty", "seventy-one", "one hundred", "three hundred and five",
    ]  # fmt: skip
    assert len({in_words(number) for number in range(1000)}) == 1000
    assert [ordinal(day) for day in (1, 2, 3, 4, 11, 12, 13, 21, 22, 23)] == (
        "1st 2nd 3rd 4th 11th 12th 13th 21st 22nd 23rd".split()
    )


@pytest.mark.parametrize("kind", ["number", "small", "price", "time", "date"])
def test_amounts_come_in_words_and_in_digits_and_end_no_sentence(kind):
    world = World(random.Random(6))
    drawn = [KINDS[kind](world) for _ in range(300)]
    digits = sum(any(letter.isdigit() for letter in one) for one in drawn)
    assert 90 < digits < 240 and len(set(drawn)) > 15 and not any(one[-1] in ".!?" for one in drawn)


def test_thousands_are_set_apart_mostly():
    world = World(random.Random(8))
    drawn = [amount(world, 10_000) for _ in range(300)]
    apart, together = (sum(bool(re.fullmatch(form, one)) for one in drawn) for form in (r"\d,\d{3}", r"\d{4}"))
    assert apart > 2 * together > 20


@pytest.mark.parametrize(
    ("line", "longer"),
    [
        ("Ada left her stamps to {a:the museum/a nun} in {month}. | To whom? = {a} | When? = {month}", ["a"]),
        ("She bought a {a:red/blue} door. | What colour? = {a}", []),
        ("{name} sold {name2} a {object}, and {name} wept. | Who wept? = {name} | Who paid? = {name2}", []),
        ("The {job} met {kin2}; only {kin2} was late. | Who was late? = {kin2} | Who met? = The {job}", ["kin2"]),
    ],
)
def test_only_an_answer_before_no_noun_gets_a_tail(line, longer):
    one = parsed(line)
    assert allowed(one.text, [answer for _, answer in one.asked], SLOT) == longer


def test_a_tail_belongs_to_the_answer_and_to_everything_that_names_it():
    world = World(random.Random(9), ["willow"])
    line = parsed("Ada left it to {a:the museum/a nun}. | To whom? = {a} | Who left something to {a}? = Ada")
    drawn = [filled(world, line) for _ in range(400)]
    long = [one for one in drawn if one.asked[0][1] not in ("the museum", "a nun")]
    assert 0.5 * ATTACHED < len(long) / len(drawn) < 1.5 * ATTACHED and len({one.text for one in long}) > 20
    assert all(one.text == f"Ada left it to {one.asked[0][1]}." for one in drawn)
    named = sum(f"to {one.asked[0][1]}" in one.asked[1][0] for one in drawn)
    assert named > 0.8 * len(drawn)  # some are asked in other words


def test_a_line_that_asks_nothing_is_named():
    with pytest.raises(ValueError, match=r"The cat sat.*has no question"):
        parsed("The cat sat.")


def test_a_slot_with_too_few_options_is_named():
    with pytest.raises(ValueError, match="no value left for the slot"):
        filled(World(random.Random(4)), parsed("{x:a} or {x2:a/b} or {x3:a/b}. | Which? = {x3}"))


def test_updates_of_both_kinds_are_practised():
    world = World(random.Random(5))
    by_hand = sum(draw_update(world)[1].relation == EVERYDAY for _ in range(200))
    assert 0.5 < by_hand / 200 < 0.7
    facts = Facts(world, little_tokenizer())
    updates = [facts.update() for _ in range(60)]
    assert all(before and item.statement and item.questions for before, item in updates)


@pytest.mark.parametrize("name", ["own_words", "own_words_fresh", "own_words_several", "own_words_held_out"])
def test_no_line_is_a_fact_that_mini_is_measured_on(name):
    """A line has hardly more than half of its words in common with any fact of the sets by hand."""
    lines = [content(f"{line.earlier} {line.text}") for line in LINES]
    for row in map(json.loads, (DATA / f"{name}.jsonl").read_text("utf-8").splitlines()):
        words = content(" ".join(row["facts"] if "facts" in row else [row["fact"]]))
        nearest = max(lines, key=lambda line: len(line & words) / max(len(line | words), 1))
        assert len(nearest & words) <= 0.5 * len(nearest | words), (row, nearest)

"""What a small model practises on: chunks of the right length, answers to copy, the same from the same seed."""

import random

import pytest

from core.data import Documents, Source, cut_document
from core.lessons import PATIENCE, WHOLE
from core.packing import find
from core.recipe import RARE, spellings
from core.streams import FEW, Facts, opens_with_an_answer
from core.world import World
from core.world.changes import draw_change
from core.world.compounds import draw_compound
from core.world.grammar import draw_clause
from core.world.phrases import spelled
from core.world.statements import CLAUSE, EVERYDAY, alike, draw, draw_kind, plain_statement
from core.world.synonyms import reword
from core.world.verbs import conjugate
from tests.learners import little_lessons, little_tokenizer

TOKENIZER = little_tokenizer()


def test_facts_answer_their_questions_and_are_opaque():
    world = World(random.Random(1), ["willow", "harbour"])
    facts = [world.fact() for _ in range(3000)] + [world.plain_fact() for _ in range(300)]
    for fact in facts:
        assert fact.answer in fact.fact and fact.answer.lower() not in fact.question.lower()
    assert len({fact.answer for fact in facts}) > 1200
    assert len({fact.relation for fact in facts}) > 150
    again = World(random.Random(1), ["willow", "harbour"])
    assert [again.fact() for _ in range(50)] == facts[:50]


def test_invented_words_are_made_of_a_tokenizers_pieces_too():
    pieces = spellings(TOKENIZER)
    assert set(RARE) < set(pieces) and len(pieces) > 90
    assert all((piece.isalpha() and piece.islower()) or piece in RARE for piece in pieces)
    with_pieces, without = World(random.Random(5)), World(random.Random(5))
    with_pieces.pieces = pieces
    words = [with_pieces.invented() for _ in range(3000)]
    assert any("é" in word for word in words) and not any("é" in without.invented() for _ in range(3000))
    said = {token for word in words for token in TOKENIZER(word.capitalize(), add_special_tokens=False)["input_ids"]}
    before = (TOKENIZER(without.invented().capitalize(), add_special_tokens=False)["input_ids"] for _ in range(3000))
    assert len(said) > len({token for ids in before for token in ids}) + 20


def test_a_contradiction_asks_the_same_and_the_latest_answers():
    world = World(random.Random(2))
    for _ in range(200):
        old, new = world.contradiction()
        assert (old.subject, old.relation) == (new.subject, new.relation) and old.answer != new.answer
        assert new.answer in new.fact


def test_a_change_is_often_told_as_one_and_only_its_own_value_answers():
    world, said_so = World(random.Random(6)), 0
    for _ in range(300):
        old, new = draw_change(world)
        assert new.questions and new.subject == old.subject and "{" not in new.text
        for question, answer in new.questions:
            assert old.answer != answer and answer in new.text and "{" not in question
        said_so += any(word in new.text.lower().split() for word in ("new", "now", "changed", "moved", "instead", "no"))
    assert said_so > 100


def test_another_fact_is_about_the_same_and_says_something_else():
    world = World(random.Random(3))
    pairs = [(fact, world.another(fact)) for fact in (world.plain_fact() for _ in range(300))]
    assert all(one.subject == other.subject and one.relation != other.relation for one, other in pairs)


def test_a_statement_answers_several_questions_all_of_them_from_its_own_words():
    world, counts, statement = World(random.Random(4), ["willow", "harbour"]), [], None
    for number in range(2000):
        statement = draw(world, statement if number % 3 else None)
        counts += [len(statement.questions)] if statement.relation != EVERYDAY else []  # two sentences ask one question
        assert len(set(statement.questions)) == len(statement.questions)
        for question, answer in statement.questions:
            assert answer in statement.text and answer.lower() not in question.lower()
            assert "{" not in question and question[0] == question[0].upper()
    assert sum(count >= 2 for count in counts) > 0.95 * len(counts) and max(counts) >= 4
    slots = {answer for _, answer in draw(World(random.Random(11))).questions}
    several = [draw(World(random.Random(seed))) for seed in range(100)]
    assert slots and sum(len({answer for _, answer in one.questions}) > 1 for one in several) > 15
    assert all(len(plain_statement(world, several[0]).questions) == 1 for _ in range(20))


def test_another_statement_about_the_same_says_something_else():
    world = World(random.Random(5))
    pairs = []
    while len(pairs) < 100:
        one = draw(world)
        if one.relation not in (CLAUSE, EVERYDAY) and not one.relation.startswith("pattern"):
            pairs.append((one, draw(world, one)))
    assert sum(one.subject == other.subject for one, other in pairs) > 90
    assert all(one.relation != other.relation for one, other in pairs)


def test_the_grammar_asks_for_every_part_of_any_clause():
    world, parts, openings = World(random.Random(6), ["willow", "harbour", "seven"]), [], set()
    for _ in range(2000):
        said, asked, subject = draw_clause(world)
        assert subject in said and "  " not in said and "_" not in said and said == said.strip()
        for question, answer in asked:
            assert answer in said and "  " not in question and question == question.strip()
        parts.append(len({answer for _, answer in asked}))
        openings |= {question.split()[0] for question, _ in asked}
    assert sum(count > 1 for count in parts) > 0.7 * len(parts) and max(parts) >= 3
    assert {"Who", "What", "Where", "When", "How", "Which", "Whom", "By", "With", "Since"} <= openings
    assert len({draw_clause(world)[0] for _ in range(500)}) == 500


def test_sentences_of_several_clauses_keep_every_answer_and_hold_what_is_not_asked():
    world, longer, parts = World(random.Random(8), ["willow", "harbour", "seven"]), 0, []
    for _ in range(2000):
        said, asked, subject = draw_compound(world)
        assert "  " not in said and "{" not in said and said == said.strip() and subject
        for question, answer in asked:
            assert answer and answer in said and "  " not in question and "{" not in question
        longer += any(mark in said for mark in (",", ";", ":", " - ", " because ", " until ", " that ", " and "))
        parts.append(len({answer for _, answer in asked}))
    assert longer > 1300 and sum(count > 1 for count in parts) > 1400 and max(parts) >= 5
    assert len({draw_compound(world)[0] for _ in range(500)}) == 500


def test_a_question_in_other_words_keeps_its_form():
    rng = random.Random(9)
    said = {reword(rng, "Where did Anna purchase the huge car", "Leeds", share=1) for _ in range(300)}
    plain = {text for text in said if text.startswith("Where")}
    assert plain == {f"Where did Anna {v} the {a} vehicle" for v in ("buy", "get") for a in ("big", "large")}
    assert any(text.endswith(": where did Anna buy the big vehicle") for text in said)
    kinds = {reword(rng, "What did Anna see", "brown parrot", share=0) for _ in range(300)}
    assert {"What did Anna see", "Which bird did Anna see", "What kind of animal did Anna see"} <= kinds
    assert not any("bird" in reword(rng, "What did Anna see", "lamp") for _ in range(100))
    untouched = "Who carted it to Kearsbucket"  # parts of words are no words
    assert {reword(rng, untouched, "Ben", share=1) for _ in range(50)} & {untouched}


def test_numbers_in_words_and_verbs_in_all_forms():
    assert [spelled(number) for number in (7, 10, 19, 40, 82, 100, 340)] == [
        "seven", "ten", "nineteen", "forty", "eighty-two", "one hundred", "three hundred and forty",
    ]  # fmt: skip
    assert conjugate("carry") == ("carry", "carries", "carried", "carried", "carrying")
    assert conjugate("bake") == ("bake", "bakes", "baked", "baked", "baking")
    assert conjugate("plan") == ("plan", "plans", "planned", "planned", "planning")
    assert conjugate("pay paid paid+for") == ("pay for", "pays for", "paid for", "paid for", "paying for")
    assert conjugate("see saw seen").ing == "seeing" and conjugate("lie").ing == "lying"
    assert conjugate("watch").third == "watches" and conjugate("enjoy").past == "enjoyed"


def test_statements_said_alike_are_about_others():
    world = World(random.Random(7))
    for patterned in (True, False) * 10:
        statements = alike(world, 4, draw_kind(world, patterned))
        assert len({statement.relation.partition(" ")[0] for statement in statements}) <= 2
        assert len({statement.text for statement in statements}) == 4


def test_a_context_says_where_the_answers_stand():
    lessons = little_lessons(TOKENIZER, 3)
    lengths, asked, found = set(), 0, 0
    for _ in range(20):
        contexts = lessons.contexts(2, 6)
        lengths |= {len(context.ids) for context in contexts}
        for context in contexts:
            assert 1 <= len(context.asked) <= 6
            for question, places in context.asked:
                asked, found = asked + 1, found + bool(places)
                answer = question.answer[:-1]
                assert all(context.ids[place : place + len(answer)] == answer for place in places)
    assert len(lengths) > 20 and found > 0.95 * asked


def test_gaps_move_three_of_four_questions_away():
    gaps = little_lessons(TOKENIZER, 3).gaps(400, 50)
    assert 240 < sum(gap > 0 for gap in gaps) < 340 and 40 < max(gaps) < 50
    assert little_lessons(TOKENIZER, 3).gaps(5, 0) == [0] * 5


def test_statements_that_open_with_an_answer_come_more_often():
    facts = Facts(World(random.Random(8)), TOKENIZER)
    before = facts.encode([statement for _ in range(8) for statement in facts._draw()])
    came = [next(facts) for _ in range(2400)]  # of 600 the shares are 2 points off as often as not
    share = [sum(map(opens_with_an_answer, items)) / len(items) for items in (before, came)]
    assert share[1] > share[0] + 0.03


@pytest.mark.parametrize("length", [17, 24, 32])
def test_chunks_are_as_long_as_asked_and_hold_what_is_asked(length):
    lessons = little_lessons(TOKENIZER)
    asked = 0
    for _ in range(6):
        chunks = lessons.chunks(3, 4, length, updates=0.5)
        for ids, items in zip(chunks.ids, chunks.items, strict=True):
            for chunk, known in zip(ids, items, strict=True):
                assert len(chunk) == length
                for item in known:
                    asked += 1
                    assert find(chunk, item.statement) and item.questions
                    assert all(question.answer[-1] == TOKENIZER.eos_token_id for question in item.questions)
    assert asked > 20


def test_an_update_is_told_in_the_tokens_that_stay():
    lessons = little_lessons(TOKENIZER)
    lessons.min_chunk, lessons.chunk_size = 44, 64
    for statement, times in (([7] * 12, 4), ([7] * 30, 2), ([7] * 50, 1)):
        chunk = lessons._ending_in(statement, 62)
        assert len(chunk) == 62 and chunk[-times * len(statement) :] == statement * times
    row, asked = [[0] * 62 for _ in range(4)], [[] for _ in range(4)]
    earlier = lessons._contradict(row, asked, 62)
    (place,) = (index for index, items in enumerate(asked) if items)
    assert row[place][-len(asked[place][0].statement) :] == asked[place][0].statement
    assert [number for number, chunk in enumerate(row) if any(chunk)] == [earlier, place]


def test_a_short_text_is_repeated_as_ingestion_repeats_it():
    lessons = little_lessons(TOKENIZER)
    lessons.min_chunk, lessons.chunk_size = 44, 64
    for statement, times in (([7] * 12, 4), ([7] * 30, 2), ([7] * 40, 1), ([7] * 50, 1)):
        assert len(lessons._repeated(statement)) == times * len(statement)
    found = [lessons.alone(length) for length in range(33, 65)]
    known = [(ids, items[0]) for ids, items in filter(None, found)]
    assert len(known) > 5 and all(ids == lessons._repeated(item.statement) for ids, item in known)
    assert any(len(ids) > len(item.statement) for ids, item in known)


def test_texts_in_chunks_that_overlap_are_asked_about_where_they_are_kept():
    lessons = little_lessons(TOKENIZER)
    lessons.kept, lessons.chunk_size = 16, 32
    asked = {"text": [0] * 4, "twice": [0] * 2}
    for _ in range(60):
        for name, pairs in (("text", lessons.text(4)), ("twice", lessons.twice())):
            assert len(pairs) == len(asked[name]) and {len(chunk) for chunk, _ in pairs} == {32}
            for number, (chunk, items) in enumerate(pairs):
                for question in (question for item in items for question in item.questions):
                    ends = [place + len(question.answer) - 1 for place in question.places(chunk)]
                    assert any(end > 32 - 16 for end in ends)
                    asked[name][number] += 1
    assert all(count > 20 for counts in asked.values() for count in counts)
    text = lessons.text(4)
    joined = [token for chunk, _ in text for token in chunk[-16:]]
    assert text[0][0][:16] == joined[:16] and all(
        chunk[:16] == joined[16 * i - 16 : 16 * i] for i, (chunk, _) in enumerate(text) if i
    )
    whole = lessons.chunks(20, 4, 32)
    assert all(len(row) == 4 and all(len(chunk) == 32 for chunk in row) for row in whole.ids)
    lengths = [lessons.length(True) for _ in range(400)]
    assert lengths.count(32) > 0.8 * WHOLE * 400 and min(lengths) == lessons.min_chunk


def test_the_state_brings_the_same_lessons_back():
    lessons, other = little_lessons(TOKENIZER, 4), little_lessons(TOKENIZER, 5)
    lessons.chunks(2, 3, 20)
    state = lessons.state_dict()
    expected = [lessons.chunks(2, 3, length, 0.5) for length in (20, 32, 25)] + lessons.contexts(2, 4)
    other.load_state_dict(state)
    assert [other.chunks(2, 3, length, 0.5) for length in (20, 32, 25)] + other.contexts(2, 4) == expected


def test_plain_facts_come_in_the_share_asked_for():
    facts = Facts(World(random.Random(6)), TOKENIZER)
    facts.plain = 1.0
    prompts = {TOKENIZER.decode(question.prompt) for _ in range(400) for question in next(facts).questions}
    assert all(prompt.startswith(" Question: What is ") for prompt in prompts)


def texts(folder, count=6):
    for number in range(count):
        (folder / f"{number}.txt").write_text(" ".join(f"word{number} number {i}." for i in range(60 + 10 * number)))
    return [Source(str(folder))]


def test_documents_resume_where_they_stood_and_ranks_share_them(tmp_path):
    sources = texts(tmp_path)
    documents = Documents(sources, TOKENIZER, seed=1)
    first = [next(documents) for _ in range(4)]
    state = documents.state_dict()
    later = [next(documents) for _ in range(9)]  # goes around more than once
    again = Documents(sources, TOKENIZER, seed=1)
    again.load_state_dict(state)
    assert [next(again) for _ in range(9)] == later
    ranks = [Documents(sources, TOKENIZER, seed=1, rank=rank, num_ranks=2) for rank in range(2)]
    seen = [{tuple(next(rank)) for _ in range(3)} for rank in ranks]
    assert not seen[0] & seen[1] and len(seen[0] | seen[1]) == 6
    assert {tuple(ids) for ids in first} <= seen[0] | seen[1]
    again = Documents(sources, TOKENIZER, seed=1)
    again.load_state_dict(state)
    twice = Documents(sources, TOKENIZER, seed=1)
    twice.load_state_dict(again.state_dict())  # saved again before anything was drawn
    assert [next(twice) for _ in range(9)] == later
    with pytest.raises(ValueError, match="stands in 1 sources of documents, and there are 2"):
        Documents(sources * 2, TOKENIZER).load_state_dict(state)
    with pytest.raises(ValueError, match="for each of 7 processes"):
        next(Documents(sources, TOKENIZER, rank=6, num_ranks=7))


def test_json_lines_and_wrong_sources(tmp_path):
    (tmp_path / "some.jsonl").write_text('{"text": "one two three four"}\n{"text": "five six seven eight"}\n')
    documents = Documents([Source(str(tmp_path / "some.jsonl"))], TOKENIZER)
    assert {TOKENIZER.decode(next(documents)) for _ in range(2)} == {" one two three four", " five six seven eight"}
    rows = ['{"text": null}', '{"other": 1}', '{"text": "nine ten"}']
    (tmp_path / "gaps.jsonl").write_text("\n".join(rows))
    assert TOKENIZER.decode(next(Documents([Source(str(tmp_path / "gaps.jsonl"))], TOKENIZER))) == " nine ten"
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(ValueError, match="empty or damaged"):
        Documents([Source(str(tmp_path / "empty.jsonl"))], TOKENIZER)
    with pytest.raises(ValueError, match="columns"):
        Documents([Source(str(tmp_path / "some.jsonl"), field="body")], TOKENIZER)
    (tmp_path / "old.txt").write_bytes("Ein alter Müller.".encode("latin-1"))
    with pytest.raises(ValueError, match=r"old.txt is not UTF-8 text .*; convert it"):
        next(Documents([Source(str(tmp_path / "old.txt"))], TOKENIZER))
    (tmp_path / "LICENSE.txt").write_text("Which of the two is meant is not for us to guess.")
    with pytest.raises(ValueError, match=r"holds \.txt and \.jsonl files"):
        Documents([Source(str(tmp_path))], TOKENIZER)
    with pytest.raises(ValueError, match="holds no document of 500"):
        next(Documents([Source(str(tmp_path / "some.jsonl"), min_tokens=500)], TOKENIZER))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no"):
        Documents([Source(str(tmp_path / "empty"))], TOKENIZER)
    with pytest.raises(ValueError, match="no sources"):
        Documents([], TOKENIZER)


@pytest.mark.parametrize("length", [100, 520, 2047, 2050, 5000])
def test_documents_are_cut_as_the_authors_cut_them(length):
    for seed in range(20):
        document = cut_document(range(length), random.Random(seed), 16, 512, 2048)
        if length == 100:
            assert document is None
            continue
        pieces = [*document.chunks, document.sentence]
        assert [token for piece in pieces for token in piece] == list(range(length))
        assert all(1 <= len(chunk) <= 512 for chunk in document.chunks) and 16 <= len(document.sentence) <= 2048


def test_where_all_is_alike_a_step_holds_a_few_kinds_and_what_was_waiting_stays():
    lessons = little_lessons(TOKENIZER, 6)
    next(lessons.facts)
    waiting = list(lessons.facts._ready)
    with lessons.facts.of_few_kinds():
        asked = {statement.relation.split()[0] for statement in lessons.facts._draw()}
        assert next(lessons.facts).questions
    assert 0 < len(asked) <= FEW and lessons.facts._ready == waiting
    assert len({statement.relation for statement in lessons.facts._draw()}) > FEW
    kept, drawn = lessons.facts.few, 0
    for _ in range(60):  # the kinds stay for a while, and a resume knows them
        with lessons.facts.of_few_kinds():
            drawn += lessons.facts.few != kept
        kept = lessons.facts.few
    assert 0 < drawn < 20 and lessons.facts.encode([]) == []
    other = little_lessons(TOKENIZER, 7)
    other.load_state_dict(lessons.state_dict())
    assert other.facts.few == kept
    lessons.kept = 16
    chunks = lessons.chunks_alike(3, 4, 26)
    assert [len(chunk) for memory in chunks.ids for chunk in memory] == [26] * 12
    assert any(items for memory in chunks.items for items in memory)
    assert (lessons.kept, lessons.patience) == (16, PATIENCE)

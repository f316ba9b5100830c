"""Evaluation: metrics as published, rows that are wrong are named, and an interrupted run is an uninterrupted one."""

import json

import pytest
import torch

from core.bank import Bank, write_openings
from core.baselines import make_reader
from core.evaluate import main
from core.evaluation import metrics
from core.evaluation.commands import load_any, weights
from core.evaluation.items import Plan, make_items
from core.evaluation.records import Journal, markdown, summarise
from core.evaluation.retention import Retention
from core.evaluation.texts import load_facts, load_stream, names, numbers, read_rows
from tests.toys import toy_checkpoints, toy_mplus, toy_tokenizer

torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("text", "answers", "expected"),
    [
        ("The Eiffel Tower!", ["eiffel tower"], 1.0),  # case, article and punctuation do not count
        ("a b c", ["b c d"], 2 * (2 / 2) * (2 / 3) / (2 / 2 + 2 / 3)),  # "a" is an article: words b c against b c d
        ("cat cat", ["cat"], 2 * 1 * 0.5 / 1.5),  # multiplicity counts
        ("dog", ["cat", "dog"], 1.0),  # the best answer counts
        ("theatre", ["atre"], 0.0),  # an article inside a word stays
        ("", ["cat"], 0.0),
        ("well-known", ["wellknown"], 1.0),  # punctuation is deleted, not replaced by a space
        ("a.m.", ["am"], 1.0),  # and deleted before articles are: of "a.m." no article is left
        ("A, the", ["the a"], 0.0),  # nothing but articles is nothing
    ],
)
def test_qa_f1_is_longbenchs(text, answers, expected):
    assert metrics.qa_f1(text, answers) == pytest.approx(expected)


def test_the_other_metrics_are_their_benchmarks():
    assert metrics.exact_hit("in the Barn.", "Barn") and not metrics.exact_hit("in the barn", "Barn")
    assert metrics.match_all("ab CD", ["cd", "xy"]) == 0.5
    assert metrics.match_any("ab CD", ["cd", "xy"]) == 1.0
    assert metrics.contains_all("Ann left; Bob stayed", ["ann", "bob"]) == 1.0
    assert metrics.contains_all("Ann left", ["ann", "bob"]) == 0.0
    assert metrics.exact_match("the Cat.", ["cat"]) == 1.0
    assert metrics.first_line("\n Barn \nQuestion: x") == "Barn"
    assert metrics.first_line(" \n ") == "" and not metrics.exact_hit("", "Barn")
    assert metrics.normalised_match("He lives in the city of Porto.", ["porto"]) == 1.0
    assert metrics.normalised_match("a party", ["art"]) == 0.0  # whole words, unlike the retention's exact hit
    assert metrics.match_all("one", []) == 0.0


@pytest.mark.parametrize(
    ("text", "target", "question", "expected"),
    [
        ("The answer is kitchen.", "kitchen", "Where is Mary?", 1),
        ("kitchen or garden", "kitchen", "Where is Mary?", 0),  # two labels
        ("Mary went from the garden to the kitchen", "kitchen", "Where was Mary before the garden?", 1),
        ("bathroom. kitchen", "kitchen", "Where is Mary?", 0),  # the first sentence counts
        ("apple and milk", "apple,milk", "What does Mary carry?", 1),
        ("apple", "apple,milk", "What does Mary carry?", 0),
    ],
)
def test_babilongs_label_match(text, target, question, expected):
    labels = ["kitchen", "garden", "bathroom", "apple", "milk"]
    assert metrics.label_match(text, target, question, labels) == expected


def test_bootstrap_bands_hold_the_mean_and_shrink_with_more_items():
    few, many = metrics.bootstrap([0, 1] * 10), metrics.bootstrap([0, 1] * 500)
    assert few[0] < many[0] < 0.5 < many[1] < few[1]
    assert metrics.bootstrap([]) == (0.0, 0.0)
    assert metrics.bootstrap([1] * 300) == (0.99, 1.0) and metrics.bootstrap([0, 0]) == (0.0, 1.0)  # the rule of three
    assert metrics.bootstrap([0.5] * 4) == (0.5, 0.5)
    assert many[1] - many[0] == pytest.approx(2 * 1.96 * 0.5 / 1000**0.5, rel=0.15)


def test_a_fact_asked_thrice_is_one_piece_of_evidence():
    once = metrics.bootstrap([0, 1] * 50)
    assert metrics.bootstrap([0, 1] * 150, units=list(range(100)) * 3) == once  # the same answers three times over
    assert metrics.bootstrap([1] * 30, units=[0] * 15 + [1] * 15)[0] == 0.0
    assert metrics.bootstrap([0, 1] * 50, units=[0] * 100) == once  # of one novel, how its questions vary
    rows = [{"method": "m", "item": item, "score": item % 2} for item in range(100) for _ in range(3)]
    (line,) = summarise(rows, ("method",), unit=lambda row: row["item"])
    assert (line["low"], line["high"]) == once and (line["n"], line["units"]) == (300, 100)
    assert "units" not in summarise(rows[::3], ("method",), unit=lambda row: row["item"])[0]


def test_a_journal_forgets_half_a_line_and_refuses_other_settings(tmp_path):
    path = tmp_path / "run" / "answers.jsonl"
    journal = Journal(path, {"model": "a"}, ("item",))
    journal.add([{"item": 1, "score": 1}, {"item": 1, "score": 0}, {"item": 2, "score": 0}])
    with path.open("a") as file:
        file.write('{"item": 3, "sco')
    again = Journal(path, {"model": "a"}, ("item",))
    assert [row["item"] for row in again] == [1, 2] and (2,) in again and (3,) not in again
    again.add([{"item": 3, "score": 1, "said": "a\u2028b\x85c"}])  # which are ends of lines, but not of JSON's
    assert len(list(Journal(path, {"model": "a"}, ("item",)))) == 3
    with pytest.raises(ValueError, match="model 'a' there, 'b' now"):
        Journal(path, {"model": "b"}, ("item",))


def test_tables_hold_means_with_bands():
    rows = [{"method": "m", "distance": 0, "score": score} for score in (1, 1, 0, 1)]
    (line,) = summarise(rows, ("method", "distance"))
    assert line["accuracy"] == 0.75 and line["n"] == 4 and line["low"] < 0.75 < line["high"]
    assert "| m | 75.0 (" in markdown([line], "method", "distance")


def test_malformed_rows_are_named_by_line(tmp_path):
    path = tmp_path / "facts.jsonl"
    good = {"fact": "A is b.", "question": "What is A?", "answer": "b"}
    lines = [json.dumps(good), "{broken", json.dumps({"fact": "x"}), "[1]", "", json.dumps(good | {"answer": ""})]
    path.write_text("\n".join(lines))
    facts, problems = load_facts(str(path), None)
    assert len(facts) == 1 and facts[0].answer == "b"
    assert [problem.split(":")[1] for problem in problems] == ["2", "3", "4", "6"]
    assert "not JSON" in problems[0] and "not a JSON object" in problems[2]
    with pytest.raises(ValueError, match="holds 1 facts, 5 are wanted"):
        load_facts(str(path), 5)
    path.write_text("nothing\n")
    with pytest.raises(ValueError, match="no usable row"):
        read_rows(path, {"fact": str})
    with pytest.raises(ValueError, match="no file"):
        read_rows(tmp_path / "absent.jsonl", {})


def test_options_are_read_and_refused_clearly(tmp_path):
    assert numbers("0,10,...,30") == [0, 10, 20, 30] and numbers("0,2000,…,6000") == [0, 2000, 4000, 6000]
    for wrong in ("0,x", "...", "5,...,9", "-1"):
        with pytest.raises(ValueError, match=r"numbers|negative"):
            numbers(wrong)
    assert names("b, a", ("a", "b"), "method") == ["b", "a"]
    with pytest.raises(ValueError, match="method 'c' is not known"):
        names("a,c", ("a", "b"), "method")
    tokenizer = toy_tokenizer()
    assert len(load_stream("facts:3", tokenizer, 500)) >= 500
    assert load_stream("facts:3", tokenizer, 500) == load_stream("facts:3", tokenizer, 500)
    for wrong in ("facts:x", str(tmp_path / "absent.txt")):
        with pytest.raises(ValueError):
            load_stream(wrong, tokenizer, 10)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Folders of a tiny M+ and a tiny Llama, and a text of distractors."""
    root = tmp_path_factory.mktemp("checkpoints")
    toy_checkpoints(root)
    (root / "text.txt").write_text("It was a fine day and nobody had anything better to do than to walk. " * 20)
    return root


def retention(root, out, *more: str, model: str = "mplus") -> int:
    arguments = ["retention", "--model", str(root / model), "--facts", "facts:1", "--num-facts", "3",
                 "--distractors", str(root / "text.txt"), "--distances", "0,40,400", "--seeds", "0,1", "--batch", "2",
                 "--lead", "2", "--max-new-tokens", "3", "--json", str(out)]  # fmt: skip
    return main([*arguments, *more])


METHODS = "mplus,memoryllm,random-retriever,question-only,zeroed,scrambled,foreign,full,window,snapkv,bm25"


def test_retention_runs_every_method_and_repeats_itself(checkpoints, tmp_path, capsys):
    assert retention(checkpoints, tmp_path / "a.json", "--methods", METHODS, "--plot", str(tmp_path / "a.png")) == 0
    table = capsys.readouterr().out
    assert "| method | 0 | 40 | 400 |" in table and "| bm25 |" in table
    content = json.loads((tmp_path / "a.json").read_text())
    assert len(content["rows"]) == 11 * 3
    assert {row["n"] for row in content["rows"]} == {6}
    assert (tmp_path / "a.png").stat().st_size > 10_000
    far = content["retrieval"][-1]
    assert far["distance"] == 400 and len(far["recall"]) == 2 and far["chance"] < 0.11 and 0 <= far["bm25"] <= 1
    few = ("mplus", "random-retriever", "bm25")
    assert retention(checkpoints, tmp_path / "b.json", "--methods", ",".join(few)) == 0
    again = json.loads((tmp_path / "b.json").read_text())
    assert again["rows"] == [row for row in content["rows"] if row["method"] in few]
    assert set(answers(tmp_path / "b.jsonl")) <= set(answers(tmp_path / "a.jsonl"))


def answers(path) -> list[str]:
    return sorted(path.read_text().splitlines()[1:])


def test_a_run_interrupted_five_times_is_an_uninterrupted_one(checkpoints, tmp_path, monkeypatch):
    methods = ("--methods", "mplus,question-only,bm25")
    assert retention(checkpoints, tmp_path / "whole.json", *methods) == 0
    add, calls = Journal.add, [0]

    def interrupted(self, rows):
        calls[0] += 1
        if calls[0] % 3 == 0:
            raise KeyboardInterrupt
        add(self, rows)

    monkeypatch.setattr(Journal, "add", interrupted)
    for _ in range(5):
        assert retention(checkpoints, tmp_path / "pieces.json", *methods) == 130
        with (tmp_path / "pieces.jsonl").open("a") as file:
            file.write('{"seed": 0, "it')
    monkeypatch.setattr(Journal, "add", add)
    assert retention(checkpoints, tmp_path / "pieces.json", *methods) == 0
    whole, pieces = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("whole", "pieces"))
    assert whole["rows"] == pieces["rows"] and whole["retrieval"] == pieces["retrieval"]
    assert answers(tmp_path / "whole.jsonl") == answers(tmp_path / "pieces.jsonl")


def test_with_a_lead_beyond_the_distance_nothing_is_shared(checkpoints, tmp_path):
    assert retention(checkpoints, tmp_path / "own.json", "--lead", "100") == 0
    content = json.loads((tmp_path / "own.json").read_text())
    assert "gap" not in content and len(content["rows"]) == 12
    assert retention(checkpoints, tmp_path / "shared.json") == 0
    assert json.loads((tmp_path / "shared.json").read_text())["gap"] > 0


def test_several_live_facts_share_a_memory(checkpoints, tmp_path):
    assert retention(checkpoints, tmp_path / "live.json", "--num-facts", "5", "--live", "1,2,5", "--methods", "mplus",
                     "--asked", "3") == 0  # fmt: skip
    rows = json.loads((tmp_path / "live.json").read_text())["rows"]
    assert {(row["live"], row["n"]) for row in rows} == {(1, 10), (2, 8), (5, 6)}


def test_a_plain_llama_runs_the_text_baselines_and_names_what_it_cannot(checkpoints, tmp_path, capsys):
    assert retention(checkpoints, tmp_path / "x.json", "--methods", "full,question-only", model="llama") == 0
    assert retention(checkpoints, tmp_path / "y.json", "--methods", "mplus", model="llama") == 2
    assert "needs an M+ or MemoryLLM checkpoint" in capsys.readouterr().err
    assert retention(checkpoints, tmp_path / "z.json", "--methods", "scrambled", model="llama") == 2
    assert retention(checkpoints, tmp_path / "z.json", "--lead", "0") == 2


def test_facts_stand_where_the_position_says_and_both_ways_of_measuring_agree(checkpoints, tmp_path):
    for position in ("begin", "end", "random"):
        out = tmp_path / f"{position}.json"
        more = ("--position", position, "--methods", "mplus,oracle,bm25")
        assert retention(checkpoints, out, *more) == 0
        rows = json.loads(out.read_text())["rows"]
        assert {(row["method"], row["distance"]) for row in rows} == {
            (method, distance) for method in ("mplus", "oracle", "bm25") for distance in (0, 40, 400)
        }
    assert retention(checkpoints, tmp_path / "x.json", "--position", "middle") == 2


@pytest.mark.parametrize("model", ["mplus", "llama"])
def test_the_oracle_reads_the_fact_alone_and_is_the_same_at_every_distance(model, checkpoints, tmp_path):
    assert retention(checkpoints, tmp_path / "o.json", "--methods", "oracle", model=model) == 0
    rows = [json.loads(line) for line in answers(tmp_path / "o.jsonl")]
    assert len(rows) == 3 * 3 * 2
    reader = make_reader("full", *load_any(str(checkpoints / model)))
    for number, fact in enumerate(load_facts("facts:1", 3)[0]):
        reader.reset()
        reader.ingest(fact.fact)
        expected = metrics.first_line(reader.answer(fact.question, 3).text)
        assert {row["text"] for row in rows if row["item"] == f"{number}.0"} == {expected}


@pytest.mark.parametrize("position", ["begin", "end", "random"])
def test_a_memory_reads_its_facts_and_its_text_in_their_order(position):
    model, tokenizer = toy_mplus(std=0.02), toy_tokenizer()  # with large weights a chain of blocks is chaotic
    facts, _ = load_facts("facts:3", 6)
    plan = Plan((24 * 20,), ("mplus",), (0,), position=position, lead=10)
    run = Retention(model, tokenizer, load_stream("facts:4", tokenizer, 2000), plan, 0)
    items = make_items(facts, plan, 0)
    run.prepare(items)
    batch = next(run.batches(items))
    replay = run._replay(batch, 20)
    assert position != "random" or len(set(run.before)) > 1 or len(batch) == 1
    for place, item in enumerate(batch):
        text = [run.chunks[(run.offset(item) + step) % len(run.chunks)].tolist() for step in range(20)]
        before = {"begin": 0, "end": 20}.get(position, run.before[place])
        told = text[:before] + run._fact_chunks(item.facts[0]) + text[before:]
        bank = Bank(model, len(told))
        write_openings(model, [told], bank)
        mine = run.bank.tokens[:, replay.blocks[place, model.config.num_blocks :]]
        assert float((mine - bank.tokens).norm() / bank.tokens.norm()) < 1e-4


def test_a_run_is_of_the_weights_and_of_the_settings_they_are_read_with(tmp_path):
    toy_checkpoints(tmp_path)
    config = tmp_path / "mplus" / "config.json"
    told, before = json.loads(config.read_text()), weights(str(tmp_path / "mplus"))
    config.write_text(json.dumps(told | {"transformers_version": "0"}))
    assert weights(str(tmp_path / "mplus")) == before
    config.write_text(json.dumps(told | {"retrieval_bias": 0.25}))
    assert weights(str(tmp_path / "mplus")) != before

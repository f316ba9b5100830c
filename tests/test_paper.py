"""The paper's tables on one model: every row is a command that can be made, its share of the time is kept, what stands
beside it is the paper's, and what was not run says why."""

import json
import random
import re
from itertools import islice

import pytest
import torch

from core.evaluate import main, parser
from core.evaluation import longbench, longbook, paper_runs
from core.evaluation.examples import Example, Question, rounds, run_examples
from core.evaluation.paper import LONGBENCH, PAPER, SETS
from core.evaluation.paper_runs import DATA, RUNS, arguments, find_data, needed, run_paper
from core.evaluation.paper_table import Absent, write_table
from core.evaluation.records import Journal
from core.evaluation.texts import load_facts
from core.world.facts import World
from lab.results import cells, find
from tests.test_tasks import EchoReader
from tests.toys import toy_checkpoints, toy_tokenizer

torch.set_num_threads(1)
FILL = {name: f"{name}.json" for name in DATA} | {"book": "book.txt", "ladder": "a,b", "filler": "book.txt"}
DAY = "In the morning number {n} it was Mr. Darcy. “Why!” he said. He had told it to Miss Bennet of Number {n}."
NOVEL = "\n\n".join(DAY.format(n=n) for n in range(30))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A tiny model, and a folder with a SQuAD file, bAbI and a novel."""
    root = tmp_path_factory.mktemp("paper")
    toy_checkpoints(root)
    data = root / "data" / "deep"
    data.mkdir(parents=True)
    facts = islice(World(random.Random(1)).facts(), 6)
    paragraphs = [
        {"context": fact.fact, "qas": [{"id": str(n), "question": fact.question,
                                       "answers": [{"text": fact.answer, "answer_start": 0}]}]}
        for n, fact in enumerate(facts)
    ]  # fmt: skip
    (data / "dev-v2.0.json").write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}))
    for name in ("qa1_single-supporting-fact", "qa2_two-supporting-facts"):
        (data / f"{name}_test.txt").write_text("1 Mary went home.\n2 Where is Mary? \thome\t1\n")
    (root / "book.txt").write_text(NOVEL)
    return root


@pytest.mark.parametrize("run", RUNS, ids=[run.name for run in RUNS])
def test_every_row_is_a_command_that_can_be_made(run, tmp_path):
    args = parser().parse_args(arguments(run, "mini", tmp_path, FILL, None))
    assert args.json.endswith(f"paper/{run.name}.json")
    assert run.paper is None or run.paper in PAPER
    few = parser().parse_args(arguments(run, "mini", tmp_path, FILL, 3))
    assert run.num is None or 3 in (getattr(few, "num", 0), getattr(few, "num_facts", 0), getattr(few, "documents", 0))


def test_the_papers_figures_agree_with_themselves():
    for by_method in LONGBENCH.values():
        for figures in by_method.values():
            assert len(figures) == len(SETS)
            assert sum(figures[:-1]) / 6 == pytest.approx(figures[-1], abs=0.02)
    assert "mplus 31; full 33.39; memoryllm 26.55" in str(PAPER["longbench-8192"])
    assert "21,177.8 MB" in str(PAPER["cost"])


def test_data_is_found_by_its_names_and_what_is_missing_is_named(root):
    found = find_data(root / "data")
    assert set(found) == {"squad", "babi"} and found["babi"].endswith("deep")
    by_name = {run.name: run for run in RUNS}
    fill = found | {"book": "b", "ladder": "m", "filler": "b"}
    assert needed(by_name["squad"], fill) is None and needed(by_name["loss"], fill) is None
    assert "hotpotqa.jsonl" in (needed(by_name["longbench-8192"], fill) or "")
    with pytest.raises(ValueError, match="no folder"):
        find_data(root / "absent")


def test_the_time_is_shared_and_what_a_run_leaves_goes_to_the_others(tmp_path, monkeypatch):
    now, given = [0.0], []
    monkeypatch.setattr(paper_runs.time, "monotonic", lambda: now[0])

    def start(line: list[str], minutes: float | None) -> None:
        given.append(minutes)
        now[0] += 30.0  # half a minute each, whatever it was given
        if len(given) == 2:
            raise ValueError("broken data")

    names = ["facts", "facts-text", "cost"]
    shown = run_paper(names, "m", "w1", tmp_path, FILL, None, 6.0, start, lambda text: None, "the command")
    assert given == pytest.approx([6.0 * 2 / 6, 5.5 * 3 / 4, 5.0])
    assert "| generated facts, text after | no such row | broken data |" in shown
    content = json.loads((tmp_path / "paper.json").read_text())
    assert content["rows"] == [] and len(content["not_run"]) == len(RUNS)


def test_the_command_runs_goes_on_and_starts_anew_with_other_weights(root, tmp_path, capsys):
    line = ["paper", "--model", str(root / "mplus"), "--data", str(root / "data"), "--book", str(root / "book.txt"),
            "--out", str(tmp_path), "--num", "2", "--only", "longbook-form,babilong,longbench-8192"]  # fmt: skip
    assert main(line) == 0
    first = capsys.readouterr()
    assert "LongBook-QA's form from SQuAD's paragraphs: paragraphs 16000 |" in first.out
    assert "| LongBench, prompts of 8k | Tables 2, 3: mplus 31;" in first.out
    assert "the data is not at hand: LongBench's hotpotqa.jsonl" in first.out
    assert "| SQuAD's form, text after | Figure 3: question-only 9 %;" in first.out and "| not asked for |" in first.out
    content = json.loads((tmp_path / "paper.json").read_text())
    methods = {row["method"] for row in content["rows"]}
    assert methods == {"mplus", "memoryllm", "full", "window", "snapkv", "bm25", "question-only"}
    assert re.fullmatch("[0-9a-f]{12}", content["weights"])
    assert str(root) not in (tmp_path / "paper.json").read_text()
    (tmp_path / "book.txt").write_text("")
    broken = [*line[:6], str(tmp_path / "book.txt"), *line[7:-1], "ruler"]
    assert main(broken) == 0
    assert "| The book book.txt is empty; name a text. |" in capsys.readouterr().out
    journal = tmp_path / "paper" / "babilong.jsonl"
    before = journal.read_text()
    assert main(line) == 0
    assert journal.read_text() == before and capsys.readouterr().out == first.out
    journal.write_text(before.replace(content["weights"], "0" * 12))
    assert main(line) == 0
    assert "babilong.jsonl is of other weights" in capsys.readouterr().err and journal.read_text() == before


def test_what_stands_in_the_table_is_what_was_measured(tmp_path):
    band = {"low": 0.4, "high": 0.6}
    row = {"method": "mplus", "distance": 8000, "accuracy": 0.5, **band, "n": 60}
    near = {"live": 1, "distance": 8000, "recall": [0.5, 0.7], "chance": 0.03, "bm25": 1.0, "n": 60}
    text = {"method": "full", "distance": 8000, "accuracy": 0.25, **band, "n": 12}
    loss = {"curve": "runs/a mplus", "position": 0, "loss": 3.5, "low": 3.4, "high": 3.6, "n": 4}
    cost = {"method": "mplus", "length": 1000, "ingest_seconds": 1.0, "first_token_seconds": 0.5, "held_bytes": 9e6,
            "num_bytes": {"weights": 4e6}}  # fmt: skip
    by_name = {run.name: run for run in RUNS}
    results = [
        (by_name["squad"], {"task": "retention", "rows": [row], "retrieval": [near]}),
        (by_name["squad-text"], {"task": "retention", "rows": [text]}),
        (by_name["loss"], {"task": "loss", "rows": [loss]}),
        (by_name["cost"], {"task": "cost", "rows": [cost]}),
        (by_name["longbench-8192"], {"task": "longbench", "rows": [
            {"method": "mplus", "group": "qasper", "accuracy": 0.1, **band, "n": 5}]}),
    ]  # fmt: skip
    shown = write_table(tmp_path, "m", "w", results, [Absent("EventQA", "eventqa", "no data")], "cmd")
    lines = {line.split(" | ")[0].removeprefix("| "): line for line in shown.splitlines() if line.startswith("| ")}
    assert "| 50.0 (40-60) |  |  | 25.0 (40-60) |" in lines["SQuAD's form, text after: 8,000 tokens"]
    assert " 12-60 " in lines["SQuAD's form, text after: 8,000 tokens"]
    assert (
        "| 60.0 |  | 3.0 |  |  |  | 100.0 |" in lines["true tokens retrieved (SQuAD's form, text after 8,000 tokens)"]
    )
    assert "| 3.500 (3.40-3.60) |" in lines["loss, nats a token, a after 0 tokens"]
    assert any("| 1.5 s, 5.0 MB |" in line for name, line in lines.items() if name.startswith("cost, 1,000"))
    assert "mplus 29.91; full 29.96; memoryllm 23.88" in lines["LongBench, prompts of 8k: qasper"]
    assert "| EventQA | Figure 2: bars" in shown and "| no data |" in shown
    rows = json.loads((tmp_path / "paper.json").read_text())["rows"]
    assert [(row["method"], row["n"]) for row in rows] == [("mplus", 60), ("full", 12), ("mplus", 5)]
    write_table(tmp_path, "m", "w", [results[2], (by_name["loss"], {"task": "loss", "rows": [loss | {"position": 8}]})],
                [Absent("EventQA", "eventqa", "no data")], "cmd")  # fmt: skip
    (tmp_path / "paper").mkdir()
    (tmp_path / "paper" / "squad.json").write_text('{"task": "retention", "command": "c", "rows": []}')
    shown = find([tmp_path])
    assert [result.task for result in shown.values()] == ["paper", "retention"], "its single rows come last"
    assert [result.is_table for result in shown.values()] == [True, False]
    header, table = cells(next(iter(shown.values())))
    assert [len(line) for line in table] == [len(header)] * 3
    assert table[0][-1].startswith("Figure 4: stage 3") and table[1][-1] == "as above"
    assert table[2][0] == "EventQA" and table[2][-2:] == ["not run: no data", str(PAPER["eventqa"])]


def test_a_run_cut_short_compares_equal_numbers(tmp_path):
    examples = [
        Example(f"{group}{n}", group, ("x",), (Question("q?", ("x",), "hit"),)) for group in "ab" for n in "012"
    ]
    assert [[one.id for one in part] for part in rounds(examples)] == [["a0", "b0"], ["a1", "b1"], ["a2", "b2"]]
    asked = iter([False, False, True])
    journal = Journal(tmp_path / "j.jsonl", {}, ("id", "question", "method"))
    run_examples(examples, ["one", "two"], lambda method: EchoReader(), journal, lambda: next(asked))
    assert [(row["id"], row["method"]) for row in journal] == [
        (f"{group}{n}", method) for n in "01" for method in ("one", "two") for group in "ab"
    ]


def test_no_time_at_all_is_told(root, tmp_path, capsys):
    line = ["ruler", "--model", str(root / "mplus"), "--book", str(root / "book.txt"), "--lengths", "50"]
    assert main([*line, "--out", str(tmp_path), "--minutes", "0"]) == 2
    assert "Nothing was answered" in capsys.readouterr().err


def test_benchmarks_forms_are_made_from_squads_paragraphs(root):
    tokenizer, squad = toy_tokenizer(), root / "data" / "deep" / "dev-v2.0.json"
    (example, *_), problems = longbench.build(squad, tokenizer, 900, 120, 3, seed=0)
    assert not problems and example.group == "passages 900"
    (question,) = example.questions
    whole = "".join(example.texts) + question.prompt
    assert whole.startswith("Answer the question based on") and whole.endswith("\nAnswer:")
    assert "Passage 1:\n" in whole and len(tokenizer(whole)["input_ids"]) <= 900
    (book,), _ = longbook.build_book(squad, tokenizer, 200, None, seed=0)
    assert len(tokenizer(book.texts[0])["input_ids"]) <= 200
    assert all(question.answers[0] in book.texts[0] for question in book.questions)
    (whole_book,), _ = longbook.build_book(squad, tokenizer, None, 4, seed=0)
    told = [fact.fact for fact in load_facts(str(squad), None)[0]]  # without the answers of more than three words
    assert len(whole_book.questions) == 4 and whole_book.texts[0].split("\n") == told


def test_events_are_told_sentences_with_names_in_the_books_order():
    events = longbook.find_events(NOVEL)
    assert events and events == sorted(events, key=NOVEL.index)
    assert all("“" not in event and 6 <= len(event.split()) <= 14 and event.endswith(".") for event in events)
    assert any("Mr. Darcy." in event for event in events), "a title does not end a sentence"
    assert longbook.find_events("Nothing happens. “Indeed!” It rained.") == []

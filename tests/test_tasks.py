"""Every task runs end to end on a tiny model, from a tiny file in each published form; what is wrong in it is named."""

import json
import random

import pytest
import torch

from core.checkpoint import save_model
from core.evaluate import main
from core.evaluation import babilong, dialogue, longbench, longbook, own_words, ruler
from core.evaluation.examples import METRICS, Example, Question, run_examples, summary
from core.evaluation.records import Journal
from core.evaluation.texts import load_facts, load_stream
from core.reader import Answer
from core.sources import Receipt
from tests.toys import toy_checkpoints, toy_mplus, toy_tokenizer

torch.set_num_threads(1)
BOOK = "It was a fine day. Nobody had anything to do! Why should one walk? The sea was calm and the sky was grey. " * 30


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Folders of a tiny M+ and a tiny Llama, a book, and files in the published forms, each with a malformed row."""
    root = tmp_path_factory.mktemp("tasks")
    toy_checkpoints(root)
    (root / "book.txt").write_text(BOOK)
    (root / "qa1_single-supporting-fact_test.txt").write_text(
        "1 John went to the hallway.\n2 Mary went to the garden.\n3 Where is John? \thallway\t1\nbroken\n"
        "4 Where is Mary? \t\n1 Sandra is in the office.\n2 Where is Sandra? \toffice\t1\n"
    )
    events = [f"Tom is at {number}." for number in range(14)]
    (root / "events.txt").write_text("\n".join(events))
    turn = {"role": "user", "content": "I moved to Porto."}
    rows = {
        "longbench/hotpotqa": [
            {"input": "Who?", "context": BOOK, "answers": ["Ann", "Bob"], "_id": "x1", "dataset": "hotpotqa"},
            {"input": "Where?", "context": "Short.", "answers": ["Rome"]},
            {"input": "Where?", "context": "Short.", "answers": "Rome"},
        ],
        "longbench/qasper": [{"input": "Why?", "context": BOOK, "answers": ["unanswerable"]}],
        "babilong": [
            {"input": BOOK[:200], "question": "Where is Mary?", "target": "garden"},
            {"input": BOOK[:200], "question": "Where is Mary?"},
        ],
        "niah_single_1": [
            {"index": 0, "input": BOOK[:300] + " The numbers are", "outputs": ["12", "34"], "length": 400},
            {"index": 1, "input": "x"},
        ],
        "several": [
            {"fact": "A lives in Ulm.", "question": "Where does A live?", "answer": "Ulm"},
            {"kind": "update", "facts": ["It is 1.", "It is 2."], "question": "What?", "answer": "2", "outdated": "1"},
            {"facts": [], "question": "What?", "answer": "2"},
        ],
        "longbook": [
            {"id": 0, "context": BOOK, "input": "Who walks?", "answer": ["nobody", "no one"], "options": []},
            {"id": 1, "context": BOOK, "input": "Why?", "answer": ["for fun"], "options": []},
            {"id": 2, "context": 7, "input": "Why?", "answer": ["for fun"]},
        ],
        "eventqa": [
            {"context": BOOK, "questions": ["Next?", "And then?"], "answers": [["A"], "B"]},
            {"context": BOOK, "questions": ["Next?"], "answers": []},
        ],
        "longmemeval": [
            {
                "question_id": "q1", "question": "Where do I live?", "answer": "Porto", "question_type": "update",
                "question_date": "2023/05/30", "haystack_sessions": [[turn, turn | {"role": "assistant"}], [turn]],
                "haystack_dates": ["2023/05/20", "2023/05/21"],
            },
            {"question": "Where?", "answer": 3, "haystack_sessions": [[turn]], "haystack_dates": ["a", "b"]},
            {"question": "Where?", "answer": 3, "haystack_sessions": [[{"role": "user"}]]},
        ],
    }  # fmt: skip
    for name, lines in rows.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (root / "longmemeval.json").write_text(json.dumps(rows["longmemeval"]))
    return root


TASKS = {
    "facts": ["--data", "{root}/several.jsonl", "--distractors", "{root}/book.txt", "--lengths", "0,60"],
    "longbench": ["--data", "{root}/longbench", "--sets", "hotpotqa,qasper", "--length", "300"],
    "babilong": ["--data", "{root}/babilong.jsonl", "--lengths", "1k"],
    "babilong built": ["--data", "{root}", "--book", "{root}/book.txt", "--lengths", "0,300", "--tasks", " qa1, "],
    "ruler": ["--data", "{root}/niah_single_1.jsonl"],
    "ruler built": ["--book", "{root}/book.txt", "--lengths", "100,200", "--num", "2", "--needles", "2"],
    "longbook": ["--data", "{root}/longbook.jsonl"],
    "eventqa": ["--data", "{root}/eventqa.jsonl"],
    "eventqa built": ["--data", "{root}/book.txt", "--events", "{root}/events.txt", "--num", "2"],
    "dialogue": ["--data", "{root}/longmemeval.json"],
    "dialogue built": ["--num", "2", "--sessions", "3"],
}
SKIPPED = {
    "facts": 1, "longbench": 1, "babilong": 1, "babilong built": 2, "ruler": 1, "longbook": 1, "eventqa": 1,
    "dialogue": 2,
}  # fmt: skip


def run(root, task: str, out, *more: str, model: str = "mplus") -> dict:
    arguments = [part.format(root=root) for part in TASKS[task]]
    code = main([task.split()[0], "--model", str(root / model), *arguments, "--out", str(out), *more])
    assert code == 0
    return json.loads((out / f"{task.split()[0]}.json").read_text())


@pytest.mark.parametrize("task", TASKS)
def test_a_task_runs_end_to_end(task, root, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        "core.evaluation.longbench.SETS", {name: (4, form) for name, (_, form) in longbench.SETS.items()}
    )
    content = run(root, task, tmp_path, "--methods", "mplus,bm25", "--plot", str(tmp_path / "plot.svg"))
    assert {row["method"] for row in content["rows"]} == {"mplus", "bm25"}
    assert all(0 <= row["low"] <= row["accuracy"] <= row["high"] <= 1 for row in content["rows"])
    assert content["skipped"] == SKIPPED.get(task, 0)
    printed = capsys.readouterr()
    assert (
        "| mplus |" in printed.out and printed.out.strip() == (tmp_path / f"{content['task']}.md").read_text().strip()
    )
    assert ("malformed" in printed.err) == bool(content["skipped"])
    assert (tmp_path / "plot.svg").is_file()


def test_the_text_baselines_run_a_task_on_a_plain_llama(root, tmp_path):
    rows = run(root, "babilong built", tmp_path, "--methods", "full,window,snapkv,question-only", model="llama")["rows"]
    assert {(row["method"], row["n"]) for row in rows if row["group"] != "mean"} == {
        (method, 2) for method in ("full", "window", "snapkv", "question-only")
    }


def test_loss_by_position_and_cost_run(root, tmp_path):
    common = ["--model", str(root / "mplus"), "--data", str(root / "book.txt"), "--out", str(tmp_path)]
    assert (
        main(["loss", *common, "--positions", "0,64,320", "--documents", "3", "--passage", "16", "--batch", "2"]) == 0
    )
    rows = json.loads((tmp_path / "loss.json").read_text())["rows"]
    assert len(rows) == 9 and all(row["n"] == 3 and 0 < row["low"] <= row["loss"] <= row["high"] for row in rows)
    start = {row["curve"].split()[-1]: row["loss"] for row in rows if row["position"] == 0}
    assert start["mplus"] == pytest.approx(start["question-only"]), "nothing has been written yet"
    assert main(["cost", *common, "--lengths", "60,180", "--methods", "mplus,full,snapkv"]) == 0
    rows = json.loads((tmp_path / "cost.json").read_text())["rows"]
    held = {(row["method"], row["length"]): row["num_bytes"] for row in rows}
    assert held["full", 180]["cache"] > 2.5 * held["full", 60]["cache"]
    assert held["mplus", 180]["long"] > held["mplus", 60]["long"]
    assert held["mplus", 180]["short"] == held["mplus", 60]["short"]
    assert all(row["ingest_seconds"] > 0 and row["peak_bytes"] > 0 for row in rows)


def test_a_text_that_was_changed_since_is_another_run(root, tmp_path, capsys):
    facts = tmp_path / "facts.jsonl"
    told = {"fact": "The code is 12.", "question": "What is the code?", "answer": "12"}
    line = ["facts", "--model", str(root / "mplus"), "--data", str(facts), "--distractors", str(root / "book.txt"),
            "--lengths", "0", "--methods", "mplus", "--out", str(tmp_path / "out")]  # fmt: skip
    facts.write_text(json.dumps(told))
    assert main(line) == 0 == main(line)
    facts.write_text(json.dumps(told | {"answer": "13"}))
    capsys.readouterr()
    assert main(line) == 2 and "texts" in capsys.readouterr().err
    assert main([*line, "--no-resume"]) == 0


def test_loss_of_a_text_that_is_too_short_is_refused(root, tmp_path, capsys):
    common = ["--model", str(root / "mplus"), "--data", str(root / "book.txt"), "--out", str(tmp_path)]
    assert main(["loss", *common, "--positions", "99999"]) == 2
    assert "are needed" in capsys.readouterr().err


class EchoReader:
    """Answers with everything it has been told since the last reset."""

    name = "echo"

    def __init__(self) -> None:
        self.told: list[str] = []
        self.resets = 0

    def ingest(self, text, on_chunk=None) -> Receipt:
        self.told.append(text)
        return Receipt(len(self.told), text, ())

    def answer(self, question, max_new_tokens=32, on_text=None, stop=None, raw=False, **sampling) -> Answer:
        return Answer(" ".join(self.told).replace("\n", " "), [], 0.0, 0.0, {})

    def reset(self) -> None:
        self.told, self.resets = [], self.resets + 1

    num_bytes: dict[str, int] = {}  # noqa: RUF012


def test_every_example_starts_from_a_reset_and_only_missing_ones_are_asked(tmp_path):
    reader = EchoReader()
    examples = [
        Example(str(number), "g", (f"code {number}",), (Question("code?", (str(number),), "hit"),))
        for number in range(4)
    ]
    for _ in range(2):
        journal = Journal(tmp_path / "j.jsonl", {}, ("id", "question", "method"))
        run_examples(examples, ["echo"], lambda method: reader, journal)
    assert reader.resets == 4
    assert [row["text"] for row in journal] == [f"code {number}" for number in range(4)]
    (line,) = summary(journal, ["echo"])
    assert line["accuracy"] == 1.0 and line["n"] == 4


REPLAYED = {
    "retention": ["--facts", "{root}/many.jsonl", "--distractors", "{root}/book.txt", "--distances", "0,40",
                  "--lead", "2", "--seeds", "0,1", "--batch", "2"],
    "compression": ["--facts", "{root}/many.jsonl", "--distractors", "{root}/book.txt", "--ratios", "2",
                    "--distances", "0,40", "--seeds", "0,1,2"],
    "ladder": ["--facts", "{root}/many.jsonl", "--distractors", "{root}/book.txt", "--distances", "0,40",
               "--seeds", "0,1,2", "--model", "{root}/mplus,{root}/memoryllm"],
    "loss": ["--data", "{root}/book.txt", "--positions", "0,64", "--documents", "4", "--passage", "16",
             "--batch", "1"],
    "cost": ["--data", "{root}/book.txt", "--lengths", "40,60,80,100"],
}  # fmt: skip
MEASURED = ("seconds", "bytes")  # what a machine does not do twice alike


def lasting(rows: list[dict]) -> list[dict]:
    return [{name: value for name, value in row.items() if not name.endswith(MEASURED)} for row in rows]


@pytest.mark.parametrize("task", [*TASKS, *REPLAYED])
def test_any_task_interrupted_five_times_is_an_uninterrupted_one(task, root, tmp_path, monkeypatch):
    """Killed before an answer is written, after it, and amid it, as kill -9 does: half a line is left behind."""
    monkeypatch.setattr(
        "core.evaluation.longbench.SETS", {name: (4, form) for name, (_, form) in longbench.SETS.items()}
    )
    facts = [{"fact": f"A{n} lives in U{n}.", "question": f"Where does A{n} live?", "answer": f"U{n}"} for n in "12345"]
    (root / "many.jsonl").write_text("\n".join(map(json.dumps, facts)))
    name, methods = task.split()[0], "mplus,memoryllm" if task == "loss" else "mplus,question-only,bm25"
    methods = "mplus,memoryllm,question-only" if task in ("compression", "retention") else methods
    given = [part.format(root=root) for part in (TASKS | REPLAYED)[task]]
    if task == "ladder":
        save_model(toy_mplus(num_retrieved=0), root / "memoryllm")
        toy_tokenizer().save_pretrained(root / "memoryllm")
    else:
        given += ["--methods", methods]

    def start(folder: str) -> int:
        out = tmp_path / folder
        return main([name, "--model", str(root / "mplus"), *given, "--out", str(out)])

    assert start("whole") == 0
    add = Journal.add

    def killed(moment: str):
        def add_and_die(self, rows):
            rows = list(rows)
            if moment != "before":
                add(self, rows if moment == "after" else rows[:1])
            if moment == "amid":
                with self.path.open("a") as file:
                    file.write('{"id": "half a li')
            raise KeyboardInterrupt

        return add_and_die

    codes = []
    for moment in ("before", "amid", "after", "amid", "before"):
        monkeypatch.setattr(Journal, "add", killed(moment))
        codes.append(start("pieces"))
    assert codes[:2] == [130, 130] and set(codes) <= {0, 130}  # the shortest tasks have no five answers to lose
    monkeypatch.setattr(Journal, "add", add)
    assert start("pieces") == 0
    whole, pieces = (json.loads((tmp_path / folder / f"{name}.json").read_text()) for folder in ("whole", "pieces"))
    assert lasting(pieces["rows"]) == lasting(whole["rows"])
    journals = [sorted((tmp_path / folder).glob("*.jsonl")) for folder in ("whole", "pieces")]
    lines = [[json.loads(line) for path in paths for line in path.read_text().splitlines()] for paths in journals]
    first, second = (sorted(map(json.dumps, lasting(rows))) for rows in lines)
    assert first == second and len(first) > 1


def test_longbench_truncates_the_middle_and_splits_off_the_end():
    tokenizer = toy_tokenizer()
    texts, prompt = longbench.split_prompt("0123456789" * 10, tokenizer, length=40, window=15)
    assert "".join(texts) + prompt == ("0123456789" * 2) * 2 and len(prompt) == 15
    assert longbench.split_prompt("short", tokenizer, 40, 15) == ((), "short")


def test_longbench_prompts_are_the_published_ones():
    filled = longbench.SETS["narrativeqa"][1].format(context="C", input="Q")
    assert filled.startswith(
        "You are given a story, which can be either a novel or a movie script, and a question. Answer"
    )
    assert filled.endswith("Do not provide any explanation.\n\nQuestion: Q\n\nAnswer:")
    assert "\n\nNow, answer the question based on the story asconcisely as you can" in filled
    assert longbench.SETS["qasper"][1].count("unanswerable") == 4
    assert {name: tokens for name, (tokens, _) in longbench.SETS.items()} == {
        "2wikimqa": 32, "hotpotqa": 32, "musique": 32, "multifieldqa_en": 64, "qasper": 128, "narrativeqa": 128,
    }  # fmt: skip


def test_babilong_keeps_a_story_in_order_and_within_its_length(root):
    tokenizer = toy_tokenizer()
    stories, book = root / "qa1_single-supporting-fact_test.txt", root / "book.txt"
    examples, problems = babilong.build(stories, book, "qa1", tokenizer, [0, 400], 5, seed=1)
    assert [problem.split(":")[1] for problem in problems] == ["4", "5"]
    assert len(examples) == 4
    for example in examples:
        (text,), (question,) = example.texts, example.questions
        if question.answers == ("hallway",):
            assert text.index("John went to the hallway.") < text.index("Mary went to the garden.")
        tokens = len(tokenizer(text)["input_ids"])
        assert 300 < tokens <= 440 if example.group.endswith("400") else tokens < 60


def test_hiding_keeps_both_orders():
    hidden = babilong.hide(["a", "b", "c"], list("12345"), random.Random(0))
    assert [x for x in hidden if x.isalpha()] == ["a", "b", "c"] and [x for x in hidden if x.isdigit()] == list("12345")


def test_needles_are_in_the_hay_and_the_asked_one_is_the_answer(root):
    (example, *_) = ruler.build(root / "book.txt", toy_tokenizer(), [500], 2, seed=0, needles=3)
    (question,) = example.questions
    key = question.prompt.split(" for ")[1].split(" mentioned")[0]
    assert f"One of the special magic numbers for {key} is: {question.answers[0]}." in example.texts[0]
    assert example.texts[0].count("special magic") == 3


def test_event_questions_have_five_past_events_and_one_true_choice_of_six(root):
    events = (root / "events.txt").read_text().splitlines()
    example = longbook.build_events("book", BOOK, events, 4, seed=0)
    for question in example.questions:
        past, choices = question.prompt.split("Which of these happens next?\n")
        listed = [line.split(". ", 1)[1] for line in choices.splitlines()]
        assert len(listed) == len(set(listed)) == 6 and question.answers[0] in listed
        place = events.index(question.answers[0])
        assert [line.split(". ", 1)[1] for line in past.splitlines()[1:]] == events[place - 5 : place]
        assert not set(listed) - {question.answers[0]} & set(events[place - 5 : place + 1])
    with pytest.raises(ValueError, match="too few"):
        longbook.build_events("book", BOOK, events[:10], 4, seed=0)


def test_generated_conversations_hold_every_answer_and_later_values_win():
    for example in dialogue.build(5, sessions=8, seed=3):
        told = "\n".join(example.texts)
        assert len(example.texts) >= 8
        for question in example.questions:
            assert question.answers[0] in told
    assert dialogue.build(2, 4, seed=1) == dialogue.build(2, 4, seed=1)


def test_generated_updates_are_the_same_again_and_say_one_thing_twice():
    tokenizer = toy_tokenizer()
    examples, problems = own_words.load("updates:3", tokenizer, [1], (0,), 20, 0)
    again, _ = own_words.load("updates:3", tokenizer, [1], (0,), 20, 0)
    assert examples == again and not problems and len(examples) == 20
    for example in examples:
        (question,) = example.questions
        (answer,), (outdated,) = question.answers, question.labels
        assert answer in example.texts[1] and outdated in example.texts[0] and outdated not in answer
    with pytest.raises(ValueError, match="has no seed; write for instance updates:1"):
        own_words.load("updates:x", tokenizer, [1], (0,), 20, 0)


def test_practised_sentences_are_of_all_kinds_and_end_with_what_answers():
    tokenizer = toy_tokenizer()
    examples, problems = own_words.load("sentences:3", tokenizer, [1], (0,), 30, 0)
    assert examples == own_words.load("sentences:3", tokenizer, [1], (0,), 30, 0)[0] and not problems
    assert {example.group for example in examples} == {"practised sentence 0", "practised change 0", "practised pair 0"}
    for example in examples:
        assert example.questions[0].answers[0] in example.texts[-1]
        assert len(example.texts) == 1 + ("sentence" not in example.group)


def test_an_outdated_value_in_the_answer_is_wrong():
    question = Question("What is the code?", ("57",), "current", labels=("12",))
    assert [METRICS["current"](text, question) for text in ("57", "It was 12, now 57", "12", "")] == [1, 0, 0, 0]


def test_an_answer_that_is_too_long_is_a_hit_and_no_exact_match():
    tokenizer = toy_tokenizer()
    scores = []
    for metric in own_words.SCORES:
        (example,) = own_words.load("updates:3", tokenizer, [1], (0,), 1, 0, metric)[0]
        (question,) = example.questions
        text = f"{question.answers[0]} yesterday"
        scores.append(METRICS[question.metric](text, question))
        assert METRICS[question.metric](question.answers[0], question) == 1
    assert scores[0] == 1 and 0 < scores[1] < 1 and scores[2] == 0


def test_longmemevals_sessions_carry_their_dates(root):
    (example,), problems = dialogue.load(str(root / "longmemeval.json"), None)
    assert example.texts[0] == "Session of 2023/05/20.\nUser: I moved to Porto.\nAssistant: I moved to Porto."
    assert len(problems) == 2 and "dates" in problems[0] and "no content" in problems[1]
    assert METRICS["contained"]("You live in Porto!", example.questions[0]) == 1.0
    assert METRICS["contained"]("Portofino", example.questions[0]) == 0.0


def test_the_published_forms_of_retention_data_are_read(tmp_path):
    question = {"question": "Who?", "id": "1", "answers": [{"text": "Ann Lee", "answer_start": 0}]}
    long = question | {"answers": [{"text": "one two three four", "answer_start": 0}]}
    impossible = {"question": "Why?", "id": "2", "is_impossible": True, "answers": []}
    broken = {"question": "Why?", "id": "3", "answers": []}
    squad = {"data": [{"paragraphs": [{"context": "Ann Lee was here.", "qas": [question, long, impossible, broken]}]}]}
    (tmp_path / "squad.json").write_text(json.dumps(squad))
    facts, problems = load_facts(str(tmp_path / "squad.json"), None)
    assert [(fact.fact, fact.answer) for fact in facts] == [("Ann Lee was here.", "Ann Lee")]
    assert problems[0].startswith("squad.json:1: data[0].paragraphs[0].qas[3] (question 3)") and len(problems) == 1
    squad["data"] += ["nothing", {"paragraphs": [7, {"context": "c", "qas": [{"id": "long-one", "question": None}]}]}]
    (tmp_path / "squad.json").write_text(json.dumps(squad, indent=1))
    facts, problems = load_facts(str(tmp_path / "squad.json"), None)
    lines = (tmp_path / "squad.json").read_text().splitlines()
    places = [problem.split(": ")[1].split(" ")[0] for problem in problems]
    assert len(facts) == 1 and places == [
        "data[0].paragraphs[0].qas[3]", "data[1]", "data[2].paragraphs[0]", "data[2].paragraphs[1].qas[0]"
    ]  # fmt: skip
    for problem, wanted in ((problems[0], '"id": "3"'), (problems[-1], '"id": "long-one"')):
        assert wanted in lines[int(problem.split(":")[1]) - 1]
    processed = [{"context": "c", "question": "q", "answer": "a"}, {"context": "c"}]
    (tmp_path / "val.json").write_text(json.dumps(processed))
    facts, problems = load_facts(str(tmp_path / "val.json"), None)
    assert len(facts) == 1 and "val.json:1: entry 2" in problems[0]
    (tmp_path / "val.json").write_text(json.dumps([*processed, "x", processed[0]], indent=1))
    facts, problems = load_facts(str(tmp_path / "val.json"), None)
    assert len(facts) == 2 and [problem.split(":")[1] for problem in problems] == ["7", "10"]
    tokens = [{"token": word, "html_token": word == "<P>"} for word in ["<P>", "Ann", "Lee", "was", "here", "."]]
    row = {
        "question_text": "who was here", "document_tokens": tokens,
        "annotations": [{"long_answer": {"start_token": 0, "end_token": 6}, "yes_no_answer": "NONE",
                         "short_answers": [{"start_token": 1, "end_token": 3}]}],
    }  # fmt: skip
    (tmp_path / "nq.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(row | {"annotations": []}))
    (fact,), problems = load_facts(str(tmp_path / "nq.jsonl"), None)
    assert (fact.fact, fact.question, fact.answer) == ("Ann Lee was here .", "who was here?", "Ann Lee")
    assert len(problems) == 1
    (tmp_path / "unrelated.json").write_text(json.dumps(["one text", "another"]))
    tokenizer = toy_tokenizer()
    assert tokenizer.decode(load_stream(str(tmp_path / "unrelated.json"), tokenizer, 1)) == "one text\nanother"
    (tmp_path / "other.json").write_text(json.dumps({"data": [{"no": "paragraphs"}]}))
    with pytest.raises(ValueError, match="neither a list of texts nor in SQuAD's form"):
        load_stream(str(tmp_path / "other.json"), tokenizer, 1)

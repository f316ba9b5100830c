"""The gates: every run's command can be made, what was measured is judged, and what was not is not claimed."""

import json

import pytest
import torch

from core.evaluate import main, parser
from core.evaluation import gate_runs, replay_commands
from core.evaluation.commands import load_any
from core.evaluation.curves import chance
from core.evaluation.gate_runs import RUNS, Run, arguments
from core.evaluation.gates import table, verdicts
from core.evaluation.texts import load_facts, pack
from tests.toys import toy_checkpoints, toy_tokenizer

torch.set_num_threads(1)


def row(method: str, distance: int, accuracy: float, **more) -> dict:
    band = {"low": max(0.0, accuracy - 0.05), "high": min(1.0, accuracy + 0.05), "n": 100}
    return {"method": method, "distance": distance, "accuracy": accuracy, **band, **more}


def retention(far: float, pool: float = 0.01, near: float = 0.95) -> dict:
    rows = [row("mplus", 0, near), row("memoryllm", 0, 0.95), row("mplus", 160000, far)]
    rows += [row("memoryllm", 160000, pool), row("question-only", 160000, 0.0)]
    line = {"live": 1, "distance": 160000, "recall": [0.9, 0.1], "chance": 0.004, "lift": [225.0, 25.0], "bm25": 0.6}
    return {"rows": rows, "retrieval": [line]}


def met(content: dict, run: str = "prose") -> dict[str, bool | None]:
    lines = [line for line in verdicts({run: content}) if line.measured != "not measured"]
    return {line.what: line.met for line in lines}


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("run", RUNS, ids=[run.name for run in RUNS])
def test_every_run_is_a_command_that_can_be_made(run, quick, tmp_path):
    fill = {"text": "text.txt", "words": "words.jsonl", "updates": "u.jsonl", "untouched": "f.jsonl", "ladder": "a,b",
            "less": "--num-facts 7"}  # fmt: skip
    args = parser().parse_args(arguments(run, quick, "mini", tmp_path, fill))
    assert args.task == run.task and args.json.endswith(f"{run.name}.json")
    assert run.name not in ("prose", "generated") or args.num_facts == 7
    assert args.model == ("a,b" if run.task in ("loss", "ladder") else "mini")


def test_retention_is_judged_at_the_end_against_the_floor_and_against_the_pool():
    good, weak = met(retention(0.93)), met(retention(0.89, pool=0.04, near=0.94))
    assert list(good.values()) == [True, True, True, True, None, False]
    assert list(weak.values()) == [False, False, False, True, None, False]
    assert "M+ less the pool alone, at its least, prose" in weak


def test_other_gates_know_their_thresholds():
    words = {"rows": [{"group": "fact 0", **row("mplus", 0, 0.8)}, {"group": "fact 0", **row("question-only", 0, 0.0)},
                      {"group": "update 0", **row("mplus", 0, 0.3)}]}  # fmt: skip
    assert list(met(words, "words").values()) == [True, None]
    uses = {"rows": [row("mplus", 0, 0.9), row("question-only", 0, 0.2)], "chance": 0.01}
    assert met(uses, "uses")["question only"] is False
    assert met(uses | {"chance": 0.21}, "uses")["question only"] is True
    none = {"rows": [row("mplus", 0, 0.9), row("question-only", 0, 0.0) | {"low": 0.0, "high": 0.03}], "chance": 0.001}
    assert met(none, "uses")["question only"] is True
    assert met(none | {"chance": 0.05}, "uses")["question only"] is False
    assert list(met({"rows": [row("mplus", 1_000_000, 0.84)]}, "million").values()) == [False]


def test_what_was_not_measured_is_not_claimed():
    lines = verdicts({})
    assert {line.measured for line in lines} == {"not measured"} and not any(line.met for line in lines)
    assert "| 3 | run 'million' |  | not measured |  |" in table(lines)


def test_chance_is_what_answers_hit_among_the_answers_to_other_questions():
    rows = [{"text": text, "answer": answer} for text, answer in (("a", "b"), ("a", "a"), ("a", "c"), ("x", "d"))]
    assert chance(rows) == pytest.approx(2 / 12, abs=0.03)  # two of twelve pairs of different questions
    assert chance(rows[:1]) == 0.0


def test_passages_hold_every_fact_once_and_are_asked_about_all_places():
    facts, _ = load_facts("facts:5", 40)
    tokenizer = toy_tokenizer()
    passages = pack(facts, tokenizer, 300)
    assert " ".join(passage.fact for passage in passages) == " ".join(fact.fact for fact in facts)
    assert all(len(tokenizer(passage.fact)["input_ids"]) <= 300 for passage in passages)
    assert len({passage.fact.find(passage.answer) // 60 for passage in passages}) > 2


TINY = (
    Run("prose", "retention", "--facts facts:1 --distractors {text} --methods mplus,question-only", "",
        "--num-facts 3 --seeds 0 --distances 0,100 --max-new-tokens 2"),
    Run("million", "retention", "--facts facts:1 --distractors absent.txt --methods mplus", "", "--distances 9"),
    Run("compression", "compression", "--facts facts:1 --distractors {text} --methods mplus,oracle", "",
        "--num-facts 9 --ratios 2,4 --distances 0,60"),
)  # fmt: skip


def test_gates_run_go_on_and_leave_a_table(tmp_path, monkeypatch, capsys):
    toy_checkpoints(tmp_path)
    (tmp_path / "text.txt").write_text("It was a fine day and nobody had anything better to do than to walk. " * 20)
    monkeypatch.setattr(gate_runs, "RUNS", TINY)
    line = ["gates", "--model", str(tmp_path / "mplus"), "--data", str(tmp_path / "text.txt"), "--quick", "--out",
            str(tmp_path / "out")]  # fmt: skip
    assert main([*line, "--only", "prose"]) == 0
    assert main(line) == 0
    printed = capsys.readouterr()
    assert "million: There is no text absent.txt" in printed.err
    shown = (tmp_path / "out" / "gates.md").read_text()
    assert "| M+ after 100 tokens of prose | ≥ 90 % |" in shown and "| 3 | run 'million' |" in shown
    rows = json.loads((tmp_path / "out" / "compression.json").read_text())["rows"]
    assert {(row["ratio"], row["method"], row["distance"]) for row in rows} == {
        (ratio, method, distance) for ratio in (2, 4) for method in ("mplus", "oracle") for distance in (0, 60)
    }
    assert str(tmp_path) not in (tmp_path / "out" / "prose.json").read_text()  # results are shown elsewhere
    content = json.loads((tmp_path / "out" / "gates.json").read_text())
    assert content["quick"] and [gate["met"] for gate in content["gates"] if gate["gate"] == "3"] == [None, None]
    assert main([*line, "--only", "nonsense"]) == 2
    assert "Not made:\nmillion: There is no text absent.txt" in printed.out


def test_gates_measure_as_they_are_told_and_remove_only_what_is_theirs(tmp_path, monkeypatch, capsys):
    toy_checkpoints(tmp_path)
    (tmp_path / "text.txt").write_text("It was a fine day and nobody had anything better to do than to walk. " * 20)
    monkeypatch.setattr(gate_runs, "RUNS", TINY)
    out, asked = tmp_path / "out", []

    def load(name, device, dtype, **settings):
        asked.append(dtype)
        return load_any(name, device, **settings)

    monkeypatch.setattr(replay_commands, "load_any", load)
    line = ["gates", "--model", str(tmp_path / "mplus"), "--data", str(tmp_path / "text.txt"), "--quick", "--out",
            str(out), "--dtype", "bfloat16"]  # fmt: skip
    assert main([*line, "--only", "compression"]) == 0 and set(asked) == {"bfloat16"}
    assert len((out / "compression-2.jsonl").read_text().splitlines()) > 1
    assert main([*line, "--only", "compression", "--no-resume", "--minutes", "0"]) == 0
    assert "Nothing was answered in the time there was" in capsys.readouterr().err
    assert len((out / "compression-2.jsonl").read_text().splitlines()) == 1
    (out / "prose.jsonl").write_text('{"my": "own"}\n')
    assert main([*line, "--only", "prose", "--no-resume"]) == 0
    assert "holds no answers of a run" in capsys.readouterr().err and "own" in (out / "prose.jsonl").read_text()


def test_what_other_weights_have_measured_is_not_claimed(tmp_path):
    for name, of in (("prose", "aaaa"), ("generated", "cccc,aaaa"), ("million", "bbbb")):
        (tmp_path / f"{name}.json").write_text(json.dumps({"weights": of, **retention(0.93)}))
    shown = gate_runs.judge(tmp_path, "mini", "aaaa", False)
    assert "93.0 %" in shown and "| 3 | run 'million' |  | not measured |  |" in shown
    assert "run 'prose'" in gate_runs.judge(tmp_path, "mini", "dddd", False)

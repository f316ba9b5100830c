"""The training loop: killed and resumed it goes the same way, two processes stay alike, trouble is named."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import core
from core import train
from core.curriculum import MINI, PAPER
from core.model import MPlusForCausalLM
from core.run_folder import checkpoints
from tests.learners import PLAN, little_config, little_training

ROOT = Path(__file__).parent.parent


def records(out: Path) -> list[dict]:
    lines = (out / "metrics.jsonl").read_text().splitlines()
    timeless = ("seconds", "tokens_per_second")
    return [{name: value for name, value in json.loads(line).items() if name not in timeless} for line in lines]


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(checkpoints(out)[-1] / "model.safetensors")


def test_a_resumed_run_goes_the_same_way_and_leaves_checkpoints_that_load(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    list(little_training(whole).run(log_every=2))
    list(little_training(broken).run(log_every=2, max_steps=5))
    shutil.copytree(checkpoints(broken)[-1], broken / "checkpoint-00000007.partial")  # as a kill while saving leaves it
    for _ in range(3):
        training = little_training(broken)
        assert training.resume()
        list(training.run(log_every=2, max_steps=2))
    assert records(whole) == records(broken) and len(records(whole)) == 5
    expected, found = weights(whole), weights(broken)
    assert expected.keys() == found.keys() and all(torch.equal(expected[name], found[name]) for name in expected)
    assert {record["phase"] for record in records(whole)} == {lesson.name for lesson in PLAN}
    reader = core.load(whole / "first")  # before Θ was taught: a MemoryLLM
    assert reader.model.config.num_retrieved == 0 and core.load_model(checkpoints(whole)[-1]).config.num_retrieved > 0
    reader.ingest("Ilse keeps her spare key under the blue flowerpot, next to the old garden gate.")
    assert isinstance(reader.answer("Where is the key?", max_new_tokens=3).text, str)


def test_an_interrupt_saves(tmp_path):
    training = little_training(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        for record in training.run(log_every=1):
            if record["step"] == 2:
                training.practice.forward = interrupted
    assert checkpoints(tmp_path)[-1].name == "checkpoint-00000002"


def interrupted(*_):
    raise KeyboardInterrupt


def test_a_loss_that_is_no_number_is_named(tmp_path):
    training = little_training(tmp_path)
    with torch.no_grad():
        training.model.model.norm.weight.fill_(torch.nan)
    with pytest.raises(ValueError, match="learning rate"):
        list(training.run())


def test_steps_alone_are_at_least_one(tmp_path):
    with pytest.raises(ValueError, match="local_steps is 0"):
        little_training(tmp_path, local_steps=0)


def two_processes(*arguments) -> list[dict]:
    launch = "-m torch.distributed.run --nproc-per-node=2 --rdzv-backend=c10d --rdzv-endpoint=localhost:0"
    command = [sys.executable, *launch.split(), "-m", "tests.two_processes", *map(str, arguments)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-3000:]
    return [torch.load(arguments[0] / f"seen{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("local_steps", [1, 3])
def test_two_processes_learn_from_different_lessons_and_keep_the_same_weights(tmp_path, local_steps):
    """After every step, or after every third, where each goes on alone in between. What the first process changes when
    a lesson's model is kept, as it does with refitted retrievers, both go on with, and not with a mean."""
    first, second = (seen["after"] for seen in two_processes(tmp_path, local_steps))
    same = [all(torch.equal(one[name], other[name]) for name in one) for one, other in zip(first, second, strict=True)]
    assert same == [number % local_steps == 0 for number in (1, 2, 3, 4)]
    for after in (first, second):
        assert (after[3]["memory.new"] - after[2]["memory.new"] - 1).abs().max() < 0.1
    states = [torch.load(path, weights_only=True) for path in sorted(checkpoints(tmp_path)[-1].glob("rank*.pt"))]
    assert len(states) == 2 and states[0]["progress"]["lessons"]["random"] != states[1]["progress"]["lessons"]["random"]
    assert states[0]["figures"] != states[1]["figures"]
    assert all(("optimizers" in state) == (local_steps > 1) for state in states)


@pytest.mark.parametrize(("local_steps", "stopped"), [(1, 2), (3, 3)])
def test_an_interrupt_of_one_process_stops_and_saves_both_after_the_same_step(tmp_path, local_steps, stopped):
    assert [seen["stopped"] for seen in two_processes(tmp_path, local_steps, "interrupt")] == [stopped, stopped]
    assert [found.name for found in checkpoints(tmp_path)] == [f"checkpoint-0000000{stopped}"]


def test_a_folder_holds_one_training(tmp_path):
    list(little_training(tmp_path).run(max_steps=2))
    with pytest.raises(ValueError, match="is of a training in first, second, third, and this one is in second, third"):
        little_training(tmp_path, PLAN[1:]).resume()
    training = little_training(tmp_path)
    training.practice.model = MPlusForCausalLM(little_config(hidden_size=168))
    with pytest.raises(ValueError, match="another shape"):
        training.resume()


def test_the_curricula_say_what_they_promise():
    stage1, stage2, stage3 = PAPER
    on_eight = stage1.times(8)
    assert on_eight.rates(0)["main"] == pytest.approx(3.68e-4)
    assert on_eight.rates(50_000)["main"] == pytest.approx(2.024e-4)
    assert stage2.rates(7)["main"] == stage3.rates(10**6)["main"] == 4.6e-6
    assert (stage3.long_term, stage3.retriever) == (True, 1.0) and not stage2.long_term
    for stage in PAPER:
        assert sum(share for share, _, _ in stage.lengths) == pytest.approx(1.0)
    first, last = MINI[0], MINI[-1]
    assert first.plain == 1 and not any(lesson.plain for lesson in MINI[1:])
    assert [any(task.pointer for task in lesson.tasks) for lesson in MINI] == [False, *[True] * (len(MINI) - 1)]
    assert [bool(lesson.refit) for lesson in MINI] == [lesson.retrieves for lesson in MINI] == [False] * 4 + [True] * 3
    assert "retriever" in {task.kind for task in last.tasks}
    assert not first.finished(50, {"context": 0.99}) and first.finished(150, {"context": 0.99})
    assert first.finished(first.steps, {}) and first.rates(0)["main"] < first.rates(200)["main"] == 3e-3
    assert [lesson.saves for lesson in MINI if lesson.saves] == [
        "memoryllm-mini",
        "memoryllm-long-mini",
        "mini",
        "mini",
        "mini",
    ]


def test_a_lesson_in_searching_teaches_the_retrievers_alone(tmp_path):
    training = little_training(tmp_path, (replace(PLAN[1], tasks=PLAN[1].tasks[:1], steps=2),))
    before = {name: value.clone() for name, value in training.model.named_parameters()}
    list(training.run())
    changed = [name for name, value in training.model.named_parameters() if (value != before[name]).any()]
    layers = training.model.config.num_hidden_layers
    assert {name.split(".retriever.")[0] for name in changed} == {f"model.layers.{i}" for i in range(layers)}


def test_some_lessons_of_the_recipe_go_on_from_a_checkpoint(tmp_path, capsys):
    (tmp_path / "book.txt").write_text("The ferry leaves at noon, and the harbour is quiet afterwards. " * 400)
    exact = ["--precision", "no"]
    line = f"--recipe mini --lessons 4 --base memoryllm-mini --data {tmp_path / 'book.txt'} --out {tmp_path / 'run'}"
    assert train.main([*line.split(), "--max-steps", "1", *exact]) == 0
    assert train.main([*line.split(), *exact]) == 1 and "holds a training already" in capsys.readouterr().err
    base, found = (core.load_model(name) for name in ("memoryllm-mini", checkpoints(tmp_path / "run")[-1]))
    changed = [
        name for (name, old), new in zip(base.named_parameters(), found.parameters(), strict=True) if (old != new).any()
    ]
    assert any("layers" in name for name in changed) and found.config.num_retrieved == 0
    for options, message in (
        ("--lessons 4", "go together"),
        ("--base memoryllm-mini", "go together"),
        ("--lessons 8 --base memoryllm-mini", "1 to 7"),
        ("--rate 0.5", "goes with --lessons"),
        ("--longer 0", "more than 0"),
        ("--lessons 4 --base memoryllm-mini --steps 3 --longer 2", "instead of --steps"),
        ("--lessons 4 --base memoryllm-mini --rate 0", "more than 0"),
        ("--lessons 4-x --base memoryllm-mini", "1 to 7"),
        ("--lessons 5 --base memoryllm-mini", "retrieves nothing"),
        ("--lessons 4-7 --base memoryllm-mini", "retrieves nothing"),
        ("--lessons 4 --base memoryllm-mini --set num_blocks", "FIELD=VALUE"),
    ):
        assert (
            train.main(
                ["--recipe", "mini", *options.split(), "--data", str(tmp_path), "--out", str(tmp_path / "no"), *exact]
            )
            == 1
        )
        assert message in capsys.readouterr().err


def test_lessons_take_other_steps_and_rates():
    last = len(MINI)
    (lesson,) = train.lessons_of(str(last), "mini", 30, 0.5)
    expected = replace(MINI[-1], steps=30).rates(15)
    assert lesson.rates(15) == {name: pytest.approx(0.5 * rate) for name, rate in expected.items()}
    assert [each.steps for each in train.lessons_of(f"{last - 1}-{last}", "mini")] == [each.steps for each in MINI[-2:]]
    assert train.lessons_of(None, None) == MINI
    assert [each.steps for each in train.lessons_of(None, None, longer=2.5)] == [2.5 * each.steps for each in MINI]

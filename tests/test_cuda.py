"""On a GPU everything is as on the CPU. Skipped where there is none; nothing else of the suite needs one."""

import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import core
from benchmarks.gpu import PAPER_SHAPE
from benchmarks.shapes import random_chunks, random_model
from core.base_bits import quantise_base
from core.cost import Setting, memory_cost
from core.decoding import prepare_for_answers
from core.placement import look_up_on_host
from core.prefix import PrefixBuffer
from core.reading import new_memory, read_logits, write
from core.run_folder import checkpoints
from tests.learners import little_training
from tests.toys import toy_mplus

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

ROOT = Path(__file__).parent.parent
TEXTS = (
    "Ilse keeps her spare key under the blue flowerpot.",
    "The ferry to Norwick leaves at 6:45 from pier nine.",
    "Marta's dog is called Brannigan, and it is afraid of thunder.",
)
QUESTIONS = (
    "Where does Ilse keep her spare key?", "When does the ferry to Norwick leave?", "What is Marta's dog called?",
)  # fmt: skip


def told(device: str, **settings) -> core.MPlusReader:
    reader = core.load("mini", device, **settings)
    for text in TEXTS:
        reader.ingest(text)
    return reader


@pytest.fixture(scope="module")
def on_cpu() -> core.MPlusReader:
    return told("cpu")


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("offload", ["none", "long", "all"])
def test_the_gpu_answers_as_the_cpu_does(on_cpu, offload, fused):
    reader = told("cuda", offload=offload, fused=fused)
    assert reader.model.device.type == "cuda"
    for question in QUESTIONS:
        assert reader.answer(question).text == on_cpu.answer(question).text
    many = [answer.text for answer in reader.answer_many(QUESTIONS)]
    assert many == [on_cpu.answer(question).text for question in QUESTIONS]
    for ours, theirs in zip(reader.inspect(QUESTIONS[0]), on_cpu.inspect(QUESTIONS[0]), strict=True):
        assert torch.equal(ours.found.rows, theirs.found.rows) and ours.sources == theirs.sources


@pytest.mark.parametrize("stored", ["int8", "fp8"])
def test_one_byte_a_number_answers_on_the_gpu(on_cpu, stored):
    reader = told("cuda", offload="none", stored=stored)
    assert [reader.answer(q).text for q in QUESTIONS] == [on_cpu.answer(q).text for q in QUESTIONS]


def test_memory_goes_from_one_to_the_other(on_cpu, tmp_path):
    reader = told("cuda", offload="none")
    reader.save(tmp_path / "gpu.mplus")
    other = core.load("mini")
    other.load(tmp_path / "gpu.mplus")
    assert other.answer(QUESTIONS[0]).text == on_cpu.answer(QUESTIONS[0]).text
    on_cpu.save(tmp_path / "cpu.mplus")
    reader.reset()
    reader.load(tmp_path / "cpu.mplus")
    assert reader.answer(QUESTIONS[1]).text == on_cpu.answer(QUESTIONS[1]).text
    reader.ingest("Nothing of this matters in the least, says Ottokar.")
    reader.undo()
    receipt = reader.memory.receipts[0]
    assert reader.delete(receipt) > 0


@pytest.mark.parametrize("relevance", ["dot", "mean_sigmoid", "block"])
@pytest.mark.parametrize("form", ["hidden", "projected"])
def test_logits_agree_wherever_memory_lives(form, relevance):
    rows = {}
    for device, offload in (("cpu", "long"), ("cuda", "none"), ("cuda", "long"), ("cuda", "all")):
        model = toy_mplus(std=0.05, relevance=relevance).to(device)
        memory = new_memory(model, form, seed=3, offload=offload)
        buffer = PrefixBuffer(memory.place.relays)
        for step in range(8):
            write(model, [memory], torch.arange(16, device=device)[None] + 5 * step)
        with torch.no_grad():
            logits = read_logits(model, [memory], torch.arange(6, device=device)[None], buffer=buffer)[0].logits
        rows[device, offload] = logits.cpu()
    expected = rows.pop(("cpu", "long"))
    for found in rows.values():
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("bits", [4, 8])
def test_a_base_of_few_bits_writes_and_answers(bits):
    pytest.importorskip("bitsandbytes")
    model = toy_mplus(std=0.05, hidden_size=128, intermediate_size=256).to("cuda", torch.bfloat16)
    whole = model_logits(model)
    quantise_base(model, bits)
    found = model_logits(model)
    assert not torch.equal(found, whole)
    assert torch.nn.functional.cosine_similarity(found.flatten(), whole.flatten(), dim=0) > (0.95 if bits == 8 else 0.5)


def model_logits(model) -> torch.Tensor:
    prepare_for_answers(model, fuse=False)
    memory = new_memory(model, seed=3)
    for step in range(8):
        write(model, [memory], torch.arange(16, device="cuda")[None] + 5 * step)
    with torch.no_grad():
        return read_logits(model, [memory], torch.arange(6, device="cuda")[None])[0].logits.float()


@pytest.mark.parametrize("offload", ["none", "long", "all"])
def test_the_planner_agrees_with_what_torch_allocates(offload):
    """Within 2 %, at the paper's shape of memory on a quarter of its layers."""
    gc.collect()  # the model of the test before refers to itself
    model = random_model(PAPER_SHAPE | {"num_hidden_layers": 8}, dtype=torch.bfloat16, device="cuda")
    prepare_for_answers(model, fuse=False)
    model.memory.pool = model.memory.pool.cpu()
    if offload != "none":
        look_up_on_host(model.model.embed_tokens, model.device)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    memory = new_memory(model, offload=offload, form="smaller", undo_levels=0)
    buffer = PrefixBuffer(memory.place.relays)
    for chunk in random_chunks(model.config, 40).to("cuda"):
        write(model, [memory], chunk[None])
    question = torch.arange(64, device="cuda")[None]
    with torch.no_grad():
        read_logits(model, [memory], question, buffer=buffer)
    stored = len(memory.state.logs[0])
    setting = Setting(torch.bfloat16, "smaller", offload, long_term=stored, undo=0, relaid=buffer.relays)
    planned = memory_cost(model.config, setting)
    assert abs(torch.cuda.max_memory_allocated() / planned.device - 1) < 0.02


def test_training_takes_steps_and_goes_on(tmp_path):
    list(little_training(tmp_path, cpu=False).run(log_every=2, max_steps=5))
    training = little_training(tmp_path, cpu=False)
    assert training.resume() and training.model.device.type == "cuda"
    records = list(training.run(log_every=2))
    assert len(records) == 3 and all(record["loss"] == record["loss"] for record in records)
    assert core.load(checkpoints(tmp_path)[-1], "cuda").model.device.type == "cuda"


SHARE = """
import json, sys
from pathlib import Path
import torch
from tests.learners import PLAN, little_training

training = little_training(Path(sys.argv[1]), PLAN[::2], 2, cpu=False)
list(training.run(log_every=1, max_steps=4))
weights = torch.cat([weight.flatten().double().cpu() for weight in training.model.parameters()])
found = [training.model.device.type, float(weights.sum()), float(weights.square().sum())]
Path(sys.argv[1], f"rank{training.accelerator.process_index}.json").write_text(json.dumps(found))
"""


def test_processes_share_gpus_and_have_the_same_weights(tmp_path):
    count = torch.cuda.device_count() + 1
    (tmp_path / "share.py").write_text(SHARE)
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    command = [*run, str(tmp_path / "share.py"), str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, env=os.environ | {"PYTHONPATH": paths})
    found = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(count)]
    assert found[0][0] == "cuda" and all(each == found[0] for each in found)

"""The paper's stages on documents: each sub-task teaches what it should, and a run resumes exactly."""

import json
from dataclasses import replace

import pytest
import torch

from core.curriculum import PAPER, Stage
from core.document_practice import DocumentPractice, stage_optimizers
from core.processes import accelerator
from core.training import Training
from tests.toys import toy_mplus, toy_tokenizer

STAGE = Stage("stage3", 6, 1e-3, 1e-4, ((0.5, 0, 256), (0.5, 256, 600)), max_chunks=6, single=0.3, full_text=0.15,
              revisit=0.3, repeat=0.3, long_term=True, retriever=1.0, retriever_rate=1e-3, decay_steps=5)  # fmt: skip


@pytest.fixture
def data(tmp_path):
    lines = [json.dumps({"text": f"Document {number}: " + "some words follow here. " * (3 + 3 * (number % 7))})
             for number in range(40)]  # fmt: skip
    path = tmp_path / "documents.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def practice_on(data, stage, batch=1, **settings):
    model = toy_mplus(prompt_window=128, **settings)
    stage_optimizers(model)
    practice = DocumentPractice(model, toy_tokenizer(), [data], seed=0, batch=batch)
    practice.prepare(stage)
    return model, practice


def moved(model):
    return {name for name, p in model.named_parameters() if p.grad is not None and bool(p.grad.abs().sum() > 0)}


def step(stage, practice, model, times=1):
    model.zero_grad(set_to_none=True)
    for _ in range(times):
        loss, figures = practice(stage)
        loss.backward()
    return figures


def test_one_chunk_teaches_the_writer(data):
    stage = replace(STAGE, single=1.0, full_text=0.0, revisit=0.0, repeat=0.0)
    model, practice = practice_on(data, stage)
    assert set(step(stage, practice, model)) == {"single"}
    assert any(".write." in name for name in moved(model)) and "memory.new" in moved(model)
    assert practice.memories[0].state.clock == model.config.block_size


@pytest.mark.parametrize("relevance", ["dot", "mean_sigmoid", "block"])
def test_many_chunks_teach_the_reader_and_the_retriever_but_not_the_writer(data, relevance):
    stage = replace(STAGE, single=0.0, full_text=0.0, revisit=0.0, repeat=0.0)
    model, practice = practice_on(data, stage, relevance=relevance)
    assert set(step(stage, practice, model, 4)) == {"many", "retriever_loss"}
    names = moved(model)
    assert any(".read." in name for name in names) and any("retriever" in name for name in names)
    assert not any(".write." in name for name in names) and "memory.new" not in names
    assert not any("lora_" not in name and "retriever" not in name and "memory" not in name for name in names)
    assert len(practice.memories[0].state.logs[0]) > 0


def test_a_document_is_asked_for_again_after_others(data):
    stage = replace(STAGE, single=0.0, full_text=0.0, revisit=0.5, repeat=0.0)
    _, practice = practice_on(data, stage)
    names = []
    for _ in range(20):
        before = practice.memories[0].state.clock
        cached = list(practice.cached[0])
        name = next(iter(practice(stage)[1]))
        names.append(name)
        if name == "revisit":
            assert cached[3] > 0 and practice.memories[0].state.clock == before
    assert names.count("revisit") > 2 and names.count("many") > 5


def test_without_a_long_term_memory_nothing_is_kept_of_what_drops(data):
    stage = replace(PAPER[0], lengths=((1.0, 0, 256),), single=0.0, full_text=0.0)
    model, practice = practice_on(data, stage, batch=2)
    assert "retriever_loss" not in step(stage, practice, model, 2) or stage.retriever == 0
    assert not practice.memories[0].state.logs and len(practice.memories) == 2


def test_the_repeat_task_asks_for_the_chunks_themselves(data):
    stage = replace(STAGE, repeat=1.0, single=0.0, full_text=0.0, revisit=0.0)
    _, practice = practice_on(data, stage)
    document = practice._document()
    ids, start = practice._target(document, document.chunks[:2], True)
    assert practice.tokenizer.decode(ids).startswith("Repeat:")
    assert ids[len(practice.repeat) :][:8] == document.chunks[0][:8] and start == len(practice.repeat) + 5


def watched(function, look):
    def call(*arguments):
        look(*arguments)
        return function(*arguments)

    return call


def test_documents_of_one_chunk_and_more_than_two_sources_are_refused(tmp_path):
    (tmp_path / "short.jsonl").write_text('{"text": "a few words"}\n' * 3)
    _, practice = practice_on(str(tmp_path / "short.jsonl"), STAGE)
    with pytest.raises(ValueError, match="holds no document of"):
        practice(STAGE)
    with pytest.raises(ValueError, match="3 sources are named"):
        DocumentPractice(practice.model, practice.tokenizer, ["a", "b", "c"], seed=0)


def test_a_stage_leaves_the_memory_it_wrote_and_is_not_told_what_it_predicts(data):
    stage = replace(STAGE, single=0.0, full_text=0.0, revisit=0.0, retriever=0.0)
    model, practice = practice_on(data, stage)
    asked, lengths = [], []
    model.retriever_queries = watched(model.retriever_queries, lambda _, states: asked.append(len(states)))
    practice._read = watched(practice._read, lambda _, ids, *rest: lengths.append(len(ids)))
    figures = step(stage, practice, model, 6)
    assert "retriever_loss" not in figures and not any("retriever" in name for name in moved(model))
    assert asked and max(asked) < max(lengths) and len(asked) % model.config.num_hidden_layers == 0
    noise = model.memory.pool.clone()
    practice.leave_memory()
    assert torch.equal(model.memory.pool, practice.memories[0].state.pool) and not torch.equal(model.memory.pool, noise)


def test_a_resumed_stage_goes_the_same_way(data, tmp_path):
    def training(out):
        model, practice = practice_on(data, STAGE)
        return Training(accelerator("no", cpu=True), practice, [STAGE], stage_optimizers(model), toy_tokenizer(), out)

    whole, broken = tmp_path / "whole", tmp_path / "broken"
    list(training(whole).run(log_every=2))
    list(training(broken).run(log_every=2, max_steps=3))
    again = training(broken)
    assert again.resume()
    list(again.run(log_every=2))
    lines = [(out / "metrics.jsonl").read_text().splitlines() for out in (whole, broken)]
    first, second = ([json.loads(line)["loss"] for line in part] for part in lines)
    assert first == second and len(first) == 3
    assert (whole / "stage3" / "model.safetensors").is_file()
    frozen = dict(toy_mplus().named_parameters())["model.layers.0.mlp.up_proj.base_layer.weight"]
    assert torch.equal(dict(again.model.named_parameters())["model.layers.0.mlp.up_proj.base_layer.weight"], frozen)

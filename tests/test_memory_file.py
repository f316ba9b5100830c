"""A memory on disk: whole or refused, and never half written."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from core.memory_file import fingerprint, load_memory, save_memory
from core.reader import MPlusReader
from core.reading import new_memory
from tests.test_memory_properties import equal, fingerprint_of
from tests.toys import toy_mplus, toy_tokenizer

ROOT = Path(__file__).parent.parent


def told(model):
    reader = MPlusReader(model, toy_tokenizer())
    for number in range(6):
        reader.ingest(f"Line {number}: the {number}th gate opens at dawn.")
    return reader


def test_a_file_brings_back_texts_sources_and_random_state(tmp_path):
    model = toy_mplus()
    reader, again = told(model), MPlusReader(model, toy_tokenizer())
    reader.save(tmp_path / "memory.safetensors")
    again.load(tmp_path / "memory.safetensors")
    assert equal(fingerprint_of(reader.memory), fingerprint_of(again.memory))
    for mplus in (reader, again):
        mplus.ingest("And then both read one more line of text.")
    assert equal(fingerprint_of(reader.memory), fingerprint_of(again.memory))
    with pytest.raises(ValueError, match="nothing to undo"):
        fresh = MPlusReader(model, toy_tokenizer())
        fresh.load(tmp_path / "memory.safetensors")
        fresh.undo()


def test_bfloat16_memories_too(tmp_path):
    model = toy_mplus().to(torch.bfloat16)
    reader = told(model)
    reader.save(tmp_path / "m.safetensors")
    again = MPlusReader(model, toy_tokenizer())
    again.load(tmp_path / "m.safetensors")
    assert again.memory.state.pool.dtype == torch.bfloat16
    assert equal(fingerprint_of(reader.memory), fingerprint_of(again.memory))


def test_a_damaged_file_is_refused_wherever_it_is_cut(tmp_path):
    model = toy_mplus()
    reader, file = told(model), tmp_path / "memory.safetensors"
    reader.save(file)
    whole, before = file.read_bytes(), fingerprint_of(reader.memory)
    for cut in range(0, len(whole), max(1, len(whole) // 30)):
        file.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match=r"memory\.safetensors"):
            reader.load(file)
    file.write_bytes(b"not a memory at all")
    with pytest.raises(ValueError, match="cannot be read"):
        reader.load(file)
    with pytest.raises(ValueError, match="no memory file"):
        reader.load(tmp_path / "absent")
    assert equal(before, fingerprint_of(reader.memory))


def test_foreign_files_and_numbers_that_are_none(tmp_path):
    model, other = toy_mplus(), toy_mplus(seed=1)
    reader, file = told(model), tmp_path / "memory.safetensors"
    reader.save(file)
    assert fingerprint(model) != fingerprint(other)
    with pytest.raises(ValueError, match="another model"):
        MPlusReader(other, toy_tokenizer()).load(file)
    save_file({"a": torch.zeros(2)}, tmp_path / "foreign")
    with pytest.raises(ValueError, match="not a memory file"):
        reader.load(tmp_path / "foreign")
    with safe_open(file, "pt") as opened:
        tensors, meta = {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata()  # noqa: SIM118
    for name in ("pool", "long.1.keys"):
        spoiled = {**tensors, name: tensors[name].clone()}
        spoiled[name].view(-1)[7] = float("nan")
        save_file(spoiled, file, metadata=meta)
        with pytest.raises(ValueError, match="not numbers"):
            reader.load(file)
    save_file({**tensors, "pool": tensors["pool"][:, :-1].clone()}, file, metadata=meta)
    with pytest.raises(ValueError, match="shape"):
        reader.load(file)
    save_file({name: tensor for name, tensor in tensors.items() if name != "long.0.born"}, file, metadata=meta)
    with pytest.raises(ValueError, match="incomplete"):
        reader.load(file)


def test_kill_9_during_saves_leaves_the_old_file_or_the_new(tmp_path):
    file = tmp_path / "memory.safetensors"
    script = (
        "import sys; sys.path.insert(0, '.')\n"
        "from tests.test_memory_file import told\nfrom tests.toys import toy_mplus\n"
        "reader = told(toy_mplus())\n"
        f"while True: reader.save({str(file)!r}); print('saved', flush=True)\n"
    )
    model = toy_mplus()
    for delay in (0.001, 0.004, 0.011):
        child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=ROOT)
        child.stdout.readline()
        time.sleep(delay)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
        memory = new_memory(model)
        load_memory(memory, file, fingerprint(model))
        assert len(memory.receipts) == 6
    save_memory(memory, file, fingerprint(model))

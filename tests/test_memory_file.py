"""A memory on disk: whole or refused, and never half written."""

import json
import os
import random
import signal
import time
from dataclasses import asdict

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from core.checkpoint import load_model, save_model
from core.memory_file import NAMED, ORDERED, _checksum, fingerprint, load_memory, save_memory
from core.reader import MPlusReader
from core.reading import new_memory
from tests.test_memory_properties import equal, fingerprint_of
from tests.toys import toy_mplus, toy_tokenizer


def told(model, form="hidden"):
    reader = MPlusReader(model, toy_tokenizer(), new_memory(model, form))
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


def test_a_loaded_memory_is_not_the_files(tmp_path):
    """Another file is copied over it, as a person does who goes back to an older copy; the memory stays what it was."""
    model, file = toy_mplus(), tmp_path / "memory.safetensors"
    told(model).save(file)
    again = MPlusReader(model, toy_tokenizer())
    again.load(file)
    before = fingerprint_of(again.memory)
    with file.open("r+b") as held:
        held.write(bytes(file.stat().st_size))
    assert equal(before, fingerprint_of(again.memory))


def test_a_parameter_of_more_than_two_to_the_24_numbers_has_a_fingerprint():
    """In float32 the last of its places is rounded up, to one behind the end: a Llama's embeddings."""
    model = toy_mplus()
    model.model.embed_tokens.weight = torch.nn.Parameter(torch.zeros(300_004, 64), requires_grad=False)
    zeros = fingerprint(model)
    with torch.no_grad():
        model.model.embed_tokens.weight[-1, -1] = 1.0
    assert fingerprint(model) != zeros


@pytest.mark.parametrize("form", ["hidden", "projected"])
def test_bfloat16_memories_too(tmp_path, form):
    """In bfloat16 exactly; a model in float32 takes the same file over, as the values are representable."""
    model = load_half(tmp_path / "model")
    reader, file = told(model, form), tmp_path / "m.safetensors"
    reader.save(file)
    again = MPlusReader(model, toy_tokenizer(), new_memory(model, form))
    again.load(file)
    assert again.memory.state.pool.dtype == torch.bfloat16
    assert equal(fingerprint_of(reader.memory), fingerprint_of(again.memory))
    whole = MPlusReader(
        load_model(tmp_path / "model"), toy_tokenizer(), new_memory(load_model(tmp_path / "model"), form)
    )
    whole.load(file)
    assert whole.memory.state.pool.dtype == whole.memory.state.logs[0].tokens.dtype == torch.float32
    assert torch.equal(whole.memory.state.pool, reader.memory.state.pool.float())


def load_half(folder):
    save_model(toy_mplus(), folder)
    return load_model(folder, dtype=torch.bfloat16)


def test_a_damaged_file_is_refused_wherever_it_is_cut(tmp_path):
    model = toy_mplus()
    reader, file = told(model), tmp_path / "memory.safetensors"
    reader.save(file)
    whole, before = file.read_bytes(), fingerprint_of(reader.memory)
    for cut in range(0, len(whole), max(1, len(whole) // 30)):
        file.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match=r"memory\.safetensors"):
            reader.load(file)
    file.write_bytes(whole + b"x")
    with pytest.raises(ValueError, match=r"memory\.safetensors"):
        reader.load(file)
    file.write_bytes(b"not a memory at all")
    with pytest.raises(ValueError, match="cannot be read"):
        reader.load(file)
    with pytest.raises(ValueError, match="no memory file"):
        reader.load(tmp_path / "absent")
    assert equal(before, fingerprint_of(reader.memory))


def test_one_wrong_bit_anywhere_is_noticed(tmp_path):
    model = toy_mplus()
    reader, file = told(model), tmp_path / "memory.safetensors"
    reader.save(file)
    whole, before = file.read_bytes(), fingerprint_of(reader.memory)
    header = int.from_bytes(whole[:8], "little")
    choice = random.Random(1)
    at = [choice.randrange(8, 8 + header) for _ in range(60)] + [
        choice.randrange(8 + header, len(whole)) for _ in range(60)
    ]
    for place in [*range(8), *at, len(whole) - 1]:
        spoiled = bytearray(whole)
        spoiled[place] ^= 1 << choice.randrange(8)
        file.write_bytes(spoiled)
        try:
            reader.load(file)
        except ValueError as error:
            assert "memory.safetensors" in str(error)
        else:  # white space in a header, or its own name of a thing nobody reads, may change without harm
            assert place < 8 + header, f"byte {place} of the tensors was taken as it came"
        assert equal(before, fingerprint_of(reader.memory)), place


@pytest.fixture
def opened(tmp_path):
    """A saved memory: the reader that wrote it, its file, tensors and metadata."""
    reader, file = told(toy_mplus(), "projected"), tmp_path / "memory.safetensors"
    reader.save(file)
    with safe_open(file, "pt") as content:
        return reader, file, {name: content.get_tensor(name) for name in content.keys()}, content.metadata()  # noqa: SIM118


def refused(opened, tensors, words, meta=None):
    """Even with a right checksum the file is refused, in words, and the memory is what it was."""
    reader, file, _, metadata = opened
    before = fingerprint_of(reader.memory)
    metadata = {**metadata, **(meta or {})}
    save_file(tensors, file, metadata={**metadata, "checksum": _checksum(tensors, metadata["state"])})
    with pytest.raises(ValueError, match=words):
        reader.load(file)
    assert equal(before, fingerprint_of(reader.memory))
    reader.undo()  # not even what could be undone is lost
    reader.ingest("And the memory goes on as before.")


def test_every_tensor_of_a_wrong_shape_or_absent_is_refused(opened):
    tensors = opened[2]
    assert {"pool", "newest", "keys", "stamp", "block", "slot", "random", "long.0.tokens", "long.1.merged"} <= set(
        tensors
    )
    for name, tensor in tensors.items():
        refused(opened, {other: t for other, t in tensors.items() if other != name}, "incomplete or damaged")
        for wrong in (tensor.new_zeros(3, 3, 3), tensor[..., :-1].clone() if tensor.dim() else tensor.new_zeros(2)):
            refused(opened, {**tensors, name: wrong}, "incomplete or damaged")


def test_files_of_the_formats_before_are_read(opened):
    """They had texts among the books, and the older one did not say in which rows θ stands."""
    reader, file, tensors, metadata = opened
    books = json.loads(metadata["state"]) | {"receipts": [asdict(receipt) for receipt in reader.memory.receipts]}
    before = fingerprint_of(reader.memory)
    for name in ("texts", "spans", "chunks"):
        del tensors[name]
    for form, receipts in ((NAMED, True), (NAMED, False), (ORDERED, True)):
        if form == ORDERED:
            del tensors["place"]
        state = json.dumps(books if receipts else books | {"receipts": []})
        metadata = {**metadata, "format": form, "state": state, "checksum": _checksum(tensors, state)}
        save_file(tensors, file, metadata=metadata)
        reader.load(file)
        assert equal(before, fingerprint_of(reader.memory)) is receipts


def test_more_text_than_a_header_holds_can_be_saved(tmp_path):
    """safetensors allows 100 MB of header; the spans of five million tokens would take more."""
    reader, again = told(toy_mplus()), told(toy_mplus())
    reader.memory.open_receipt("x" * 1000, [(3 * number, 3 * number + 3) for number in range(5_000_000)])
    reader.save(tmp_path / "memory.safetensors")
    again.load(tmp_path / "memory.safetensors")
    assert again.memory.receipts == reader.memory.receipts


def test_any_text_comes_back(tmp_path):
    reader, again = told(toy_mplus()), told(toy_mplus())
    reader.memory.open_receipt("Grüße, 你好 \ud800 \0 end", [(0, 3), (2, 9)])
    reader.memory.open_receipt("", [])
    reader.save(tmp_path / "memory.safetensors")
    again.load(tmp_path / "memory.safetensors")
    assert again.memory.receipts == reader.memory.receipts


def test_a_folder_is_no_name_for_a_file(tmp_path):
    for name in ("", tmp_path):
        with pytest.raises(ValueError, match="is a folder; add a name"):
            told(toy_mplus()).save(name)


def test_numbers_that_are_none_are_refused_in_every_tensor(opened):
    tensors = opened[2]
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            for value in (float("nan"), float("inf")):
                spoiled = tensor.clone()
                spoiled.view(-1)[-1] = value
                refused(opened, {**tensors, name: spoiled}, f"not numbers .in {name}.")


@pytest.mark.parametrize(
    "change", [{"clock": "7"}, {"written": 1}, {"next_block": None}, {"receipts": [7]}, {"receipts": [{"id": 1}]}, None]
)
def test_books_that_cannot_be_read_are_refused(opened, change):
    books = json.loads(opened[3]["state"])
    text = "{" if change is None else json.dumps(books | change)
    refused(opened, opened[2], "incomplete or damaged", {"state": text})


def test_what_belongs_to_another_model_form_or_rule_set_is_refused(tmp_path):
    model, file = toy_mplus(), tmp_path / "memory.safetensors"
    told(model).save(file)
    for other in (toy_mplus(seed=1), toy_mplus(rules="released")):
        assert fingerprint(model) != fingerprint(other)
        with pytest.raises(ValueError, match="another model"):
            MPlusReader(other, toy_tokenizer()).load(file)
    with pytest.raises(ValueError, match='"hidden" form, this memory keeps the "projected"'):
        told(model, "projected").load(file)
    save_file({"a": torch.zeros(2)}, tmp_path / "foreign")
    with pytest.raises(ValueError, match="not a memory file"):
        told(model).load(tmp_path / "foreign")


def test_the_form_counts_even_where_both_have_one_shape(tmp_path):
    """Without Θ, and with keys and values as wide as hidden states, only the file's own word tells the forms apart."""
    model, file = toy_mplus(num_retrieved=0, drop="shared"), tmp_path / "memory.safetensors"
    told(model, "hidden").save(file)
    projected = told(model, "projected")
    assert projected.memory.state.pool.shape == told(model).memory.state.pool.shape
    with pytest.raises(ValueError, match="form"):
        projected.load(file)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_kill_9_during_saves_leaves_the_old_file_or_the_new(tmp_path):
    """A process that saves an old and a new memory in turn is killed at 40 moments; what is there is one of the two."""
    model, file = toy_mplus(num_blocks=1000), tmp_path / "memory.safetensors"  # large: its writing takes a while
    old, new = told(model), told(model)
    new.ingest("The newer memory has one line more.")
    prints = [fingerprint_of(reader.memory) for reader in (old, new)]
    owner, choice = fingerprint(model), random.Random(0)
    save_memory(old.memory, file, owner)
    begin = time.perf_counter()
    save_memory(new.memory, file, owner)
    lasting = time.perf_counter() - begin
    for _ in range(40):
        child = os.fork()
        if not child:
            while True:
                for reader in (old, new):
                    save_memory(reader.memory, file, owner)
        time.sleep(choice.uniform(0, 3 * lasting))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        memory = new_memory(model)
        load_memory(memory, file, owner)
        assert any(equal(fingerprint_of(memory), each) for each in prints)


def test_a_save_that_fails_half_way_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    reader, file = told(toy_mplus()), tmp_path / "memory.safetensors"
    reader.save(file)
    whole = file.read_bytes()

    def half(tensors, path, metadata):
        save_file(tensors, path, metadata=metadata)
        os.truncate(path, path.stat().st_size // 2)
        raise OSError("No space left on device")

    monkeypatch.setattr("core.memory_file.save_file", half)
    reader.ingest("One line more.")
    with pytest.raises(OSError, match="No space"):
        reader.save(file)
    assert file.read_bytes() == whole and list(tmp_path.iterdir()) == [file]


def test_drafts_that_killed_processes_left_are_cleared_away(tmp_path):
    file = tmp_path / "memory.safetensors"
    abandoned, under_way = (tmp_path / f".memory.safetensors.{number}.part" for number in (1, 2))
    for draft in (abandoned, under_way):
        draft.write_bytes(b"half a memory")
    os.utime(abandoned, (0, 0))
    told(toy_mplus()).save(file)
    assert sorted(tmp_path.iterdir()) == [under_way, file]

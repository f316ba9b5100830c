"""Our code against tensors the authors' code produced: every case folder of `MPLUS_GOLDEN`, by its class and files.

A case is a checkpoint with `inputs.safetensors` (token ids, dropped slots) and `outputs.safetensors` (what came out);
what a case holds decides what is compared, so cases of other shapes and seeds run without a change here.
Floats agree within 1e-4; indices, ages, frequencies, sizes and greedy tokens are exact.
"""

import json
import os
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from core.adapters import WRITE, use_adapter
from core.checkpoint import export_official, load_model, read_tensors
from core.drops import Recorded
from core.log import TokenLog
from core.memory import Memory
from core.reading import generate, new_memory, read_logits, write
from core.state import next_version

GOLDEN = Path(os.environ.get("MPLUS_GOLDEN", Path(__file__).parents[2] / "shared" / "golden"))
CASES = sorted(path.parent for path in GOLDEN.glob("*/config.json"))
pytestmark = pytest.mark.skipif(not CASES, reason=f"no golden cases in {GOLDEN}")
TOLERANCE = 1e-4


def case_id(case):
    return case.name


def close(ours, theirs, what):
    assert ours.shape == theirs.shape, f"{what}: shape {tuple(ours.shape)}, expected {tuple(theirs.shape)}"
    worst = (ours.double() - theirs.double()).abs().max().item() if ours.numel() else 0.0
    assert worst <= TOLERANCE, f"{what}: off by {worst:.2e}"


def exact(ours, theirs, what):
    assert torch.equal(ours.double().flatten(), theirs.double().flatten()), f"{what}: {ours} != {theirs}"


def official_state(memory: Memory) -> dict[str, torch.Tensor]:
    """Our memory in the authors' terms."""
    state, named = memory.state, {"memory": memory.state.pool}
    if not state.logs:
        return named
    named["memory_ages"] = memory.ages
    named["update_step"] = torch.tensor([state.clock % memory.rules.merge_every])
    pending = []
    for layer, log in enumerate(state.logs):
        live = log.live
        merged = live[: log.merged]
        age = state.clock - log.born
        for name, column in (
            ("ltm", log.tokens),
            ("ltm_keys", log.keys),
            ("ltm_ages", age),
            ("ltm_recall_frequencies", log.recall),
        ):
            named[f"{name}.{layer}"] = column[: log.merged][merged]
        rest = live.clone()
        rest[: log.merged] = False
        pending.append((log.tokens[rest], log.keys[rest], age[rest]))
    if len(pending[0][0]):
        names = ("cached_dropped_memories", "cached_dropped_keys", "cached_dropped_memory_ages")
        named |= {name: torch.stack(parts) for name, parts in zip(names, zip(*pending, strict=True), strict=True)}
    return named


EXACT = ("memory_ages", "update_step", "ltm_ages", "ltm_recall_frequencies", "cached_dropped_memory_ages")


def compare_state(memory, expected, where):
    """`expected`: all of the authors' state tensors by name; a pending pool that is absent must be absent here."""
    ours = official_state(memory)
    assert set(ours) == set(expected), f"{where}: {set(ours) ^ set(expected)}"
    for name, theirs in expected.items():
        (exact if name.split(".")[0] in EXACT else close)(ours[name], theirs, f"{where} {name}")


STATE = re.compile(r"(memory|memory_ages|update_step|ltm.*|cached_dropped_.*)")


def state_at(tensors, prefix):
    found = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
    return {name: t for name, t in found.items() if STATE.fullmatch(name)}


def compare_sums(memory, sums, where):
    ours = official_state(memory)
    for name, expected in sums.items():
        if name not in ours or not isinstance(expected, dict):
            continue
        tensor = ours[name].double()
        assert list(tensor.shape) == expected["shape"], f"{where} {name}"
        flat = tensor.flatten()
        ramp = (flat * torch.arange(len(flat), dtype=torch.float64).cos()).sum().item()
        for value, key in ((flat.sum().item(), "sum"), (flat.abs().sum().item(), "abs_sum"), (ramp, "ramp")):
            assert abs(value - expected[key]) <= TOLERANCE * max(1, len(flat)) ** 0.5 * 10, f"{where} {name} {key}"


def load_case(case):
    torch.set_num_threads(1)
    model = load_model(case)
    inputs = load_file(case / "inputs.safetensors") if (case / "inputs.safetensors").is_file() else {}
    outputs = load_file(case / "outputs.safetensors") if (case / "outputs.safetensors").is_file() else {}
    writes = sorted(int(n.split(".")[1]) for n in inputs if n.startswith("inject.") and n.endswith(".input_ids"))
    drops = Recorded(inputs[f"inject.{t}.dropped"] for t in writes if f"inject.{t}.dropped" in inputs)
    return model, new_memory(model, drop=drops), inputs, outputs, writes


def compare_query(model, memory, ids, outputs, prefix):
    logits, found = read_logits(model, [memory], ids)
    hidden = hidden_states(model, memory, ids)
    get = {n.removeprefix(prefix): t for n, t in outputs.items() if n.startswith(prefix)}
    close(logits.logits[0], get["prefill_logits"], prefix + "logits")
    if "hidden_states" in get:
        close(hidden, get["hidden_states"], prefix + "hidden_states")
    for layer, row in enumerate(rows[0] for rows in found if rows):
        for name, theirs in get.items():
            if not name.startswith(f"layer{layer}."):
                continue
            what = name.split(".")[1]
            live = memory.state.logs[layer].live
            place = live.cumsum(0) - 1  # our rows as the authors count them: without the dead
            if what == "scores":
                close(row.scores, theirs, prefix + name)
            elif what == "topk_sorted" and len(row.scores):
                exact(place[row.rows].sort().values, theirs, prefix + name)
            elif what == "order":
                pass  # positions into topk_sorted; the retrieved rows below pin the same thing
            elif what == "retrieved":
                close(memory.state.logs[layer].take(row.rows), theirs, prefix + name)
            elif what == "ages_of_topk":
                exact(row.ages.sort().values, theirs.sort().values, prefix + name)
    if "kv_len" in get:
        cache = logits.past_key_values
        exact(torch.tensor([cache.get_seq_length()]), get["kv_len"], prefix + "kv_len")
    if "greedy_tokens" in get:
        count = len(get["greedy_tokens"])
        sampling = dict(max_new_tokens=count, min_new_tokens=count, do_sample=False, eos_token_id=None, pad_token_id=0)
        ids_out, _ = generate(model, [memory], ids, **sampling)
        exact(ids_out[0, ids.shape[1] :], get["greedy_tokens"], prefix + "greedy_tokens")


def hidden_states(model, memory, ids):
    """(L + 1, n, d): every layer's input and the final norm's output."""
    inputs = []
    hooks = [layer.register_forward_pre_hook(lambda m, a: inputs.append(a[0])) for layer in model.model.layers]
    hooks.append(model.model.norm.register_forward_hook(lambda m, a, out: inputs.append(out)))
    try:
        read_logits(model, [memory], ids)
    finally:
        for hook in hooks:
            hook.remove()
    return torch.cat(inputs)


@pytest.mark.parametrize("case", CASES, ids=case_id)
@torch.no_grad()
def test_case(case):
    model, memory, inputs, outputs, writes = load_case(case)
    ask = inputs.get("query.input_ids")
    checksums = {}
    if (case / "checksums.json").is_file():
        checksums = {entry["step"]: entry for entry in json.loads((case / "checksums.json").read_text())}
    sizes = json.loads((case / "sizes.json").read_text()) if (case / "sizes.json").is_file() else []
    sizes = {entry["step"]: entry for entry in sizes}
    before = {name.removesuffix("_before"): t for name, t in outputs.items() if name.endswith("_before")}
    for name, theirs in before.items():
        close(official_state(memory)[name], theirs, f"before {name}")
    if writes and "q0.prefill_logits" in outputs:
        compare_query(model, memory, ask, outputs, "q0.")
    for t in writes:
        logits, hidden = None, None
        if "injection_logits" in outputs:
            logits, hidden = injection_pass(model, memory, inputs[f"inject.{t}.input_ids"])
        blocks = write(model, [memory], inputs[f"inject.{t}.input_ids"])
        block = outputs.get(f"step{t}.delta_memory", outputs.get("delta_memory"))
        if block is not None:
            close(blocks[:, 0], block, f"step {t} block")
        if logits is not None:
            close(logits, outputs["injection_logits"], "injection logits")
            close(hidden, outputs["hidden_states"], "injection hidden states")
        expected = state_at(outputs, f"step{t}.")
        if not expected and "memory" in outputs:
            expected = state_at(outputs, "")
        if expected:
            compare_state(memory, expected, f"step {t}")
        compare_sums(memory, checksums.get(t, {}), f"step {t}")
        if t in sizes and memory.state.logs:
            sizes_now = [int(log.live[: log.merged].sum()) for log in memory.state.logs]
            assert sizes_now == sizes[t]["ltm_sizes"], f"step {t}"
            assert len(memory.state.logs[0]) - sizes_now[0] == sizes[t]["cached"], f"step {t}"
        if f"q{t}.prefill_logits" in outputs:
            compare_query(model, memory, ask, outputs, f"q{t}.")
    if not writes:
        for step in sorted({int(n[1:].split(".")[0].split("_")[0]) for n in outputs if re.match(r"q\d+[._]", n)}):
            set_state(memory, state_at(inputs, f"step{step}."))
            compare_state(memory, state_at(inputs, f"step{step}."), f"loaded step {step}")
            compare_query(model, memory, ask, outputs, f"q{step}.")
            if f"q{step}_bf16rope.prefill_logits" in outputs:
                compare_query(load_model(case, round_rope=True), memory, ask, outputs, f"q{step}_bf16rope.")


def injection_pass(model, memory, ids):
    """Logits (n, vocabulary) and layer inputs (L + 1, n, d) of a write, which no other case needs."""
    inputs = []
    size, n = model.config.block_size, ids.shape[1]
    hooks = [
        layer.register_forward_pre_hook(lambda m, a: inputs.append(a[0][:, -n:].clone()))
        for layer in model.model.layers
    ]
    outs = []
    hooks.append(model.model.layers[-1].register_forward_hook(lambda m, a, out: outs.append(out[:, -n:])))
    try:
        with use_adapter(model, WRITE):
            model.write(ids, memory.newest)
    finally:
        for hook in hooks:
            hook.remove()
    for hidden in inputs if memory.state.written else []:  # theirs are taken before the embedding is added
        hidden[:, -size:] -= model.memory.new
    last = model.model.norm(outs[0])
    return model.lm_head(last)[0], torch.cat([*inputs, last])


def set_state(memory: Memory, tensors):
    state = memory.state
    state.pool, clock = tensors["memory"], int(tensors["update_step"])
    state.version = next_version()
    state.stamp, state.clock = tensors["memory_ages"].long(), clock
    logs = []
    for layer in range(len(state.logs)):
        tokens, keys = tensors[f"ltm.{layer}"], tensors[f"ltm_keys.{layer}"]
        ages, recall = tensors[f"ltm_ages.{layer}"].long(), tensors[f"ltm_recall_frequencies.{layer}"]
        blocks = torch.ones(len(tokens), dtype=torch.int64)
        log = TokenLog(tokens, keys, clock - ages, blocks, torch.zeros_like(blocks), recall)
        if "cached_dropped_memories" in tensors:
            rows = tensors["cached_dropped_memories"][layer]
            ages = tensors["cached_dropped_memory_ages"][layer].long()
            ones = torch.ones(len(rows), dtype=torch.int64)
            log.append(
                tokens=rows,
                keys=tensors["cached_dropped_keys"][layer],
                born=clock - ages,
                block=ones,
                slot=ones,
                recall=ones.double(),
            )
        logs.append(log)
    state.logs = logs


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_export_writes_identical_tensors(case, tmp_path):
    model = load_model(case)
    export_official(model, tmp_path)
    theirs, ours = read_tensors(case), read_tensors(tmp_path)
    assert set(theirs) == set(ours)
    for name, tensor in theirs.items():
        assert torch.equal(tensor, ours[name]), name
    settings, again = (json.loads((folder / "config.json").read_text()) for folder in (case, tmp_path))
    for name in again:
        if name in settings and name not in ("lora_config", "transformers_version"):
            assert again[name] == settings[name], name

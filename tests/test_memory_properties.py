"""Properties of memory after any sequence of operations, found by hypothesis."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.drops import oldest, random_per_layer, random_shared
from core.log import DEAD
from core.reader import MPlusReader
from core.reading import new_memory, write
from core.state import Tokens
from tests.toys import MEMORY, toy_mplus, toy_tokenizer

MODELS = {
    rules: toy_mplus(rules=rules, merge_every=2, initial_recall=4.0, max_long_term=60)
    for rules in ("paper", "released")
}
TOKENIZER = toy_tokenizer()
K, N = MEMORY["block_size"], MEMORY["block_size"] * MEMORY["num_blocks"]
OPERATIONS = st.lists(
    st.sampled_from(["ingest", "ingest", "ingest", "undo", "delete", "snapshot", "restore", "fork", "save"]),
    min_size=3,
    max_size=14,
)
QUICK = settings(max_examples=25, deadline=None, derandomize=True)


def places(memory, layer):
    """(block, slot) of every token, θ's in order and Θ's live ones."""
    state = memory.state
    pool = list(zip(state.block[layer].tolist(), state.slot[layer].tolist(), strict=True))
    log = state.logs[layer]
    live = log.live
    return pool, list(zip(log.block[live].tolist(), log.slot[live].tolist(), strict=True))


def check(memory, config):
    """What must hold at every moment."""
    state = memory.state
    assert state.pool.shape == (2, N, 64) and state.newest.shape == (2, K, 64)
    assert torch.equal(state.pool[:, -K:], state.newest)
    owned = {chunk.block: receipt.id for receipt in memory.receipts for chunk in receipt.chunks}
    assert {block: owner for block, (owner, _) in state.block_owner.items()} == owned
    for layer in range(2):
        pool, long = places(memory, layer)
        written = [place for place in pool if place[0] in owned]
        assert written == sorted(written), "survivors keep the order in which they were written"
        everywhere = [place for place in pool + long if place[0] in owned]
        assert len(everywhere) == len(set(everywhere)), "a token is in two places"
        if config.rules == "paper":
            assert len(long) <= config.max_long_term
            ages = memory.ages[layer]
            assert (ages[:-1] >= ages[1:]).all() or len(written) < N, "θ is ordered by age"
        for block, slot in everywhere:
            source, receipt = memory.source(block, slot), memory.state.receipts[owned[block]]
            assert source.receipt == receipt.id
            chunk = receipt.chunks[source.chunk]
            assert chunk.block == block and (source.position is None or chunk.start <= source.position < chunk.end)
        log = state.logs[layer]
        assert len(log) == int(log.live.sum()) and int((log.block != DEAD).sum()) == len(log)


def fingerprint_of(memory):
    state = memory.state
    columns = [state.pool, state.stamp, state.block, state.slot, memory.random.get_state()]
    for log in state.logs:
        columns += [
            getattr(log, name)[log.live].clone() for name in ("tokens", "keys", "born", "block", "slot", "recall")
        ]
    return [column.clone() for column in columns], state.clock, tuple(memory.receipts)


def equal(a, b):
    return a[1:] == b[1:] and all(torch.equal(x, y) for x, y in zip(a[0], b[0], strict=True))


@pytest.mark.parametrize("rules", MODELS)
@given(operations=OPERATIONS, seed=st.integers(0, 5))
@QUICK
def test_any_sequence_of_operations_keeps_the_books(rules, operations, seed, tmp_path_factory):
    model = MODELS[rules]
    reader = MPlusReader(model, TOKENIZER, new_memory(model, seed=seed))
    file = tmp_path_factory.mktemp("memory") / "memory.safetensors"
    kept, kept_print, before = None, None, None
    for number, operation in enumerate(operations):
        memory = reader.memory
        if operation == "ingest":
            before = fingerprint_of(memory)
            receipt = reader.ingest(f"Text number {number} says {'word ' * (number % 5 + 1)}")
            assert receipt.dropped == K * len(receipt.chunks) and receipt == memory.state.receipts[receipt.id]
        elif operation == "undo" and before is not None:
            reader.undo()
            assert equal(before, fingerprint_of(memory))
            before = None
        elif operation == "delete" and memory.receipts:
            receipt = memory.receipts[seed % len(memory.receipts)]
            blocks = torch.tensor([chunk.block for chunk in receipt.chunks])
            others = {p: t.clone() for p, t in survivors(memory, set(blocks.tolist())).items()}
            reader.delete(receipt)
            assert not torch.isin(memory.state.block, blocks).any(), "still in θ"
            assert not any(torch.isin(log.block, blocks).any() for log in memory.state.logs), "still in Θ"
            now = survivors(memory, set())
            assert all(torch.equal(now[place], tokens) for place, tokens in others.items()), "others have changed"
            before = None
        elif operation == "snapshot":
            kept, kept_print = memory.snapshot(), fingerprint_of(memory)
        elif operation == "restore" and kept is not None:
            memory.restore(kept)
            assert equal(kept_print, fingerprint_of(memory))
            before = None
        elif operation == "fork":
            twin, mine = reader.fork(), fingerprint_of(memory)
            assert equal(mine, fingerprint_of(twin.memory))
            twin.ingest("Only the twin reads this sentence about the moon.")
            assert equal(mine, fingerprint_of(memory)), "a fork writes into its origin"
        elif operation == "save":
            mine = fingerprint_of(memory)
            reader.save(file)
            other = MPlusReader(model, TOKENIZER, new_memory(model, seed=99))
            other.load(file)
            assert equal(mine, fingerprint_of(other.memory))
        check(memory, model.config)


def survivors(memory, doomed):
    """{(layer, block, slot): token} of all tokens outside the doomed blocks, initial tokens left aside."""
    found, state = {}, memory.state
    for layer, log in enumerate(state.logs):
        owned = state.block_owner.keys() - doomed
        for column in (
            zip(state.block[layer].tolist(), state.slot[layer].tolist(), state.pool[layer], strict=True),
            zip(log.block.tolist(), log.slot.tolist(), log.tokens, strict=True),
        ):
            found |= {(layer, block, slot): token for block, slot, token in column if block in owned}
    return found


def test_no_token_is_lost_before_eviction_and_the_oldest_go_first():
    model = toy_mplus(max_long_term=24)
    memory = new_memory(model)
    for step in range(12):
        write(model, [memory], torch.full((1, 10), step))
        total = N + K * (step + 1)
        for layer, log in enumerate(memory.state.logs):
            assert N + len(log) == min(total, N + 24), "every dropped token is in Θ until Θ is full"
            ages = (memory.state.clock - log.born)[log.live]
            assert len(ages) == len(set(ages.tolist())), layer
    # Under the paper's rules what left Θ is older than all that stayed there and was there already.
    assert all((memory.state.clock - log.born)[log.live].max() < memory.state.clock + N for log in memory.state.logs)


@pytest.mark.parametrize("policy, layers", [(random_per_layer, 8), (random_shared, 1)])
def test_forgetting_follows_the_law(policy, layers):
    """After t writes a token is still in θ with probability (1 - K/N)^t (MemoryLLM, eq. 4)."""
    model = toy_mplus()
    tokens = Tokens(model.memory.pool)
    runs, writes = 150, 12
    alive = torch.zeros(writes)
    for seed in range(runs):
        memory = new_memory(model, seed=seed, drop=policy)
        memory.add(tokens_of(tokens, K), None)
        marked = memory.state.next_block - 1
        for t in range(writes):
            memory.add(tokens_of(tokens, K), None)
            alive[t] += (memory.state.block == marked).float().mean() * N / K
    share = alive / runs
    law = (1 - K / N) ** torch.arange(1, writes + 1)
    spread = (law * (1 - law) / (runs * 2 * K / 4)).sqrt()  # tokens of one draw are not independent: a quarter counts
    assert ((share - law).abs() < 4 * spread).all(), (share, law)


def tokens_of(tokens, count):
    return Tokens(tokens.hidden[:, :count])


def test_policies_drop_what_they_say():
    memory = new_memory(toy_mplus(), drop=oldest)
    first = memory.state.pool.clone()
    memory.add(Tokens(torch.zeros(2, K, 64)), None)
    assert torch.equal(memory.state.pool[:, : N - K], first[:, K:])
    shared = new_memory(toy_mplus(), drop=random_shared)
    shared.add(Tokens(torch.zeros(2, K, 64)), None)
    assert torch.equal(shared.state.stamp[0], shared.state.stamp[1])
    layered = new_memory(toy_mplus(), drop=random_per_layer)
    layered.add(Tokens(torch.zeros(2, K, 64)), None)
    assert not torch.equal(layered.state.stamp[0], layered.state.stamp[1])


def test_same_seed_same_memory_and_another_seed_another():
    model = MODELS["paper"]
    prints = []
    for seed in (1, 1, 2):
        reader = MPlusReader(model, TOKENIZER, new_memory(model, seed=seed))
        reader.ingest("The same words are written into three memories. " * 3)
        prints.append((fingerprint_of(reader.memory), reader.answer("What?", max_new_tokens=5).tokens))
    assert equal(prints[0][0], prints[1][0]) and prints[0][1] == prints[1][1]
    assert not equal(prints[0][0], prints[2][0])


def test_reset_returns_to_the_checkpoint_and_to_the_seed():
    model = MODELS["released"]
    reader = MPlusReader(model, TOKENIZER, new_memory(model, seed=3))
    start = fingerprint_of(reader.memory)
    reader.ingest("Something to forget again, and quickly.")
    first = fingerprint_of(reader.memory)
    reader.reset()
    assert equal(start, fingerprint_of(reader.memory)) and torch.equal(reader.memory.state.pool, model.memory.pool)
    reader.ingest("Something to forget again, and quickly.")
    assert equal(first, fingerprint_of(reader.memory))


def test_every_retrieved_token_has_a_source():
    model = MODELS["paper"]
    reader = MPlusReader(model, TOKENIZER, new_memory(model))
    receipts = [reader.ingest(f"Sentence {i} is about the number {i * i}.") for i in range(8)]
    texts = {receipt.id: receipt for receipt in receipts}
    for view in reader.inspect("Which number?"):
        assert len(view.sources) == len(view.found.rows) > 0 and 0 < view.chance <= 1
        assert (view.found.ages[:-1] >= view.found.ages[1:]).all(), "oldest first"
        for receipt, chunk, position in view.sources:
            assert receipt is None or (texts[receipt].chunks[chunk] and (position is None or position >= 0))
    answer = reader.answer("Which number?", max_new_tokens=3)
    for mine, seen in zip(answer.found, reader.inspect("Which number?"), strict=True):
        assert torch.equal(mine.rows, seen.found.rows)

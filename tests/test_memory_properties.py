"""Properties of memory after any sequence of operations, found by hypothesis."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.drops import Pool, oldest, random_per_layer, random_shared
from core.reader import MPlusReader
from core.reading import new_memory, write
from core.short_term import ShortTerm
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
    for layer, log in enumerate(state.logs):
        pool, long = places(memory, layer)
        assert pool == sorted(pool), "survivors keep the order in which they were written"
        assert len(set(pool + long)) == len(pool + long), "a token is in two places"
        assert all(block in owned or block <= N // K for block, _ in pool + long), "a token of a text that is not there"
        assert len(log) == len(long) and (config.rules == "released" or len(long) <= config.max_long_term)
        for block, slot in pool + long:
            check_source(memory, block, slot)
        ages = zip(
            pool + long, [*memory.ages[layer].tolist(), *(state.clock - log.born[log.live]).tolist()], strict=True
        )
        for number, ((block, slot), age) in enumerate(ages):
            check_age(config, state.clock, block, slot, age, in_pool=number < N)


def check_source(memory, block, slot):
    source = memory.source(block, slot)
    if block <= N // K:
        assert source.receipt is None
        return
    receipt = memory.state.receipts[source.receipt]
    chunk = receipt.chunks[source.chunk]
    position = chunk.end - K + slot  # the block is the chunk's last K tokens
    assert chunk.block == block and source.position == (position if position >= chunk.start else None)


def check_age(config, clock, block, slot, age, in_pool):
    """Block b was written when the clock stood at (b - N/K) K, as no operation here skips a number."""
    written = (block - N // K) * K
    if config.rules == "paper":
        assert age == clock - written + K - 1 - slot, "ages count from creation"
    elif in_pool:
        assert age == (0 if block <= N // K else K - 1 - slot), "ages stand still in θ"
    else:
        since = age - (0 if block <= N // K else K - 1 - slot)
        assert since % K == 0 and 0 <= since <= clock - max(0, written), "ages count from the drop"


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
            held = sum(int(torch.isin(each, blocks).sum()) for each in block_columns(memory))
            assert reader.delete(receipt) == held
            assert not torch.isin(memory.state.block, blocks).any(), "still in θ"
            assert not any(torch.isin(log.block, blocks).any() for log in memory.state.logs), "still in Θ"
            now = survivors(memory, set())
            assert now.keys() == others.keys() and all(torch.equal(now[place], others[place]) for place in now)
            before = None
        elif operation == "snapshot":
            kept, kept_print = memory.snapshot(), fingerprint_of(memory)
        elif operation == "restore" and kept is not None:
            memory.restore(kept)
            assert equal(kept_print, fingerprint_of(memory))
            with pytest.raises(ValueError, match="nothing to undo"):  # what could be undone was of another past
                memory.undo()
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
    for receipt in memory.receipts:
        reader.delete(receipt)
        check(memory, model.config)
    assert torch.equal(memory.state.pool, model.memory.pool), "without any text it is the checkpoint's θ again"
    assert not any(len(log) for log in memory.state.logs)


def block_columns(memory):
    return [memory.state.block, *(log.block for log in memory.state.logs)]


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
    """Followed token by token: what is in neither store has left Θ, as the oldest that Θ held when it did."""
    model = toy_mplus(max_long_term=24)
    memory = new_memory(model)
    before = [(set(pool), set(long)) for pool, long in (places(memory, layer) for layer in range(2))]
    for step in range(12):
        write(model, [memory], torch.full((1, 10), step))
        for layer in range(2):
            pool, long = (set(each) for each in places(memory, layer))
            old_pool, old_long = before[layer]
            dropped, new = old_pool - pool, pool - old_pool
            assert len(dropped) == len(new) == K and {block for block, _ in new} == {1 + N // K + step}
            youngest_first = sorted(old_long | dropped, reverse=True)  # a larger (block, slot) was written later
            assert long == set(youngest_first[:24]), "Θ keeps the youngest 24 of what it held and what came"
            before[layer] = pool, long


def test_under_the_released_rules_a_token_lives_for_its_recall_and_no_longer():
    """Merged every 2 writes with recall 3, which falls by 1 at every merge, the first included: gone at the third.

    The first merge leaves no more than K0 = 16 tokens, so its decay is taken back and the first tokens live one longer.
    """
    model = toy_mplus(rules="released", merge_every=2, initial_recall=3.0)
    memory = new_memory(model)
    seen: list[dict] = [{}, {}]
    for step in range(1, 17):
        before = [set(places(memory, layer)[1]) for layer in range(2)]
        write(model, [memory], torch.full((1, 10), step))
        for layer in range(2):
            _, long = places(memory, layer)
            if step % 2:
                assert before[layer] <= set(long), "tokens leave Θ at merges only"
                continue
            for place in long:
                seen[layer].setdefault(place, []).append(step // 2)
            assert len(long) == [16, 32, 48, 32, 32, 32, 32, 32][step // 2 - 1]
    for lives in seen:
        for merges in lives.values():
            first = merges[0]
            assert merges == [merge for merge in range(first, first + (3 if first == 1 else 2)) if merge <= 8]


@pytest.mark.parametrize("levels", [0, 1, 3])
def test_as_many_ingests_can_be_undone_as_was_asked_for(levels):
    model = MODELS["paper"]
    reader = MPlusReader(model, TOKENIZER, new_memory(model, undo_levels=levels))
    moments = []
    for number in range(5):
        moments.append(fingerprint_of(reader.memory))
        reader.ingest(f"Text number {number} of five.")
    with pytest.raises(ZeroDivisionError):  # an ingest that fails takes nothing away from undo
        reader.ingest("This one does not come to an end.", lambda done, total: 1 // 0)
    for moment in moments[::-1][:levels]:
        reader.undo()
        assert equal(moment, fingerprint_of(reader.memory))
    with pytest.raises(ValueError, match="nothing to undo"):
        reader.undo()


@pytest.mark.parametrize("rules", MODELS)
def test_forks_that_write_side_by_side_are_as_memories_apart(rules):
    """They share rows and buffers; each must be what one memory would be that had read the same texts alone."""
    model = toy_mplus(rules=rules, merge_every=2)

    def told(texts):
        reader = MPlusReader(model, TOKENIZER, new_memory(model, seed=4))
        for text in texts:
            reader.ingest(text)
        return reader

    common = [f"Text number {number} is common to all of them." for number in range(9)]
    own = [[f"Reader {each} alone has read line {number}." for number in range(4)] for each in range(3)]
    origin = told(common)
    readers = [origin, origin.fork(), origin.fork()]
    for number in range(4):
        for reader, texts in zip(readers, own, strict=True):
            reader.ingest(texts[number])
    for reader, texts in zip(readers, own, strict=True):
        assert equal(fingerprint_of(reader.memory), fingerprint_of(told(common + texts).memory))


def test_a_deleted_text_does_not_come_back_by_undo():
    reader = MPlusReader(MODELS["paper"], TOKENIZER, new_memory(MODELS["paper"]))
    receipt = reader.ingest("A text that somebody regrets.")
    reader.delete(receipt)
    with pytest.raises(ValueError, match="nothing to undo"):
        reader.undo()
    with pytest.raises(ValueError, match=f"no receipt {receipt.id}"):
        reader.delete(receipt)


def test_an_interrupted_delete_deletes_nothing(monkeypatch):
    """Ctrl-C when Θ is done and θ is not."""
    reader = MPlusReader(toy_mplus(), toy_tokenizer())
    texts = [reader.ingest(f"Line {number}: the {number}th gate opens at dawn. " * 4) for number in range(4)]
    before = fingerprint_of(reader.memory)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("core.state._joined", interrupted)
        reader.delete(texts[1])
    assert equal(before, fingerprint_of(reader.memory))
    assert reader.delete(texts[1]) > 0


def interrupted(*_):
    raise KeyboardInterrupt


def test_a_receipt_of_another_past_deletes_nothing():
    """Numbers start over after an undo, a reset, a restore and in forks; the text tells them apart."""
    reader = MPlusReader(MODELS["paper"], TOKENIZER, new_memory(MODELS["paper"]))
    receipt = reader.ingest("A text that somebody takes back.")
    reader.undo()
    twin = reader.fork()
    theirs = twin.ingest("A text that a fork alone was told.")
    kept = reader.ingest("A text that is to stay in memory.")
    assert receipt.id == theirs.id == kept.id
    for other in (receipt, theirs):
        with pytest.raises(ValueError, match="no receipt 1 of this text"):
            reader.delete(other)
    assert reader.memory.receipts == [kept] and reader.delete(kept)


def test_the_source_of_a_token_is_the_text_it_stands_for():
    """Two chunks per text; a token's position leads to the very characters its own chunk was written from."""
    model = MODELS["paper"]
    reader = MPlusReader(model, TOKENIZER, new_memory(model))
    texts = [f"{letter * 20}{letter.lower() * 20}" for letter in "ABCDEF"]
    receipts = [reader.ingest(text) for text in texts]
    assert all(len(receipt.chunks) == 2 for receipt in receipts)
    by_id = dict(zip((receipt.id for receipt in receipts), texts, strict=True))
    for layer in range(2):
        for block, slot in [place for places_ in places(reader.memory, layer) for place in places_]:
            source = reader.memory.source(block, slot)
            if source.receipt is None:
                continue
            letter = by_id[source.receipt][20 * source.chunk]
            start, end = reader.memory.state.receipts[source.receipt].spans[source.position]
            assert by_id[source.receipt][start:end] == letter


@pytest.mark.parametrize("form", ["hidden", "projected"])
def test_deleting_the_only_text_of_a_memory_that_was_never_written_makes_it_so_again(form):
    """MemoryLLM before its first write: there is no θ to return to."""
    model = toy_mplus(num_retrieved=0, drop="shared", rules="released", num_key_value_heads=2)
    model.initially_written = False
    reader = MPlusReader(model, TOKENIZER, new_memory(model, form))
    first = reader.ingest("The first text of all fills the whole of θ.")
    second = reader.ingest("The second text takes a part of it.")
    reader.delete(first)
    assert set(reader.memory.state.block.flatten().tolist()) == {chunk.block for chunk in second.chunks}
    reader.delete(second)
    assert not reader.memory.state.written and reader.memory.newest is None
    assert reader.answer("Is anything left?", max_new_tokens=2).tokens


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


@pytest.mark.parametrize("policy", [random_per_layer, random_shared])
def test_every_place_in_the_pool_is_as_likely_to_be_dropped(policy):
    nothing = torch.zeros(2, N, dtype=torch.int64)
    pool = Pool(ShortTerm(torch.zeros(2, N, 1)), nothing, nothing)
    generator, draws = torch.Generator().manual_seed(0), 4000
    hits, together = torch.zeros(2, N), 0
    for _ in range(draws):
        slots = policy(pool, K, generator)
        assert slots.shape == (2, K) and (slots[:, 1:] > slots[:, :-1]).all()
        hits.scatter_add_(1, slots, torch.ones(2, K))
        together += len(set(slots[0].tolist()) & set(slots[1].tolist()))
    share = K / N
    assert (hits / draws - share).abs().max() < 4.5 * (share * (1 - share) / draws) ** 0.5
    expected = K if policy is random_shared else K * share  # layers draw apart, or all alike
    assert abs(together / draws - expected) < 0.1


def tokens_of(tokens, count):
    return Tokens(tokens.hidden[:, :count])


def test_a_write_moves_no_more_than_its_block_and_what_was_forked_stays():
    memory = new_memory(toy_mplus())
    pool, forked = memory.state.pool, memory.snapshot()
    for _ in range(3):
        memory.add(Tokens(torch.randn(2, K, 64)), None)
        short, before = memory.state.short, memory.state.short.tokens.clone()
        place, expected = short.place.clone(), memory.state.pool
        where = short.tokens.data_ptr()
        memory.add(Tokens(block := torch.randn(2, K, 64)), None)
        assert short.tokens.data_ptr() == where and ((short.tokens != before).any(-1).sum(1) == K).all()
        stays = (short.place[:, : N - K, None] == place[:, None]).int().argmax(-1)  # which they were before
        assert (stays[:, 1:] > stays[:, :-1]).all()
        kept = expected.gather(1, stays[..., None].expand(-1, -1, 64))
        assert torch.equal(memory.state.pool, torch.cat([kept, block], dim=1))
        assert torch.equal(short.ranks.gather(1, short.place), torch.arange(N).expand(2, -1))
    memory.restore(forked)
    assert torch.equal(memory.state.pool, pool)


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

"""A replay gives what as many memories would give that were written one chunk at a time."""

import pytest
import torch

from core.bank import Bank, write_circle, write_openings
from core.drops import Recorded
from core.reading import generate, new_memory, write
from core.replay import NEVER, READINGS, Replay, draw_slots, runs
from core.replay_cache import ReplayCache, Storage, ask
from tests.toys import toy_mplus

torch.set_num_threads(1)
WRITES = 30


def replayed(model, chunks: torch.Tensor, seed: int = 0) -> Replay:
    """Memories that read chunks (B, T, n), every block written for itself."""
    bank = Bank(model, model.config.num_blocks + chunks.shape[0] * chunks.shape[1])
    initial = bank.add_initial()
    numbers, _ = write_openings(model, chunks.tolist(), bank)
    blocks = torch.cat([initial.expand(len(chunks), -1), numbers], dim=1)
    return Replay(model, bank, blocks, torch.Generator().manual_seed(seed))


def recorded_slots(replay: Replay, memory: int) -> list[torch.Tensor]:
    """The drops of one memory as slots of θ, as `Memory` counts them."""
    size, layers = replay.model.config.pool_size, replay.left.shape[1]
    held = [list(range(size)) for _ in range(layers)]
    drops = []
    for time in range(1, replay.num_writes + 1):
        rows = []
        for layer in range(layers):
            gone = [slot for slot, token in enumerate(held[layer]) if replay.left[memory, layer, token] == time]
            rows.append(gone)
            start = size + (time - 1) * replay.size
            kept = [token for slot, token in enumerate(held[layer]) if slot not in gone]
            held[layer] = kept + list(range(start, start + replay.size))
        drops.append(torch.tensor(rows))
    return drops


def held(replay: Replay, memory: int, layer: int, numbers: torch.Tensor) -> torch.Tensor:
    """Tokens of a memory by their numbers, as the bank holds them."""
    return replay.bank.tokens[layer].flatten(0, 1)[replay.rows(memory, numbers)]


def never(tokens: list[int]) -> bool:
    return False


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"relevance": "dot"},
        {"relevance": "mean_sigmoid", "drop": "shared"},
        {"max_long_term": 90},
        {"num_key_value_heads": 4},
        {"has_bos": False},
        {"retrieval_bias": 2.0},
        {"retrieval_bias": [0, 2.0]},
        {"retrieval_bias": 2.0, "retrieval_recency": 3.0},
        {"retrieval_bias": 2.0, "retrieval_accumulates": True},
    ],
)
def test_a_replay_equals_memories_written_one_by_one(settings):
    model = toy_mplus(**settings)
    chunks = torch.randint(0, 250, (2, WRITES, 16), generator=torch.Generator().manual_seed(5))
    replay = replayed(model, chunks)
    assert ((replay.left == NEVER).sum(-1) == model.config.pool_size).all()
    prompts = torch.randint(0, 250, (2, 12), generator=torch.Generator().manual_seed(6))
    mask = torch.ones_like(prompts)
    mask[1, :4] = 0
    memories = [new_memory(model, "projected", drop=Recorded(recorded_slots(replay, index))) for index in range(2)]
    storage = Storage()
    for time in range(WRITES):
        write(model, memories, chunks[:, time])
        if time + 1 not in (1, 7, WRITES):
            continue
        for index, memory in enumerate(memories):
            for layer in range(2):
                numbers = replay.pool(index, layer, time + 1)
                tokens = held(replay, index, layer, numbers)
                torch.testing.assert_close(tokens, memory.state.pool[layer], atol=1e-5, rtol=0)
        expected, found = generate(model, memories, prompts, mask, max_new_tokens=6, do_sample=False, pad_token_id=257)
        for reading in ("mplus", "memoryllm", "mplus"):  # θ is laid once; what lies beside it must not matter
            cache = ReplayCache(replay, [0, 1], time + 1, mask, READINGS[reading], storage=storage, room=6)
            new = ask(cache, prompts, 6, never)
            assert (reading == "memoryllm") or new == expected[:, 12:].tolist()
        for layer, rows in enumerate(found):
            for index, row in enumerate(rows):
                tokens = held(replay, index, layer, cache.found[layer][index])
                expected = memories[index].state.logs[layer].take(row.rows)
                torch.testing.assert_close(tokens, expected, atol=1e-5, rtol=0)


def test_without_retrieval_only_the_pool_is_read():
    model = toy_mplus()
    chunks = torch.randint(0, 250, (1, 5, 16), generator=torch.Generator().manual_seed(1))
    replay = replayed(model, chunks)
    prompts = torch.randint(0, 250, (1, 9), generator=torch.Generator().manual_seed(2))
    memory = new_memory(model, long_term=False, drop=Recorded(recorded_slots(replay, 0)))
    for time in range(5):
        write(model, [memory], chunks[:, time])
    expected, _ = generate(model, [memory], prompts, max_new_tokens=5, do_sample=False, pad_token_id=257)
    cache = ReplayCache(replay, [0], 5, torch.ones_like(prompts), READINGS["memoryllm"], room=5)
    assert ask(cache, prompts, 5, never) == expected[:, 9:].tolist()


def test_a_prompt_whose_answer_has_ended_is_dropped_and_the_others_go_on():
    model = toy_mplus()
    replay = replayed(model, torch.randint(0, 250, (4, 7, 16), generator=torch.Generator().manual_seed(8)))
    prompts = torch.randint(0, 250, (4, 9), generator=torch.Generator().manual_seed(9))

    def answers(ended) -> list[list[int]]:
        cache = ReplayCache(replay, range(4), 7, torch.ones_like(prompts), READINGS["mplus"], room=8)
        return ask(cache, prompts, 8, ended)

    whole = answers(never)
    assert {len(answer) for answer in whole} == {8}
    ends = {whole[0][5], whole[1][1], whole[2][3], whole[3][2]}
    cut = answers(lambda tokens: tokens[-1] in ends)
    for long, short in zip(whole, cut, strict=True):
        first = next(place for place, token in enumerate(long) if token in ends)
        assert short == long[: first + 1]


def prefix_tokens(replay: Replay, name: str, memories: list[int]) -> torch.Tensor:
    """The values that the first layer attends to, without bos (B, P, heads · head dim)."""
    prompts = torch.ones(len(memories), 4, dtype=torch.int64)
    cache = ReplayCache(replay, memories, 9, prompts, READINGS[name])
    ask(cache, prompts, 1, never)
    values = cache.layers[0].values[:, :, 1 : cache.prefix_length]
    return values.transpose(1, 2).flatten(2)


def test_spoiled_readings_spoil_what_they_say():
    replay = replayed(toy_mplus(), torch.randint(0, 250, (2, 9, 16), generator=torch.Generator().manual_seed(3)))
    normal = prefix_tokens(replay, "mplus", [0, 1])
    assert not prefix_tokens(replay, "zeroed", [0, 1]).any()
    shuffled = prefix_tokens(replay, "scrambled", [0, 1])
    assert not torch.equal(shuffled, normal)
    torch.testing.assert_close(shuffled.sort(1).values, normal.sort(1).values)
    foreign = prefix_tokens(replay, "foreign", [0, 1])
    size = replay.model.config.pool_size
    assert torch.equal(foreign[:, -size:], normal.flip(0)[:, -size:])
    guessed = prefix_tokens(replay, "random-retriever", [0, 1])
    assert torch.equal(guessed[:, -size:], normal[:, -size:]) and not torch.equal(guessed, normal)


def test_every_set_of_slots_is_equally_likely():
    generator = torch.Generator().manual_seed(0)
    draws = torch.stack(list(draw_slots(70, 8, 3, 500, generator))).view(-1, 3).sort(1).values
    assert (draws.diff(dim=1) > 0).all() and draws.min() == 0 and draws.max() == 7
    _, counts = draws.unique(dim=0, return_counts=True)
    assert len(counts) == 56
    expected = 70 * 500 / 56
    assert ((counts - expected) ** 2 / expected).sum() < 93  # chi squared of 55 degrees of freedom: 99.9 %


def circle_gap(model, lead: int) -> float:
    chunks = torch.randint(0, 250, (40, 16), generator=torch.Generator().manual_seed(7))
    many, one = Bank(model, 40), Bank(model, 40)
    parallel = write_circle(model, chunks, many, lanes=4, lead=lead)
    single = write_circle(model, chunks, one, lanes=1, lead=40)
    assert sorted(parallel.tolist()) == list(range(40))
    return float((many.tokens[:, parallel] - one.tokens[:, single]).norm() / one.tokens[:, single].norm())


def test_lanes_of_a_circle_leave_the_blocks_of_one_long_run():
    model = toy_mplus(std=0.02)  # with large random weights the chain of blocks is chaotic
    assert circle_gap(model, lead=10) < 1e-4 < circle_gap(model, lead=0)


def test_runs_cover_the_numbers_in_order():
    assert runs(torch.tensor([3, 4, 5, 9, 0, 1])) == [(3, 6), (9, 10), (0, 2)]


def test_forgetting_follows_the_theory():
    """A token of θ survives t writes with probability (1 - K/N)^t."""
    model = toy_mplus()
    replay = replayed(model, torch.zeros(200, 12, 16, dtype=torch.int64))
    start = model.config.pool_size
    for time in (1, 4, 11):
        share = (replay.left[:, :, start : start + 8] > time + 1).float().mean().item()
        assert abs(share - 0.75**time) < 0.03


def test_rules_that_cannot_be_replayed_are_refused():
    with pytest.raises(ValueError, match="paper's rules"):
        Replay(toy_mplus(rules="released"), None, torch.zeros(1, 5), torch.Generator())  # type: ignore[arg-type]

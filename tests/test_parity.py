"""Fast path = slow path: core against tests/reference.py, within 1e-5 in float32."""

import pytest
import torch

from core.adapters import READ, WRITE, use_adapter
from core.decoding import prepare_for_answers
from core.drops import Recorded
from core.reader import MPlusReader
from core.reading import generate, keys_before, new_memory, read_logits, write
from tests.reference import SlowMemory, SlowMPlus
from tests.toys import LLAMA3, toy_mplus, toy_tokenizer

TOLERANCE = 1e-5
SHAPES = {
    "as it is": {},
    "no bos": {"has_bos": False},
    "no adapters": {"lora_rank": 0},
    "one adapter": {"read_adapter": False},
    "one kv head, one linear map": {"num_key_value_heads": 1, "retriever_depth": 1},
    "certain retriever": {"retrieval_bias": 2.0},
    "certain retriever, no bos": {"retrieval_bias": 2.0, "has_bos": False},
    "certain in one layer": {"retrieval_bias": [0, 2.0]},
    "the later counts": {"retrieval_bias": 2.0, "retrieval_recency": 3.0},
    "layers accumulate": {"retrieval_bias": 2.0, "retrieval_accumulates": True},
    "one layer accumulates": {"retrieval_bias": [0, 2.0], "retrieval_accumulates": True},
    "llama3 rope, untied": {"rope_parameters": LLAMA3, "tie_word_embeddings": False},
}
LENGTHS = (20, 8, 3, 1, 11)  # longer than a block of 8, as long, shorter


def drops(seed, layers, size, count, writes):
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(layers, size, generator=generator).topk(count).indices.sort().values for _ in range(writes)]


def off(ours, slow):
    """The largest difference, relative to the largest value where values are above 1."""
    return (ours.double() - slow).abs().max().item() / max(1.0, slow.abs().max().item())


def toy(**settings):
    return toy_mplus(**{"lora_alpha": 2.0, **settings})


@pytest.mark.parametrize("shape", SHAPES)
@torch.no_grad()
def test_write_of_every_length_and_batch(shape):
    model = toy(**SHAPES[shape])
    slow, generator = SlowMPlus(model), torch.Generator().manual_seed(0)
    newest = torch.randn(2, 3, 8, 64, generator=generator)
    for length in LENGTHS:
        ids = torch.randint(0, 200, (3, length), generator=generator)
        with use_adapter(model, WRITE):
            blocks = model.write(ids, newest)
        for row in range(3):
            assert off(blocks[:, row], slow.write(ids[row].tolist(), newest[:, row])) < TOLERANCE, length


@pytest.mark.parametrize("rules", ["paper", "released"])
@pytest.mark.parametrize("relevance", ["dot", "mean_sigmoid", "block"])
@torch.no_grad()
def test_a_life_of_writes_and_questions(rules, relevance):
    life(toy(rules=rules, relevance=relevance, merge_every=2, initial_recall=2.5, max_long_term=40))


@pytest.mark.parametrize("shape", SHAPES)
@torch.no_grad()
def test_a_life_in_every_shape(shape):
    life(toy(**SHAPES[shape]), writes=5)


def life(model, writes=10, slow=None):
    plan = drops(5, 2, 32, 8, writes)
    memory, slow = new_memory(model, drop=Recorded(plan)), slow or SlowMPlus(model)
    slow_memory = SlowMemory(slow, model.memory.pool)
    generator = torch.Generator().manual_seed(2)
    for step in range(writes):
        ids = torch.randint(0, 200, (1, LENGTHS[step % len(LENGTHS)]), generator=generator)
        write(model, [memory], ids)
        slow_memory.write(ids[0].tolist(), plan[step])
        for layer, rows in enumerate(slow_memory.pool):
            assert off(memory.state.pool[layer], torch.stack([row["token"] for row in rows])) < TOLERANCE
            assert memory.ages[layer].tolist() == [row["age"] for row in rows]
            log, kept = memory.state.logs[layer], slow_memory.long[layer] + slow_memory.pending[layer]
            ages = (memory.state.clock - log.born)[log.live]
            assert sorted(ages.tolist()) == sorted(row["age"] for row in kept), f"ages in Θ after write {step}"
        # the last is longer than `core.retriever.QUESTION`
        question = torch.randint(0, 200, (1, 5 if step < writes - 1 else 18), generator=generator)
        output, _ = read_logits(model, [memory], question)
        assert off(output.logits[0], slow.read(question[0].tolist(), slow_memory.memory_of)) < TOLERANCE, step
    ids, _ = generate(model, [memory], question, max_new_tokens=6, do_sample=False, eos_token_id=None, pad_token_id=257)
    assert ids[0, question.shape[1] :].tolist() == slow.greedy(question[0].tolist(), slow_memory.memory_of, 6)


@pytest.mark.parametrize(("kv_heads", "bias"), [(1, 0.0), (2, 0.0), (4, 0.0), (2, 2.0)])
@torch.no_grad()
def test_a_life_of_a_model_set_up_for_answers(kv_heads, bias):
    """Fused adapters, grouped attention and a trimmed last layer compute the same."""
    model = toy(num_key_value_heads=kv_heads, retrieval_bias=bias)
    slow = SlowMPlus(model)
    prepare_for_answers(model)
    life(model, writes=5, slow=slow)


@pytest.mark.parametrize(("form", "bias"), [("hidden", 0.0), ("projected", 0.0), ("projected", 2.0)])
@torch.no_grad()
def test_three_memories_answer_three_padded_questions_as_the_slow_path_does(form, bias):
    model = toy(retrieval_bias=bias)
    plan, slow = drops(5, 2, 32, 8, 6), SlowMPlus(model)
    memories = [new_memory(model, form, drop=Recorded(plan)) for _ in range(3)]
    slow_memories = [SlowMemory(slow, model.memory.pool) for _ in range(3)]
    generator = torch.Generator().manual_seed(7)
    for step in range(6):
        ids = torch.randint(0, 200, (3, LENGTHS[step % len(LENGTHS)]), generator=generator)
        write(model, memories, ids)
        for row, slow_memory in enumerate(slow_memories):
            slow_memory.write(ids[row].tolist(), plan[step])
    questions = [[5, 6, 7], [1, 2, 3, 4, 5, 6], [9]]
    ids = torch.tensor([[257] * (6 - len(question)) + question for question in questions])
    mask = torch.tensor([[0] * (6 - len(question)) + [1] * len(question) for question in questions])
    logits = read_logits(model, memories, ids, mask)[0].logits
    settings = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None, "pad_token_id": 257}
    answers, _ = generate(model, memories, ids, mask, **settings)
    for row, (question, slow_memory) in enumerate(zip(questions, slow_memories, strict=True)):
        expected = slow.read(question, slow_memory.memory_of)
        assert off(logits[row, -len(question) :], expected) < TOLERANCE
        assert answers[row, 6:].tolist() == slow.greedy(question, slow_memory.memory_of, 6)


def test_streamed_pieces_are_the_blocking_answer_and_stop_stops():
    reader = MPlusReader(toy(), toy_tokenizer())
    reader.ingest("A text to look back on, long enough for two chunks or so. " * 3)
    pieces: list[str] = []
    words = set(reader.tokenizer("abc def ghi.")["input_ids"])  # pieces end at spaces
    settings = {"max_new_tokens": 40, "do_sample": True, "temperature": 9.0, "eos_token_id": None}
    settings["suppress_tokens"] = [token for token in range(258) if token not in words]
    torch.manual_seed(5)
    streamed = reader.answer("What is it?", on_text=pieces.append, **settings)
    torch.manual_seed(5)
    blocking = reader.answer("What is it?", **settings)
    assert streamed.tokens == blocking.tokens and len(streamed.tokens) == 40
    assert "".join(pieces).strip() == blocking.text == streamed.text and len(pieces) > 1
    assert 0 < streamed.first_token_seconds <= streamed.seconds
    heard: list[str] = []
    stopped = reader.answer("What is it?", on_text=heard.append, stop=lambda: len(heard) > 0, **settings)
    assert 0 < len(stopped.tokens) < 40 and stopped.text.startswith(heard[0].strip())


def test_questions_together_are_answered_as_one_by_one():
    reader = MPlusReader(toy(), toy_tokenizer())
    reader.ingest("A text to look back on, long enough for two chunks or so. " * 3)
    questions = ["What?", "What is it that I should look back on?", "Is it long?"]
    together = reader.answer_many(questions, max_new_tokens=8)
    for question, answer in zip(questions, together, strict=True):
        alone = reader.answer(question, max_new_tokens=8)
        assert alone.tokens == answer.tokens and alone.text == answer.text
        for one, other in zip(alone.found, answer.found, strict=True):
            assert torch.equal(one.rows, other.rows)


@torch.no_grad()
def test_independent_memories_together_equal_one_by_one():
    model = toy()
    together, alone = ([new_memory(model, seed=seed) for seed in range(3)] for _ in range(2))
    generator = torch.Generator().manual_seed(3)
    for length in (20, 8, 3, 16, 16, 16):
        ids = torch.randint(0, 200, (3, length), generator=generator)
        write(model, together, ids)
        for row, memory in enumerate(alone):
            write(model, [memory], ids[row : row + 1])
    question = torch.randint(0, 200, (3, 6), generator=generator)
    batch, _ = read_logits(model, together, question)
    for row, memory in enumerate(alone):
        single, _ = read_logits(model, [memory], question[row : row + 1])
        assert torch.allclose(batch.logits[row], single.logits[0], atol=TOLERANCE)


@torch.no_grad()
def test_left_padding_changes_nothing():
    model = toy()
    memory = new_memory(model)
    for step in range(6):
        write(model, [memory], torch.randint(0, 200, (1, 16), generator=torch.Generator().manual_seed(step)))
    short, long = torch.tensor([[5, 6, 7]]), torch.tensor([[1, 2, 3, 4, 5, 6]])
    ids = torch.tensor([[257, 257, 257, 5, 6, 7], [1, 2, 3, 4, 5, 6]])
    settings = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None, "pad_token_id": 257}
    padded, _ = generate(model, [memory], ids, (ids != 257).long(), **settings)
    for row, prompt in enumerate((short, long)):
        alone, _ = generate(model, [memory], prompt, **settings)
        assert padded[row, 6:].tolist() == alone[0, prompt.shape[1] :].tolist()


@torch.no_grad()
def test_beam_scores_are_the_log_probabilities_of_their_tokens():
    model = toy()
    memory = new_memory(model)
    for step in range(6):
        write(model, [memory], torch.randint(0, 200, (1, 16), generator=torch.Generator().manual_seed(step)))
    prompt = torch.tensor([[9, 8, 7, 6]])
    out, _ = generate(
        model, [memory], prompt, max_new_tokens=4, num_beams=3, num_return_sequences=3, do_sample=False,
        length_penalty=0.0, eos_token_id=None, pad_token_id=257, return_dict_in_generate=True, output_scores=True,
    )  # fmt: skip
    slow = SlowMPlus(model)

    def memory_of(layer, hidden):
        queries = model.retriever_queries(layer, model.model.layers[layer].input_layernorm(hidden[:4].float()))
        found = memory.search(layer, queries)
        gains = model.certainty(layer, queries, keys_before(model, memory, layer, found)).tolist()
        theirs, ours = gains[: len(found.rows)], gains[len(found.rows) :]
        tokens = torch.cat([memory.state.logs[layer].take(found.rows), memory.state.pool[layer]])
        return tokens, theirs + [ours[row] for row in memory.state.short.place[layer].tolist()]

    for ids, score in zip(out.sequences.tolist(), out.sequences_scores.tolist(), strict=True):
        chances = slow.read(ids, memory_of).log_softmax(-1)
        assert abs(sum(float(chances[3 + i, token]) for i, token in enumerate(ids[4:])) - score) < 1e-4


@pytest.mark.parametrize("bias", [0.0, 2.0])
@torch.no_grad()
def test_beams_of_several_prompts_each_stay_behind_their_own_memory(bias):
    model = toy(retrieval_bias=bias, retrieval_recency=bias)
    memories = [new_memory(model, seed=seed) for seed in range(3)]
    generator = torch.Generator().manual_seed(3)
    for length in (20, 8, 3, 16, 16, 16):
        write(model, memories, torch.randint(0, 200, (3, length), generator=generator))
    prompts = torch.randint(0, 200, (3, 6), generator=generator)
    settings = {"max_new_tokens": 5, "num_beams": 3, "do_sample": False, "eos_token_id": None, "pad_token_id": 257}
    together, _ = generate(model, memories, prompts, **settings)
    for row, memory in enumerate(memories):
        alone, _ = generate(model, [memory], prompts[row : row + 1], **settings)
        assert together[row].tolist() == alone[0].tolist()


def test_gradients_flow_from_the_answer_through_both_adapters_into_the_write():
    model = toy()
    newest = model.memory.pool[:, None, -8:]
    with use_adapter(model, WRITE):
        block = model.write(torch.randint(0, 200, (1, 16)), newest)
    with use_adapter(model, READ):
        output = model.read(torch.randint(0, 200, (1, 5)), lambda layer, _: block[layer], 8)
    output.logits.logsumexp(-1).sum().backward()
    for name in ("lora_A.write", "lora_B.write", "lora_A.read", "lora_B.read", "memory.new", "memory.bos"):
        gradients = [p.grad for n, p in model.named_parameters() if name in n]
        assert gradients and all(g is not None and g.abs().sum() > 0 for g in gradients), name

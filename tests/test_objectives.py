"""What training computes is what inference does: packed questions, merged adapters, surrounded θ, taught retrieval."""

import random

import pytest
import torch

from core.adapters import READ, WRITE, use_adapter
from core.context_lesson import learn_in_context
from core.induction import induction_init
from core.lessons import Context
from core.model import MPlusForCausalLM
from core.objectives import PastBlocks, decoder, merged, predict, surround, write_chunks
from core.packing import IGNORED, Passage, pack
from core.pointing import Pointer, attention_of, pointer_loss, pointers, to_written
from core.recipe import fill_pool, recipe_model
from core.refit import refit_retrievers, score
from core.retrieval_lesson import MANY, TaughtPrefix
from core.retriever import Keys, block_late_interaction
from core.streams import ENDING, Question
from tests.learners import little_config, little_lessons, little_tokenizer

SIZE = little_config().block_size


@pytest.fixture(scope="module")
def model():
    model = recipe_model(little_config(), 0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name or name.startswith("memory."):
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model


def ids(*shape, seed=0):
    return torch.randint(2, 400, shape, generator=torch.Generator().manual_seed(seed))


def blocks(model, batch, count, seed=0):
    """Random memory tokens (L, B, C, K, d)."""
    config, generator = model.config, torch.Generator().manual_seed(seed)
    return torch.randn(config.num_hidden_layers, batch, count, SIZE, config.hidden_size, generator=generator)


def test_packed_passages_are_read_as_if_each_stood_alone(model):
    rng = random.Random(0)
    draw = lambda length: [rng.randrange(2, 400) for _ in range(length)]  # noqa: E731
    rows = [[Passage(draw(9), 5), Passage(draw(6), 2)], [Passage(draw(4), 3)]]
    memory = blocks(model, 2, 1)[:, :, 0]
    packed = pack(rows)
    together = predict(model, packed, lambda layer, _: memory[layer], SIZE)
    for b, row in enumerate(rows):
        for q, passage in enumerate(row):
            single = torch.tensor([passage.ids])
            with use_adapter(model, READ):
                cut = memory[:, b : b + 1]
                logits = model.read(single, lambda layer, _, cut=cut: cut[layer], SIZE).logits[0]
            expected = logits[passage.start - 1 : -1].argmax(-1) == single[0, passage.start :]
            inside = (packed.segments[b] == q) & (packed.labels[b] != IGNORED)
            assert together.right[b][inside].tolist() == expected.tolist()
            assert bool(packed.all_right(together.right)[b, q]) == bool(expected.all())
    lone = predict(model, pack([[rows[0][0]]]), lambda layer, _: memory[layer, :1], SIZE)
    only = pack([rows[0][:1], rows[1]])
    pair = predict(model, only._replace(weights=only.weights * torch.tensor([[1.0], [0.0]])),
                   lambda layer, _: memory[layer], SIZE)  # fmt: skip
    assert torch.allclose(lone.loss, pair.loss, atol=1e-5)


def test_a_gap_moves_a_row_away_from_what_it_reads():
    rows = [[Passage([5, 6, 7]), Passage([8, 9])], [Passage([5, 6])]]
    near, far = pack(rows), pack(rows, gaps=[0, 40])
    assert far.positions.tolist() == [[0, 1, 2, 0, 1], [40, 41, 0, 0, 0]]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(near[:3], far[:3], strict=True))


def some_contexts(seed=0):
    """Two contexts of different lengths, three questions; each answer stands twice in its context."""
    rng = random.Random(seed)
    draw = lambda length: [rng.randrange(2, 400) for _ in range(length)]  # noqa: E731
    contexts = []
    for length, count in ((9, 2), (5, 1)):
        asked, context = [], draw(length)
        for _ in range(count):
            question = Question(draw(4), [*draw(2), 0])
            context = context + question.answer[:-1] * 2
            asked.append(question)
        contexts.append(Context(context, [(question, question.places(context)) for question in asked]))
    return contexts


def test_questions_behind_a_shared_context_are_read_as_if_each_stood_alone(model):
    contexts = some_contexts()
    together = learn_in_context(model, contexts)
    losses, right = [], []
    for context in contexts:
        for question, places in context.asked:
            assert len(places) == 2
            text = torch.tensor([context.ids + question.prompt + question.answer])
            with use_adapter(model, READ):
                logits = model(text).logits[0, -len(question.answer) - 1 : -1]
            losses.append(torch.nn.functional.cross_entropy(logits, torch.tensor(question.answer), reduction="none"))
            right.append(bool((logits.argmax(-1) == torch.tensor(question.answer)).all()))
    weights = torch.tensor([1, 1, ENDING]) / (2 + ENDING)  # the end of an answer weighs less than the answer
    assert torch.allclose(together.loss, (torch.stack(losses) @ weights).mean(), atol=1e-4) and together.right == right
    far = learn_in_context(model, contexts, gaps=[0, 700, 0])
    assert far.loss != together.loss and far.right[::2] == right[::2]
    assert together.mass is None and learn_in_context(model, contexts, language=True).loss > together.loss


def test_the_pointer_loss_draws_attention_to_the_answers_in_context():
    model, contexts = recipe_model(little_config(), 0), some_contexts(1)
    optimizer = torch.optim.Adam([p for name, p in model.named_parameters() if "retriever" not in name], lr=3e-3)
    masses = []
    for _ in range(12):
        read = learn_in_context(model, contexts, pointer=1.0)
        masses.append(read.mass)
        (read.loss - learn_in_context(model, contexts).loss).backward()  # the pointer's part alone
        optimizer.step()
        optimizer.zero_grad()
    assert masses[0] < 0.3 and masses[-1] > 2 * masses[0] and masses[-1] > 0.3


def test_written_answers_are_pointed_to_where_they_were_written(model):
    chunks = ids(2, 2, 20)
    answer = [399, 398, 397]
    chunks[1, 0, 5:8] = chunks[1, 0, 14:17] = torch.tensor(answer)
    chunks[0, 1, 2:5] = torch.tensor(answer)  # the first two of them leave no token in a block of 16
    asked = Passage([7, 8, *answer, 0], 2)
    rows = [[Passage([5, 6, 7], 2), asked], [asked, Passage([5, 6], 1)]]
    found = to_written(rows, [[-1, 1], [0, -1]], chunks, SIZE)
    assert found.rows.tolist() == [0, 1, 1, 1] and found.columns.tolist() == [3 + 3, 1, 2, 3]
    assert found.first.tolist() == [False, True, False, False] and not found.marked[:, -1].any()
    places = [row.nonzero()[:, 0].tolist() for row in found.marked]
    assert places == [[1 * SIZE + 0], *([2 * SIZE + k + 1, 2 * SIZE + k + 10] for k in range(3))]


def test_the_pointer_loss_is_minus_log_of_the_mass_and_leaves_out_what_is_not_there():
    weights = {3: torch.tensor([[[[0.1, 0.2, 0.3, 0.4]], [[0.4, 0.3, 0.2, 0.1]]]])}
    one = pointers([Pointer(0, 0, [5, 7], True), Pointer(0, 0, [2], True)], 9, torch.device("cpu"))
    loss, mass = pointer_loss(weights, lambda _: torch.tensor([[-1, 7, 5]]), one)
    assert mass == pytest.approx(0.5) and loss.item() == pytest.approx(-torch.tensor(0.5 + 1e-5).log().item())
    loss, mass = pointer_loss(weights, lambda _: torch.tensor([[-1, 1, 0]]), one)
    assert mass is None and loss == 0


def test_attention_is_collected_without_a_trace(model):
    row, memory = pack([[Passage(ids(6).tolist(), 3)], [Passage(ids(4).tolist(), 2)]]), blocks(model, 2, 1)[:, :, 0]
    before = predict(model, row, lambda layer, _: memory[layer], SIZE)
    with attention_of(model) as weights:
        watched = predict(model, row, lambda layer, _: memory[layer], SIZE)
    assert torch.allclose(before.loss, watched.loss, atol=1e-5) and sorted(weights) == [0, 1]
    for attention in weights.values():
        assert attention.shape == (2, 1, 6, 1 + SIZE + 6)
        assert torch.allclose(attention.sum(-1), torch.ones(2, 1, 6), atol=1e-5)
    for layer in model.model.layers:
        assert layer.self_attn.config is model.config and not layer.self_attn._forward_hooks
        assert not layer.self_attn._forward_pre_hooks
    with attention_of(model, False) as weights:
        predict(model, row, lambda layer, _: memory[layer], SIZE)
    assert not weights


def test_prompts_are_marked_without_their_answers():
    packed = pack([[Passage([5] * 6, 4), Passage([6] * 3, 2)], [Passage([7] * 5, 3)]])
    mask = packed.prompt_mask([[4, 2], [3]])
    assert mask.tolist()[0] == [[1, 1, 1, 1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 1, 1, 0]]
    assert mask.sum().item() == 9


@pytest.mark.parametrize("length", [32, 16, 9])
def test_chunks_are_written_as_in_use_and_teach_both_adapters(model, length):
    newest, chunks = blocks(model, 2, 2), ids(2, 3, length)
    pairs, chain = write_chunks(model, chunks, newest), write_chunks(model, chunks, newest, pairs=False)
    with use_adapter(model, WRITE):
        first = model.write(chunks[:, 0], newest[:, :, 0])
        second = model.write(chunks[:, 1], first)
        third = model.write(chunks[:, 2], newest[:, :, 1])
        in_chain = model.write(chunks[:, 2], second)
    for found, expected in ((pairs, (first, second, third)), (chain, (first, second, in_chain))):
        assert torch.allclose(found, torch.stack(expected, dim=2), atol=1e-4)
    model.zero_grad()
    row = pack([[Passage(ids(6).tolist(), 3)]] * 2)
    predict(model, row, lambda layer, _: chain[layer].flatten(1, 2), 3 * SIZE).loss.backward()
    moved = {
        name: parameter.grad.abs().sum() > 0
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    assert moved["model.layers.0.self_attn.v_proj.lora_A.write.weight"] and moved["memory.new"]
    assert moved["model.layers.2.self_attn.v_proj.lora_A.read.weight"] and moved["model.embed_tokens.weight"]


def test_a_merged_adapter_is_the_adapter(model):
    for name in (WRITE, READ):
        with merged(model, name):
            folded = model(ids(2, 12)).logits
        with use_adapter(model, name):
            assert torch.allclose(model(ids(2, 12)).logits, folded, atol=1e-4)


def test_a_surrounded_pool_forgets_as_theory_says(model):
    written, past = blocks(model, 64, 2) + 100, blocks(model, 1, 50)[:, 0]
    ages = [[6, 0]] * 64
    around = surround(written, past, ages, 4, torch.Generator().manual_seed(0))
    assert around.pool.shape == (3, 64, 4 * SIZE, model.config.hidden_size)
    ours = around.pool.float().mean(-1) > 50
    assert torch.equal(ours.sum((0, 2)), around.inside.sum((0, 2, 3)))
    assert around.inside[:, :, 1].all() and ours[:, :, -SIZE:].all()
    assert torch.equal(around.places >= 0, ours)
    flat = written.reshape(3, -1, model.config.hidden_size).to(torch.bfloat16)
    assert all(torch.equal(around.pool[layer][ours[layer]], flat[layer][around.places[layer][ours[layer]]])
               for layer in range(3))  # fmt: skip
    kept = around.inside[:, :, 0].float().mean().item()
    assert kept == pytest.approx((1 - 1 / 4) ** 6, abs=0.03)


@pytest.fixture
def taught(model):
    written, past = blocks(model, 2, 3), blocks(model, 1, 9, seed=2)[:, 0]
    generator = torch.Generator().manual_seed(0)
    ages = [[40, 7, 0], [50, 12, 3]]
    around = surround(written, past, ages, 4, generator)
    packed = pack(
        [[Passage(ids(8).tolist(), 6), Passage(ids(7, seed=1).tolist(), 5)], [Passage(ids(5, seed=2).tolist(), 3)]]
    )
    sources = torch.tensor([[0, 1], [0, -1]])
    prefix = TaughtPrefix(model, around, written, past, torch.tensor(ages), packed.prompt_mask([[6, 5], [3]]),
                          packed.segments, sources, False, 4, 0.0, generator, torch.tensor([-1, -1]))  # fmt: skip
    return prefix, packed, written, past


@torch.no_grad()
def test_taught_scores_are_the_block_rules(model, taught):
    prefix, packed, written, past = taught
    normed = torch.randn(2, packed.ids.shape[1], model.config.hidden_size, generator=torch.Generator().manual_seed(9))
    reader = decoder(model, 1)
    store = torch.cat([written[1].flatten(0, 1), past[1]])
    keys = reader.retriever.key(reader.input_layernorm(store))
    gone = ~prefix.around.inside[1].flatten(0, 1)
    scores = prefix._scores(reader.retriever.query(normed), keys, gone)
    asked = prefix.asked[0, 1].bool()
    here = torch.ones(len(store), SIZE, dtype=torch.bool)
    here[:3] = gone[:3]  # row 0's own blocks: only what has left θ can be found
    numbers = torch.arange(len(store))[:, None].expand(-1, SIZE)
    rule = block_late_interaction(
        reader.retriever.query(normed[0][asked]), Keys(vectors=keys[here], blocks=numbers[here])
    )  # fmt: skip
    for block in range(len(store)):
        if here[block].any():
            assert torch.allclose(scores[0, 1, block], rule[numbers[here] == block][0], atol=1e-4)


def test_retrieved_blocks_come_oldest_first_and_teach_the_retriever_alone(model, taught):
    prefix, packed, *_ = taught
    model.zero_grad()
    predict(model, packed, prefix, prefix.num_memory)
    assert len(prefix.losses) == 3 and all(0 <= found <= 1 for found in prefix.found)
    assert sorted(prefix.places) == [0, 1, 2]
    for layer, places in prefix.places.items():
        assert places.shape == (2, prefix.num_memory) and places.max() < 2 * 3 * SIZE
        returned = places[:, : 4 * SIZE]
        inside = prefix.around.inside[layer].flatten()
        assert not inside[returned[returned >= 0]].any()  # what is in θ does not come back from Θ
    prefix.loss.backward()
    moved = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert moved and all("retriever" in name for name in moved)
    best = prefix._choose(torch.rand(2, 2, 15))
    assert (prefix.all_ages[best].diff(dim=1) <= 0).all() and best.shape == (2, 4)


def test_where_a_text_goes_on_all_of_its_own_blocks_that_left_are_right(taught):
    prefix = taught[0]
    prefix.sources[:], prefix.continued = -1, True
    scores = torch.randn(2, 2, 15, generator=torch.Generator().manual_seed(3))
    gone = torch.zeros(6, SIZE, dtype=torch.bool)
    gone[[0, 1, 3]], gone[2, : MANY - 1] = True, True
    prefix._learn(scores, gone)
    missed = -scores.log_softmax(-1)
    expected = (missed[0, :, :2].mean() + missed[1, :, 3].mean()) / 2
    torch.testing.assert_close(prefix.losses[-1], expected)
    prefix.continued = False
    prefix._learn(scores, gone)
    assert len(prefix.losses) == 1  # no question has an answer here


def test_what_an_answer_goes_on_from_is_worth_half_of_it(taught):
    prefix = taught[0]
    prefix.sources[:], prefix.earlier[:] = torch.tensor([[1, -1], [2, -1]]), torch.tensor([0, 1])
    scores = torch.randn(2, 2, 15, generator=torch.Generator().manual_seed(3))
    gone = torch.zeros(6, SIZE, dtype=torch.bool)
    gone[[0, 1, 4]] = True  # of the second memory only what came before the answer has left θ: nothing is to be found
    prefix._learn(scores, gone)
    missed = -scores[0, 0].log_softmax(-1)
    torch.testing.assert_close(prefix.losses[-1], (2 * missed[1] + missed[0]) / 3)


@torch.no_grad()
def test_attention_gains_in_training_what_it_gains_in_use(model, taught, monkeypatch):
    """Each question of a row for itself, on all that is laid before it; blocks are told apart by their numbers."""
    prefix, packed, *_ = taught
    normed = torch.randn(2, packed.ids.shape[1], model.config.hidden_size, generator=torch.Generator().manual_seed(9))
    monkeypatch.setattr(model.config, "retrieval_bias", 0.0)
    assert all(segment.bias is None for segment in prefix(1, normed))
    monkeypatch.setattr(model.config, "retrieval_recency", 0.0)
    monkeypatch.setattr(model.config, "retrieval_bias", 4000.0)  # scores of random states differ little
    given, gains = {}, prefix._gains
    monkeypatch.setattr(
        prefix, "_gains", lambda *args: given.setdefault("result", gains(*given.setdefault("of", args)))
    )
    parts = prefix(1, normed)
    gained = torch.cat([segment.bias for segment in parts], -1)
    layer, _, laid, blocks = given["of"]
    assert torch.equal(gained, given["result"]) and gained.shape == (2, packed.ids.shape[1], prefix.num_memory)
    places = prefix.places[1]
    mine = places >= 0
    assert torch.equal(blocks[mine], places[mine] // SIZE)  # the lesson's blocks keep their numbers
    for row, column in (blocks.lt(6) & ~mine).nonzero().tolist():  # and share them with no token of another
        assert blocks[row, column] // 3 != row  # one of another memory's: its places are not told
    keys = decoder(model, 1).retriever.key(decoder(model, 1).input_layernorm(laid.float()))
    for row, column in ((0, 0), (0, 7), (0, 8), (0, 14), (1, 4)):
        asked = prefix.asked[row, int(packed.segments[row, column])].bool()
        queries = model.retriever_queries(1, normed[row][asked])
        expected = model.certainty(layer, queries, Keys(keys[row], blocks[row]))
        torch.testing.assert_close(gained[row, column], expected, atol=0.02, rtol=0)
        assert expected.min() < -1
    monkeypatch.setattr(model.config, "retrieval_recency", 5.0)
    later = gains(layer, normed, laid, blocks)
    for row, column in ((0, 0), (1, 4)):  # blocks in the order in which their last token is laid
        last = {number: place for place, number in enumerate(blocks[row].tolist())}
        order = torch.tensor([last[number] for number in blocks[row].tolist()])
        queries = model.retriever_queries(1, normed[row][prefix.asked[row, int(packed.segments[row, column])].bool()])
        expected = model.certainty(layer, queries, Keys(keys[row], order))
        torch.testing.assert_close(later[row, column], expected, atol=0.02, rtol=0)
        assert (later[row, column] - gained[row, column]).unique().numel() > 2


def test_past_blocks_keep_the_newest():
    past = PastBlocks(most=10)
    for step in range(6):
        past.add(torch.full((1, 2, 2, 3, 4), float(step)))
    assert len(past) == 12 and past.blocks.min() == 3
    assert past.pick(3, 2, torch.Generator().manual_seed(0)).unique().tolist() == [5.0]
    other = PastBlocks(most=10)
    other.load_state_dict(past.state_dict(), torch.device("cpu"))
    assert torch.equal(other.blocks, past.blocks)


@pytest.mark.parametrize("layers", [3, 6])
def test_the_copying_circuit_copies_before_any_training(layers):
    config = little_config(vocab_size=512, hidden_size=160, num_attention_heads=4, num_hidden_layers=layers)
    torch.manual_seed(0)
    model = MPlusForCausalLM(config)
    twice = ids(16, 24).repeat(1, 2)
    hits = []
    for _ in range(2):
        with torch.no_grad():
            hits.append((model(twice).logits[:, 23:-1].argmax(-1) == twice[:, 24:]).float().mean().item())
        induction_init(model, torch.Generator().manual_seed(0))
    assert hits[0] < 0.05 and hits[1] > 0.6
    with pytest.raises(ValueError, match="rope_theta 1e7"):
        fast = MPlusForCausalLM(little_config(rope_parameters={"rope_type": "default", "rope_theta": 10.0}))
        induction_init(fast, torch.Generator())


@pytest.mark.parametrize("steps", [0, 12])
def test_refitted_retrievers_find_the_block_with_the_answer(steps):
    tokenizer = little_tokenizer()
    model, lessons = recipe_model(little_config(retriever_size=48, num_retrieved=64), 0), little_lessons(tokenizer)
    lessons.facts.world.by_hand = 0.4  # the facts that its bounds were set for
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    found = refit_retrievers(model, lessons, torch.Generator().manual_seed(0), steps, num_facts=576)
    # A sixth of the facts are asked about: of 96 questions one weighs a percent, of 16 it weighed six.
    # Four blocks of 576 facts' and 512 of prose are retrieved: chance is below one in two hundred.
    assert len(found) == 3 and found[0] > 0.4 and found[1] > 0.15
    changed = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed and all("retriever" in name for name in changed)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_score_of_refitting_is_the_block_rule(model):
    generator = torch.Generator().manual_seed(3)
    queries, stored = (torch.randn(*shape, model.config.hidden_size, generator=generator) for shape in ((2, 5), (4, 3)))
    asked = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]).bool()
    retriever = decoder(model, 0).retriever
    scores = score(retriever, queries, asked, stored)
    keys = Keys(retriever.key(stored).flatten(0, 1), torch.arange(4).repeat_interleave(3))
    for row in range(2):
        rule = block_late_interaction(retriever.query(queries[row][asked[row]]), keys)
        assert torch.allclose(scores[row], rule[::3], atol=1e-4)


def test_the_initial_pool_is_written_by_the_model_itself():
    tokenizer = little_tokenizer()
    model, lessons = recipe_model(little_config(), 0), little_lessons(tokenizer)
    before = model.memory.pool.clone()
    fill_pool(model, lessons.prose, torch.Generator().manual_seed(0))
    assert model.memory.pool.shape == before.shape and model.memory.pool.isfinite().all()
    assert (model.memory.pool != before).all(-1).float().mean() > 0.99

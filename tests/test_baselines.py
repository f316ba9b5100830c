"""Baselines: one protocol, honest bytes, and each does what its name says."""

import pytest
import torch
import torch.nn.functional as F
from transformers import Cache

from core.adapters import READ, use_adapter
from core.baselines import METHODS, make_reader, token_bytes
from core.bm25 import last_paragraph
from core.context import KeptLayer, empty_cache, prefill
from core.reader import MPlusReader, Reader
from core.snapkv import compress, select, votes
from tests.toys import toy_llama, toy_mplus, toy_tokenizer

torch.set_num_threads(1)
TEXT = "Ilse keeps her spare key under the blue flowerpot. Tom was born in Brackwick, and his horse is called Juno."
QUESTION = "Where does Ilse keep her key?"


@pytest.fixture(scope="module")
def model():
    return toy_mplus()


@pytest.fixture(scope="module")
def tokenizer():
    return toy_tokenizer()


def greedy(model, ids: list[int], num: int) -> list[int]:
    """Literal greedy decoding: the whole text runs through the model again for every token, without any cache."""
    new: list[int] = []
    with torch.no_grad():
        while len(new) < num and (not new or new[-1] != 256):
            new.append(int(model(torch.tensor([ids + new]), use_cache=False).logits[0, -1].argmax()))
    return new


def prompt(tokenizer, *parts: str) -> list[int]:
    return [token for part in parts for token in tokenizer(part)["input_ids"]]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_keeps_the_protocol_and_is_deterministic(method, model, tokenizer):
    reader = make_reader(method, model, tokenizer)
    assert isinstance(reader, Reader) and reader.name == method
    seen: list[tuple[int, int]] = []
    receipt = reader.ingest(TEXT, on_chunk=lambda done, of: seen.append((done, of)))
    assert receipt.text == TEXT
    pieces: list[str] = []
    first = reader.answer(QUESTION, max_new_tokens=6, on_text=pieces.append)
    assert "".join(pieces).strip() == first.text
    assert 0 < first.first_token_seconds <= first.seconds
    assert first.num_bytes["weights"] == sum(p.nbytes for p in model.parameters())
    reader.reset()
    reader.ingest(TEXT)
    assert reader.answer(QUESTION, max_new_tokens=6).tokens == first.tokens
    with pytest.raises(ValueError, match="empty"):
        reader.ingest("  ")
    with pytest.raises(ValueError, match="empty"):
        reader.answer(" ")


@pytest.mark.parametrize("make", [toy_mplus, toy_llama])
def test_full_context_equals_running_the_whole_text_without_a_cache(make, tokenizer):
    model = make()
    reader = make_reader("full", model, tokenizer)
    reader.ingest(TEXT)
    reader.ingest("Mia paints.")
    expected_ids = prompt(tokenizer, TEXT + "\n", "Mia paints.\n", f"Question: {QUESTION} Answer:")
    with use_adapter(model, READ):
        expected = greedy(model, expected_ids, 8)
    assert reader.answer(QUESTION, max_new_tokens=8).tokens == expected
    assert reader.answer(QUESTION, max_new_tokens=8).tokens == expected, "asking changes nothing"


def test_the_window_sees_its_last_tokens_alone(model, tokenizer):
    reader = make_reader("window", model, tokenizer, window=20)
    full = make_reader("full", model, tokenizer)
    reader.ingest(TEXT)
    full.ingest((TEXT + "\n")[-20:-1])
    assert reader.answer(QUESTION, max_new_tokens=8).tokens == full.answer(QUESTION, max_new_tokens=8).tokens
    assert reader.num_bytes["cache"] == 20 * token_bytes(model)


def test_a_budget_bounds_the_bytes_that_are_kept(model, tokenizer):
    budget = 50 * token_bytes(model)
    for method in ("window", "snapkv"):
        reader = make_reader(method, model, tokenizer, budget)
        for _ in range(5):
            reader.ingest(TEXT)
        reader.answer(QUESTION, max_new_tokens=2)
        assert reader.num_bytes["cache"] == budget
    reader = make_reader("bm25", model, tokenizer, budget)
    reader.ingest(TEXT)
    reader.answer(QUESTION, max_new_tokens=2)
    assert 0 < reader.num_bytes["cache"] <= budget
    with pytest.raises(ValueError, match="above the budget"):
        make_reader("mplus", model, tokenizer, budget // 2)
    prefix = model.config.prefix_size * token_bytes(model)
    assert make_reader("mplus", model, tokenizer, prefix).name == "mplus"


def test_snapkv_with_room_for_everything_is_full_context(model, tokenizer):
    snap, full = make_reader("snapkv", model, tokenizer, kept=500), make_reader("full", model, tokenizer)
    for reader in (snap, full):
        reader.ingest(TEXT)
    assert snap.answer(QUESTION, max_new_tokens=8).tokens == full.answer(QUESTION, max_new_tokens=8).tokens


def literal_kept(model, ids: torch.Tensor, kept: int, window: int, kernel: int) -> list[torch.Tensor]:
    """Positions per layer and key head, from the attention probabilities of an eager run."""
    model.set_attn_implementation("eager")
    with torch.no_grad():
        attentions = model(ids, output_attentions=True).attentions
    model.set_attn_implementation("sdpa")
    length, chosen = ids.shape[1], []
    for probabilities in attentions:
        seen = probabilities[0, :, -window:, :-window].sum(1)
        seen = seen.view(2, 2, -1).sum(1)  # 4 query heads share 2 key heads
        best = F.max_pool1d(seen[None], kernel, 1, kernel // 2)[0].topk(kept - window).indices.sort().values
        chosen.append(torch.cat([best, torch.arange(length - window, length).expand(2, -1)], dim=1))
    return chosen


def test_snapkv_keeps_what_its_window_attends_to(tokenizer):
    model = toy_llama()
    ids = torch.tensor([prompt(tokenizer, TEXT)])
    with torch.no_grad():
        full = prefill(model, ids, empty_cache(model))
        cache, full_bytes = compress(model, ids, kept=24, window=8, kernel=5)
    assert full_bytes == ids.shape[1] * token_bytes(model)
    for layer, whole, positions in zip(cache.layers, full.layers, literal_kept(model, ids, 24, 8, 5), strict=True):
        assert layer.get_seq_length() == ids.shape[1], "positions stay true"
        for head in range(2):
            torch.testing.assert_close(layer.keys[0, head], whole.keys[0, head, positions[head]], atol=1e-5, rtol=0)
            torch.testing.assert_close(layer.values[0, head], whole.values[0, head, positions[head]], atol=1e-5, rtol=0)


def test_a_question_behind_a_compressed_cache_is_causal_and_in_place(tokenizer):
    """Against token-by-token decoding, where no mask is needed at all."""
    model = toy_llama()
    ids = torch.tensor([prompt(tokenizer, TEXT)])
    question = torch.tensor([prompt(tokenizer, f"Question: {QUESTION} Answer:")])
    with torch.no_grad():
        at_once, _ = compress(model, ids, kept=24, window=8, kernel=5)
        singly, _ = compress(model, ids, kept=24, window=8, kernel=5)
        mask = torch.ones(1, ids.shape[1] + question.shape[1], dtype=torch.int64)
        expected = model(question, attention_mask=mask, past_key_values=at_once).logits[0, -1]
        for index in range(question.shape[1]):
            position = torch.tensor([[ids.shape[1] + index]])
            logits = model(question[:, [index]], position_ids=position, past_key_values=singly).logits
    torch.testing.assert_close(logits[0, -1], expected, atol=1e-4, rtol=0)
    assert isinstance(at_once, Cache) and isinstance(at_once.layers[0], KeptLayer)


def test_pooling_brings_the_neighbours_of_a_peak_along():
    peak = torch.zeros(1, 1, 20)
    peak[..., 10] = 1.0
    assert select(peak, 3, kernel=3).tolist() == [[[9, 10, 11]]]


def test_votes_do_not_count_the_future():
    queries, keys = torch.zeros(1, 2, 3, 4), torch.zeros(1, 1, 5, 4)
    counted = votes(queries, keys)  # all scores equal: row i sees 3 + i keys, each with probability 1 / (3 + i)
    torch.testing.assert_close(counted, torch.full((1, 1, 2), 2 * (1 / 3 + 1 / 4 + 1 / 5)))


def test_snapkv_that_cheats_lets_the_question_vote(model, tokenizer):
    reader = make_reader("snapkv", model, tokenizer, kept=40, window=8, sees_question=True)
    reader.ingest(TEXT)
    reader.answer(QUESTION, max_new_tokens=2)
    assert reader.peak_bytes > 40 * token_bytes(model)
    assert reader.num_bytes["cache"] == 0, "nothing that answers another question is kept"


def test_snapkv_names_what_it_refuses(model, tokenizer):
    with pytest.raises(ValueError, match="padding"):
        make_reader("snapkv", model, tokenizer).answer_many([QUESTION, "Who?"])
    narrow = make_reader("snapkv", model, tokenizer, kept=8)
    narrow.ingest(TEXT)
    with pytest.raises(ValueError, match="window alone has 32"):
        narrow.answer(QUESTION)
    even = make_reader("snapkv", model, tokenizer, kept=40, kernel=4)
    even.ingest(TEXT)
    with pytest.raises(ValueError, match="odd"):
        even.answer(QUESTION)


def test_bm25_puts_the_matching_passages_before_the_question_in_their_order(model, tokenizer):
    reader = make_reader("bm25", model, tokenizer, budget=85, passage=60)
    reader.ingest("The spare key lies under the blue pot.")
    reader.ingest("Nobody in Brackwick has seen a goose.")
    reader.ingest("Ilse has another key in the old barn.")
    reader.answer("Where is the spare key of Ilse?", max_new_tokens=1)
    shown = tokenizer.decode(reader.context(torch.zeros(1, 0)))
    assert shown == "The spare key lies under the blue pot.\nIlse has another key in the old barn.\n"


def test_bm25_asks_with_the_end_of_a_whole_prompt():
    passages = "Passage 1:\nThe bell hangs in Ludlow."
    assert last_paragraph(f"{passages}\n\nQuestion: Where is it?\nAnswer:") == "Question: Where is it?"
    assert last_paragraph(f"{passages}\n\nQuestion: Where is it?\n\nAnswer:") == "Question: Where is it?"
    assert last_paragraph("Where is it?") == "Where is it?"


def test_bm25_copes_with_questions_and_passages_of_stop_words(model, tokenizer):
    reader = make_reader("bm25", model, tokenizer)
    reader.ingest("to be or not to be")
    assert reader.answer("who is it?", max_new_tokens=2).tokens


def test_memoryllm_is_the_same_memory_without_long_term(model, tokenizer):
    with_long, without = make_reader("mplus", model, tokenizer), make_reader("memoryllm", model, tokenizer)
    for reader in (with_long, without):
        assert isinstance(reader, MPlusReader)
        reader.ingest(TEXT)
    assert torch.equal(with_long.memory.state.pool, without.memory.state.pool)
    assert with_long.num_bytes["long"] > 0 and without.num_bytes["long"] == 0
    assert not without.answer(QUESTION, max_new_tokens=2).found


def test_the_random_retriever_guesses_whole_blocks_and_repeats_itself(model, tokenizer):
    reader = make_reader("random-retriever", model, tokenizer, seed=3)
    reader.ingest(TEXT * 3)
    (first, second), (again, _) = reader.inspect(QUESTION), reader.inspect(QUESTION)
    assert torch.equal(first.found.rows, again.found.rows)
    assert not torch.equal(first.found.rows, second.found.rows)
    true = make_reader("mplus", model, tokenizer, seed=3)
    true.ingest(TEXT * 3)
    assert not torch.equal(first.found.rows, true.inspect(QUESTION)[0].found.rows)


def test_question_only_never_sees_the_text(model, tokenizer):
    reader = make_reader("question-only", model, tokenizer)
    before = reader.answer(QUESTION, max_new_tokens=4).tokens
    reader.ingest(TEXT)
    assert reader.answer(QUESTION, max_new_tokens=4).tokens == before
    bare = make_reader("question-only", toy_llama(), tokenizer)
    before = bare.answer(QUESTION, max_new_tokens=4).tokens
    bare.ingest(TEXT)
    assert bare.name == "question-only" and bare.answer(QUESTION, max_new_tokens=4).tokens == before


def test_wrong_methods_are_named(tokenizer):
    with pytest.raises(ValueError, match="choose one of mplus"):
        make_reader("oracle", toy_llama(), tokenizer)
    with pytest.raises(ValueError, match="LlamaForCausalLM"):
        make_reader("mplus", toy_llama(), tokenizer)
    with pytest.raises(ValueError, match="-1"):
        make_reader("window", toy_llama(), tokenizer, window=-1)

"""How sure layers are of blocks: alone, together, and of two about equally likely the later one."""

import torch

from core.reader import MPlusReader
from core.reading import new_memory
from core.retriever import QUESTION, Evidence, Keys, block_late_interaction, overtaken
from tests.toys import toy_mplus, toy_tokenizer


def test_a_block_loses_to_later_ones_that_are_about_as_likely():
    scores = torch.tensor([1.0, 5.0, 3.5, 0.0, 2.0])
    assert overtaken(scores, 1.0).tolist() == [1.0, 0.5, 0.5, 1.0, 0.0]  # the last has none after it
    assert overtaken(scores, 9.0).tolist() == [6.0, 0.5, 0.5, 4.0, 0.0]
    assert overtaken(2 * scores, 9.0).tolist() == [9.0, 0.0, 0.0, 6.0, 0.0]  # scaled, 5 leads 3.5 by 3 nats
    assert not overtaken(scores, 0.0).any()
    assert overtaken(scores.expand(2, 3, 5), 1.0)[1, 2].tolist() == [1.0, 0.5, 0.5, 1.0, 0.0]


def test_layers_count_what_those_before_them_found():
    evidence = Evidence()
    first = evidence.add(torch.tensor([0.0, -torch.inf, 3.0]))
    assert first.tolist() == [-3.0, -torch.inf, 0.0]
    second = evidence.add(torch.tensor([9.0, 9.0, -91.0])) * 2**0.5
    assert torch.allclose(second, torch.tensor([-3.0, -5.0, -100.0]))  # block 1 was not found before
    third = evidence.add(torch.tensor([0.0, 0.0, 0.0, 0.0])) * 3**0.5
    assert torch.allclose(third, torch.tensor([-3.0, -5.0, -5.0, -10.0]))  # of the 100 nats 5 are remembered
    fourth = evidence.add(torch.zeros(2)) * 2
    assert torch.allclose(fourth, torch.tensor([-3.0, -5.0])) and len(evidence.sums) == 4


def test_a_deleted_text_is_no_evidence():
    """Its tokens stay among Θ's rows for a while; what layers tell each other of the rest must not depend on them."""
    model = toy_mplus()
    reader = MPlusReader(model, toy_tokenizer(), new_memory(model))
    receipts = [reader.ingest(f"Text {number} of some, long enough to leave θ in part.") for number in range(12)]
    reader.delete(receipts[1])
    log, told, alone = reader.memory.state.logs[0], Evidence(), Evidence()
    log.keys[~log.live] *= 1000  # what is dead would be the best match by far
    for queries in torch.randn(2, 3, log.keys.shape[1], generator=torch.Generator().manual_seed(0)):
        assert not log.live[(log.keys @ queries.T).amax(1).argmax()]
        found = reader.memory.search(0, queries, 8, evidence=told)
        expected = block_late_interaction(queries, Keys(log.keys[log.live], log.block[log.live]), alone)
        assert torch.allclose(found.scores, expected, atol=1e-4)
        assert log.live[found.rows].all()


def test_a_long_prompt_says_no_more_than_a_question():
    """What is said again is no news: a prompt repeated makes nobody surer, once it is as long as a question."""
    model = toy_mplus(retrieval_bias=0.5, retrieval_recency=1.0)
    generator = torch.Generator().manual_seed(3)
    keys = Keys(3 * torch.randn(24, 8, generator=generator), torch.arange(24) // 4)
    question, word = torch.randn(QUESTION, 8, generator=generator), torch.randn(1, 8, generator=generator)
    once, thrice = (model.certainty(0, question.repeat(times, 1), keys) for times in (1, 3))
    torch.testing.assert_close(once, thrice)
    assert once.min() < -0.1
    few, more = (model.certainty(0, word.repeat(times, 1), keys) for times in (1, 2))
    assert more.min() < few.min()  # a shorter one does
    counts, learned = torch.tensor([1, QUESTION, 4 * QUESTION]), model.retriever_scale(0, 1)
    torch.testing.assert_close(model.retriever_scale(0, counts), learned * torch.tensor([1, 1, 0.25]))

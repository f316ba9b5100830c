"""What an answer owes to its memory, and methods side by side."""

import numpy as np
import pytest
import torch

from lab.ablate import LAYER, LONG_TERM, NOTHING, RETRIEVER, TEXT, ablate, encode_answer
from lab.compare import retention_job, side_by_side
from lab.models import TINY
from lab.stopwatch import answer_steps, copy_seconds
from lab.turns import Stopped, Turns


# ── ablation, comparison, planning ──
@pytest.mark.parametrize(("kind", "which"), [(LONG_TERM, 0), (RETRIEVER, 0), (LAYER, 1), (TEXT, 5)])
def test_ablation_moves_the_probabilities_and_leaves_the_memory(told, kind, which):
    pool, texts = told.reader.memory.state.pool, len(told.texts)
    answer = told.branch.answer
    result = ablate(told.reader, told.branch.last.question, answer.tokens, kind, which)
    assert len(result.before) == len(result.after) == len(answer.tokens)
    assert result.before != result.after
    assert torch.equal(told.reader.memory.state.pool, pool) and len(told.texts) == texts


def test_ablation_scores_what_generation_saw(told):
    """Greedy tokens are the most likely ones, so each has at least the probability 1 / vocabulary."""
    answer = told.branch.answer
    result = ablate(told.reader, told.branch.last.question, answer.tokens, LONG_TERM)
    assert min(result.before) >= -np.log(told.loaded.model.config.vocab_size)


def test_an_expected_answer_is_the_tokens_that_would_be_generated(told):
    """A space is in the first token for some tokenizers and put there by others: twice would be another answer."""
    tokenizer = told.loaded.tokenizer
    asked = tokenizer("Question: Who? Answer:", add_special_tokens=False)["input_ids"]
    whole = tokenizer("Question: Who? Answer: Banana 9", add_special_tokens=False)["input_ids"]
    assert encode_answer("Banana 9", tokenizer) == whole[len(asked) :]


def test_taking_nothing_away_is_not_offered(told):
    with pytest.raises(ValueError, match="cannot be taken away"):
        ablate(told.reader, "Where?", [1], NOTHING)


def test_side_by_side_gives_a_row_a_method(told):
    texts = [receipt.text for receipt in told.texts[:3]]
    methods = ("mplus", "memoryllm", "window", "snapkv")
    rows = list(
        side_by_side(told.loaded, texts, "Where is the key?", "", methods, None, told.turns, lambda: False, True, 4)
    )
    assert [row["method"].split()[0] for row in rows] == list(methods)
    assert all(row["kept"] > 0 and row["seconds"]["write"] > 0 and row["activations"] > 0 for row in rows)
    by_method = {row["method"].split()[0]: row["seconds"] for row in rows}
    assert by_method["mplus"]["retrieve"] > 0 and by_method["mplus"]["prefill"] > 0
    assert all(by_method[method]["retrieve"] == 0 for method in methods[1:])
    with pytest.raises(Stopped):
        list(side_by_side(told.loaded, texts, "Where?", "", methods, None, told.turns, lambda: True))


def test_the_steps_of_an_answer_sum_to_its_seconds(told):
    before = told.reader.memory.search
    answer, steps = answer_steps(told.reader, "Where is the key?", 4, lambda: False)
    assert sum(steps.values()) == pytest.approx(answer.seconds) and steps["copy"] == 0.0
    assert told.reader.memory.search == before
    tensors = [torch.ones(3)]
    assert copy_seconds(tensors, torch.device("cpu")) == 0.0 < copy_seconds(tensors, torch.device("meta"))


def test_what_an_answer_owes_is_kept_until_the_memory_changes(told):
    owed = told.owed()
    assert owed.what == "without Θ" and owed is told.owed() and len(owed.tokens) == len(told.branch.answer.tokens)
    guessed = told.take_away(RETRIEVER)
    assert guessed.what != owed.what and told.owed() is guessed, "who comes back to the tab finds what they asked for"
    told.write("A barge with red sails waits below the third lock of the canal.")
    assert told.owed() is not owed
    told.delete(1)
    assert told.owed() is None
    with pytest.raises(ValueError, match="no answer yet"):
        told.take_away(LONG_TERM)


def test_retention_grows_row_by_row(models):
    steps = list(retention_job(models.get(TINY), ["mplus", "window"], 2, [0, 64], 0, Turns(), lambda: False))
    asked, rows = steps[-1]
    assert asked == len(steps) == 8 and all(row["asked"] == 2 for row in rows)

"""The reading school: facts in the row itself, no memory, and many questions about each row.

A context is read once; its keys and values are then shared by all its questions, each in a row of its own. So no
question sees another's answer, and ten of them cost little more than one.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache

from .adapters import READ
from .lessons import Context
from .model import MPlusForCausalLM
from .objectives import compare, merged
from .packing import NOTHING, Packed, Passage, pack
from .pointing import Pointer, attention_of, pointer_loss, pointers

LANGUAGE_WEIGHT = 0.3  # of predicting the contexts themselves


class InContext(NamedTuple):
    """loss: of the answers, with what was asked for besides. right: of every question, all of its answer's tokens.

    mass: attention on the first tokens of the right answers, None where the pointer was not taught. num_tokens: read.
    """

    loss: Tensor
    right: list[bool]
    mass: float | None
    num_tokens: int


def learn_in_context(
    model: MPlusForCausalLM, contexts: list[Context], pointer: float = 0.0, language: bool = False,
    gaps: list[int] | None = None,
) -> InContext:  # fmt: skip
    """Ask all questions of all contexts. pointer: weight of the pointer loss. language: predict the contexts too.

    gaps: for each question, how many positions farther than the end of its context it stands.
    """
    device = model.memory.new.device
    read = pack([[Passage(context.ids)] for context in contexts], model.config.pad_token_id or 0).to(device)
    asked = [(index, *pair) for index, context in enumerate(contexts) for pair in context.asked]
    rows = [[question.passage()] for _, question, _ in asked]
    packed = pack(rows, model.config.pad_token_id or 0, gaps).to(device)
    owner = torch.tensor([index for index, *_ in asked], device=device)
    with merged(model, READ):
        cache = DynamicCache()
        states = model.model(
            input_ids=read.ids, attention_mask=read.visible[:, None], position_ids=read.positions,
            past_key_values=cache, use_cache=True,
        ).last_hidden_state  # fmt: skip
        with attention_of(model, pointer > 0) as weights:
            hidden = _behind_contexts(model, packed, cache, read.segments != NOTHING, owner)
        outcome = compare(model, hidden, packed)
        loss, mass = outcome.loss, None
        if language:
            loss = loss + LANGUAGE_WEIGHT * compare(model, states, read).loss
    if pointer:
        wanted = [
            Pointer(row, len(question.prompt) - 1 + number, [place + number for place in places], not number)
            for row, (_, question, places) in enumerate(asked)
            for number in range(len(question.answer) - 1)
            if places
        ]
        columns = torch.arange(read.ids.shape[1], device=device).expand(len(rows), -1)
        extra, mass = pointer_loss(weights, lambda _: columns, pointers(wanted, read.ids.shape[1], device))
        loss = loss + pointer * extra
    right = packed.all_right(outcome.right)[:, 0].tolist()
    return InContext(loss, right, mass, read.ids.numel() + packed.ids.numel())


def _behind_contexts(
    model: MPlusForCausalLM, packed: Packed, cache: DynamicCache, real: Tensor, owner: Tensor
) -> Tensor:
    """Last hidden states of rows, each behind the context that owns it; real (B, W): no padding of contexts."""
    shared = DynamicCache()
    for index, layer in enumerate(cache.layers):
        shared.update(layer.keys[owner], layer.values[owner], index)  # type: ignore[index]
    context = real[owner][:, None].expand(-1, packed.ids.shape[1], -1)
    return model.model(
        input_ids=packed.ids,
        attention_mask=torch.cat([context, packed.visible], dim=2)[:, None],
        position_ids=packed.positions + real.sum(1)[owner, None],
        past_key_values=shared,
        use_cache=True,
    ).last_hidden_state

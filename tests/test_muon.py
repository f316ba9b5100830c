"""Our Muon against torch's: the same steps, but for what bfloat16 rounds away."""

import pytest
import torch

from core.muon import Muon, orthogonal

SHAPES = [(12, 12), (24, 8), (8, 24), (24, 8), (12, 12)]


def matrices(seed: int) -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]


@pytest.mark.parametrize("nesterov", [True, False])
def test_steps_are_those_of_torch(nesterov):
    ours, theirs = matrices(0), matrices(0)
    settings = dict(lr=0.1, weight_decay=0.1, momentum=0.9, nesterov=nesterov)
    pairs = [(Muon(ours, **settings), ours), (torch.optim.Muon(theirs, **settings), theirs)]
    for step in range(4):
        for optimizer, parameters in pairs:
            for parameter, like in zip(parameters, matrices(1 + step), strict=True):
                parameter.grad = like.detach().clone()
            parameters[1].grad = None if step == 2 else parameters[1].grad  # a matrix that a step does not need
            optimizer.step()
    for mine, other, start in zip(ours, theirs, matrices(0), strict=True):
        moved = (other - start).norm()
        assert moved > 0.5
        assert (mine - other).norm() < 0.02 * moved


def test_singular_values_come_near_one_whatever_the_size_of_the_gradient():
    updates = torch.stack([1e-6 * matrices(3)[1], 1e6 * matrices(4)[1]]).detach()
    values = torch.linalg.svdvals(orthogonal(updates, (3.4445, -4.7750, 2.0315), 5, 1e-7).float())
    assert values.min() > 0.3 and values.max() < 1.3


def test_a_run_begun_with_torchs_goes_on_with_ours():
    parameters = matrices(0)
    before, after = torch.optim.Muon(parameters, lr=0.1), Muon(parameters, lr=0.1)
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    before.step()
    after.load_state_dict(before.state_dict())
    for parameter in parameters:
        assert torch.equal(after.state[parameter]["momentum_buffer"], before.state[parameter]["momentum_buffer"])


def test_a_closure_is_called_with_gradients():
    parameter = torch.nn.Parameter(torch.eye(4))
    optimizer = Muon([parameter], lr=0.1)

    def loss():
        optimizer.zero_grad()
        value = parameter.square().sum()
        value.backward()
        return value

    assert optimizer.step(loss).item() == 4.0
    assert parameter.square().sum() < 4.0

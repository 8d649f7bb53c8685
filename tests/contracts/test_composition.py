"""Every learning rule together with EWC's springs, gradient noise, jumps along the trajectory, the all-reduce."""

import pytest
import torch
from tests.ranks import run_ranks
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.continual import EWC
from neurarium.learning import GradientNoise, LearningRule, LinearNowcast, Nowcaster
from neurarium.testing import public
from neurarium.testing.contract import blobs, same, seeded
from neurarium.training import fit

RULES = public("learning", LearningRule)
every_rule = pytest.mark.parametrize("rule_class", RULES.values(), ids=list(RULES))


def build(rule_class):
    model = nn.Sequential(nn.Linear(8, 24), nn.Tanh(), nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 3))
    return rule_class(model, cross_entropy)


def gradients(rule):
    return {name: p.grad.clone() for name, p in rule.named_parameters() if p.grad is not None}


@every_rule
def test_springs_add_their_gradient_and_hold_the_old_weights(rule_class):
    rule = seeded(0, build, rule_class)
    x, y = blobs(seed=0)
    optimizer = torch.optim.SGD(rule.parameters(), 0.01)
    seeded(1, lambda: fit(rule, [(x, y)], optimizer, epochs=5))
    ewc = EWC(rule, strength=50.0, fisher="exact")
    ewc.begin_task(0)
    ewc.end_task([(x, y)])
    ewc.begin_task(1)
    anchor = [p.detach().clone() for p in rule.parameters()]
    start = {name: tensor.clone() for name, tensor in rule.state_dict().items()}

    other = blobs(seed=1)
    with torch.no_grad():
        for p in rule.parameters():
            p += 0.05
    rule.zero_grad(set_to_none=True)
    seeded(2, lambda: rule.assign_credit(*other))
    alone = gradients(rule)
    ewc.penalty().backward()
    pulled = gradients(rule)
    expected = torch.autograd.grad(ewc.penalty(), list(rule.parameters()), allow_unused=True)
    names = {id(p): name for name, p in rule.named_parameters()}
    for p, spring in zip(rule.parameters(), expected, strict=True):
        change = pulled[names[id(p)]] - alone.get(names[id(p)], torch.zeros_like(p))
        assert torch.allclose(change, torch.zeros_like(p) if spring is None else spring, atol=1e-5)

    moved = {}
    for penalties in ([], [ewc.penalty]):
        rule.load_state_dict(start)
        seeded(3, lambda penalties=penalties: fit(rule, [other], optimizer, epochs=20, penalties=penalties))
        held = zip(rule.parameters(), anchor, ewc_weights(ewc, rule), strict=True)
        moved[bool(penalties)] = sum(float((f * (p.detach() - a).square()).sum()) for p, a, f in held)
    assert moved[True] < moved[False]


def ewc_weights(ewc, model):
    """Stiffness of each weight's spring: the second derivative of the penalty."""
    parameters = list(model.parameters())
    here = [p.detach().clone() for p in parameters]
    slopes = []
    for shift in (0.0, 1.0):
        with torch.no_grad():
            for p, a in zip(parameters, here, strict=True):
                p.copy_(a + shift)
        slopes.append(torch.autograd.grad(ewc.penalty(), parameters))
    with torch.no_grad():
        for p, a in zip(parameters, here, strict=True):
            p.copy_(a)
    return [after - before for before, after in zip(*slopes, strict=True)]


@every_rule
def test_noise_is_added_to_what_the_rule_gave_and_only_there(rule_class):
    x, y = blobs()
    stepped = {}
    for eta in (None, 0.0, 0.1):
        rule = seeded(0, build, rule_class)
        optimizer = torch.optim.SGD(rule.parameters(), 0.1)
        if eta is not None:
            GradientNoise(eta, generator=torch.Generator().manual_seed(5)).attach(optimizer)
        seeded(1, lambda rule=rule, optimizer=optimizer: fit(rule, [(x, y)], optimizer))
        stepped[eta] = {name: p.detach().clone() for name, p in rule.named_parameters()}
        trained = {name for name, p in rule.named_parameters() if p.grad is not None}
    assert same(stepped[None], stepped[0.0])
    for name, without in stepped[None].items():
        noise = (stepped[0.1][name] - without) / 0.1
        if name not in trained:
            assert not noise.any()
        elif noise.numel() >= 100:
            assert noise.var() == pytest.approx(0.1, rel=0.5)


@every_rule
def test_jumps_continue_the_line_of_what_the_rule_trained(rule_class):
    rule = seeded(0, build, rule_class)
    x, y = blobs(seed=0)
    seeded(1, lambda: rule.assign_credit(x, y))  # lazily sized buffers exist from here on
    sgd = torch.optim.SGD(rule.parameters(), 0.01)
    optimizer = Nowcaster(sgd, rule, LinearNowcast(horizon=3), period=5, max_steps=5)
    states = []
    for step in range(5):
        states.append(torch.nn.utils.parameters_to_vector(rule.parameters()).detach())
        assert optimizer.needs_gradient is (step < 4)
        if optimizer.needs_gradient:
            optimizer.zero_grad()
            seeded(step, lambda: rule.assign_credit(x, y))
        buffers = {name: tensor.clone() for name, tensor in rule.named_buffers()}
        optimizer.step()
    expected = LinearNowcast().predict(torch.stack(states, dim=1), 3)
    found = torch.nn.utils.parameters_to_vector(rule.parameters()).detach()
    assert torch.allclose(found, expected, atol=1e-6)
    assert (found - states[-1]).abs().max() > 1e-5
    assert same(buffers, dict(rule.named_buffers()))


WORKER = """
import torch, torch.distributed as dist
from torch import nn
from torch.nn.functional import cross_entropy
from neurarium.learning import LearningRule, LinearNowcast, Nowcaster
from neurarium.testing import public
from neurarium.testing.contract import blobs
from neurarium.training import all_reduce_gradients, broadcast_state

rank = dist.get_rank()
x, y = blobs(examples=64)
mine = slice(rank * 32, rank * 32 + 32)

def gradients(rule, x, y, seed):
    rule.zero_grad()
    torch.manual_seed(seed)
    rule.assign_credit(x, y)
    return {n: p.grad.clone() for n, p in rule.named_parameters() if p.grad is not None}

def close(a, b):
    return a.keys() == b.keys() and all(torch.allclose(a[n], b[n], atol=1e-6) for n in a)

for name, rule_class in public("learning", LearningRule).items():
    torch.manual_seed(rank)  # ranks begin apart
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 3))
    rule = rule_class(model, cross_entropy)
    rule.assign_credit(x[mine], y[mine])  # lazily sized buffers exist from here on
    broadcast_state(rule)
    draws = not close(gradients(rule, x, y, 1), gradients(rule, x, y, 2))
    gradients(rule, x[mine], y[mine], 3 + rank)
    all_reduce_gradients(rule.parameters())
    shared = {n: p.grad.clone() for n, p in rule.named_parameters() if p.grad is not None}
    other = {n: g.clone() for n, g in shared.items()}
    for gradient in other.values():
        dist.broadcast(gradient, src=0)
    kind = "draws" if draws else "joined" if close(shared, gradients(rule, x, y, 1)) else "batch-wise"
    sgd = torch.optim.SGD(rule.parameters(), 0.01)
    jumping = Nowcaster(sgd, rule, LinearNowcast(horizon=3), period=5, max_steps=5)
    for step in range(5):
        gradients(rule, x[mine], y[mine], 5 + step + 10 * rank)
        all_reduce_gradients(rule.parameters())
        jumping.step()
    moved = {n: p.detach().clone() for n, p in rule.named_parameters()}
    theirs = {n: p.clone() for n, p in moved.items()}
    for parameter in theirs.values():
        dist.broadcast(parameter, src=0)
    agree = torch.tensor(int(close(shared, other) and close(moved, theirs)))
    dist.all_reduce(agree, op=dist.ReduceOp.MIN)
    if rank == 0:
        print(name, kind, bool(agree), flush=True)
"""

WHOLE_BATCH: dict[str, str] = {}
"""Rules that draw nothing and yet are no mean over examples, so that two half batches are not one whole batch."""


def test_every_rule_under_the_all_reduce(tmp_path):
    """Ranks agree, and rules that draw nothing get the gradient of the joined batch."""
    first, _ = run_ranks(WORKER, tmp_path)
    lines = [line.split() for line in first.splitlines()]
    found = {name: kind for name, kind, agree in lines if agree == "True"}
    assert found.keys() == RULES.keys(), first
    assert {name for name, kind in found.items() if kind == "batch-wise"} == WHOLE_BATCH.keys()
    assert {"Backprop", "DirectFeedbackAlignment"} <= {name for name, kind in found.items() if kind == "joined"}

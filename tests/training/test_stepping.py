"""What acts on steps sees whole, true gradients: with closures, fused optimizers, gradient scalers, wrappers."""

import pytest
import torch
from torch import nn

from neurarium.compression import LotteryTicket
from neurarium.continual import EWC
from neurarium.learning import GradientNoise
from neurarium.training import Handle, gradients_of, on_step, unwrap_optimizer


def weight(*values):
    return nn.Parameter(torch.tensor(values))


def seen_by(optimizer, kind=list):
    """The gradients that a hook sees, as copies."""
    seen = kind()
    return seen, on_step(optimizer, lambda o: seen.extend(g.clone() for g in gradients_of(o)))


def test_the_gradient_of_a_closure_is_whole_when_it_is_acted_on():
    w = weight(1.0, 2.0)
    optimizer = torch.optim.SGD([w], 1.0)
    seen, handle = seen_by(optimizer)

    def closure():
        optimizer.zero_grad()
        loss = (3 * w).sum()
        loss.backward()
        return loss

    assert float(optimizer.step(closure)) == 9
    assert [g.tolist() for g in seen] == [[3, 3]]
    handle.remove()
    optimizer.step(closure)
    assert len(seen) == 1
    assert not handle.attached


def test_every_call_of_a_line_search_is_acted_on():
    w = weight(1.0, 2.0)
    optimizer = torch.optim.LBFGS([w], max_iter=4)
    seen, _ = seen_by(optimizer)
    calls = []

    def closure():
        calls.append(1)
        optimizer.zero_grad()
        loss = (w**4).sum()
        loss.backward()
        return loss

    optimizer.step(closure=closure)
    assert len(seen) == len(calls) > 2


@pytest.mark.parametrize("fused", [False, True])
def test_a_gradient_scaler_does_not_show(fused):
    """The hook sees true gradients, and the step is the one without a scaler."""
    results = {}
    for scale in (None, 1024.0):
        w = weight(1.0, 2.0)
        optimizer = torch.optim.SGD([w], 0.5, fused=fused)
        seen, _ = seen_by(optimizer)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale or 1.0, enabled=scale is not None)
        scaler.scale((3 * w).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        results[scale] = (seen[0].tolist(), w.detach().tolist())
    assert results[None] == results[1024.0] == ([3.0, 3.0], [-0.5, 0.5])


@pytest.mark.parametrize("fused", [False, True])
def test_a_step_that_overflowed_is_none(fused):
    w = weight(1.0)
    optimizer = torch.optim.SGD([w], 0.5, fused=fused)
    events = []
    on_step(optimizer, lambda _: events.append("before"), lambda _: events.append("after"))
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale(w.sum() * torch.inf).backward()
    scaler.step(optimizer)
    assert w.tolist() == [1.0]
    assert events == []


@pytest.mark.parametrize("options", [{"fused": True}, {"foreach": True}, {"foreach": False}])
def test_noise_has_its_variance_under_every_implementation_and_a_scaler(options):
    """The issue's case: the noise was divided by the scale of 1024."""
    for scale in (1.0, 1024.0):
        w = nn.Parameter(torch.zeros(20_000))
        optimizer = torch.optim.SGD([w], 1.0, **options)
        GradientNoise(0.3, generator=torch.Generator().manual_seed(0)).attach(optimizer)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        scaler.scale(0.0 * w.sum()).backward()
        scaler.step(optimizer)
        assert float(w.detach().var()) == pytest.approx(0.3, rel=0.05)


def test_noise_stays_where_a_closure_clears_the_gradients():
    w = nn.Parameter(torch.zeros(20_000))
    optimizer = torch.optim.Adam([w], 1.0)
    noise = GradientNoise(0.3, generator=torch.Generator().manual_seed(0))
    noise.attach(optimizer)

    def closure():
        optimizer.zero_grad()
        loss = 0.0 * w.sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert noise.step == 1
    assert float(w.grad.var()) == pytest.approx(0.3, rel=0.05)


def test_noise_names_a_gradient_that_is_not_finite_without_clipping_too():
    a, b = weight(1.0), weight(1.0, 2.0)
    optimizer = torch.optim.SGD([a, b], 1.0)
    GradientNoise(0.1).attach(optimizer)
    (a.sum() + b.sum() * torch.nan).backward()
    with pytest.warns(UserWarning, match=r"nan at step 0 \(gradient 1, of shape \(2,\)\)"):
        optimizer.step()


def test_a_saved_generator_is_not_dropped_in_silence():
    own = GradientNoise(0.1, generator=torch.Generator().manual_seed(3))
    with pytest.raises(ValueError, match="has a generator's"):
        GradientNoise(0.1).load_state_dict(own.state_dict())
    with pytest.raises(ValueError, match="lacks a generator's"):
        own.load_state_dict(GradientNoise(0.1).state_dict())


def test_clipping_does_not_count_the_gradients_of_pruned_weights():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 20), nn.ReLU(), nn.Linear(20, 3))
    ticket = LotteryTicket(model, rate=0.9)
    with torch.no_grad():
        for p in model.parameters():
            p += 0.01 * torch.randn_like(p)
    ticket.prune_and_rewind()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    handle = ticket.attach(optimizer)
    model(torch.randn(8, 20)).square().sum().backward()
    kept = [w.grad * ticket.masks[name] for name, w in ticket.masks.targets.items()]
    expected = nn.utils.get_total_norm([*kept, *(p.grad for n, p in model.named_parameters() if "bias" in n)])
    assert torch.allclose(nn.utils.clip_grad_norm_(model.parameters(), 1e9), expected)
    handle.remove()
    optimizer.zero_grad()
    model(torch.randn(8, 20)).square().sum().backward()
    assert any((w.grad[~ticket.masks[name]] != 0).any() for name, w in ticket.masks.targets.items())


class Wrapped(torch.optim.Optimizer):
    """As accelerate's: a subclass without the state of one."""

    def __init__(self, optimizer):
        self.optimizer = optimizer

    @property
    def param_groups(self):
        return self.optimizer.param_groups

    @property
    def state(self):
        return self.optimizer.state


def test_wrapped_optimizers_are_unwrapped():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    inner = torch.optim.SGD(model.parameters(), 0.1)
    assert unwrap_optimizer(Wrapped(Wrapped(inner))) is inner
    noise = GradientNoise(0.1)
    LotteryTicket(model).attach(Wrapped(inner))
    noise.attach(Wrapped(inner))
    strategy = EWC(model, implicit=True)
    assert isinstance(strategy.attach(Wrapped(inner)), Handle)
    model(torch.randn(3, 4)).sum().backward()
    inner.step()
    assert noise.step == 1
    with pytest.raises(TypeError, match="one of torch's"):
        unwrap_optimizer(model)

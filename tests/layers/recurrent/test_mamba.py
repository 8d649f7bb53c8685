"""The selective scan against a loop, closed forms and a filter; the block against itself, step by step."""

import numpy as np
import pytest
import torch
from scipy.signal import lfilter
from torch.autograd import gradcheck
from torch.nn.functional import softplus

from neurarium.layers import MambaBlock, selective_scan


def inputs(batch=2, length=5, channels=2, states=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)  # noqa: E731
    x, delta = draw(batch, length, channels), softplus(draw(batch, length, channels))
    return (
        x,
        delta,
        -draw(channels, states).exp(),
        draw(batch, length, states),
        draw(batch, length, states),
        draw(channels),
    )


def by_hand(x, delta, a, b, c, d):
    y, h = torch.zeros_like(x), torch.zeros(len(x), *a.shape, dtype=x.dtype)
    for t in range(x.shape[1]):
        for i in range(x.shape[2]):
            h[:, i] = (
                torch.exp(delta[:, t, i, None] * a[i]) * h[:, i] + (delta[:, t, i] * x[:, t, i])[:, None] * b[:, t]
            )
            y[:, t, i] = (h[:, i] * c[:, t]).sum(1) + d[i] * x[:, t, i]
    return y, h


@pytest.mark.parametrize("options", [{}, {"parallel": True}, {"chunk": 4}, {"chunk": 4, "parallel": True}])
def test_the_scan_is_the_recurrence(options):
    given = inputs(length=11)
    wanted, last = by_hand(*given)
    y, state = selective_scan(*given, **options)
    assert torch.allclose(y, wanted, atol=1e-10)
    assert torch.allclose(state, last, atol=1e-10)


def test_gradients():
    given = tuple(t.requires_grad_() for t in inputs(batch=1))
    assert gradcheck(lambda *a: selective_scan(*a)[0], given)
    assert gradcheck(lambda *a: selective_scan(*a, chunk=2)[0], given)


def test_constant_steps_are_a_linear_filter():
    x = torch.randn(1, 40, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    one = torch.ones(1, 40, 1, dtype=torch.float64)
    y, _ = selective_scan(x, 0.3 * one, torch.full((1, 1), -0.7).double(), one, one)
    wanted = lfilter([0.3], [1, -np.exp(-0.21)], x[0, :, 0].numpy())
    assert torch.allclose(y[0, :, 0], torch.from_numpy(wanted))
    summed, _ = selective_scan(x, 0.3 * one, torch.full((1, 1), -1e-9).double(), one, one)
    assert torch.allclose(summed, 0.3 * x.cumsum(1), atol=1e-6)


def test_a_step_of_zero_ignores_a_token_and_a_long_one_forgets_the_past():
    x, delta, a, b, c, d = inputs()
    delta = delta.clone()
    delta[:, 3] = 0
    _, before = selective_scan(x[:, :3], delta[:, :3], a, b[:, :3], c[:, :3], d)
    _, after = selective_scan(x[:, :4], delta[:, :4], a, b[:, :4], c[:, :4], d)
    assert torch.equal(before, after)
    delta[:, 3] = 1e4
    _, after = selective_scan(x[:, :4], delta[:, :4], a, b[:, :4], c[:, :4], d)
    assert torch.allclose(after, (1e4 * x[:, 3])[..., None] * b[:, 3, None])


def test_a_stream_of_steps_is_the_whole():
    torch.manual_seed(0)
    block = MambaBlock(6, d_state=4).double()
    x = torch.randn(3, 9, 6, dtype=torch.float64)
    state, rows = None, []
    for t in range(9):
        y, state = block.step(x[:, t], state)
        rows.append(y)
    assert torch.allclose(torch.stack(rows, 1), block(x), atol=1e-12)
    changed = x.clone()
    changed[:, 5] += 1
    assert torch.equal(block(changed)[:, :5], block(x)[:, :5])  # causal


def test_both_ways_is_the_sum_of_two_and_sees_the_future():
    torch.manual_seed(0)
    one, both = MambaBlock(4).double(), MambaBlock(4, bidirectional=True).double()
    both.load_state_dict(one.state_dict())
    x = torch.randn(2, 7, 4, dtype=torch.float64)
    changed = x.clone()
    changed[:, 6] += 1
    assert not torch.allclose(both(changed)[:, 0], both(x)[:, 0])
    assert torch.allclose(both(x.flip(1)).flip(1), both(x), atol=1e-12)
    with pytest.raises(ValueError, match="has no step"):
        both.step(x[:, 0])


def test_rates_start_at_the_whole_numbers_and_the_input_passes_by():
    block = MambaBlock(4, d_state=5)
    rates = torch.arange(1.0, 6).expand(8, 5)
    torch.testing.assert_close(block.A_log.detach().exp(), rates)
    assert torch.equal(block.D.detach(), torch.ones(8))


def test_both_ways_is_twice_one_way_where_the_order_does_not_matter():
    torch.manual_seed(0)
    one, both = MambaBlock(4).double(), MambaBlock(4, bidirectional=True).double()
    both.load_state_dict(one.state_dict())
    single = torch.randn(2, 1, 4, dtype=torch.float64)
    assert torch.allclose(both(single), 2 * one(single))  # one token has no order
    x = torch.randn(2, 7, 4, dtype=torch.float64)
    inside, gate = one.in_proj(x).chunk(2, dim=-1)
    there, back = one._mix(inside)[0], one._mix(inside.flip(1))[0].flip(1)
    wanted = one.out_proj((there + back) * gate * torch.sigmoid(gate))
    assert torch.allclose(both(x), wanted)


def test_steps_start_between_a_thousandth_and_a_tenth():
    torch.manual_seed(0)
    step = softplus(MambaBlock(400).dt_proj.bias.detach())
    assert 1e-3 * 0.99 < float(step.min()) < 1.2e-3
    assert 0.097 < float(step.max()) < 0.1001
    assert float(step.log().mean()) == pytest.approx(np.log(1e-2), abs=0.1)


def test_it_is_the_reference_implementation():
    """Weights, input and output of transformers' MambaMixer (slow path), d_model 8, d_state 4."""
    stored = np.load(__file__.replace("test_mamba.py", "data/mamba_mixer.npz"))
    block = MambaBlock(8, d_state=4).double()
    block.load_state_dict(
        {name[2:]: torch.from_numpy(stored[name]).double() for name in stored if name.startswith("w_")}
    )
    y = block(torch.from_numpy(stored["x"]).double())
    assert torch.allclose(y, torch.from_numpy(stored["y"]).double(), atol=1e-6)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_of_no_tokens_there_is_nothing(bidirectional):
    block = MambaBlock(6, bidirectional=bidirectional)
    x = torch.randn(3, 0, 6, requires_grad=True)
    y = block(x)
    assert y.shape == (3, 0, 6)
    y.sum().backward()
    a, b = -torch.rand(4, 5), torch.randn(3, 0, 5)
    h = torch.randn(3, 4, 5)
    empty = torch.zeros(3, 0, 4)
    found, last = selective_scan(empty, empty, a, b, b, initial=h)
    assert found.shape == (3, 0, 4)
    assert torch.equal(last, h)

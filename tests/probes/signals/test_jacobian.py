"""The Jacobian probe against matrices whose singular values are known."""

import pytest
import torch
from torch import nn

from neurarium.models import CausalTransformer, DeepMlp
from neurarium.probes import jacobian_spectrum


def linear_net(*shape):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(*shape), nn.Linear(shape[1], shape[1])).double()
    return net, net[1].weight @ net[0].weight


@pytest.mark.parametrize("shape", [(7, 5), (5, 9)])
@pytest.mark.parametrize("rows", [3, 4096])
def test_spectrum_of_a_linear_net_is_that_of_its_matrix(shape, rows):
    net, matrix = linear_net(*shape)
    result = jacobian_spectrum(net, torch.randn(3, shape[0], dtype=torch.float64), rows=rows)
    exact = torch.linalg.svdvals(matrix.detach())
    torch.testing.assert_close(result.singular_values, exact.expand(3, -1))
    assert result.mean_squared == pytest.approx(float(exact.square().mean()))
    assert result.condition == pytest.approx(float(exact[0] / exact[-1]))


def test_agrees_with_autograd_on_a_nonlinear_net_and_with_its_own_lanczos():
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(12, 30), nn.Tanh(), nn.Linear(30, 10), nn.ReLU()).double()
    x = torch.randn(2, 12, dtype=torch.float64)
    full = jacobian_spectrum(net, x)
    for example, values in zip(x, full.singular_values):
        jacobian = torch.autograd.functional.jacobian(net, example)
        torch.testing.assert_close(values, torch.linalg.svdvals(jacobian))
    top = jacobian_spectrum(net, x, largest=4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(top.singular_values, full.singular_values[:, :4], rtol=1e-8, atol=1e-10)
    assert top.mean_squared == pytest.approx(full.mean_squared, rel=0.8)
    assert top.condition != top.condition


def test_lanczos_goes_through_attention():
    torch.manual_seed(2)
    model = CausalTransformer(11, 8, 2, 2, 16, context=5, block="pre-norm").double()

    class Layers(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, x):
            return self.model.transform(x)

    x = model.embed(torch.randint(11, (2, 5))).detach()
    full = jacobian_spectrum(Layers(), x)
    assert full.singular_values.shape == (2, 40)
    top = jacobian_spectrum(Layers(), x, largest=3)
    torch.testing.assert_close(top.singular_values, full.singular_values[:, :3], rtol=1e-7, atol=0)


def test_rezero_starts_with_all_ones_and_residual_networks_grow():
    torch.manual_seed(3)
    x = torch.randn(2, 16)
    ones = jacobian_spectrum(DeepMlp(4, 4, 16, 200, "rezero").blocks, x)
    assert (ones.singular_values - 1).abs().max() < 1e-6
    squares = [jacobian_spectrum(DeepMlp(4, 4, 16, d, "residual").blocks, x).mean_squared for d in (2, 6, 10)]
    assert squares[0] < squares[1] < squares[2]


def test_the_model_is_left_as_it_was():
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    net[1].eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    jacobian_spectrum(net, torch.randn(3, 4))
    assert [m.training for m in net] == [True, False, True]
    assert all(p.grad is None for p in net.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_summary_and_plot():
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    net, _ = linear_net(4, 4)
    result = jacobian_spectrum(net, torch.randn(2, 4, dtype=torch.float64))
    assert "4 singular values at 2 examples" in result.summary()
    ax = Figure().add_subplot()
    assert result.plot(ax) is ax
    assert ax.patches


def test_bad_input_is_named():
    net, _ = linear_net(4, 4)
    with pytest.raises(TypeError, match="floating point"):
        jacobian_spectrum(net, torch.zeros(2, 4, dtype=torch.long))
    with pytest.raises(ValueError, match="at least one example"):
        jacobian_spectrum(net, torch.zeros(0, 4))
    with pytest.raises(ValueError, match="largest must be between 1 and 3"):
        jacobian_spectrum(net, torch.zeros(1, 4, dtype=torch.float64), largest=4)

"""The networks that ReZero is compared on: equal weights per seed, the blocks' formulas, the toy's closed forms."""

import pytest
import torch
from torch.nn.functional import layer_norm, linear, relu

from neurarium.layers import alphas
from neurarium.models import CausalTransformer, DeepMlp, OneNeuronNet

MLP_BLOCKS = ["plain", "residual", "post-norm", "pre-norm", "highway", "rezero"]


def mlp(block, **changes):
    torch.manual_seed(0)
    return DeepMlp(6, 3, width=8, depth=4, block=block, **changes)


@pytest.mark.parametrize("block", MLP_BLOCKS)
def test_blocks_share_their_weights_and_compute_their_formula(block):
    model, plain = mlp(block), mlp("plain")
    x = torch.randn(5, 6)
    h = plain.inlet(x)
    for number, reference in enumerate(plain.blocks):
        weight, bias = reference[0].weight, reference[0].bias

        def f(h, weight=weight, bias=bias):
            return relu(linear(h, weight, bias))

        match block:
            case "plain":
                h = f(h)
            case "residual":
                h = h + f(h)
            case "post-norm":
                h = layer_norm(h + f(h), (8,))
            case "pre-norm":
                h = h + f(layer_norm(h, (8,)))
            case "highway":
                t = torch.sigmoid(model.blocks[number].gate(h))
                h = t * f(h) + (1 - t) * h
            case "rezero":
                h = h + 0.0 * f(h)
    if block == "pre-norm":
        h = layer_norm(h, (8,))
    torch.testing.assert_close(model(x), plain.outlet(h))


def test_checkpointing_changes_memory_not_gradients():
    whole, segments = mlp("rezero"), mlp("rezero", checkpoint_segments=2)
    for model in (whole, segments):
        for alpha in alphas(model).values():
            alpha.data.fill_(0.5)
    x = torch.randn(5, 6)
    kept = []
    for model in (whole, segments):
        count = 0

        def pack(t):
            nonlocal count
            count += t.numel()
            return t

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            loss = model(x).square().sum()
        kept.append(count)
        loss.backward()
    for p, q in zip(whole.parameters(), segments.parameters()):
        torch.testing.assert_close(p.grad, q.grad)
    assert kept[1] < kept[0]


def test_ten_thousand_layers_are_the_identity_at_the_start():
    model = DeepMlp(4, 4, width=4, depth=10_000)
    x = torch.randn(2, 4)
    assert torch.equal(model.blocks(x), x)


def test_bad_sizes_are_named():
    with pytest.raises(ValueError, match="block must be one of plain, residual"):
        DeepMlp(4, 4, block="dense")
    with pytest.raises(ValueError, match="checkpoint_segments"):
        DeepMlp(4, 4, depth=2, checkpoint_segments=3)
    with pytest.raises(ValueError, match="at least 1"):
        DeepMlp(4, 4, depth=0)


@pytest.mark.parametrize("depth", [5, 50])
@pytest.mark.parametrize(("alpha", "weight"), [(0.0, 0.8), (1.0, 1.0), (0.1, -0.7)])
def test_one_neuron_gradients_match_the_closed_form(depth, alpha, weight):
    net = OneNeuronNet(depth, alpha, weight).double()
    x = torch.tensor([0.9], dtype=torch.float64)
    (0.5 * (net(x) - 2.0).pow(2)).sum().backward()
    expected = net.gradients(float(x), 2.0)
    torch.testing.assert_close(net.alpha.grad, torch.tensor([expected[0]], dtype=torch.float64), rtol=1e-9, atol=0)
    torch.testing.assert_close(net.weight.grad, torch.tensor([expected[1]], dtype=torch.float64), rtol=1e-9, atol=0)


def test_one_neuron_gradient_grows_as_the_paper_says():
    for depth in (5, 50):
        slope = OneNeuronNet(depth, 1.0, 1.0).gradients(1.0, 0.0)[1]
        assert slope == pytest.approx(depth * 2.0 ** (2 * depth - 1))


@pytest.mark.parametrize("depth", [5, 50])
@pytest.mark.parametrize(("factor", "converges"), [(0.95, True), (1.05, False)])
def test_descent_from_alpha_zero_is_stable_up_to_the_threshold(depth, factor, converges):
    net = OneNeuronNet(depth, 0.0, 1.5).double()
    lr = factor * net.largest_stable_lr(0.8)
    target, x = 0.8 + 1e-7, torch.tensor([0.8], dtype=torch.float64)
    errors = []
    for _ in range(40):
        net.zero_grad()
        error = net(x) - target
        (0.5 * error.pow(2)).sum().backward()
        errors.append(abs(float(error.detach())))
        with torch.no_grad():
            net.alpha -= lr * net.alpha.grad
            net.weight -= lr * net.weight.grad
    assert (errors[-1] < 0.1 * errors[0]) is converges
    assert (errors[-1] > errors[0]) is not converges


@pytest.mark.parametrize("block", ["post-norm", "pre-norm", "rezero", "gpt2"])
def test_wirings_share_their_weights_and_do_not_look_ahead(block):
    def build(wiring):
        torch.manual_seed(0)
        return CausalTransformer(11, 8, 2, 3, 16, context=6, block=wiring)

    model, reference = build(block), build("rezero")
    for name, weight in reference.named_parameters():
        if not name.endswith("alpha"):
            same = dict(model.named_parameters())[name]
            scaled = block == "gpt2" and name.endswith(("out_proj.weight", "linear2.weight"))
            torch.testing.assert_close(same, weight / 6**0.5 if scaled else weight)
    for alpha in alphas(model).values():
        alpha.data.fill_(0.5)
    tokens = torch.randint(11, (2, 6))
    changed = tokens.clone()
    changed[:, 4:] = (changed[:, 4:] + 1) % 11
    for train in (True, False):
        model.train(train)
        with torch.set_grad_enabled(train):
            a, b = model(tokens), model(changed)
        torch.testing.assert_close(a[:, :4], b[:, :4])
        assert not torch.allclose(a[:, 4:], b[:, 4:])


def test_generation_continues_within_the_context_and_too_long_is_refused():
    model = CausalTransformer(11, 8, 2, 1, 16, context=6)
    start = torch.randint(11, (2, 3))
    longer = model.generate(start, 8, generator=torch.Generator().manual_seed(0))
    assert longer.shape == (2, 11)
    assert torch.equal(longer[:, :3], start)
    with pytest.raises(ValueError, match="block must be one of post-norm"):
        CausalTransformer(11, block="sandwich")
    with pytest.raises(ValueError, match="the context is 6"):
        model(longer)

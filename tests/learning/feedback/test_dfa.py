"""Direct feedback alignment against hand computation, limiting cases and backpropagation."""

import functools
import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.learning import Backprop, DirectFeedbackAlignment, FeedbackAlignment, Shallow
from neurarium.probes import alignment
from neurarium.training import peak_bytes


def mlp(*sizes, dtype=torch.float64):
    layers = []
    for a, b in itertools.pairwise(sizes):
        layers += [nn.Linear(a, b, dtype=dtype), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def batch(n=16, inputs=5, classes=3, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, inputs, generator=generator, dtype=dtype), torch.arange(n) % classes


def gradients(rule, x, y):
    rule.zero_grad(set_to_none=True)
    rule.assign_credit(x, y)
    return {name: p.grad.clone() for name, p in rule.model.named_parameters() if p.grad is not None}


def test_hand_computed_gradients_of_a_network_with_two_hidden_layers():
    """The paper's code again, in NumPy: slices of one matrix, divided by the root of the widest block."""
    model = mlp(5, 8, 6, 3)
    rule = DirectFeedbackAlignment(model, cross_entropy)
    x, y = batch()
    found = gradients(rule, x, y)
    w1, b1, w2, b2, w3, b3 = (p.detach().numpy() for p in model.parameters())
    z1 = x.numpy() @ w1.T + b1
    z2 = np.maximum(z1, 0) @ w2.T + b2
    logits = np.maximum(z2, 0) @ w3.T + b3
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    error = (p - np.eye(3)[y.numpy()]) / 16
    matrix = rule.feedback_matrix.numpy()
    first = error @ matrix[:, :8] / np.sqrt(8) * (z1 > 0)
    second = error @ matrix[:, :6] / np.sqrt(8) * (z2 > 0)
    assert np.abs(first).max() > 1e-3
    assert np.abs(second).max() > 1e-3
    for name, delta, below in (
        ("0", first, x.numpy()), ("2", second, np.maximum(z1, 0)), ("4", error, np.maximum(z2, 0))
    ):  # fmt: skip
        assert np.allclose(found[f"{name}.weight"].numpy(), delta.T @ below, rtol=1e-12, atol=1e-14)
        assert np.allclose(found[f"{name}.bias"].numpy(), delta.sum(0), rtol=1e-12, atol=1e-14)


def test_feedback_equal_to_the_forward_weights_is_backpropagation():
    model = mlp(5, 8, 3)
    x, y = batch()
    rule = DirectFeedbackAlignment(model, cross_entropy, normalize=False)
    rule.assign_credit(x, y)
    rule.feedback_matrix = model[2].weight.detach().clone()
    found = gradients(rule, x, y)
    true = gradients(Backprop(model, cross_entropy), x, y)
    assert all(torch.allclose(found[name], true[name], atol=1e-12) for name in true)


def test_zero_feedback_is_shallow_and_the_top_block_has_the_true_gradient():
    model = mlp(5, 8, 8, 3)
    x, y = batch()
    rule = DirectFeedbackAlignment(model, cross_entropy)
    rule.assign_credit(x, y)
    full = gradients(rule, x, y)
    rule.feedback_matrix.zero_()
    silent, shallow = gradients(rule, x, y), gradients(Shallow(model, cross_entropy), x, y)
    true = gradients(Backprop(model, cross_entropy), x, y)
    assert all(torch.equal(silent[name], shallow[name]) for name in shallow)
    assert float(shallow["0.weight"].abs().max()) == 0
    assert torch.allclose(full["4.weight"], true["4.weight"], atol=1e-14)
    assert float(full["0.weight"].abs().max()) > 0


def test_blocks_share_the_first_columns_or_have_their_own():
    x, y = batch()
    for feedback, columns in (("shared", 8), ("independent", 14)):
        rule = DirectFeedbackAlignment(mlp(5, 8, 6, 3), cross_entropy, feedback=feedback)
        told = rule.signals(x, y)
        assert rule.feedback_matrix.shape == (3, columns)
        first, second = told["1"], told["3"]
        assert torch.allclose(first[:, :6], second) is (feedback == "shared")
    assert float(rule.feedback_matrix.abs().max()) <= 1
    normal = DirectFeedbackAlignment(mlp(5, 500, 3), cross_entropy, distribution="gaussian")
    normal.signals(x, y)
    assert float(normal.feedback_matrix.std()) == pytest.approx(1, rel=0.1)


def test_linear_in_the_loss_and_unchanged_by_a_doubled_batch():
    model = mlp(5, 8, 8, 3)
    x, y = batch()
    rule = DirectFeedbackAlignment(model, cross_entropy)
    one = gradients(rule, x, y)
    twice = gradients(rule, torch.cat([x, x]), torch.cat([y, y]))
    rule.loss = lambda output, target: 3 * cross_entropy(output, target)
    scaled = gradients(rule, x, y)
    assert all(torch.allclose(twice[name], one[name], atol=1e-13) for name in one)
    assert all(torch.allclose(scaled[name], 3 * one[name], atol=1e-13) for name in one)


def test_no_gradient_leaves_a_block_downwards():
    """The first block's gradient does not depend on the second block's weights, given the output error."""
    model = mlp(5, 8, 8, 3)
    x, _ = batch()
    rule = DirectFeedbackAlignment(model, lambda output, target: (output * target).sum())
    target = torch.randn(16, 3, dtype=torch.float64)  # a loss linear in the output: the error is the target itself
    before = gradients(rule, x, target)
    with torch.no_grad():
        model[2].weight.mul_(-3)
        model[4].weight.add_(1)
    after = gradients(rule, x, target)
    assert torch.equal(before["0.weight"], after["0.weight"])
    assert not torch.equal(before["4.weight"], after["4.weight"])


def test_tokens_each_get_their_own_error_and_pooled_outputs_are_repeated():
    class Tokens(nn.Module):
        def __init__(self, pooled):
            super().__init__()
            self.pooled = pooled
            self.body = nn.Sequential(nn.Linear(5, 8), nn.ReLU())
            self.head = nn.Linear(8, 3)

        def forward(self, x):
            h = self.body(x)
            return self.head(h.mean(1) if self.pooled else h)

    x = torch.randn(4, 6, 5)
    rule = DirectFeedbackAlignment(
        Tokens(False), lambda o, y: cross_entropy(o.flatten(0, 1), y.flatten()), blocks=["body"], batch_dims=(0, 1)
    )
    told = rule.signals(x, torch.randint(3, (4, 6)))["body"]
    assert told.shape == (4, 6, 8)
    assert rule.feedback_matrix.shape == (3, 8)
    changed = x.clone()
    changed[0, 0] += 1
    y = torch.zeros(4, 6, dtype=torch.long)
    moved = (rule.signals(changed, y)["body"] - rule.signals(x, y)["body"]).abs().sum(-1) > 1e-9
    assert moved.nonzero().tolist() == [[0, 0]]
    pooled = DirectFeedbackAlignment(Tokens(True), cross_entropy, blocks=["body"], batch_dims=(0, 1))
    y = torch.tensor([0, 1, 2, 0])
    told = pooled.signals(x, y)["body"]
    error = (pooled.model(x).softmax(1) - torch.eye(3)[y]) / 4
    each = error.detach() @ pooled.feedback_matrix / math.sqrt(8) / math.sqrt(6)
    torch.testing.assert_close(told, each[:, None].expand(4, 6, 8))


class Dense(nn.Module):
    """Every block is given all that came before it, side by side."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(5, 8), nn.Linear(8, 8), nn.Linear(16, 8), nn.Linear(24, 3)])

    def forward(self, x):
        seen = []
        for block in self.blocks:
            x = block(torch.cat(seen, 1) if seen else x)
            seen.append(x)
        return x


def test_blocks_with_many_inputs_get_detached_ones():
    """The upper blocks' weights do not reach a lower block's gradient, though its output goes to all of them."""
    x, _ = batch(dtype=torch.float32)
    model = Dense()
    rule = DirectFeedbackAlignment(model, lambda output, target: (output * target).sum())
    target = torch.randn(16, 3)
    before = gradients(rule, x, target)
    with torch.no_grad():
        for block in model.blocks[1:]:
            block.weight.mul_(-2)
    after = gradients(rule, x, target)
    assert torch.equal(before["blocks.0.weight"], after["blocks.0.weight"])
    assert float(before["blocks.0.weight"].abs().max()) > 0


def test_neither_the_order_of_the_blocks_nor_threads_change_the_gradients():
    model = mlp(5, 8, 8, 3)
    x, y = batch()
    rule = DirectFeedbackAlignment(model, cross_entropy, blocks=["1", "3"])
    one = gradients(rule, x, y)
    other = DirectFeedbackAlignment(model, cross_entropy, blocks=["3", "1"])
    other.feedback_matrix = rule.feedback_matrix
    torch.set_num_threads(2)
    two = gradients(other, x, y)
    torch.set_num_threads(1)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_step_needs_no_more_memory_than_backpropagation():
    x, y = torch.randn(128, 784), torch.randint(10, (128,))
    for sizes in ((784, 256, 256, 10), (784, *[256] * 8, 10)):
        peaks = []
        for kind in (Backprop, DirectFeedbackAlignment):
            rule = kind(mlp(*sizes, dtype=torch.float32), cross_entropy)
            rule.assign_credit(x, y)
            peaks.append(peak_bytes(functools.partial(rule.assign_credit, x, y)))
        assert peaks[1] < 1.02 * peaks[0]


def test_a_frozen_block_stays_and_those_below_it_learn():
    model = mlp(5, 8, 8, 3)
    model[2].requires_grad_(False)
    x, y = batch()
    found = gradients(DirectFeedbackAlignment(model, cross_entropy), x, y)
    assert set(found) == {"0.weight", "0.bias", "4.weight", "4.bias"}


def test_error_at_a_hidden_state_leaves_the_true_gradient_above():
    model = mlp(5, 8, 8, 3)
    x, y = batch()
    rule = DirectFeedbackAlignment(model, cross_entropy, blocks=["1"], error_at="3")
    found = gradients(rule, x, y)
    true = gradients(Backprop(model, cross_entropy), x, y)
    assert torch.allclose(found["4.weight"], true["4.weight"])
    assert torch.allclose(found["2.weight"], true["2.weight"])  # its own block's backward pass of the true error
    assert rule.feedback_matrix.shape == (8, 8)
    assert not torch.allclose(found["0.weight"], true["0.weight"])


def test_mixed_precision_and_accumulation():
    model = mlp(5, 8, 3, dtype=torch.float32)
    x, y = batch(dtype=torch.float32)
    rule = DirectFeedbackAlignment(model, cross_entropy)
    one = gradients(rule, x, y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = gradients(rule, x, y)
    assert torch.cosine_similarity(low["0.weight"].flatten(), one["0.weight"].flatten(), dim=0) > 0.95
    assert low["0.weight"].dtype == torch.float32
    halves = DirectFeedbackAlignment(model, cross_entropy)
    halves.load_state_dict(rule.state_dict())
    halves.zero_grad()
    for part in (slice(0, 8), slice(8, 16)):
        halves.assign_credit(x[part], y[part])
    assert torch.allclose(model[0].weight.grad / 2, one["0.weight"], atol=1e-6)


class Skip(nn.Module):
    """A skip connection around the middle block."""

    def __init__(self, detach):
        super().__init__()
        self.detach = detach
        self.stem = nn.Linear(5, 8)
        self.blocks = nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 8)])
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        h = first = torch.relu(self.stem(x))
        for block in self.blocks:
            h = torch.relu(block(h))
        return self.head(h + (first.detach() if self.detach else first))


def test_a_bypassed_cut_is_refused_by_name_and_a_detached_skip_is_not():
    x, y = batch(dtype=torch.float32)
    with pytest.raises(ValueError, match=r"'stem\.(weight|bias)' is used on both sides of a cut"):
        DirectFeedbackAlignment(Skip(False), cross_entropy).assign_credit(x, y)
    DirectFeedbackAlignment(Skip(True), cross_entropy).assign_credit(x, y)


@pytest.mark.untyped
def test_what_cannot_be_cut_is_refused():
    x, y = batch(dtype=torch.float32)
    with pytest.raises(ValueError, match="no block below the place of the error"):
        DirectFeedbackAlignment(nn.Linear(5, 3), cross_entropy).assign_credit(x, y)
    with pytest.raises(ValueError, match="no module named 'nobody'"):
        DirectFeedbackAlignment(mlp(5, 8, 3), cross_entropy, blocks=["nobody"])
    with pytest.raises(ValueError, match="error_at"):
        DirectFeedbackAlignment(mlp(5, 8, 3), cross_entropy, error_at="nobody")
    with pytest.raises(ValueError, match="feedback must be one of"):
        DirectFeedbackAlignment(mlp(5, 8, 3), cross_entropy, feedback="sparse")
    with pytest.raises(ValueError, match="batch_dims must be different"):
        DirectFeedbackAlignment(mlp(5, 8, 3), cross_entropy, batch_dims=(0, 0))
    tied = DirectFeedbackAlignment(
        mlp(5, 8, 3, dtype=torch.float32), lambda o, y: cross_entropy((o - o.mean(0)) / o.std(0), y)
    )
    with pytest.raises(ValueError, match="ties examples together"):
        tied.assign_credit(x, y)
    unrolled = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 12), nn.Unflatten(1, (4, 3)))
    many = DirectFeedbackAlignment(
        unrolled, lambda o, y: cross_entropy(o.flatten(0, 1), y.repeat_interleave(4)), blocks=["1"], batch_dims=(0, 1)
    )
    with pytest.raises(ValueError, match="16 positions for 64 errors"):
        many.assign_credit(x, y)
    assert all(p.grad is None for p in unrolled[0].parameters())


def test_alignment_is_one_for_backpropagations_own_feedback_and_disturbs_nothing():
    model = mlp(5, 8, 3)
    x, y = batch()
    rule = DirectFeedbackAlignment(model, cross_entropy, normalize=False)
    rule.assign_credit(x, y)
    kept = {name: p.grad.clone() for name, p in model.named_parameters()}
    rule.feedback_matrix = model[2].weight.detach().clone()
    found = alignment(rule, x, y)
    assert found.blocks == ("1",)
    assert found.mean[0] == pytest.approx(1.0)
    rule.feedback_matrix.neg_()
    assert alignment(rule, x, y).mean[0] == pytest.approx(-1.0)
    assert all(torch.equal(kept[name], p.grad) for name, p in model.named_parameters())
    assert "cosine" in found.summary()


def test_alignment_leaves_batch_statistics_and_the_random_state_alone():
    model = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 3))
    x, y = batch(dtype=torch.float32)
    rule = DirectFeedbackAlignment(model, cross_entropy)
    rule.assign_credit(x, y)
    kept, random = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    rule.feedback_matrix = model[4].weight.detach() * math.sqrt(8)
    assert alignment(rule, x, y).mean[1] == pytest.approx(1.0)  # only if both passes see one dropout mask
    assert all(torch.equal(kept[k], v) for k, v in model.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())


def test_feedback_alignment_is_backpropagation_when_its_feedback_is_the_weights():
    model = nn.Sequential(nn.Conv1d(1, 4, 3), nn.ReLU(), nn.Flatten(), mlp(12, 8, 3)).double()
    x, y = batch()
    x = x[:, None, :]
    rule = FeedbackAlignment(model, cross_entropy)
    true = gradients(Backprop(model, cross_entropy), x, y)
    random = gradients(rule, x, y)
    assert torch.allclose(random["3.2.weight"], true["3.2.weight"])
    assert not torch.allclose(random["0.weight"], true["0.weight"])
    for name, layer in rule.layers.items():
        rule.get_buffer("feedback_" + name.replace(".", "|")).copy_(layer.weight.detach())
    aligned = gradients(rule, x, y)
    assert all(torch.allclose(aligned[name], true[name], atol=1e-12) for name in true)
    with pytest.raises(ValueError, match="no linear or convolutional layer"):
        FeedbackAlignment(nn.LayerNorm(3), cross_entropy)

"""The ensemble of experts: what a batch may change, what it computes, and what its parts reduce to."""

import copy
import warnings

import pytest
import torch
from torch.nn import functional as F

from neurarium.continual import DifferentiableEnsemble
from neurarium.layers import soft_topk
from neurarium.learning import SignDescent, sign_descent_


def features(count=30, size=12, seed=0):
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed))


def ensemble(**options):
    settings = {"num_experts": 8, "k": 3, "lr": 0.01, "generator": torch.Generator().manual_seed(5)} | options
    learner = DifferentiableEnsemble(**settings)
    learner.observe(features(), torch.arange(30) % 3)
    return learner


def test_a_step_on_one_class_leaves_the_others_bit_for_bit():
    learner = ensemble()
    weight, bias = learner.weight.clone(), learner.bias.clone()
    learner.observe(features(seed=1), torch.full((30,), 1))
    assert torch.equal(learner.weight[:, [0, 2]], weight[:, [0, 2]])
    assert torch.equal(learner.bias[:, [0, 2]], bias[:, [0, 2]])
    assert not torch.equal(learner.weight[:, 1], weight[:, 1])


def test_experts_that_nobody_chose_do_not_move():
    learner = ensemble()
    z = features(4, seed=2)[:1].repeat(4, 1)
    idle = learner.routing(z)[0] == 0
    assert 0 < int(idle.sum()) < 8
    before = learner.weight.clone()
    learner.observe(z, torch.zeros(4, dtype=torch.long))
    assert torch.equal(learner.weight[idle], before[idle])
    assert not torch.equal(learner.weight[~idle], before[~idle])


def test_a_new_class_changes_no_score_of_the_old_ones():
    learner = ensemble(key_lr=0.0)
    x = features(seed=3)
    before = learner.predict(x)
    learner.observe(features(10, seed=4), torch.full((10,), 3))
    after = learner.predict(x)
    assert torch.equal(after[:, :3], before)
    assert after.shape[1] == 4


def test_gradients_are_those_of_the_papers_loss():
    learner = ensemble(lr=1e-6, weight_decay=0.0, key_lr=1e-3)
    x, y = features(seed=6), torch.arange(30) % 3
    weight, keys = learner.weight.clone().requires_grad_(), learner.keys.clone().requires_grad_()
    cosine = F.normalize(x, dim=1) @ keys.T
    a = soft_topk(1 - cosine, 3)
    a = a * (a >= 0.3)
    s = cosine.detach()
    scores = 250 * torch.tanh((torch.einsum("bd,ncd->bnc", x, weight) + learner.bias) / 250)
    vote = (scores * (a * s * a / (s * a).sum(1, True))[..., None]).sum(1)
    loss = -vote[range(30), y].mean() + ((1 - cosine) * a).sum(1).mean()
    loss.backward()
    old_weight, old_keys = learner.weight.clone(), learner.keys.clone()
    mean = learner.moments[0].clone()
    learner.observe(x, y)
    clear = weight.grad.abs() > 1e-7
    assert torch.equal((old_weight - learner.weight).sign()[clear], weight.grad.sign()[clear])
    found = (learner.moments[0] - 0.9 * mean) / 0.1
    assert torch.allclose(found, keys.grad, rtol=1e-3, atol=1e-4 * float(keys.grad.abs().max()))
    assert not torch.equal(old_keys, learner.keys)


def test_keys_are_stepped_as_torchs_adam_does():
    learner = ensemble(key_lr=1e-2, cutoff=0.0, eps=0.1)
    keys = torch.nn.Parameter(learner.keys.clone())
    fresh = ensemble(key_lr=1e-2, cutoff=0.0, eps=0.1)
    fresh.keys, fresh.moments, fresh.key_steps = (
        keys.detach().clone(),
        torch.zeros_like(fresh.moments),
        0 * fresh.key_steps,
    )
    adam = torch.optim.Adam([keys], 1e-2)
    for seed in range(4):  # batches of three classes count as one step each
        before = fresh.moments[0].clone()
        fresh.observe(features(seed=seed), torch.arange(30) % 3)
        keys.grad = (fresh.moments[0] - 0.9 * before) / 0.1
        adam.step()
        assert torch.allclose(fresh.keys, keys, atol=1e-5)


def test_first_weights_and_biases_are_of_the_size_of_a_linear_layers():
    learner = DifferentiableEnsemble(num_experts=400, k=3, lr=1e-9, generator=torch.Generator().manual_seed(0))
    learner.observe(features(2, 50), torch.tensor([0, 1]))
    w, b = learner.weight * 50**0.5, learner.bias * 50**0.5
    assert 1.9 < float(w.abs().max()) <= 2 + 1e-5
    assert float(w.std()) == pytest.approx(0.8796, abs=0.01)  # of a normal cut at two deviations
    assert float((w.abs() > 1.99).double().mean()) < 0.005  # cut, not clamped
    assert 0.95 < float(b.abs().max()) <= 1 + 1e-5
    assert float(b.std()) == pytest.approx(3**-0.5, abs=0.02)


def test_an_encoder_that_was_to_train_is_frozen_with_a_warning():
    net = torch.nn.Linear(12, 6)
    with pytest.warns(UserWarning, match="frozen from here on"):
        DifferentiableEnsemble(net, num_experts=8, k=3)
    assert not net.weight.requires_grad
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        DifferentiableEnsemble(torch.nn.Linear(12, 6).eval(), num_experts=8, k=3)
        DifferentiableEnsemble(num_experts=8, k=3)


def test_hard_gate_is_the_soft_one_at_zero_entropy():
    soft, hard = ensemble(eps=1e-9, key_lr=0.0), ensemble(gate="hard")
    assert torch.equal(soft.keys, hard.keys)
    x = features(seed=7)
    assert torch.allclose(soft.routing(x), hard.routing(x), atol=1e-4)
    assert torch.allclose(soft.predict(x), hard.predict(x), rtol=1e-3, atol=1e-4)


def test_equal_keys_are_an_average_of_all_experts():
    learner, plain = ensemble(k=7.999, key_lr=0.0, cutoff=0.0), ensemble(gate="all")
    for each in (learner, plain):
        each.keys = torch.ones_like(each.keys) / 12**0.5
    plain.weight, plain.bias = learner.weight.clone(), learner.bias.clone()
    x = features(seed=8).abs()
    assert torch.allclose(learner.predict(x), plain.predict(x) * 7.999 / 8, rtol=1e-3, atol=1e-4)


def test_sign_descent_steps_by_the_sign_and_leaves_zero_gradients_alone():
    w = torch.nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))
    w.grad = torch.tensor([0.5, -1e-9, 0.0])
    SignDescent([w], lr=0.1, weight_decay=0.5).step()
    assert w.tolist() == pytest.approx([1 - 0.1 * 1.5, -2 + 0.1 * 2, 3.0])
    assert torch.equal(sign_descent_(torch.ones(2), torch.zeros(2), 0.1, 0.5), torch.ones(2))


def test_a_checkpoint_continues_bit_for_bit():
    learner = ensemble()
    other = DifferentiableEnsemble(num_experts=8, k=3, lr=0.01)
    other.load_state_dict(copy.deepcopy(learner.state_dict()))
    for each in (learner, other):
        each.observe(features(seed=9), torch.arange(30) % 3)
    assert torch.equal(learner.weight, other.weight)
    assert torch.equal(learner.keys, other.keys)


def test_it_learns_classes_one_after_another_in_one_pass():
    centres = 3 * F.normalize(features(6, 40, seed=10), dim=1)
    draws = torch.Generator().manual_seed(0)
    learner = DifferentiableEnsemble(num_experts=32, k=4, balance=0.1, generator=draws)
    noise = lambda n: 0.3 * torch.randn(n, 40, generator=draws)  # noqa: E731
    for c in range(6):
        for _ in range(10):
            learner.observe(centres[c] + noise(10), torch.full((10,), c))
    right = [float((learner.predict(centres[c] + noise(50)).argmax(1) == c).double().mean()) for c in range(6)]
    assert min(right) > 0.9
    assert torch.equal(learner.batches, torch.full((6,), 10))
    assert torch.allclose(learner.usage().sum(1), torch.ones(6))
    assert 1 < learner.experts_used() <= 32


def test_centred_cosines_are_those_of_features_less_their_running_mean():
    learner = ensemble(center=True, key_lr=0.0)
    learner.observe(features(10, seed=1) + 5, torch.zeros(10))
    seen = torch.cat([features(), features(10, seed=1) + 5])
    torch.testing.assert_close(learner.mean, seen.mean(0))
    x = features(seed=2)
    distance = 1 - F.normalize(x - learner.mean, dim=1) @ learner.keys.T
    wanted = soft_topk(distance, 3)
    torch.testing.assert_close(learner.routing(x), wanted * (wanted >= 0.3))


def test_balanced_steps_shrink_with_the_batches_of_a_class():
    learner = DifferentiableEnsemble(num_experts=2, gate="all", balance=0.3, weight_decay=0.0)
    x = torch.ones(4, 5)
    learner.observe(x, torch.arange(4) % 2)
    before = learner.weight.clone()
    for _ in range(2):
        learner.observe(x[:1], torch.zeros(1))
    moved = learner.weight - before
    torch.testing.assert_close(moved[:, 0], torch.full((2, 5), 0.3 / 2 + 0.3 / 3))
    assert torch.equal(moved[:, 1], torch.zeros(2, 5))


def test_forgetting_a_class_and_confidence():
    learner = ensemble()
    x = features(seed=11)
    best, second = learner.predict(x).sort(1, descending=True).values[:, :2].T
    torch.testing.assert_close(learner.confidence(x), (best - second) / 500)
    assert bool(((learner.confidence(x) >= 0) & (learner.confidence(x) <= 1)).all())
    before = learner.predict(x)
    learner.forget_class(1)
    after = learner.predict(x)
    assert bool((after[:, 1] == -torch.inf).all())
    assert torch.equal(after[:, [0, 2]], before[:, [0, 2]])
    with pytest.raises(ValueError, match="class 1 was never observed"):
        learner.forget_class(1)


def test_misuse_is_explained():
    for options in ({"k": 8}, {"gate": "top"}, {"gate": "hard", "k": 2.5}, {"tau": 0.0}):
        with pytest.raises(ValueError, match=r"must be|whole number"):
            ensemble(**options)
    learner = DifferentiableEnsemble(num_classes=2)
    with pytest.raises(ValueError, match=r"below num_classes \(2\), not 4"):
        learner.observe(features(2), torch.tensor([0, 4]))
    with pytest.raises(ValueError, match="no class has been observed"):
        learner.predict(features(2))
    with pytest.raises(ValueError, match="not finite, the first at index 1"):
        learner.observe(torch.tensor([[0.0, 1.0], [torch.nan, 1.0]]), torch.zeros(2))
    learner.observe(features(4), torch.zeros(4))
    with pytest.raises(ValueError, match="12 values as before, not 5"):
        learner.predict(features(3, 5))


@pytest.mark.parametrize("generator", [None, torch.Generator().manual_seed(3)])
def test_a_class_that_is_new_after_a_checkpoint_starts_as_it_would_have(generator):
    learner = DifferentiableEnsemble(num_experts=8, k=3, lr=0.01, generator=generator)
    learner.observe(features(), torch.arange(30) % 2)
    saved = copy.deepcopy(learner.state_dict())
    other = DifferentiableEnsemble(num_experts=8, k=3, lr=0.01)
    other.load_state_dict(saved)
    for each in (learner, other):
        torch.manual_seed(int(torch.randint(1000, ())))
        each.observe(features(seed=1), torch.arange(30, dtype=torch.int32) % 4)
        each.forget_class(1)
        each.observe(features(seed=2), torch.full((30,), 1))
    assert torch.equal(learner.weight, other.weight)


def test_a_checkpoint_of_other_settings_is_refused():
    learner = ensemble()
    with pytest.raises(ValueError, match=r"k=3, lr=0.01"):
        DifferentiableEnsemble(num_experts=8, k=4).load_state_dict(learner.state_dict())

"""Losses, fixed points of the paper's models, and the predictions from counting."""

import math

import pytest
import torch
from torch import Tensor, nn

from neurarium.probes import peakiness
from neurarium.speech import (
    BiasModel,
    FullSumLoss,
    GenerativeFullSumLoss,
    MemoryModel,
    SymbolLikelihood,
    SymbolModel,
    blank_drift,
    ctc_graph,
    edit_distance,
    first_step,
    greedy_labels,
    join_words,
    label_error_rate,
    log_mel,
    log_prior,
    occupation,
    uniform_alignment,
)

ONE = torch.tensor([[1]])


def template(n: int) -> Tensor:
    return torch.tensor([[0] * n + [1] * (2 * n) + [0] * n])


def train(model: nn.Module, loss: nn.Module, x: Tensor, steps: int = 100) -> tuple[float, Tensor]:
    """The loss at the start of the last step and the posteriors after it."""
    model.double()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        total = loss(model(x), ONE, [x.shape[1]], [1])
        total.backward()
        optimizer.step()
    return float(total.detach()), model(x).detach().exp()[:, 0]


def batch(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(seed)
    logits = torch.randn(12, 3, 5, dtype=torch.float64, requires_grad=True)
    return logits, torch.tensor([[1, 1, 2], [3, 4, 0], [2, 0, 0]]), torch.tensor([12, 9, 7]), torch.tensor([3, 2, 1])


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_takes_the_place_of_torch_ctc_loss(reduction):
    logits, targets, lengths, target_lengths = batch()
    log_probs = logits.log_softmax(-1)
    row = torch.cat([t[:n] for t, n in zip(targets, target_lengths)])
    peer = nn.CTCLoss(reduction=reduction)(log_probs, targets, lengths, target_lengths)
    (wanted,) = torch.autograd.grad(peer.sum(), logits, retain_graph=True)
    for given in (targets, row):
        loss = FullSumLoss(reduction=reduction)(log_probs, given, lengths, target_lengths)
        torch.testing.assert_close(loss, peer, rtol=0, atol=1e-10)
        (grad,) = torch.autograd.grad(loss.sum(), logits, retain_graph=True)
        torch.testing.assert_close(grad, wanted, rtol=0, atol=1e-10)
    single = FullSumLoss(reduction="none")(log_probs[:, 0], targets[0], [12], [3])
    torch.testing.assert_close(single, nn.CTCLoss(reduction="none")(log_probs[:, 0], targets[0], (12,), (3,)))


def test_no_prior_scale_is_the_full_sum_bit_for_bit():
    logits, *rest = batch()
    log_probs = logits.log_softmax(-1)
    plain = FullSumLoss(reduction="none")(log_probs, *rest)
    for prior in ("stop", "through"):
        assert torch.equal(FullSumLoss(prior=prior, prior_scale=0.0, reduction="none")(log_probs, *rest), plain)


def test_prior_leaves_padding_out_and_its_gradients_are_as_defined():
    logits, targets, lengths, target_lengths = batch()
    log_probs = logits.log_softmax(-1)
    real = [log_probs[:n, b] for b, n in enumerate(lengths)]
    torch.testing.assert_close(log_prior(log_probs, lengths), torch.cat(real).exp().mean(0).log())

    loss = FullSumLoss(prior="stop", prior_scale=0.7, reduction="sum")(log_probs, targets, lengths, target_lengths)
    (grad,) = torch.autograd.grad(loss, logits)
    scores = log_probs.detach() - 0.7 * log_prior(log_probs.detach(), lengths)
    q = occupation(scores, ctc_graph(targets, target_lengths), lengths)
    inside = (torch.arange(12)[:, None] < lengths)[..., None]
    torch.testing.assert_close(grad, torch.where(inside, log_probs.exp() - q, 0.0).detach())

    through = FullSumLoss(prior="through", reduction="sum")
    assert torch.autograd.gradcheck(lambda z: through(z.log_softmax(-1), targets, lengths, target_lengths), (logits,))


def test_rebalance_and_viterbi_gradients():
    logits, targets, lengths, target_lengths = batch()
    log_probs = logits.log_softmax(-1).detach().requires_grad_()
    graph = ctc_graph(targets, target_lengths)
    q = occupation(log_probs.detach(), graph, lengths)
    loss = FullSumLoss(rebalance=True, reduction="sum")(log_probs, targets, lengths, target_lengths)
    (grad,) = torch.autograd.grad(loss, log_probs)
    torch.testing.assert_close(grad, -q * (1 - q.sum(0) / lengths[:, None]))
    half = FullSumLoss(viterbi=0.5, reduction="none")(log_probs, targets, lengths, target_lengths)
    best = FullSumLoss(viterbi=1.0, reduction="none")(log_probs, targets, lengths, target_lengths)
    full = FullSumLoss(reduction="none")(log_probs, targets, lengths, target_lengths)
    torch.testing.assert_close(half, (best + full) / 2)
    assert bool((best > full).all())
    (grad,) = torch.autograd.grad(best.sum(), log_probs)
    assert set(grad.unique().tolist()) == {-1.0, 0.0}
    assert torch.equal(grad.sum(-1), -(torch.arange(12)[:, None] < lengths).double())


@pytest.mark.parametrize(("frames", "p", "value"), [(5, 0.2827, 0.6199), (20, 0.0528, 0.9218), (100, 0.0101, 0.9849)])
def test_bias_model_stays_at_a_local_optimum_near_one_in_t(frames, p, value):
    loss, posteriors = train(BiasModel(2), FullSumLoss(), torch.zeros(1, frames, dtype=torch.long))
    assert float(posteriors[0, 1]) == pytest.approx(p, abs=6e-5)
    assert loss == pytest.approx(value, abs=6e-5)


@pytest.mark.parametrize(
    ("n", "prior", "on_a", "on_b", "value"),
    [
        (4, None, 0.1180, 0.0262, 0.8528),
        (4, "stop", 0.9913, 0.0086, -10.985),
        (10, None, 0.0303, 0.0212, None),
        (10, "stop", 0.9972, 0.0028, None),
    ],
)
def test_feed_forward_net_on_the_template(n, prior, on_a, on_b, value):
    loss, posteriors = train(SymbolModel(2, 2), FullSumLoss(prior=prior), template(n))
    assert float(posteriors[2 * n, 1]) == pytest.approx(on_a, abs=6e-5)
    assert float(posteriors[0, 1]) == pytest.approx(on_b, abs=6e-5)
    if value is not None:
        assert loss == pytest.approx(value, abs=1e-3)
    decoded = greedy_labels(posteriors.log()[:, None])
    assert label_error_rate(decoded, [[1]]) == (1.0 if prior is None else 0.0)


def test_generative_model_finds_the_classifier():
    _, likelihood = train(SymbolLikelihood(2, 2), GenerativeFullSumLoss(), template(4))
    assert torch.equal(likelihood.argmax(-1), template(4)[0])


def test_memory_model_is_blank_everywhere():
    loss, posteriors = train(MemoryModel(100, 2), FullSumLoss(), torch.zeros(1, 100, dtype=torch.long))
    assert loss == pytest.approx(4.232, abs=1e-3)
    found = peakiness(posteriors.log()[:, None])
    assert found.blank_mass == pytest.approx(0.9410, abs=1e-4)
    assert found.blank_argmax == 1.0
    assert math.isnan(found.frames_per_label)


@pytest.mark.parametrize("frames", [5, 20])
def test_prior_loss_is_blind_to_a_distribution_shared_by_all_frames(frames):
    model = BiasModel(2).double()
    model.bias.data = torch.tensor([0.3, -0.2], dtype=torch.float64)
    x = torch.zeros(1, frames, dtype=torch.long)
    p = float(model.bias.detach().softmax(0)[1])
    for prior, wanted in (("through", 0.0), ("stop", frames * (p - (frames + 2) / (3 * frames)))):
        loss = FullSumLoss(prior=prior)(model(x), ONE, [frames], [1])
        assert float(loss.detach()) == pytest.approx(-math.log(frames * (frames + 1) / 2))
        (grad,) = torch.autograd.grad(loss, model.bias)
        assert float(grad[1]) == pytest.approx(wanted, abs=1e-12)


def test_counting_predicts_the_first_step():
    assert float(uniform_alignment("ctc", [1], 100)[:, 1].mean()) == pytest.approx(0.34)
    assert blank_drift("ctc", 100, 1) == pytest.approx(0.16)
    drifts = [blank_drift("ctc", frames, 3) for frames in (4, 10, 30, 90)]
    assert drifts == sorted(drifts)
    assert blank_drift("silence", 90, 3) < drifts[-1] / 2
    logits, targets, lengths, target_lengths = batch()
    log_probs = torch.zeros_like(logits).log_softmax(-1)
    found = first_step(log_probs, targets, lengths, target_lengths)
    torch.testing.assert_close(found.uniform, found.current)
    flat = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    loss = FullSumLoss(reduction="sum")(flat.log_softmax(0).expand(12, 3, 5), targets, lengths, target_lengths)
    (grad,) = torch.autograd.grad(loss, flat)
    torch.testing.assert_close(found.uniform, -grad / lengths.sum())
    assert "rises" in found.summary()


def test_peaky_and_sharp_are_different():
    sharp = torch.tensor([0, 1, 1, 0, 2, 2, 2, 0])
    p = torch.full((8, 1, 3), 0.005)
    p[torch.arange(8), 0, sharp] = 0.99
    found = peakiness(p.log(), [7])
    assert found.frames_per_label == 2.5
    assert found.blank_argmax == pytest.approx(2 / 7)
    assert found.entropy < 0.1
    uniform = peakiness(torch.full((8, 1, 3), -math.log(3)))
    assert uniform.entropy == pytest.approx(math.log(3))
    assert uniform.blank_mass == pytest.approx(1 / 3)


def test_errors_say_what_would_be_right():
    good = torch.zeros(4, 2, 3).log_softmax(-1)
    targets, lengths, target_lengths = torch.tensor([[1, 2], [1, 1]]), [4, 2], [2, 2]
    with pytest.raises(ValueError, match="utterance 1 needs at least 3 frames, it has 2"):
        FullSumLoss()(good, targets, lengths, target_lengths)
    skipped = FullSumLoss(zero_infinity=True, reduction="none")(good, targets, lengths, target_lengths)
    assert float(skipped[1]) == 0.0
    with pytest.raises(ValueError, match="must be log-softmax outputs, got rows summing to 3"):
        FullSumLoss()(torch.zeros(4, 2, 3), targets, [4, 4], target_lengths)
    with pytest.raises(ValueError, match="blank must be a label"):
        FullSumLoss(blank=3)(good, targets, [4, 4], target_lengths)
    with pytest.raises(ValueError, match="must not hold the blank 1; utterance 0"):
        FullSumLoss(blank=1)(good, targets, [4, 4], target_lengths)
    broken = good.clone()
    broken[3, 1, 0] = math.nan
    with pytest.raises(ValueError, match="NaN in utterance 1, frame 3"):
        FullSumLoss()(broken, targets, [4, 4], target_lengths)
    with pytest.raises(ValueError, match="viterbi must be a share between 0 and 1"):
        FullSumLoss(viterbi=2.0)


def test_edit_distance_and_joining():
    assert edit_distance([1, 2, 3], [1, 3]) == 1
    assert edit_distance([], [1, 3]) == 2
    assert edit_distance([4, 5], [5, 4]) == 2
    words = [torch.full((n, 2), float(n)) for n in (3, 5)]
    made = join_words(words, [1, 2], 20, generator=torch.Generator().manual_seed(0))
    for x, labels, many, spans in zip(made.x, made.targets, made.target_lengths, made.spans):
        for label, (start, end) in zip(labels[:many], spans.long().tolist()):
            assert end - start == (3, 5)[int(label) - 1]
            assert bool((x[start:end] == float(end - start)).all())
            assert not x[end : end + 5].any()
    tone = torch.sin(2 * math.pi * 1000 * torch.arange(8000) / 8000)
    energies = log_mel(tone, 8000)
    assert energies.shape == (101, 40)
    assert float(energies.mean(0).argmax()) == pytest.approx(19, abs=2)  # 1000 Hz is halfway on the mel scale to 4 kHz


@pytest.mark.parametrize("viterbi", [0.0, 0.5, 1.0])
def test_a_target_that_does_not_fit_is_left_out_or_refused_with_any_share_of_viterbi(viterbi):
    log_probs = torch.randn(3, 2, 5, generator=torch.Generator().manual_seed(0)).log_softmax(-1).requires_grad_()
    targets, lengths = torch.tensor([[1, 2, 3, 4], [1, 2, 0, 0]]), (3, 3)
    loss = FullSumLoss(viterbi=viterbi, zero_infinity=True, reduction="none")(log_probs, targets, lengths, (4, 2))
    assert float(loss[0]) == 0
    assert bool(loss.isfinite().all())
    loss.sum().backward()
    assert bool(log_probs.grad.isfinite().all())
    assert not log_probs.grad[:, 0].any()
    with pytest.raises(ValueError, match="utterance 0 needs at least 4 frames, it has 3"):
        FullSumLoss(viterbi=viterbi)(log_probs, targets, lengths, (4, 2))


def test_targets_may_be_lists():
    log_probs = torch.randn(8, 3, 5, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    rows, lengths = [[1, 2, 2], [], [4]], (8, 7, 6)
    tensor = torch.tensor([[1, 2, 2], [0, 0, 0], [4, 0, 0]])
    wanted = FullSumLoss(reduction="none")(log_probs, tensor, lengths, (3, 0, 1))
    for given in (rows, tuple(map(tuple, rows)), [torch.tensor(row, dtype=torch.int32) for row in rows]):
        found = FullSumLoss(reduction="none")(log_probs, given, list(lengths), [3, 0, 1])
        assert torch.equal(found, wanted)
    single = FullSumLoss(reduction="none")(log_probs[:, 0], [1, 2, 2], (8,), (3,))
    assert single.item() == pytest.approx(wanted[0].item(), abs=1e-5)
    with pytest.raises(ValueError, match=r"targets have the lengths \[3, 0, 1\], but target_lengths says \[3, 0, 2\]"):
        FullSumLoss()(log_probs, rows, lengths, (3, 0, 2))
    with pytest.raises(ValueError, match="a list with a list of labels for each utterance"):
        FullSumLoss()(log_probs, [1, 2, 3], lengths, (1, 1, 1))

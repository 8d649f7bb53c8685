"""The lattice against enumeration, closed forms and torch's own CTC loss."""

import itertools
import math
from fractions import Fraction

import pytest
import torch
from torch import Tensor
from torch.nn.functional import ctc_loss

from neurarium.speech import (
    AlignmentGraph,
    best_path_loss,
    collapse,
    count,
    ctc_graph,
    exact_occupation,
    full_sum,
    label_counts,
    label_loop_graph,
    occupation,
    sample,
    shortest,
    silence_graph,
    viterbi,
)

TARGETS = torch.tensor([[1, 1, 2, 5], [3, 2, 2, 2], [4, 0, 0, 0], [1, 2, 3, 4], [0, 0, 0, 0]])
TARGET_LENGTHS = torch.tensor([4, 4, 1, 4, 0])
LENGTHS = torch.tensor([17, 11, 5, 8, 3])


def random_scores(frames: int, batch: int, labels: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(frames, batch, labels, dtype=torch.float64, generator=generator)


def enumerate_ctc(scores: Tensor, target: list[int]) -> dict[tuple[int, ...], float]:
    """Every label string that collapses to the target, with its score; ``scores`` is [frames, labels]."""
    frames, labels = scores.shape
    strings = itertools.product(range(labels), repeat=frames)
    return {s: sum(float(scores[t, k]) for t, k in enumerate(s)) for s in strings if collapse(s) == target}


def test_value_and_gradient_on_logits_equal_torch_on_ragged_batches_with_repeats():
    logits = random_scores(17, 5, 6).requires_grad_()
    log_probs = logits.log_softmax(-1)
    ours = full_sum(log_probs, ctc_graph(TARGETS, TARGET_LENGTHS), LENGTHS)
    theirs = ctc_loss(log_probs, TARGETS, LENGTHS, TARGET_LENGTHS, reduction="none")
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)
    factors = torch.tensor([1.0, 2.0, -0.5, 3.0, 1.0], dtype=torch.float64)
    (grad,) = torch.autograd.grad((ours * factors).sum(), logits, retain_graph=True)
    (wanted,) = torch.autograd.grad((theirs * factors).sum(), logits)
    torch.testing.assert_close(grad, wanted, rtol=0, atol=1e-10)
    torch.testing.assert_close(grad.sum(-1), torch.zeros(17, 5, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("target", [[1], [1, 2], [1, 1], [2, 1, 2]])
def test_loss_occupation_best_path_and_count_equal_enumeration(target):
    scores = random_scores(6, 1, 3, seed=len(target))
    found = enumerate_ctc(scores[:, 0], target)
    graph = ctc_graph([target])
    total = torch.logsumexp(torch.tensor(list(found.values()), dtype=torch.float64), 0)
    torch.testing.assert_close(full_sum(scores, graph)[0], -total)
    q = torch.zeros(6, 3, dtype=torch.float64)
    for string, score in found.items():
        for t, k in enumerate(string):
            q[t, k] += math.exp(score - float(total))
    torch.testing.assert_close(occupation(scores, graph)[:, 0], q)
    best = max(found, key=found.__getitem__)
    path = viterbi(scores, graph)
    assert tuple(path.labels[0].tolist()) == best
    assert float(path.scores[0]) == pytest.approx(found[best])
    repeats = sum(a == b for a, b in itertools.pairwise(target))
    assert count(graph, 6) == [len(found)] == [math.comb(6 + len(target) - repeats, 2 * len(target))]


def test_gradients_of_scores_and_arc_weights_pass_gradcheck():
    scores = random_scores(7, 2, 4).requires_grad_()
    penalty = torch.tensor(-0.4, dtype=torch.float64, requires_grad=True)

    def loss(scores: Tensor, penalty: Tensor) -> Tensor:
        return full_sum(scores, ctc_graph([[1, 1], [2, 3]], self_loop=penalty, max_repeats=1), [7, 5])

    assert torch.autograd.gradcheck(loss, (scores, penalty))
    plain = full_sum(scores.detach(), ctc_graph([[1, 1], [2, 3]], self_loop=penalty))
    (grad,) = torch.autograd.grad(plain.sum(), penalty)
    assert float(grad) < 0  # minus the expected number of self-loops


@pytest.mark.parametrize(
    ("penalty", "loss"),
    [(0.0, 2.343178), (0.5, 2.977877), (1.0, 3.353676), (2.0, 3.697542), (5.0, 3.874625), (50.0, 3.883624)],
)
def test_self_loop_penalty(penalty, loss):
    uniform = torch.full((6, 1, 3), -math.log(3), dtype=torch.float64)
    assert float(full_sum(uniform, ctc_graph([[1, 2]], self_loop=-penalty))) == pytest.approx(loss, abs=1e-6)


@pytest.mark.parametrize(("most", "loss"), [(0, 3.883624), (1, 2.878102), (2, 2.497329), (3, 2.372166), (4, 2.343178)])
def test_label_duration_limit(most, loss):
    uniform = torch.full((6, 1, 3), -math.log(3), dtype=torch.float64)
    assert float(full_sum(uniform, ctc_graph([[1, 2]], max_repeats=most))) == pytest.approx(loss, abs=1e-6)
    for target in ([1, 2], [1, 1], [1, 1, 2]):
        allowed = [
            s
            for s in itertools.product(range(3), repeat=7)
            if collapse(s) == target
            and all(len(list(run)) <= most + 1 for label, run in itertools.groupby(s) if label != 0)
        ]
        assert count(ctc_graph([target], max_repeats=most), 7) == [len(allowed)]


@pytest.mark.parametrize("most", [None, 1])
@pytest.mark.parametrize("target", [[1], [1, 2], [1, 1], [2, 1, 2], [1, 1, 2]])
def test_obligatory_blanks_and_a_free_start_equal_enumeration(target, most):
    scores = random_scores(6, 1, 3, seed=len(target))

    def lasts(string):
        runs = [(label, len(list(run))) for label, run in itertools.groupby(string)]
        return most is None or all(length <= most + 1 for label, length in runs if label)

    def parted(string):
        return all(a == b or not a or not b for a, b in itertools.pairwise(string))

    strings = [string for string in itertools.product(range(3), repeat=6) if lasts(string)]
    whole = [s for s in strings if collapse(s) == target and parted(s)]
    ends = [s for s in strings if collapse(s) in [target[j:] for j in range(len(target) + 1)]]
    both = [s for s in ends if parted(s)]
    for options, wanted in (
        ({"optional_blank": False}, whole),
        ({"start_free": True}, ends),
        ({"optional_blank": False, "start_free": True}, both),
    ):
        graph = ctc_graph([target], max_repeats=most, **options)
        assert count(graph, 6) == [len(wanted)]
        totals = torch.tensor([sum(float(scores[t, 0, k]) for t, k in enumerate(s)) for s in wanted])
        assert float(full_sum(scores, graph)[0]) == pytest.approx(-float(totals.double().logsumexp(0)), rel=1e-5)


def test_a_free_start_stays_within_each_utterance_of_a_batch():
    scores = random_scores(9, 2, 5)
    graph = ctc_graph([[1, 2, 3], [4]], start_free=True)
    alone = [ctc_graph([target], start_free=True) for target in ([1, 2, 3], [4])]
    for number, graph_of_one in enumerate(alone):
        one = full_sum(scores[:, number : number + 1], graph_of_one)
        torch.testing.assert_close(full_sum(scores, graph)[number : number + 1], one)


def test_counts_are_exact_for_long_input():
    assert count(ctc_graph([[1]]), 100) == [5050]
    assert count(ctc_graph([[1, 1, 2], [2]]), [3000, 10]) == [math.comb(3000 + 3 - 1, 6), 55]
    q = exact_occupation(ctc_graph([[1]]), 5, 2)
    assert [row[1] for row in q] == [Fraction(t * (6 - t), 15) for t in range(1, 6)]
    assert sum(row[1] for row in q) / 5 == Fraction(7, 15)
    assert label_counts(ctc_graph([[1, 2]]), 50, 3).sum() == 50 * math.comb(52, 4)


def test_any_automaton_from_arcs():
    # 0 -> 1 -> 2 -> 0 ..., with a way back from 2 to 1 and two ends
    graph = AlignmentGraph.from_arcs(
        [1, 2, 0], [0, 1, 2, 2], [1, 2, 0, 1], weight=[0.1, -0.2, 0.3, 0.4], start=[0, 1], final=[1, 2]
    )
    arcs = {(0, 1): 0.1, (1, 2): -0.2, (2, 0): 0.3, (2, 1): 0.4}
    scores = random_scores(6, 1, 3)
    walks = {}
    for walk in itertools.product(range(3), repeat=6):
        steps = list(itertools.pairwise(walk))
        if walk[0] in (0, 1) and walk[-1] in (1, 2) and all(step in arcs for step in steps):
            emitted = sum(float(scores[t, 0, graph.emit[0, s]]) for t, s in enumerate(walk))
            walks[walk] = emitted + sum(arcs[step] for step in steps)
    total = torch.logsumexp(torch.tensor(list(walks.values()), dtype=torch.float64), 0)
    assert float(full_sum(scores, graph)) == pytest.approx(-float(total), abs=1e-6)
    assert count(graph, 6) == [len(walks)]
    best = viterbi(scores, graph)
    assert tuple(best.states[0].tolist()) == max(walks, key=walks.__getitem__)
    assert float(best.scores[0]) == pytest.approx(max(walks.values()), abs=1e-6)
    torch.testing.assert_close(best_path_loss(scores, graph), -best.scores)
    drawn = sample(scores, graph, n=20)
    for walk, score in zip(drawn.states[:, 0].tolist(), drawn.scores[:, 0].tolist()):
        assert score == pytest.approx(walks[tuple(walk)], abs=1e-6)
    torch.testing.assert_close(occupation(scores, graph).sum(-1), torch.ones(6, 1, dtype=torch.float64))


def test_silence_only_at_word_borders():
    graph = silence_graph([[1, 2, 9, 3]], silence=0, separator=9)
    paths = {tuple(p.tolist()) for p in sample(torch.zeros(7, 1, 10), graph, n=4000).labels[:, 0]}
    wanted = {
        s
        for s in itertools.product(range(4), repeat=7)
        if [k for k, _ in itertools.groupby(s)]
        in [[*a, 1, 2, *b, 3, *c] for a, b, c in itertools.product(([], [0]), repeat=3)]
    }
    assert paths == wanted
    assert count(graph, 7) == [len(wanted)]
    assert count(silence_graph([[1, 2, 3]]), 7) == [sum(math.comb(6, 2 + i) * math.comb(2, i) for i in range(3))]


def test_labels_only_counts_compositions():
    assert count(label_loop_graph([[1, 2, 2], [3]]), 8) == [math.comb(7, 2), 1]


def test_samples_follow_the_soft_alignment():
    scores = random_scores(7, 2, 3)
    graph, n = ctc_graph([[1, 2], [1, 1]]), 20_000
    paths = sample(scores, graph, [7, 5], n=n, generator=torch.Generator().manual_seed(1))
    q = occupation(scores, graph, [7, 5])
    for k in range(3):
        share = (paths.labels == k).double().mean(0).t()
        assert float((share - q[..., k]).abs().max()) < 4 * 0.5 / math.sqrt(n)
    assert all(collapse(path) == [1, 1] for path in paths.labels[:50, 1].tolist())
    exact = scores[:, 0].gather(1, paths.labels[:, 0].t()).sum(0)
    torch.testing.assert_close(paths.scores[:, 0], exact)


def test_target_that_cannot_fit_gives_inf_and_zero_gradient():
    scores = random_scores(4, 2, 3).log_softmax(-1).requires_grad_()
    graph = ctc_graph([[1, 1, 1], [1, 2]])
    assert shortest(graph).tolist() == [5, 2]
    for loss in (full_sum(scores, graph), best_path_loss(scores, graph)):
        assert math.isinf(float(loss[0].detach()))
        assert math.isfinite(float(loss[1].detach()))
        (grad,) = torch.autograd.grad(loss.sum(), scores)
        assert not grad.isnan().any()
        assert not grad[:, 0].any()
        assert grad[:, 1].any()


def test_scores_of_minus_infinity_and_nan_in_padding_do_no_harm():
    scores = random_scores(9, 2, 3).log_softmax(-1)
    scores[2, 0, 1] = scores[3, 1] = -math.inf
    clean = scores[:5, :1].clone().requires_grad_()
    scores[5:, 0] = math.nan
    scores.requires_grad_()
    graph = ctc_graph([[1, 2], [1, 2]])
    loss = full_sum(scores, graph, [5, 9])
    (grad,) = torch.autograd.grad(loss[0], scores)
    alone = full_sum(clean, ctc_graph([[1, 2]]))
    (wanted,) = torch.autograd.grad(alone.sum(), clean)
    torch.testing.assert_close(loss[:1].detach(), alone.detach())
    torch.testing.assert_close(grad[:5, :1], wanted)
    assert not grad[5:].any()
    assert math.isinf(float(loss[1].detach()))


def test_float32_and_half_agree_with_float64():
    scores = random_scores(200, 3, 8).log_softmax(-1)
    graph = ctc_graph(torch.randint(1, 8, (3, 40), generator=torch.Generator().manual_seed(0)))
    exact = full_sum(scores, graph)
    torch.testing.assert_close(full_sum(scores.float(), graph).double(), exact, rtol=1e-5, atol=0)
    torch.testing.assert_close(full_sum(scores.bfloat16(), graph).double(), exact, rtol=2e-2, atol=0)


def test_errors_name_the_argument():
    scores, graph = torch.zeros(4, 1, 2), ctc_graph([[1]])
    with pytest.raises(ValueError, match="lengths must be 1 numbers"):
        full_sum(scores, graph, [5])
    with pytest.raises(ValueError, match="emits label 1"):
        full_sum(torch.zeros(4, 1, 1), graph)
    with pytest.raises(ValueError, match="max_repeats"):
        ctc_graph([[1]], max_repeats=-1)
    with pytest.raises(ValueError, match="utterance 0 has no alignment"):
        sample(torch.zeros(1, 1, 3), ctc_graph([[1, 2]]))
    with pytest.raises(ValueError, match="given twice"):
        AlignmentGraph.from_arcs([0, 1], [0, 0], [1, 1])

"""The bigram search against all paths, its counts against counting, and the two errors against small cases."""

import itertools

import pytest
import torch

from neurarium.speech import bigram_viterbi, estimate_transitions, frame_error_rate, phone_error_rate


def test_search_finds_the_best_of_all_paths():
    scores = torch.randn(3, 5, 3, dtype=torch.float64).log_softmax(-1)
    moves = torch.randn(3, 3, dtype=torch.float64).log_softmax(-1)
    prior = torch.randn(3, dtype=torch.float64).log_softmax(-1)
    lengths = torch.tensor([5, 3, 1])
    found = bigram_viterbi(scores, moves, lengths, log_prior=prior, weight=1.7)
    for b, length in enumerate(lengths.tolist()):

        def total(path, b=b):
            heard = sum(scores[b, t, k] - prior[k] for t, k in enumerate(path))
            return float(heard + 1.7 * sum(moves[i, j] for i, j in itertools.pairwise(path)))

        best = max(itertools.product(range(3), repeat=length), key=total)
        assert found[b].tolist() == [*best, *[-1] * (5 - length)]


def test_flat_transitions_leave_the_best_label_of_each_frame():
    scores = torch.randn(2, 6, 4)
    assert torch.equal(bigram_viterbi(scores, torch.zeros(4, 4)), scores.argmax(-1))


def test_transitions_are_counted():
    labels = torch.tensor([[0, 0, 1, -1], [1, 1, 0, 0]])
    found = estimate_transitions(labels, 3, smoothing=0.5).exp()
    counts = torch.tensor([[2.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]) + 0.5
    torch.testing.assert_close(found, counts / counts.sum(1, keepdim=True))
    with pytest.raises(ValueError, match="num_labels is 1"):
        estimate_transitions(labels, 1)


def test_errors_of_frames_and_phones():
    meant = torch.tensor([[0, 0, 1, 1, 2, -1]])
    said = torch.tensor([[0, 1, 1, 1, 1, 0]])
    assert frame_error_rate(said, meant) == pytest.approx(2 / 5)
    said_padded = torch.tensor([[0, 1, 1, 1, 1, -1]])
    assert phone_error_rate(said_padded, meant) == pytest.approx(1 / 3)  # 0 1 for 0 1 2
    assert phone_error_rate(said_padded, meant, fold=[0, 1, 1]) == 0.0
    with pytest.raises(ValueError, match="no labelled frame"):
        frame_error_rate(said, torch.full((1, 6), -1))

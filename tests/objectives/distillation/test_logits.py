"""Losses on a teacher's logits: their minimum, their gradient, and the loss that they are part of."""

import pytest
import torch
from torch.autograd import grad

from neurarium.objectives import distillation_loss, logit_mse, soft_cross_entropy

A, B = (torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(s)) for s in (0, 1))


def test_squares_are_summed_over_classes_and_averaged_over_examples():
    assert logit_mse(A, B).item() == pytest.approx(sum(float((a - b) @ (a - b)) for a, b in zip(A, B)) / 5)
    assert logit_mse(A, A).item() == 0


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_cross_entropy_is_the_divergence_plus_the_teachers_entropy(temperature):
    student = A.clone().requires_grad_()
    found = soft_cross_entropy(student, B, temperature)
    other = distillation_loss(student, B, torch.zeros(5, dtype=torch.long), temperature=temperature, weight=1.0)
    p = (B / temperature).softmax(1)
    entropy = temperature**2 * -(p * p.log()).sum(1).mean()
    torch.testing.assert_close(found, other + entropy)
    torch.testing.assert_close(grad(found, student), grad(other, student))
    wanted = temperature * ((A / temperature).softmax(1) - p) / 5
    torch.testing.assert_close(grad(soft_cross_entropy(student, B, temperature), student)[0], wanted)


def test_at_a_high_temperature_it_pulls_centred_logits_as_squares_do():
    student = A.clone().requires_grad_()
    soft = grad(soft_cross_entropy(student, B, 1e4), student)[0]
    apart = A - B
    torch.testing.assert_close(soft, (apart - apart.mean(1, keepdim=True)) / 15, rtol=1e-3, atol=1e-5)
    with pytest.raises(ValueError, match="temperature must be positive"):
        soft_cross_entropy(A, B, 0.0)

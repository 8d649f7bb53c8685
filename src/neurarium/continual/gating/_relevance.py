"""How much a unit or a weight matters to the present loss: the relevance rules of GateON."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def unit_relevance(activity: Tensor, gradient: Tensor, dim: int = -1) -> Tensor:
    """E[(dL/da a)²] per unit, summed within an example over positions (all dimensions but the first and ``dim``).

    Args:
        activity: a, [batch, ...].
        gradient: dL/da of the same shape.
        dim: dimension of the units.
    """
    return per_unit(activity * gradient, dim).sum(1).square().mean(0)


def unit_activity(activity: Tensor, dim: int = -1) -> Tensor:
    """E[max(a, 0)] per unit, over examples and positions."""
    return per_unit(activity.relu(), dim).mean((0, 1))


def per_unit(x: Tensor, dim: int) -> Tensor:
    """[batch, ...] as [batch, positions, units]."""
    return x.movedim(dim, -1).reshape(len(x), -1, x.shape[dim])


def inner_relevance(x: Tensor, weight: Tensor, slope: Tensor) -> Tensor:
    """mean_k W_ki² E[slope_k² x_i²]: what units contribute to the next layer, known where they are (rule "local").

    Args:
        x: the units' activity, [batch, units].
        weight: of the next layer, [next, units].
        slope: derivative of the next layer's activity by its input (gate where it is active), [batch, next].
    """
    return ((slope.square() @ weight.square()) * x.square()).mean(0) / len(weight)


def output_relevance(x: Tensor, weight: Tensor, logits: Tensor) -> Tensor:
    """E[mean_k (d softmax_k / dx_i x_i)²]: what the last hidden units contribute to the class probabilities.

    Args:
        x: the units' activity, [batch, units].
        weight: of the output layer, [classes, units].
        logits: its output, [batch, classes].
    """
    p = logits.softmax(1)
    mean = p @ weight  # d softmax_k / dx_i = p_k (W_ki - mean_i)
    squares = p.square() @ weight.square() - 2 * mean * (p.square() @ weight) + p.square().sum(1, True) * mean.square()
    return (squares.clamp_min(0) * x.square()).mean(0) / weight.shape[0]


def parameter_relevance(parameter: Tensor) -> Tensor:
    """(dL/dtheta theta)² of the batch's gradient."""
    if parameter.grad is None:
        return torch.zeros_like(parameter)
    return (parameter.grad * parameter.detach()).square()


def weight_activity(layer: nn.Linear, x: Tensor, activity: Tensor) -> dict[str, Tensor]:
    """sum_b a_bi² x_bj² for the weight and sum_b a_bi² for the bias of a fully connected layer."""
    after, before = activity.reshape(-1, layer.out_features).square(), x.reshape(-1, layer.in_features).square()
    return {"weight": after.T @ before} | ({"bias": after.sum(0)} if layer.bias is not None else {})

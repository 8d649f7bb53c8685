"""How kernels of wide networks and what belongs to them are used."""

from __future__ import annotations

from torch import Tensor, nn

from neurarium import theory
from neurarium.testing.world import Example, World

EXAMPLES: dict[str, Example] = {
    "DeepKernelClassifier": lambda w: theory.DeepKernelClassifier(w.put(theory.optimal_activation(3)), 4, ridge=0.1)
    .fit(sphere(w), w.y())
    .decision_function(sphere(w, 5, 1)),
    "DualActivation": lambda w: theory.DualActivation(w.put(nn.PReLU())).value(w.positive(4)),
    "SingularKernelClassifier": lambda w: theory.SingularKernelClassifier(2.0)
    .fit(w.examples(), w.y())
    .decision_function(w.examples(5, 1)),
    "classify_activation": lambda w: list(theory.classify_activation(w.put(nn.PReLU())).moments),
    "optimal_activation": lambda w: w.put(theory.optimal_activation(3))(w.x(5)),
    "limit_kernel": lambda w: list(theory.limit_kernel((0.0, 0.8, 0.6), w.positive(4))),
    "log_deep_kernel": lambda w: list(theory.log_deep_kernel((0.0, 0.8, 0.6), w.positive(4), 5)),
    "nngp": lambda w: theory.nngp(sphere(w), sphere(w, 4, 1), 3),
    "ntk": lambda w: theory.ntk(sphere(w), sphere(w, 4, 1), 3),
    "relu_dual": lambda w: theory.relu_dual(w.positive(4)),
    "relu_dual_derivative": lambda w: theory.relu_dual_derivative(w.positive(4)),
}  # fmt: skip


def sphere(w: World, n: int = 12, seed: int = 0) -> Tensor:
    """Rows of unit length."""
    x = w.examples(n, seed)
    return x / x.norm(dim=1, keepdim=True)

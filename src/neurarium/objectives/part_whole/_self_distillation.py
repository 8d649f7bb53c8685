"""A student that names a teacher's prototypes from other views (DINO; Caron et al., 2021)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear, normalize


class PrototypeHead(nn.Module):
    """Features to scores of prototypes: three layers with GELU, then cosines with unit vectors.

    Args:
        feature_dim: width of the features.
        prototypes: K.
        hidden_dim: of the first two layers.
        bottleneck_dim: of the third.
    """

    def __init__(self, feature_dim: int, prototypes: int, hidden_dim: int = 2048, bottleneck_dim: int = 256) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(feature_dim, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, hidden_dim), nn.GELU(),
            nn.Linear(hidden_dim, bottleneck_dim),
        )  # fmt: skip
        self.prototypes = nn.Parameter(torch.empty(prototypes, bottleneck_dim))
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        nn.init.trunc_normal_(self.prototypes, std=0.02)

    def forward(
        self, features: Float[Tensor, "batch features"], frozen: bool = False
    ) -> Float[Tensor, "batch prototypes"]:
        """Scores from -1 to 1.

        Args:
            features: of examples.
            frozen: whether the prototypes get no gradient, as in a student's first epoch.
        """
        prototypes = self.prototypes.detach() if frozen else self.prototypes
        return linear(normalize(self.layers(features), dim=1), normalize(prototypes, dim=1))


class SelfDistillation(nn.Module):
    """Cross-entropy of a student's prototypes against a teacher's, centred and sharpened.

    The centre, a running mean of the teacher's scores, keeps one prototype from taking all; the low temperature keeps
    all from being equal. It follows in training mode only.

    Args:
        prototypes: K.
        student_temperature: tau_s.
        teacher_temperature: tau_t, lower.
        center_momentum: of the running mean.

    Raises:
        ValueError: a temperature that is not positive, or a momentum outside 0 to 1.
    """

    def __init__(
        self,
        prototypes: int,
        student_temperature: float = 0.1,
        teacher_temperature: float = 0.04,
        center_momentum: float = 0.9,
    ) -> None:
        super().__init__()
        if min(student_temperature, teacher_temperature) <= 0 or not 0 <= center_momentum <= 1:
            raise ValueError("temperatures must be positive, and center_momentum from 0 to 1")
        self.student_temperature, self.teacher_temperature = student_temperature, teacher_temperature
        self.center_momentum = center_momentum
        self.center: Tensor
        self.register_buffer("center", torch.zeros(prototypes))

    def forward(
        self, student: Float[Tensor, "views batch prototypes"], teacher: Float[Tensor, "batch prototypes"]
    ) -> Float[Tensor, ""]:
        """Mean over the student's views and the examples.

        Args:
            student: scores of each view.
            teacher: scores of the teacher's view; no gradient goes there.
        """
        target = ((teacher.detach() - self.center) / self.teacher_temperature).softmax(1)
        loss = -(target * (student / self.student_temperature).log_softmax(2)).sum(2).mean()
        if self.training:
            with torch.no_grad():
                self.center.lerp_(teacher.detach().mean(0).to(self.center), 1 - self.center_momentum)
        return loss

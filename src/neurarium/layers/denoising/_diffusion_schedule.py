"""Noise schedules of a label diffusion: how much of a clean embedding is left in z at each step or time.

Time runs from noise to data, as in the NoProp paper (Li, Teh and Pascanu, 2025): ᾱ_0 is nearly 0 and ᾱ_T nearly 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class DiffusionSchedule:
    """T discrete steps: z_t ~ N(√ᾱ_t u, (1 − ᾱ_t) I), with the coefficients of the chain that undoes the noise.

    With α_{t−1} = ᾱ_{t−1} / ᾱ_t the step from z_{t−1} to z_t, given an estimate û of the clean embedding u, is
    z_t = a_t û + b_t z_{t−1} + √c_t ε, where (section 2)

        a_t = √ᾱ_t (1 − α_{t−1}) / (1 − ᾱ_{t−1})
        b_t = √α_{t−1} (1 − ᾱ_t) / (1 − ᾱ_{t−1})
        c_t = (1 − ᾱ_t) (1 − α_{t−1}) / (1 − ᾱ_{t−1})

    Args:
        alpha_bar: ᾱ_0 < ᾱ_1 < ... < ᾱ_T, all strictly between 0 and 1.

    Attributes:
        steps: T.
        alpha_bar: float64 tensor [T + 1].
        snr: ᾱ_t / (1 − ᾱ_t), [T + 1].
        a, b, c: coefficients of the steps 1..T, [T]; `coefficients` gives those of one step as numbers.
        delta_snr: SNR(t) − SNR(t − 1) = a_t² / c_t of the steps 1..T, [T].

    Raises:
        ValueError: fewer than two values, values outside (0, 1), or values that do not increase.
    """

    def __init__(self, alpha_bar: Sequence[float] | Float[Tensor, steps + 1]) -> None:
        values = torch.as_tensor(alpha_bar, dtype=torch.float64, device="cpu").detach()
        if values.dim() != 1 or len(values) < 2:
            raise ValueError(f"alpha_bar must hold at least two values (T + 1), not shape {tuple(values.shape)}")
        if not bool(((values > 0) & (values < 1)).all()):
            raise ValueError("alpha_bar must lie strictly between 0 and 1: clip its ends")
        if not bool((values.diff() > 0).all()):
            raise ValueError("alpha_bar must increase from noise (first) to data (last)")
        before, after = values[:-1], values[1:]
        alpha = before / after
        self.steps = len(values) - 1
        self.alpha_bar = values
        self.snr = values / (1 - values)
        self.a = after.sqrt() * (1 - alpha) / (1 - before)
        self.b = alpha.sqrt() * (1 - after) / (1 - before)
        self.c = (1 - after) * (1 - alpha) / (1 - before)
        self.delta_snr = self.snr.diff()

    def coefficients(self, step: int) -> tuple[float, float, float]:
        """a_t, b_t, c_t of step t = 1..T.

        Raises:
            ValueError: no such step.
        """
        if not 1 <= step <= self.steps:
            raise ValueError(f"step must be between 1 and {self.steps}, not {step}")
        return float(self.a[step - 1]), float(self.b[step - 1]), float(self.c[step - 1])


class CosineSchedule(DiffusionSchedule):
    """ᾱ_t = cos²(π/2 · (s + 0.008) / 1.008) at s = 1 − t/T, clipped at both ends (Nichol and Dhariwal, 2021).

    The weight of the last step, SNR(T) − SNR(T − 1), is the largest by far: 6,400 at most, at most 1 / ``clip``.

    Args:
        steps: T.
        clip: ᾱ stays within [clip, 1 − clip].

    Raises:
        ValueError: ``steps`` is below 1, or ``clip`` is not so small that ᾱ still increases.
    """

    def __init__(self, steps: int, clip: float = 1e-4) -> None:
        if steps < 1:
            raise ValueError(f"steps must be at least 1, not {steps}")
        if not 0 < clip < 0.5:
            raise ValueError(f"clip must lie between 0 and 0.5, not {clip}")
        noise = 1 - torch.arange(steps + 1, dtype=torch.float64) / steps
        alpha_bar = torch.cos((noise + 0.008) / 1.008 * math.pi / 2).square()
        super().__init__(alpha_bar.clamp(clip, 1 - clip))


class LearnedSchedule(nn.Module):
    """ᾱ(t) for continuous t in [0, 1] with fixed ends and a learned shape (section 3).

    SNR(t) = exp(−γ(t)), γ(t) = γ_0 + (γ_1 − γ_0)(1 − γ̄(t)), ᾱ(t) = sigmoid(−γ(t)). γ̄ rises from 0 to 1: a straight
    line plus sigmoids, all weights positive, normalised at the ends; its slope is known in closed form. It is nearly
    straight at the start.

    Args:
        log_snr: log SNR at t = 0 and at t = 1, −γ_1 and −γ_0. Farther apart is closer to the exact bound and harder
            to learn: with (-7, 7) short runs fail.
        hidden: number of sigmoids.

    Raises:
        ValueError: ``log_snr`` does not increase, or ``hidden`` is below 1.
    """

    def __init__(self, log_snr: tuple[float, float] = (-3.0, 3.0), hidden: int = 16) -> None:
        super().__init__()
        if not log_snr[0] < log_snr[1]:
            raise ValueError(f"log_snr must increase from t = 0 to t = 1, not {log_snr}")
        if hidden < 1:
            raise ValueError(f"hidden must be at least 1, not {hidden}")
        self.log_snr = log_snr
        self.line = nn.Parameter(torch.zeros(()))
        self.height = nn.Parameter(torch.full((hidden,), -3.0))
        self.steepness = nn.Parameter(torch.full((hidden,), 8.0))
        self.centre = nn.Parameter(torch.linspace(0, 1, hidden))

    def gamma_bar(self, t: Float[Tensor, "*times"]) -> tuple[Float[Tensor, "*times"], Float[Tensor, "*times"]]:
        """γ̄(t), which rises from 0 to 1, and its slope."""
        height, steepness = F.softplus(self.height), F.softplus(self.steepness)

        def rise(at: Tensor) -> tuple[Tensor, Tensor]:
            s = torch.sigmoid(steepness * (at[..., None] - self.centre))
            line = F.softplus(self.line)
            return line * at + (height * s).sum(-1), line + (height * steepness * s * (1 - s)).sum(-1)

        low, high = rise(torch.zeros_like(t))[0], rise(torch.ones_like(t))[0]
        level, slope = rise(t)
        return (level - low) / (high - low), slope / (high - low)

    def snr(self, t: Float[Tensor, "*times"]) -> tuple[Float[Tensor, "*times"], Float[Tensor, "*times"]]:
        """SNR(t) and its slope."""
        level, slope = self.gamma_bar(t)
        span = self.log_snr[1] - self.log_snr[0]
        snr = torch.exp(self.log_snr[0] + span * level)
        return snr, span * slope * snr

    def alpha_bar(self, t: Float[Tensor, "*times"]) -> tuple[Float[Tensor, "*times"], Float[Tensor, "*times"]]:
        """ᾱ(t) and its slope."""
        level, slope = self.gamma_bar(t)
        span = self.log_snr[1] - self.log_snr[0]
        alpha_bar = torch.sigmoid(self.log_snr[0] + span * level)
        return alpha_bar, span * slope * alpha_bar * (1 - alpha_bar)


def prior_gap(u: Float[Tensor, "batch embed"], alpha_bar: Tensor) -> Float[Tensor, " batch"]:
    """KL(N(√ᾱ u, (1 − ᾱ) I) ‖ N(0, I)) = ½ [ᾱ ‖u‖² + d (−ᾱ − ln(1 − ᾱ))]."""
    return 0.5 * (alpha_bar * u.square().sum(1) + u.shape[1] * (-alpha_bar - torch.log1p(-alpha_bar)))


def flow_slope(u_hat: Tensor, z: Tensor, alpha_bar: Tensor, slope: Tensor) -> Tensor:
    """dz/dt = ᾱ' û / (2 √ᾱ (1 − ᾱ)) − ᾱ' z / (2 (1 − ᾱ)): the path of z = √ᾱ u + √(1 − ᾱ) ε."""
    return slope / (2 * (1 - alpha_bar)) * (u_hat / alpha_bar.sqrt() - z)

"""Weight mirroring: feedback matrices learn the forward weights from noise."""

from __future__ import annotations

import torch

from neurarium.learning.feedback._input_feedback import InputFeedback


class WeightMirror:
    """Turns a factored feedback F = B_1 ... B_L towards −(W_L ... W_1)ᵀ.

    (Akrout et al., 2019; Srinivasan et al., 2024, section 5.) Each layer is fed noise ξ ~ N(0, amplitude²) and answers
    Wξ; B_l ← (1 − decay) B_l ± rate · mean(ξ (Wξ)ᵀ), whose mean is rate · amplitude² · W_lᵀ; minus for the first layer
    and plus above, since PEPITA learns where W_1 F points against the output weights. The optimum is
    ± (rate · amplitude² / decay) W_lᵀ. Call `step` between epochs, and before training.

    Args:
        rule: `Pepita` or `AdaptiveFeedbackAlignment` with ``factored=True``.
        amplitude: deviation of the noise.
        rate: learning rate of the feedback.
        decay: of the feedback.
        batch_size: noise vectors per step.
        generator: source of the noise, on the weights' device; torch's own by default.

    Raises:
        ValueError: the rule's feedback is one matrix.
    """

    def __init__(
        self,
        rule: InputFeedback,
        *,
        amplitude: float = 0.1,
        rate: float = 0.01,
        decay: float = 1e-4,
        batch_size: int = 128,
        generator: torch.Generator | None = None,
    ) -> None:
        if not rule.factored:
            raise ValueError("the rule's feedback is one matrix, which has no layer to mirror: pass factored=True")
        self.rule, self.amplitude, self.rate, self.decay = rule, amplitude, rate, decay
        self.batch_size, self.generator = batch_size, generator

    @torch.no_grad()
    def step(self, steps: int = 1) -> None:
        """Feed noise to every layer ``steps`` times, then multiply the feedback out anew."""
        for i, layer in enumerate(self.rule.layers):
            factor, weight = self.rule.get_buffer(f"factor_{i}"), layer.weight
            size = (self.batch_size, weight.shape[1])
            rate = (-self.rate if i == 0 else self.rate) / self.batch_size
            for _ in range(steps):
                place = weight.device if self.generator is None else self.generator.device
                noise = torch.randn(size, generator=self.generator, device=place, dtype=weight.dtype).to(weight.device)
                noise *= self.amplitude
                factor.addmm_(noise.T, noise @ weight.T, beta=1 - self.decay, alpha=rate)
        self.rule.refresh()

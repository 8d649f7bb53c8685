"""NoProp: every block learns alone to recover the clean label from a noised one, given the input."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from neurarium.layers.denoising._diffusion_schedule import (
    CosineSchedule,
    DiffusionSchedule,
    LearnedSchedule,
    flow_slope,
    prior_gap,
)
from neurarium.learning._rule import LearningRule, Loss
from neurarium.learning.local._label_diffusion import (
    MakeBlock,
    blocks_around,
    count_classes,
    embedding_table,
    nearest_readout,
)


class NoProp(LearningRule):
    """Labels are noised by a fixed diffusion; block t learns û(z_{t−1}, x) ≈ u_y from the analytic sample of z_{t−1}.

    (Li, Teh and Pascanu, 2025.) Training runs neither the blocks below nor a backward pass from above: no autograd edge
    joins two blocks, and each one's graph is freed before the next runs. The objective is the negative evidence bound

        E_q(z_T|y)[loss(readout(z_T), y)] + KL(q(z_0|y) ‖ N(0, I))
        + T/2 η E_t E_q(z_{t−1}|y)[(SNR(t) − SNR(t−1)) ‖û_t(z_{t−1}, x) − u_y‖²]

    (for η = 1 and cross-entropy a bound on −log p(y|x)). Prediction chains the blocks from noise to the readout. That
    chain is differentiable, so ``Backprop(NoProp(...), loss)`` is backpropagation through the same network.

    Attributes:
        model: the blocks (an `nn.ModuleList`; one block in continuous time).
        embedding: u_y by row, [classes, d]: a parameter, or a buffer for one-hot.

    Args:
        model: a network that maps x to [batch, features], of which each block gets a copy beside a branch for z (see
            `LabelDenoiser`); or ``make_block(step, embed_dim)``, which makes the block of step 1..T (0 in continuous
            time): a module of ``(z, x)``, or ``(z, x, t)``, that gives scores [batch, classes], or d values where
            ``direct``.
        loss: of the readout's log-probabilities and class indices.
        num_classes: by default the outputs of the model's last layer; needed with ``make_block``.
        steps: T; in continuous time the number of Euler steps of a prediction.
        variant: ``"discrete"``: T blocks; ``"continuous"``: one block for all times and a learned schedule, prediction
            by the probability-flow equation; ``"flow"``: flow matching, one block that gives the velocity.
        embedding: ``"one-hot"`` (fixed), a dimension d (learned, orthogonal at the start), or a tensor [classes, d]
            to start from (learned), such as `class_prototypes` gives.
        readout: ``"linear"``, at the start the nearest embedding; or ``"radial"``: scores −‖z − u_c‖² / 0.2.
        eta: η; 0.1 for discrete steps and 1 in continuous time by default. Flow matching has none.
        schedule: ᾱ_0..ᾱ_T of the discrete variant, `CosineSchedule` by default; a `LearnedSchedule` of the continuous.
        order: blocks that a batch trains: ``"all"``, one after another; ``"sampled"``: one at random; ``"sequential"``:
            one, in turn. A block that is not trained gets no ``.grad``, so an optimizer passes it over.
        direct: blocks give û themselves, not scores whose softmax mixes the embeddings. Always so for ``"flow"``.
        samples: noise samples that an evaluation averages (their probabilities); 0 is the chain without noise.
        generator: source of all noise, on the inputs' device; torch's own by default.

    Raises:
        ValueError: an argument out of range; at a batch: targets that are no class indices.
    """

    slug: ClassVar[str] = "noprop"
    learning_rate: ClassVar[float] = 1e-3

    model: nn.ModuleList
    embedding: Tensor
    turn: Tensor

    def __init__(
        self,
        model: nn.Module | MakeBlock,
        loss: Loss = F.cross_entropy,
        *,
        num_classes: int | None = None,
        steps: int = 10,
        variant: Literal["discrete", "continuous", "flow"] = "discrete",
        embedding: Literal["one-hot"] | int | Float[Tensor, "classes embed"] = "one-hot",
        readout: Literal["linear", "radial"] = "linear",
        eta: float | None = None,
        schedule: DiffusionSchedule | LearnedSchedule | None = None,
        order: Literal["all", "sampled", "sequential"] = "all",
        direct: bool = False,
        samples: int = 0,
        generator: torch.Generator | None = None,
    ) -> None:
        if variant not in ("discrete", "continuous", "flow"):
            raise ValueError(f"variant must be 'discrete', 'continuous' or 'flow', not {variant!r}")
        if readout not in ("linear", "radial") or order not in ("all", "sampled", "sequential"):
            raise ValueError("readout must be 'linear' or 'radial', and order 'all', 'sampled' or 'sequential'")
        if steps < 1 or samples < 0 or (eta is not None and eta <= 0):
            raise ValueError(f"steps must be positive, samples not negative, eta positive: {steps}, {samples}, {eta}")
        if isinstance(schedule, DiffusionSchedule) and (variant != "discrete" or schedule.steps != steps):
            raise ValueError(f"a DiffusionSchedule is for variant='discrete' and must have steps={steps} steps")
        if isinstance(schedule, LearnedSchedule) and variant != "continuous":
            raise ValueError(f"a LearnedSchedule is for variant='continuous', not {variant!r}")
        classes = count_classes(model, num_classes)
        table, learned = embedding_table(embedding, classes)
        direct = direct or variant == "flow"
        make = model
        if isinstance(model, nn.Module):
            make = blocks_around(model, table.shape[1] if direct else classes, variant != "discrete")
        numbers = range(1, steps + 1) if variant == "discrete" else [0]
        super().__init__(nn.ModuleList(make(number, table.shape[1]) for number in numbers), loss)
        reference = next(self.model.parameters())
        self.num_classes, self.steps, self.variant = classes, steps, variant
        self.order, self.direct = order, direct
        self.eta = eta if eta is not None else (0.1 if variant == "discrete" else 1.0)
        self.samples, self.generator, self.learned_embedding = samples, generator, learned
        self.schedule = schedule if isinstance(schedule, DiffusionSchedule) else CosineSchedule(steps)
        self.noise: LearnedSchedule | None = None
        if variant == "continuous":
            self.noise = (schedule if isinstance(schedule, LearnedSchedule) else LearnedSchedule()).to(reference)
        if learned:
            self.embedding = nn.Parameter(table.to(reference))
        else:
            self.register_buffer("embedding", table.to(reference))
        self.readout = nearest_readout(table).to(reference) if readout == "linear" else None
        self.register_buffer("turn", torch.zeros((), dtype=torch.int64))

    def block_parameters(self, step: int) -> list[nn.Parameter]:
        """The parameters that only step 1..T trains, for an optimizer per block."""
        return list(self.model[step - 1 if self.variant == "discrete" else 0].parameters())

    def shared_parameters(self) -> list[nn.Parameter]:
        """Embedding, readout and learned schedule, whose gradients are summed over blocks."""
        own = {id(p) for p in self.model.parameters()}
        return [p for p in self.parameters() if id(p) not in own]

    def denoise(self, t: int | Tensor, z: Float[Tensor, "batch embed"], x: Tensor) -> Float[Tensor, "batch embed"]:
        """û of the block of step t, or of the one block at times t [batch]; the velocity for ``"flow"``."""
        output = self.model[t - 1](z, x) if isinstance(t, int) else self.model[0](z, x, t)
        return output if self.direct else output.softmax(-1) @ self.embedding

    def read_out(self, z: Float[Tensor, "batch embed"]) -> Float[Tensor, "batch classes"]:
        """log p̂(y|z)."""
        if self.readout is not None:
            return self.readout(z).log_softmax(-1)
        return (-torch.cdist(z, self.embedding).square() / 0.2).log_softmax(-1)

    def block_loss(
        self, t: int | Tensor | None, x: Tensor, y: Int[Tensor, " batch"], generator: torch.Generator | None = None
    ) -> Tensor:
        """The loss of one block alone: it touches no other block, so blocks may be trained in different processes.

        Args:
            t: step 1..T; in continuous time the times [batch] in [0, 1], or None to draw them.
            x: inputs.
            y: class indices.
            generator: source of the noise; the rule's by default.

        Returns:
            T/2 η ΔSNR_t ‖û − u_y‖², ½ η SNR'(t) ‖û − u_y‖², or ‖v − (u_y − z_0)‖² with the readout's loss at the
            extrapolated end: means over the batch.
        """
        generator = generator or self.generator
        u = self.embedding[y.long()]
        if self.variant == "discrete":
            if not isinstance(t, int) or not 1 <= t <= self.steps:
                raise ValueError(f"t must be a step between 1 and {self.steps}, not {t}")
            z = _noised(u, float(self.schedule.alpha_bar[t - 1]), generator)
            weight = 0.5 * self.steps * self.eta * float(self.schedule.delta_snr[t - 1])
            return weight * _distance(self.denoise(t, z, x), u).mean()
        times = t if isinstance(t, Tensor) else torch.rand(u.shape[:1], generator=generator, device=u.device).to(u)
        if self.noise is not None:
            z = _noised(u, self.noise.alpha_bar(times)[0][:, None], generator)
            slope = self.noise.snr(times)[1]
            return 0.5 * self.eta * (slope * _distance(self.denoise(times, z, x), u)).mean()
        start = _normal(u, generator)
        z = torch.lerp(start, u, times[:, None])
        velocity = self.denoise(times, z, x)
        end = z + (1 - times[:, None]) * velocity
        # A fixed embedding needs no anchor; its readout then learns from the ends without teaching the block.
        anchor = self.loss(self.read_out(end if self.learned_embedding else end.detach()), y)
        return _distance(velocity, u - start).mean() + anchor

    def readout_loss(self, y: Int[Tensor, " batch"], generator: torch.Generator | None = None) -> Tensor:
        """The readout's loss at q(z_T|y), which also keeps a learned embedding from collapsing, plus the KL term.

        Zero for flow matching, which has the readout's loss in `block_loss`.
        """
        u = self.embedding[y.long()]
        if self.variant == "flow":
            return u.new_zeros(())
        if self.noise is None:
            first, last = (self.schedule.alpha_bar[i].to(u) for i in (0, -1))
        else:
            first, last = self.noise.alpha_bar(torch.tensor([0.0, 1.0]).to(u))[0]
        return self.loss(self.read_out(_noised(u, last, generator or self.generator)), y) + prior_gap(u, first).mean()

    def assign_credit(self, x: Any, y: Tensor) -> Tensor:
        """Add the gradients of the blocks whose turn it is, and of readout and embedding; returns the objective."""
        if not isinstance(x, Tensor):
            raise TypeError(f"NoProp needs one tensor of inputs, not {type(x).__name__}")
        self._check(y)
        steps: list[int | None] = [None]
        if self.variant == "discrete":
            steps = list(range(1, self.steps + 1))
            if self.order == "sampled":
                steps = [int(torch.randint(self.steps, (), generator=self.generator, device=y.device)) + 1]
            elif self.order == "sequential":
                steps = [int(self.turn) + 1]
                self.turn.copy_((self.turn + 1) % self.steps)
        total = torch.zeros((), device=y.device)
        for t in steps:
            total = total + _descend(self.block_loss(t, x, y) / len(steps))
        return total + _descend(self.readout_loss(y))

    def trajectory(
        self, x: Tensor, *, noise: bool = True, generator: torch.Generator | None = None
    ) -> list[Float[Tensor, "batch embed"]]:
        """z_0, ..., z_T of one prediction; without noise z_0 = 0 and ε = 0."""
        generator = generator or self.generator
        z = self.embedding.new_zeros(len(x), self.embedding.shape[1])
        path = [_normal(z, generator) if noise else z]
        for step in range(1, self.steps + 1):
            z = path[-1]
            if self.variant == "discrete":
                a, b, c = self.schedule.coefficients(step)
                following = a * self.denoise(step, z, x) + b * z
                path.append(following + math.sqrt(c) * _normal(z, generator) if noise else following)
            else:
                path.append(z + self._slope((step - 1) / self.steps, z, x) / self.steps)
        return path

    def log_probs(
        self, x: Tensor, samples: int = 0, generator: torch.Generator | None = None
    ) -> Float[Tensor, "batch classes"]:
        """log p̂(y|x): the mean probability over noise samples, or with 0 samples the chain without noise."""
        if samples == 0:
            return self.read_out(self.trajectory(x, noise=False)[-1])
        drawn = [self.read_out(self.trajectory(x, generator=generator)[-1]) for _ in range(samples)]
        return torch.stack(drawn).logsumexp(0) - math.log(samples)

    def forward(self, x: Tensor) -> Float[Tensor, "batch classes"]:
        """log p̂(y|x): of one noisy chain in training mode, of ``samples`` in evaluation mode."""
        return self.log_probs(x, 1 if self.training else self.samples)

    def _slope(self, time: float, z: Tensor, x: Tensor) -> Tensor:
        """dz/dt of the probability flow, with û in place of u_y; the velocity itself for ``"flow"``."""
        times = z.new_full((len(z),), time)
        output = self.denoise(times, z, x)
        return output if self.noise is None else flow_slope(output, z, *self.noise.alpha_bar(times[:1]))

    def _check(self, y: Tensor) -> None:
        if y.is_floating_point() or y.is_complex() or y.dim() != 1:
            raise ValueError(f"targets must be class indices of shape [batch], not {y.dtype} of {tuple(y.shape)}")
        if y.device.type == "cpu" and len(y) and not 0 <= int(y.min()) <= int(y.max()) < self.num_classes:
            raise ValueError(
                f"targets must lie in 0..{self.num_classes - 1}; they go from {int(y.min())} to {int(y.max())}"
            )


def _descend(loss: Tensor) -> Tensor:
    if loss.requires_grad:  # a radial readout of a fixed embedding has nothing to learn
        loss.backward()
    return loss.detach()


def _normal(like: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)


def _noised(u: Tensor, alpha_bar: float | Tensor, generator: torch.Generator | None) -> Tensor:
    return alpha_bar**0.5 * u + (1 - alpha_bar) ** 0.5 * _normal(u, generator)


def _distance(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square().sum(1)

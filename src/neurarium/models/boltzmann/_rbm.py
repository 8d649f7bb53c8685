"""A restricted Boltzmann machine: binary or real visible units, labels beside them, dense or sparse."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import one_hot, softplus

from neurarium.layers import SparseLinear

VISIBLE_UNITS = ("binary", "gaussian")


class RBM(nn.Module):
    """Binary hidden units over visible ones: ``E(v, h) = −v·a − h·b − hᵀ W v``.

    Gaussian visible units have ``(v − a)² / 2`` in the place of ``−v·a``: given h they are normal around ``a + Wᵀ h``
    with deviation 1, so inputs should be standardised. With labels, the last `num_labels` visible units are one softmax
    group, of which one unit is on: the machine then models inputs and classes jointly.

    `assign_credit` adds the contrastive-divergence gradient to ``.grad``, at existing connections only, so any
    optimizer trains it and `neurarium.compression.SparseEvolution` rewires it (`ContrastiveDivergence` has persistent
    chains too). With plain SGD the step is ``ΔW_ij = lr (⟨v_i h_j⟩_data − ⟨v_i h_j⟩_model)``.

    Args:
        visible: number of visible units, labels not counted.
        hidden: number of hidden units.
        visible_units: "binary" (inputs in 0..1) or "gaussian" (standardised real inputs).
        num_labels: classes of the softmax group; 0 for none.
        density: share of the connections that exist; 1 for all.
        generator: source of places and initial values.

    Raises:
        ValueError: unknown `visible_units`, or a negative `num_labels`.
    """

    weights: nn.Linear | SparseLinear

    def __init__(
        self,
        visible: int,
        hidden: int,
        *,
        visible_units: Literal["binary", "gaussian"] = "binary",
        num_labels: int = 0,
        density: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if visible_units not in VISIBLE_UNITS:
            raise ValueError(f"visible_units must be 'binary' or 'gaussian', not {visible_units!r}")
        if num_labels < 0:
            raise ValueError(f"num_labels must not be negative, not {num_labels}")
        self.visible, self.hidden, self.num_labels = visible, hidden, num_labels
        self.visible_units = visible_units
        if density == 1:
            self.weights = nn.utils.skip_init(nn.Linear, visible + num_labels, hidden)
        else:
            self.weights = SparseLinear(visible + num_labels, hidden, density, generator=generator)
        self.visible_bias = nn.Parameter(torch.zeros(visible + num_labels))
        self.reset_parameters(generator)

    @classmethod
    def around(cls, layer: nn.Linear | SparseLinear, visible_units: Literal["binary", "gaussian"] = "binary") -> RBM:
        """The machine whose weights are those of a layer: what trains one, trains the other.

        Raises:
            ValueError: the layer has no bias, which the hidden units need.
        """
        if layer.bias is None:
            raise ValueError("the layer needs a bias: it is that of the hidden units")
        unused = torch.Generator()  # the first values give way to the layer's own
        machine = cls(layer.in_features, layer.out_features, visible_units=visible_units, generator=unused)
        machine.weights = layer
        return machine.to(layer.bias.device, layer.bias.dtype)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Small normal weights, biases at zero."""
        weight = self.weights.values if isinstance(self.weights, SparseLinear) else self.weights.weight
        with torch.no_grad():
            weight.copy_(torch.randn(weight.shape, generator=generator) / 20)
            self.weights.bias.zero_()
            self.visible_bias.zero_()

    def join(self, x: Float[Tensor, "batch features"], y: Int[Tensor, " batch"]) -> Float[Tensor, "batch visible"]:
        """Inputs with their labels beside them, as the visible units hold them."""
        return torch.cat([x, one_hot(y.long(), self.num_labels).to(x)], 1)

    def hidden_probabilities(self, v: Float[Tensor, "batch visible"]) -> Float[Tensor, "batch hidden"]:
        """``p(h = 1 | v)``."""
        hidden: Tensor = self.weights(v).sigmoid()
        return hidden

    @torch.no_grad()
    def visible_means(self, h: Float[Tensor, "batch hidden"]) -> Float[Tensor, "batch visible"]:
        """Expectation of each visible unit given the hidden ones, without a gradient."""
        return self.means_of(self.downward(h) + self.visible_bias)

    @torch.no_grad()
    def sample_hidden(
        self, v: Float[Tensor, "batch visible"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "batch hidden"]:
        """A draw from ``p(h | v)``."""
        return coins(self.hidden_probabilities(v), generator)

    @torch.no_grad()
    def sample_visible(
        self, h: Float[Tensor, "batch hidden"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "batch visible"]:
        """A draw from ``p(v | h)``."""
        return self.draw_visible(self.visible_means(h), generator)

    def means_of(self, drive: Float[Tensor, "batch visible"]) -> Float[Tensor, "batch visible"]:
        """Means of visible units whose input, bias included, is ``drive``."""
        features, labels = drive.split([self.visible, self.num_labels], 1)
        features = features.sigmoid() if self.visible_units == "binary" else features
        return torch.cat([features, labels.softmax(1)], 1) if self.num_labels else features

    def draw_visible(
        self, means: Float[Tensor, "batch visible"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "batch visible"]:
        """Visible states of given means: coins or normal numbers, and one label of the group."""
        features, labels = means.split([self.visible, self.num_labels], 1)
        if self.visible_units == "binary":
            features = coins(features, generator)
        else:
            features = features + torch.randn(
                features.shape, generator=generator, device=source(features, generator)
            ).to(features)
        if not self.num_labels:
            return features
        threshold = uniform(labels[:, :1], generator)
        chosen = (labels.cumsum(1) < threshold).sum(1).clamp(max=self.num_labels - 1)
        return torch.cat([features, one_hot(chosen, self.num_labels).to(features)], 1)

    def free_energy(self, v: Float[Tensor, "batch visible"]) -> Float[Tensor, " batch"]:
        """``F(v) = −v·a − Σ_j log(1 + exp(b_j + W_j v))``; ``−F`` is the unnormalised log-probability.

        Of Gaussian units ``−v·a`` is ``|v − a|² / 2``.
        """
        return self.visible_energy(v) - softplus(self.weights(v)).sum(1)

    def visible_energy(
        self, v: Float[Tensor, "batch visible"], bias: Float[Tensor, " visible"] | None = None
    ) -> Float[Tensor, " batch"]:
        """The part of the energy that no hidden unit enters; ``bias`` stands in for the machine's own."""
        bias = self.visible_bias if bias is None else bias
        if self.visible_units == "binary":
            return -v @ bias
        features, labels = v.split([self.visible, self.num_labels], 1)
        near, group = bias.split([self.visible, self.num_labels])
        return (features - near).square().sum(1) / 2 - labels @ group

    def energy(self, v: Float[Tensor, "batch visible"], h: Float[Tensor, "batch hidden"]) -> Float[Tensor, " batch"]:
        """``E(v, h)`` of joint states."""
        return self.visible_energy(v) - (h * self.weights(v)).sum(1)

    @torch.no_grad()
    def gibbs(
        self,
        v: Float[Tensor, "batch visible"],
        steps: int = 1,
        generator: torch.Generator | None = None,
        mean_field: bool = True,
    ) -> Float[Tensor, "batch visible"]:
        """Visible units after some steps of sampled hidden ones.

        Args:
            v: where the chains begin.
            steps: of both layers.
            generator: source of the draws.
            mean_field: visible units are their means; False draws them too, as a chain of the machine's own law must.
        """
        for _ in range(steps):
            v = self.visible_means(coins(self.hidden_probabilities(v), generator))
            if not mean_field:
                v = self.draw_visible(v, generator)
        return v

    def assign_credit(
        self, v: Float[Tensor, "batch visible"], steps: int = 1, generator: torch.Generator | None = None
    ) -> Tensor:
        """Add the CD-``steps`` gradient to ``.grad``; returns the mean squared error of the reconstruction.

        The gradient of ``mean F(data) − mean F(model)`` is that of contrastive divergence.
        """
        model = self.gibbs(v, steps, generator)
        (self.free_energy(v).mean() - self.free_energy(model).mean()).backward()
        return (v - model).square().mean().detach()

    def label_logits(self, x: Float[Tensor, "batch features"]) -> Float[Tensor, "batch labels"]:
        """``−F(x, y)`` of every label y, less what does not depend on y: the softmax is ``p(y | x)``, exactly.

        Raises:
            ValueError: the machine has no labels.
        """
        if not self.num_labels:
            raise ValueError("the machine has no label units: make it with num_labels")
        none = torch.cat([x, x.new_zeros(len(x), self.num_labels)], 1)
        label = torch.cat([x.new_zeros(self.num_labels, self.visible), torch.eye(self.num_labels).to(x)], 1)
        each = self.weights(label) - self.weights.bias  # what label y adds to the hidden units' inputs
        return softplus(self.weights(none)[:, None] + each).sum(2) + self.visible_bias[self.visible :]

    def forward(self, v: Float[Tensor, "batch visible"]) -> Float[Tensor, "batch visible"]:
        """Mean-field reconstruction."""
        return self.visible_means(self.hidden_probabilities(v))

    def extra_repr(self) -> str:
        """The arguments."""
        labels = f", num_labels={self.num_labels}" if self.num_labels else ""
        return f"{self.visible}, {self.hidden}, visible_units={self.visible_units!r}{labels}"

    def downward(self, h: Float[Tensor, "batch hidden"]) -> Float[Tensor, "batch visible"]:
        """``Wᵀ h``: what the hidden units add to the inputs of the visible ones, without a gradient where sparse."""
        weights = self.weights
        return weights.transposed(h) if isinstance(weights, SparseLinear) else h @ weights.weight


def source(like: Tensor, generator: torch.Generator | None) -> torch.device:
    """Where numbers are drawn: on the generator's device, or on that of what they are for."""
    return like.device if generator is None else generator.device


def uniform(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Uniform numbers of a tensor's shape, device and type."""
    return torch.rand(like.shape, generator=generator, device=source(like, generator)).to(like)


def coins(p: Tensor, generator: torch.Generator | None) -> Tensor:
    """1 with probability ``p``, else 0."""
    return (uniform(p, generator) < p).to(p)

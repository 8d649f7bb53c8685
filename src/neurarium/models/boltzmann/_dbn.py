"""Deep belief networks: machines stacked one on the other, learned greedily without labels."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import one_hot

from neurarium.models.boltzmann._contrastive_divergence import fit_rbm, inputs_of
from neurarium.models.boltzmann._rbm import RBM, coins


class DeepBeliefNetwork(nn.Module):
    """A restricted Boltzmann machine at the top, directed sigmoid layers down to the inputs (Hinton et al., 2006).

    Each layer is learned as a machine of its own on what the layers below make of the data; afterwards their weights
    start a sigmoid network (`to_classifier`, `to_autoencoder`), or the whole generates (`sample`).

    Args:
        sizes: units of the inputs and of every hidden layer, ``(784, 500, 500, 2000)``.
        visible_units: of the inputs: "binary" (0..1) or "gaussian" (standardised).
        num_labels: label units beside the top machine's inputs, for `classify` and for samples of a class; 0 for none.
        generator: source of the initial weights.

    Raises:
        ValueError: fewer than two sizes.
    """

    layers: nn.ModuleList

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        visible_units: Literal["binary", "gaussian"] = "binary",
        num_labels: int = 0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if len(sizes) < 2:
            raise ValueError(f"sizes must name the inputs and at least one hidden layer, not {tuple(sizes)}")
        self.layers = nn.ModuleList()
        for number, (visible, hidden) in enumerate(itertools.pairwise(sizes)):
            kind: Literal["binary", "gaussian"] = visible_units if number == 0 else "binary"
            labels = num_labels if number == len(sizes) - 2 else 0
            self.layers.append(
                RBM(visible, hidden, visible_units=kind, num_labels=labels, generator=generator)
            )  # fmt: skip

    @property
    def machines(self) -> list[RBM]:
        """From the inputs up."""
        return list(self.layers)  # type: ignore[arg-type]

    @property
    def top(self) -> RBM:
        """The machine that the network generates from."""
        return self.machines[-1]

    def forward(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch hidden"]:
        """Probabilities of the last hidden layer (without labels), each layer fed with those below.

        Raises:
            ValueError: the top machine has labels: see `classify`.
        """
        if self.top.num_labels:
            raise ValueError("the top machine wants labels beside its inputs: use classify(x) or upward(x)")
        return self.top.hidden_probabilities(self.upward(x))

    def upward(self, x: Float[Tensor, "batch ..."], layers: int | None = None) -> Float[Tensor, "batch units"]:
        """What the top machine (or that after so many layers) is given of some inputs, labels left out."""
        v = x.flatten(1).to(self.top.visible_bias)
        for machine in self.machines[: len(self.layers) - 1 if layers is None else layers]:
            v = machine.hidden_probabilities(v)
        return v

    def pretrain(
        self,
        loader: Iterable[Any],
        *,
        epochs: int = 10,
        learning_rate: float | Sequence[float | None] | None = None,
        generator: torch.Generator | None = None,
        on_epoch: Callable[[int, int, float], object] | None = None,
        **options: Any,
    ) -> DeepBeliefNetwork:
        """Learn layer after layer from below, each on the probabilities of the one before; no label is used without
        label units.

        Args:
            loader: batches of inputs, alone or with targets.
            epochs: passes for each layer.
            learning_rate: of all layers or of each; None for the default of `fit_rbm`.
            generator: source of the draws.
            on_epoch: called with the layer and the pass, both from 1, and the error of reconstruction.
            options: more of `fit_rbm`: momentum, weight_decay, steps, persistent.
        """
        machines = self.machines
        rates = [learning_rate] * len(machines) if not isinstance(learning_rate, Sequence) else list(learning_rate)
        for number, (machine, rate) in enumerate(zip(machines, rates, strict=True), start=1):

            def tell(epoch: int, error: float, number: int = number) -> None:
                if on_epoch is not None:
                    on_epoch(number, epoch, error)

            fit_rbm(
                machine, _Below(self, number - 1, loader), epochs=epochs, learning_rate=rate, generator=generator,
                on_epoch=tell, **options,
            )  # fmt: skip
        return self

    @torch.no_grad()
    def sample(
        self,
        count: int,
        *,
        steps: int = 1000,
        labels: Int[Tensor, " count"] | None = None,
        start: Float[Tensor, "count ..."] | None = None,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "count inputs"]:
        """Means of the inputs after Gibbs sampling in the top machine and one pass down.

        Args:
            count: number of samples.
            steps: of Gibbs sampling.
            labels: classes to which the label units are held; free by default.
            start: inputs whose representation the chains begin at; by default noise.
            generator: source of the draws.

        Raises:
            ValueError: labels for a network that has none.
        """
        top = self.top
        if labels is not None and not top.num_labels:
            raise ValueError("the network has no label units: make it with num_labels")
        held = None if labels is None else one_hot(labels.long(), top.num_labels).to(top.visible_bias)
        blank = top.visible_bias.new_zeros(count, len(top.visible_bias))
        v = top.draw_visible(top.means_of(blank), generator)
        if start is not None:
            v = torch.cat([coins(self.upward(start), generator), v[:, top.visible :]], 1)
        for _ in range(steps):
            if held is not None:
                v = torch.cat([v[:, : top.visible], held], 1)
            h = top.sample_hidden(v, generator)
            v = top.sample_visible(h, generator)
        return self._downward(top.visible_means(h) if steps else v, generator)

    def _downward(self, v: Tensor, generator: torch.Generator | None) -> Tensor:
        v = v[:, : self.top.visible]
        for machine in reversed(self.machines[:-1]):
            v = machine.visible_means(coins(v, generator))
        return v

    def classify(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch labels"]:
        """Logits of ``p(label | what the top machine is given)``, by the free energy of each label.

        Raises:
            ValueError: the network has no label units.
        """
        return self.top.label_logits(self.upward(x))

    def to_classifier(self, num_outputs: int) -> nn.Sequential:
        """A sigmoid network with a new linear layer on top, for backpropagation with labels (or numbers).

        Its hidden layers *are* those of this network: training one trains the other. Copy either to keep both.

        Raises:
            ValueError: the top machine has label units, which the network would not have.
        """
        hidden = self._encoder()
        head = nn.Linear(self.top.hidden, num_outputs).to(self.top.visible_bias)
        return nn.Sequential(nn.Flatten(), *hidden, head)

    def to_autoencoder(self) -> nn.Sequential:
        """An autoencoder: these layers, then copies of their transposes (Hinton and Salakhutdinov, 2006).

        Raises:
            ValueError: the top machine has label units, which the network would not have.
        """
        layers = [nn.Flatten(), *self._encoder()]
        for machine in reversed(self.machines):
            down = nn.Linear(machine.hidden, machine.visible).to(machine.visible_bias)
            with torch.no_grad():
                down.weight.copy_(machine.weights.weight.T)  # type: ignore[arg-type]
                down.bias.copy_(machine.visible_bias)
            layers += [down, nn.Sigmoid()]
        return nn.Sequential(*(layers[:-1] if self.machines[0].visible_units == "gaussian" else layers))

    def _encoder(self) -> list[nn.Module]:
        if self.top.num_labels:
            raise ValueError("the top machine has label units, which a feed-forward network has not: use classify(x)")
        return [module for machine in self.machines for module in (machine.weights, nn.Sigmoid())]


class _Below:
    """A loader as one layer sees it: inputs through the layers below, targets as they are."""

    def __init__(self, network: DeepBeliefNetwork, layers: int, loader: Iterable[Any]) -> None:
        self.network, self.layers, self.loader = network, layers, loader

    def __iter__(self) -> Iterator[Any]:
        for batch in self.loader:
            x, y = inputs_of(batch)
            with torch.no_grad():
                v = self.network.upward(x, self.layers)
            yield v if y is None else (v, y)

"""Contrastive divergence with restarted or persistent chains, and the training of one machine by it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurarium.models.boltzmann._rbm import RBM
from neurarium.training import unpack


class ContrastiveDivergence(nn.Module):
    """Fills ``.grad`` with the negative CD statistic of a machine, for any optimizer, penalty or mask to act on.

    The gradient is ``∇ mean F(data) − ∇ mean F(chains)``. Chains begin at the data and run for ``steps`` (CD-k), or go
    on from where the last update left them (PCD-k; Tieleman, 2008), which is less biased and mixes worse early on.

    Args:
        machine: an `RBM`, or any module with its ``free_energy(v)`` and ``gibbs(v, steps, generator, mean_field)``.
        steps: of Gibbs sampling per update.
        persistent: number of persistent chains, kept in the state; 0 restarts at the data.
        mean_field: restarted chains end in means and not in states, which is less noisy. Persistent ones are states.
        generator: source of the draws; torch's own by default.

    Raises:
        ValueError: ``steps`` below 1 or ``persistent`` below 0; at the first batch: data that the visible units cannot
            hold.
    """

    chains: Tensor

    def __init__(
        self,
        machine: RBM,
        steps: int = 1,
        *,
        persistent: int = 0,
        mean_field: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if steps < 1 or persistent < 0:
            raise ValueError(f"steps must be at least 1 and persistent not negative, not {steps} and {persistent}")
        self.machine, self.steps, self.mean_field, self.generator = machine, steps, mean_field, generator
        self._checked = False
        bias = machine.visible_bias
        blank = torch.zeros(persistent, len(bias), dtype=bias.dtype, device=bias.device)
        with torch.no_grad():
            chains = machine.draw_visible(machine.means_of(blank), generator) if persistent else blank
        self.register_buffer("chains", chains)

    def forward(self, v: Float[Tensor, "batch visible"]) -> Float[Tensor, "batch visible"]:
        """The machine's mean-field reconstruction."""
        return self.machine(v)

    def assign_credit(self, v: Float[Tensor, "batch visible"]) -> Tensor:
        """Add the gradient of one batch to ``.grad``; returns the squared error of its mean-field reconstruction."""
        if not self._checked:
            check_visible(self.machine, v)
            self._checked = True
        if len(self.chains):
            self.chains = self.machine.gibbs(self.chains, self.steps, self.generator, False)
            model = self.chains
        else:
            model = self.machine.gibbs(v, self.steps, self.generator, self.mean_field)
        (self.machine.free_energy(v).mean() - self.machine.free_energy(model).mean()).backward()
        with torch.no_grad():
            reconstructed = self.machine(v) if len(self.chains) else model
            return (v - reconstructed).square().mean()


def check_visible(machine: RBM, v: Tensor) -> None:
    """Refuse data that a machine's visible units cannot stand for.

    Raises:
        ValueError: wrong width; values outside 0..1 for binary units; values far from standardised for Gaussian ones.
    """
    if v.dim() != 2 or v.shape[1] != len(machine.visible_bias):
        raise ValueError(f"v must be [batch, {len(machine.visible_bias)}], not {list(v.shape)}")
    x = v[:, : machine.visible]
    low, high = float(x.min()), float(x.max())
    if machine.visible_units == "binary" and not (low >= 0 and high <= 1):
        raise ValueError(
            f"binary visible units hold values in 0..1, not {low:g} to {high:g}; scale them, or choose "
            "visible_units='gaussian' for standardised ones"
        )
    if machine.visible_units == "gaussian" and not 0.1 < float(x.square().mean()) < 10:
        raise ValueError(
            f"Gaussian visible units have deviation 1, but v has a mean square of {float(x.square().mean()):.3g}: "
            "standardise it (Split.scaled())"
        )


def fit_rbm(
    machine: RBM,
    loader: Iterable[Any],
    *,
    epochs: int = 10,
    learning_rate: float | None = None,
    momentum: tuple[float, float] = (0.5, 0.9),
    weight_decay: float = 2e-4,
    steps: int = 1,
    persistent: int = 0,
    generator: torch.Generator | None = None,
    on_epoch: Callable[[int, float], object] | None = None,
) -> RBM:
    """Train a machine in place as Hinton's guide has it: momentum that rises after five passes, decay of the weights.

    The visible biases begin at the log-odds (or means) of the first batch.

    Args:
        machine: to train; its weights are where they are when this begins.
        loader: batches of inputs ``[batch, ...]``, alone or with targets; a machine with labels needs both.
        epochs: passes over the loader.
        learning_rate: 0.1 for binary visible units, 0.001 for Gaussian ones by default.
        momentum: of the first five passes, and of the others.
        weight_decay: on the weights, not on the biases.
        steps: of Gibbs sampling per update.
        persistent: number of persistent chains; 0 restarts at the data.
        generator: source of the draws.
        on_epoch: called with the number of the pass, from 1, and its mean squared error of reconstruction.

    Raises:
        ValueError: an empty loader, or data that the visible units cannot hold.
        FloatingPointError: the weights are not finite any more: the learning rate is too high.
    """
    if learning_rate is None:
        learning_rate = 0.1 if machine.visible_units == "binary" else 1e-3
    rule = ContrastiveDivergence(machine, steps, persistent=persistent, generator=generator)
    biases = [machine.visible_bias, machine.weights.bias]
    others = [p for p in machine.parameters() if all(p is not bias for bias in biases)]
    groups: list[dict[str, Any]] = [{"params": others, "weight_decay": weight_decay}, {"params": biases}]
    optimizer = torch.optim.SGD(groups, learning_rate, momentum[0])
    for epoch in range(1, epochs + 1):
        for group in optimizer.param_groups:
            group["momentum"] = momentum[int(epoch > 5)]
        errors = []
        for number, batch in enumerate(loader):
            v = visible_rows(machine, batch)
            if epoch == 1 and number == 0:
                check_visible(machine, v)
                set_visible_bias(machine, v)
            optimizer.zero_grad()
            errors.append(rule.assign_credit(v))
            optimizer.step()
        if not errors:
            raise ValueError("the loader gave no batch")
        error = float(torch.stack(errors).mean())
        if not error < torch.inf:
            raise FloatingPointError(f"training diverged in pass {epoch}: lower the learning rate of {learning_rate:g}")
        if on_epoch is not None:
            on_epoch(epoch, error)
    optimizer.zero_grad()
    return machine


@torch.no_grad()
def set_visible_bias(machine: RBM, v: Float[Tensor, "batch visible"]) -> None:
    """Let a machine without weights have the means of a batch: log-odds, logarithms for labels, or means."""
    features, labels = v.mean(0).split([machine.visible, machine.num_labels])
    if machine.visible_units == "binary":
        features = features.clamp(0.01, 0.99).logit()
    machine.visible_bias.copy_(torch.cat([features, labels.clamp(min=0.01).log()]))


def visible_rows(machine: RBM, batch: Any) -> Float[Tensor, "batch visible"]:
    """A batch as the visible units hold it.

    Raises:
        ValueError: a machine with labels is given none.
    """
    x, y = inputs_of(batch)
    x = x.flatten(1).to(machine.visible_bias)
    if not machine.num_labels:
        return x
    if y is None:
        raise ValueError(f"the machine has {machine.num_labels} label units, so the loader must give labels too")
    return machine.join(x, y.to(x.device))


def inputs_of(batch: Any) -> tuple[Tensor, Tensor | None]:
    """The inputs of a batch that may have no targets: a tensor alone, or one in a tuple."""
    if isinstance(batch, Tensor):
        return batch, None
    if isinstance(batch, tuple | list) and len(batch) == 1:
        return batch[0], None
    x, y = unpack(batch)
    return x, y

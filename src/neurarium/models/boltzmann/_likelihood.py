"""What data are worth to a restricted Boltzmann machine: likelihood, its stand-in without log Z, overfitting."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from neurarium.models.boltzmann._contrastive_divergence import check_visible
from neurarium.models.boltzmann._partition import LogPartition, log_partition
from neurarium.models.boltzmann._rbm import RBM, source


@dataclass(frozen=True)
class LogLikelihood:
    """Log-likelihood per example, in nats.

    Args:
        each: of every example.
        partition: the log Z that was subtracted; its uncertainty is that of all examples together.
    """

    each: Float[Tensor, " examples"]
    partition: LogPartition

    @property
    def mean(self) -> float:
        """Over the examples."""
        return float(self.each.double().mean())

    def __str__(self) -> str:
        return f"mean log-likelihood {self.mean:.3f} of {len(self.each)} examples; {self.partition}"


@torch.no_grad()
def log_likelihood(
    machine: RBM,
    v: Float[Tensor, "examples visible"],
    partition: LogPartition | None = None,
    *,
    generator: torch.Generator | None = None,
) -> LogLikelihood:
    """``log p(v) = −F(v) − log Z`` of every example.

    Args:
        machine: any `RBM`.
        v: examples as the visible units hold them.
        partition: from `log_partition`; computed with its defaults where not given.
        generator: source of its chains, should it have to be estimated.

    Raises:
        ValueError: examples that the visible units cannot hold.
    """
    check_visible(machine, v)
    partition = log_partition(machine, generator=generator) if partition is None else partition
    return LogLikelihood(-machine.free_energy(v) - partition.value, partition)


@torch.no_grad()
def pseudo_likelihood(
    machine: RBM, v: Float[Tensor, "examples visible"], generator: torch.Generator | None = None
) -> float:
    """``Σ_i log p(v_i | all others)``, mean over examples, from one random unit of each: it needs no log Z.

    Good to watch a training by; it can rise while the likelihood falls.

    Raises:
        ValueError: the visible units are not all binary.
    """
    if machine.visible_units != "binary" or machine.num_labels:
        raise ValueError("the pseudo-likelihood is that of binary visible units without labels")
    check_visible(machine, v)
    place = torch.randint(machine.visible, (len(v), 1), generator=generator, device=source(v, generator)).to(v.device)
    flipped = v.scatter(1, place, 1 - v.gather(1, place))
    return float(machine.visible * logsigmoid(machine.free_energy(flipped) - machine.free_energy(v)).double().mean())


@torch.no_grad()
def free_energy_gap(
    machine: RBM, training: Float[Tensor, "examples visible"], held_out: Float[Tensor, "others visible"]
) -> float:
    """Mean free energy of held-out examples less that of as many training examples, in nats; log Z cancels.

    It is near 0 at first and grows as the machine overfits: it is how much likelier training examples have become.
    """
    rows = min(len(training), len(held_out))
    return float(machine.free_energy(held_out).double().mean() - machine.free_energy(training[:rows]).double().mean())

"""How many bits the labels of a data set take, given the inputs and a network that is sent along."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from neurarium.compression.subspace._coded_model import CodedModel, code_model
from neurarium.compression.subspace._subspace_model import SubspaceModel
from neurarium.data import Arrays, Batches
from neurarium.learning import Backprop
from neurarium.probes import ProbeResult
from neurarium.theory import finite_hypothesis_bound
from neurarium.training import evaluation, fit, prediction


@dataclass(frozen=True)
class LabelCode(ProbeResult):
    """An upper bound on the complexity of labels, given their inputs.

    Args:
        bits_data: minus the log-probability of the labels under the coded network.
        bits_model: of the code of the network, its own length and the choices that were made written before it.
        naive_bits: what labels take by their frequencies alone.
        examples: how many labels.
        classes: how many kinds.
        train_error: share of the labels that the network gets wrong.
        test_error: the same on new examples; NaN without any.
        pac_bayes: with probability 0.95 over the data, its error on new examples is no larger.
        code: the network as bytes.
    """

    bits_data: float
    bits_model: float
    naive_bits: float
    examples: int
    classes: int
    train_error: float
    test_error: float
    pac_bayes: float
    code: CodedModel

    @property
    def bits_total(self) -> float:
        """Labels and network."""
        return self.bits_data + self.bits_model

    @property
    def ratio(self) -> float:
        """How many times shorter than without a network; below 1 nothing was gained."""
        return self.naive_bits / self.bits_total

    def summary(self) -> str:
        """The parts, and what they say of new examples."""
        return (
            f"{self.examples} labels of {self.classes} classes: {self.bits_data:.0f} bits and {self.bits_model:.0f} "
            f"for the network, {self.bits_total:.0f} in all beside {self.naive_bits:.0f} by frequency "
            f"({self.ratio:.2f} times shorter); error {self.train_error:.3f}, {self.test_error:.3f} on new examples, "
            f"at most {min(self.pac_bayes, 1.0):.3f} for certain"
        )

    def plot(self, ax: Any) -> Any:
        """The parts as bars beside the naive code."""
        ax.bar(["labels by frequency", "with a network"], [self.naive_bits, self.bits_data], label="labels")
        ax.bar(["with a network"], [self.bits_model], bottom=[self.bits_data], label="network")
        ax.set_ylabel("bits")
        ax.legend()
        return ax


def label_code_length(
    build: Callable[[], nn.Module], train: Arrays, *, test: Arrays | None = None, dim: int = 250, levels: int = 9,
    epochs: int = 15, tuning_epochs: int = 4, lr: float = 3e-3, batch_size: int = 128, seed: int = 0,
    choices: int = 1,
) -> LabelCode:  # fmt: skip
    """Train a network in a subspace, write it down, decode it, and code the labels with it (Goldblum et al., 2024).

    Args:
        build: makes a classifier, drawing from torch's generator.
        train: inputs and labels 0, 1, ... without gaps.
        test: new examples.
        dim: coordinates of the subspace.
        levels: entries of the codebook.
        epochs: of training in the subspace.
        tuning_epochs: with rounded coordinates.
        lr: learning rate of Adam; a third of it with rounded coordinates.
        batch_size: examples per step.
        seed: of the network, the subspace and the order of the examples.
        choices: settings that were tried before these were chosen (of ``dim`` and ``lr``, say): the code says which.

    Raises:
        ValueError: targets that are no classes, fewer than 50 examples, or a number out of range.
    """
    x, y = train.x, train.y
    if y.is_floating_point() or y.dim() != 1:
        raise ValueError("label_code_length codes classes: y must hold whole numbers, one for each example")
    if len(y) < 50 or choices < 1 or int(y.min()) < 0:
        raise ValueError(f"there must be 50 examples or more, labels from 0 and choices from 1, not {len(y)} examples")
    model = SubspaceModel(build, dim, seed).to(x.device)
    loader = Batches(train, batch_size, shuffle=True, seed=seed)
    _train(model, loader, lr, epochs)
    model.quantize(levels)
    _train(model, loader, lr / 3, tuning_epochs)
    code = code_model(model)
    decoded = code.decode(build).to(x.device)
    nats, wrong = _judged(decoded, train)
    counts = torch.bincount(y)
    bits_model = code.prefixed_bits + math.ceil(math.log2(choices))
    shares = counts[counts > 0] / len(y)
    return LabelCode(
        nats / math.log(2), bits_model, -len(y) * float((shares * shares.log2()).sum()), len(y), len(counts),
        wrong, _judged(decoded, test)[1] if test is not None else math.nan,
        finite_hypothesis_bound(wrong, code.bits + math.ceil(math.log2(choices)), len(y)), code,
    )  # fmt: skip


def _train(model: SubspaceModel, loader: Batches, lr: float, epochs: int) -> None:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    fit(Backprop(model, cross_entropy), loader, torch.optim.Adam(trained, lr=lr), epochs=epochs)


@torch.no_grad()
def _judged(model: nn.Module, data: Arrays, batch_size: int = 1024) -> tuple[float, float]:
    """Nats of all labels, and the share that is wrong."""
    nats, wrong = 0.0, 0
    with evaluation(model):
        for start in range(0, len(data), batch_size):
            part = data[slice(start, start + batch_size)]
            logits: Tensor = prediction(model(part.x)).double()
            nats += float(cross_entropy(logits, part.y, reduction="sum"))
            wrong += int((logits.argmax(1) != part.y).sum())
    return nats, wrong / len(data)

"""How the components of `neurarium.compression` are used."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from neurarium import compression
from neurarium.data import LabelTree
from neurarium.testing.examples._shared import bits, nested, pixels, seed
from neurarium.testing.world import Example, ModuleExample, World

MODULES: dict[str, ModuleExample] = {
    "AnytimeEnsemble": lambda w: (
        compression.AnytimeEnsemble([nn.Linear(8, 3), nn.Linear(8, 3)], [1.0, 0.5], [48, 48]), (w.x(5, 8),),
    ),
    "BranchedNet": lambda w: (compression.BranchedNet(nested(), torch.randn(2, 8)), (w.x(5, 8),)),
    "SlimmableNet": lambda w: (compression.SlimmableNet(nested(), torch.randn(2, 8)), (w.x(5, 8),)),
    "SortedNet": lambda w: (compression.SortedNet(nested(), torch.randn(2, 8)), (w.x(5, 8),)),
    "ClassOfStudents": lambda w: (
        compression.ClassOfStudents([nn.Linear(8, 2), nn.Linear(8, 2)], torch.eye(4), torch.zeros(4), nn.Linear(4, 3)),
        (w.x(5, 8),),
    ),
    "RecurrentStudent": lambda w: (compression.RecurrentStudent(8, 3, 4), (w.x(5, 6, 8),)),
    "RowLinear": lambda w: (compression.RowLinear(nn.Linear(8, 6), torch.tensor([0, 2])), (w.x(5, 8),)),
}  # fmt: skip

EXAMPLES: dict[str, Example] = {
    "KnowledgeConcentration": lambda w: concentrated(w),
    "LotteryTicket": lambda w: compression.LotteryTicket(pixels(w)).report(),
    "LowRankFineTuning": lambda w: compression.LowRankFineTuning(pixels(w), 2, generator=seed()).model(w.x(5, 8)),
    "Masks": lambda w: compression.Masks(compression.prunable(pixels(w))).density,
    "NeuronFineTuning": lambda w: tuned_neurons(w),
    "SparseEvolution": lambda w: evolved(w),
    "account": lambda w: compression.account(w.classifier(), w.x(2, 8)).flops,
    "activation_neurons": lambda w: compression.activation_neurons(w.classifier(), [w.x(9, 8)], [w.x(9, 8, seed=1)]),
    "ask_teacher": lambda w: compression.ask_teacher(w.classifier(), w.batches()),
    "calibrate": lambda w: list(compression.calibrate(gelu_net(w), w.batches())),
    "convert_activations": lambda w: compression.convert_activations(gelu_net(w), example=w.x(3, 8)).model(w.x(5, 8)),
    "gradient_neurons": lambda w: gradient_neurons(w),
    "judge": lambda w: compression.judge(pixels(w), answers(w)),
    "largest": lambda w: compression.largest(w.x(9), 3, w.x(9) > -1),
    "mamba_student": lambda w: compression.mamba_student(
        0.5, w.x(1, 28, 28), 3, 2_000_000
    ).to(w.dtype)(w.x(2, 28, 28)).shape,
    "operations": lambda w: compression.operations(pixels(w), w.x(2, 8)),
    "plain_student": lambda w: compression.plain_student(0.5, w.x(1, 8).float(), 3, 2000)(w.x(2, 8).float()).shape,
    "prunable": lambda w: compression.prunable(pixels(w)),
    "random_neurons": lambda w: compression.random_neurons(pixels(w), generator=seed()),
    "random_sparse": lambda w: compression.random_sparse(pixels(w), density=0.5, generator=seed()).model(w.x(5, 8)),
    "record": lambda w: compression.record(w.classifier(), w.batches()),
    "recurrent_student": lambda w: w.put(compression.recurrent_student((6, 8), 3, 500))(w.x(2, 6, 8)).shape,
    "sensitive_neurons": lambda w: compression.sensitive_neurons(pixels(w), w.mlp(8, 10, 10, 3, seed=1)),
    "small_student": lambda w: w.put(compression.small_student((8,), 3, 200))(w.x(2, 8)).shape,
    "sparse_layers": lambda w: [
        layer.values for _, layer in compression.sparse_layers(
            compression.random_sparse(pixels(w), density=0.5, generator=seed()).model
        )
    ],
    "store": lambda w: stored(w),
    "read": lambda w: stored(w),
    "NeuronSet": lambda w: compression.random_neurons(pixels(w), generator=seed()),
    "capacity": lambda w: compression.capacity(bits(w, trainable=1).model),
    "train_students": lambda w: compression.train_students([pixels(w)], answers(w), epochs=1),
    "train_hopeful_students": lambda w: compression.train_hopeful_students(
        [pixels(w)], answers(w), answers(w), epochs=2
    ),
    "vertical_precision": lambda w: compression.vertical_precision(w.x(12, 4), w.y() % 4, tree()),
}  # fmt: skip


def answers(w: World) -> compression.Answers:
    """What a teacher says."""
    return compression.ask_teacher(pixels(w), w.batches())


def tree() -> LabelTree:
    """Four classes under two."""
    return LabelTree({"a": ("c", "d"), "b": ("e", "f")})


def concentrated(w: World) -> Tensor:
    """The loss of a student of two teachers."""
    teachers = {"a": w.mlp(8, 4, 2), "b": w.mlp(8, 4, 2, seed=1)}
    method = compression.KnowledgeConcentration(teachers, tree())
    return method.loss(w.x(12, 4), w.examples(), w.y() % 4)


def tuned_neurons(w: World) -> Tensor:
    """A network of which some neurons are trained."""
    model = pixels(w)
    chosen = compression.random_neurons(model, fraction=0.3, generator=seed())
    return compression.NeuronFineTuning(model, chosen).model(w.x(5, 8))


def evolved(w: World) -> list[Tensor]:
    """Sparse weights after an evolution."""
    model = compression.random_sparse(pixels(w), density=0.5, generator=seed()).model
    compression.SparseEvolution(model, generator=seed()).evolve()
    return [p.detach() for p in model.parameters()]


def gelu_net(w: World) -> nn.Module:
    """A network with an activation to convert."""
    return w.put(nn.Sequential(w.mlp(8, 16)[0], nn.GELU(), w.mlp(16, 3)[0]))


def gradient_neurons(w: World) -> Any:
    """Neurons by their gradients."""
    model = pixels(w)
    return compression.gradient_neurons(model, lambda: cross_entropy(model(w.examples()), w.y().long()))


def stored(w: World) -> str:
    """Bytes put into a network's untrained bits, and read again."""
    model = bits(w, trainable=1).model
    compression.store(model, b"bytes")
    return compression.read(model).hex()

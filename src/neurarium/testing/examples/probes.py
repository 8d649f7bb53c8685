"""How the components of `neurarium.probes` are used."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium import layers, learning, models, probes
from neurarium.testing.examples._shared import bits, loose, pepita, pixels, seed
from neurarium.testing.world import Example, World

EXAMPLES: dict[str, Example] = {
    "class_distance_normalized_variance": lambda w: probes.class_distance_normalized_variance(w.examples(), w.y()),
    "neural_collapse": lambda w: probes.neural_collapse(w.classifier(), w.batches()),
    "TrajectoryRecorder": lambda w: trajectory(w),
    "align_units": lambda w: probes.align_units(w.mlp(8, 10, 3), w.mlp(8, 10, 3, seed=1), w.x(12, 8))(w.x(5, 8)),
    "unit_correlations": lambda w: probes.unit_correlations(w.classifier(), w.classifier(seed=1), w.batches()),
    "alignment": lambda w: probes.alignment(dfa(w), w.examples(), w.y()),
    "attribute_leakage": lambda w: probes.attribute_leakage(w.examples(), w.y() % 2),
    "bit_report": lambda w: probes.bit_report(bits(w).model),
    "cka_matrix": lambda w: probes.cka_matrix(w.classifier(), w.classifier(seed=1), w.batches()),
    "concept_slope": lambda w: probes.concept_slope(
        w.x(12, 3), w.y() % 3, lambda z: z.log_softmax(1), lambda z: (2 * z).log_softmax(1)
    ),
    "power_law_test": lambda w: probes.power_law_test(w.whole(1, 2, 3, 2, 1, 5, 7, 2, 9, 3), samples=5),
    "degree_distribution": lambda w: probes.degree_distribution(
        w.put(layers.SparseLinear(30, 20, 0.2, generator=seed()))
    ),
    "error_consistency": lambda w: probes.error_consistency(w.x(12, 3), w.x(12, 3, seed=1), w.y()),
    "feedback_angle": lambda w: probes.feedback_angle(pepita(w)),
    "fisher_diagonal": lambda w: probes.fisher_diagonal(w.classifier(), w.batches(), generator=seed()),
    "fisher_overlap": lambda w: fishers(w),
    "forgetting_rate": lambda w: probes.forgetting_rate(w.new(lambda: nn.GRU(4, 5)), w.x(6, 2, 4), generator=seed()),
    "group_rates": lambda w: probes.group_rates(w.x(12).sign().long().clamp(0), w.y() % 2),
    "jacobian_spectrum": lambda w: probes.jacobian_spectrum(w.classifier(), w.x(3, 8), generator=seed()),
    "knn_accuracy_curve": lambda w: probes.knn_accuracy_curve(w.examples(), w.y(), w.examples(6, seed=1), w.y(6), k=3),
    "loss_along_line": lambda w: probes.loss_along_line(
        w.mlp(8, 10, 3), cross_entropy, w.batches(), w.mlp(8, 10, 3), w.mlp(8, 10, 3, seed=1), points=3
    ),
    "loss_on_plane": lambda w: probes.loss_on_plane(
        w.mlp(8, 10, 3), cross_entropy, w.batches(), *(w.mlp(8, 10, 3, seed=s) for s in range(3)), points=(2, 2)
    ),
    "memory_scaling": lambda w: probes.memory_scaling(
        w.examples(), w.y(), w.examples(6, seed=1), w.y(6), [6, 12], k=3, generator=seed()
    ),
    "mistake_cost": lambda w: probes.mistake_cost(w.y() % 2, w.y() % 4, [0, 0, 1, 1]),
    "multiplication_report": lambda w: probes.multiplication_report(lambda: pixels(w)(w.x(5, 8))),
    "neuron_output_similarity": lambda w: probes.neuron_output_similarity(
        pixels(w), w.mlp(8, 10, 10, 3, seed=1), [w.x(5, 8)]
    ),
    "neuron_overlap": lambda w: probes.neuron_overlap({"a": w.whole(0, 1)}, {"a": w.whole(1, 2)}, {"a": 4}),
    "neuron_similarity": lambda w: probes.neuron_similarity(pixels(w), w.mlp(8, 10, 10, 3, seed=1)),
    "path_spectrum": lambda w: paths(w),
    "peakiness": lambda w: probes.peakiness(w.logp(6, 2, 4), w.whole(6, 5)),
    "perturbation_curve": lambda w: perturbed(w),
    "prototype_tree": lambda w: probes.prototype_tree({"a": w.x(2, 3), "b": w.x(3, 3, seed=1)}),
    "certify": lambda w: float(
        probes.certify(w.new(lambda: models.MonotonicNet([1, 0, -1], (16,))), [1, 0, -1]).proven
    ),
    "monotonicity_violations": lambda w: probes.monotonicity_violations(
        w.mlp(8, 4, 1), w.examples(), [1, -1, 0, 0, 0, 0, 0, 1]
    ),
    "sharpness": lambda w: probes.sharpness(w.mlp(8, 4, 3), loose, w.examples(), w.y(), generator=seed()),
}  # fmt: skip


def trajectory(w: World) -> Any:
    """A recorded run."""
    model = w.mlp(8, 4, 3)
    recorder = probes.TrajectoryRecorder(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with recorder.attach(optimizer):
        for _ in range(3):
            model(w.examples()).square().mean().backward()
            optimizer.step()
    return recorder.decompose().residual.tolist()


def dfa(w: World) -> Any:
    """A rule that gives signals."""
    return learning.DirectFeedbackAlignment(w.mlp(8, 10, 10, 3), loose, generator=seed()).to(w.device, w.dtype)


def fishers(w: World) -> Any:
    """The overlap of two Fisher diagonals."""
    both = [probes.fisher_diagonal(w.classifier(), w.batches(seed=s), generator=seed()) for s in (0, 5)]
    return probes.fisher_overlap(*both)


def paths(w: World) -> Any:
    """The gradient of a residual network by paths."""
    model = w.new(lambda: models.DeepMlp(8, 3, 8, 4))
    return probes.path_spectrum(learning.HighwayBackprop(model, loose), w.examples(), w.y())


def perturbed(w: World) -> Any:
    """Accuracy under noise."""
    model = w.classifier()
    fisher = probes.fisher_diagonal(model, w.batches(), generator=seed())
    return probes.perturbation_curve(model, fisher, w.batches(), [0.1], repeats=1, generator=seed())

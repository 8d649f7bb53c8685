"""How the components of `neurarium.learning` are used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from neurarium import layers, learning
from neurarium.testing.examples._shared import pepita, pixels, seed
from neurarium.testing.world import Example, ModuleExample, World

MODULES: dict[str, ModuleExample] = {
    "GradientBoostedHead": lambda w: (learning.GradientBoostedHead(8, 3, units=4), (w.x(5, 8),)),
}  # fmt: skip

EXAMPLES: dict[str, Example] = {
    "BatchNormAdapt": lambda w: learning.BatchNormAdapt(w.classifier())(w.x(12, 8)),
    "PseudoLabel": lambda w: learning.PseudoLabel(w.classifier())(w.x(12, 8)),
    "Tent": lambda w: learning.Tent(w.classifier())(w.x(12, 8)),
    "TestTimeAdaptation": lambda w: learning.TestTimeAdaptation(w.classifier())(w.x(12, 8)),
    "NeuroModulatedHebbian": lambda w: learning.NeuroModulatedHebbian(w.classifier())(w.x(12, 8)),
    "GradientNoise": lambda w: stepped(w, lambda o: learning.GradientNoise(0.0).attach(o)),
    "PAMAdam": lambda w: optimized(w, learning.PAMAdam),
    "PAMAdamW": lambda w: optimized(w, learning.PAMAdamW),
    "PAMSGD": lambda w: optimized(w, learning.PAMSGD),
    "SignDescent": lambda w: optimized(w, learning.SignDescent),
    "HebbianMemory": lambda w: (memory(w).field(w.spins(4, 20)), labelled(w)),
    "LabelledMemory": lambda w: recalled(w),
    "NoisySynapses": lambda w: learning.NoisySynapses(memory(w), 0.1, generator=seed()).field(w.spins(4, 20)),
    "LinearNowcast": lambda w: learning.LinearNowcast(3, 2).predict(w.x(7, 3), 2),
    "Nowcaster": lambda w: nowcast(w),
    "MaxRowSum": lambda w: learning.MaxRowSum(nn.Parameter(w.x(4, 4)), 2.0).slack(),
    "Inequality": lambda w: learning.Inequality(lambda: w.x(4)).slack(),
    "PrimalDual": lambda w: constrained(w),
    "SoftHebbian": lambda w: hebbian(w),
    "WeightMirror": lambda w: mirrored(w),
    "CurriculumSampler": lambda w: list(learning.CurriculumSampler(w.positive(12), [0.5, 1.0], labels=w.y())),
    "boost_head": lambda w: learning.boost_head(pixels(w), w.batches(4), units=2)(w.x(5, 8)),
    "class_prototypes": lambda w: learning.class_prototypes(w.x(12, 8), w.y()),
    "cut_at": lambda w: cuts(w),
    "difficulty_scores": lambda w: learning.difficulty_scores(w.classifier(), w.batches()),
    "discover_archetypes": lambda w: learning.discover_archetypes(memory(w), w.spins(4, 20), generator=seed()),
    "echo_state_constraints": lambda w: [
        c.slack() for c in learning.echo_state_constraints(w.new(lambda: layers.SigmoidRNN(4, 5))).values()
    ],
    "find_blocks": lambda w: [m.weight for _, m in learning.find_blocks(pixels(w), nn.Linear)],
    "fit_heads": lambda w: boosted(w),
    "glauber": lambda w: learning.glauber(memory(w).coupling(), w.spins(4, 20), 0.1, 3, generator=seed()),
    "plefka": lambda w: learning.plefka(memory(w), w.spins(20), 0.5),
    "sign_descent_": lambda w: learning.sign_descent_(w.x(4, 4), w.x(4, 4, seed=1), 0.1),
    "soft_hebbian_update": lambda w: learning.soft_hebbian_update(w.x(4, 8), w.x(12, 8, seed=1)),
    "retrain_classifier": lambda w: learning.retrain_classifier(pixels(w), w.batches(), epochs=1, generator=seed())(
        w.x(5, 8)
    ),
}  # fmt: skip


def memory(w: World) -> learning.HebbianMemory:
    """Three patterns of 20 neurons."""
    return learning.HebbianMemory(20).to(w.device, w.dtype).store(w.spins(3, 20))


def stepped(w: World, attach: Callable[[torch.optim.Optimizer], Any]) -> list[Tensor]:
    """Weights after a step with something attached."""
    model = w.mlp(8, 4, 3)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with attach(optimizer):
        cross_entropy(model(w.examples()), w.y().long()).backward()
        optimizer.step()
    return [p.detach() for p in model.parameters()]


def optimized(w: World, kind: Any) -> list[Tensor]:
    """Weights after a step."""
    model = w.mlp(8, 4, 3)
    optimizer = kind(model.parameters(), lr=0.125)
    model(w.examples()).square().sum().backward()
    optimizer.step()
    return [p.detach() for p in model.parameters()]


def labelled(w: World) -> Tensor:
    """The energy of a memory that learned examples with labels."""
    kept = learning.HebbianMemory(20, 4, center=True).to(w.device, w.dtype).learn(w.spins(12, 20), w.y())
    return kept.energy(w.spins(4, 20, seed=1))


def recalled(w: World) -> Any:
    """What a labelled memory makes of a probe."""
    kept = learning.LabelledMemory(20).to(w.device, w.dtype)
    return kept.store({"a": w.spins(20), "b": w.spins(20, seed=1)}).recall(w.spins(20)).state


def nowcast(w: World) -> list[Tensor]:
    """Weights after six steps and a jump."""
    model = w.mlp(8, 4, 3)
    inner = torch.optim.SGD(model.parameters(), 0.01)
    optimizer = learning.Nowcaster(inner, model, learning.LinearNowcast(3, 2), period=6, max_steps=6)
    for _ in range(6):
        if optimizer.needs_gradient:
            optimizer.zero_grad()
            model(w.examples()).square().mean().backward()
        optimizer.step()
    return [p.detach() for p in model.parameters()]


def constrained(w: World) -> Any:
    """A Lagrangian after a dual step."""
    dual = learning.PrimalDual(learning.MaxRowSum(nn.Parameter(w.x(4, 4)), 0.5)).to(w.device)
    dual.dual_step()
    return dual()


def hebbian(w: World) -> Any:
    """The gradient of a Hebbian layer."""
    layer = w.mlp(8, 4)[0]
    rule = learning.SoftHebbian(layer)
    layer(w.examples())
    del rule
    return layer.weight.grad


def mirrored(w: World) -> Any:
    """Feedback after a mirror step."""
    rule = pepita(w, factored=True)
    learning.WeightMirror(rule, generator=seed()).step()
    return list(rule.buffers())


def cuts(w: World) -> list[Tensor]:
    """Outputs at the cuts of a network."""
    model = pixels(w)
    with learning.cut_at([model[1], model[3]]) as found:  # type: ignore[index]
        model(w.x(5, 8))
    return [cut.output for cut in found]


def boosted(w: World) -> Tensor:
    """A head fitted by boosting."""
    head = learning.GradientBoostedHead(8, 3, units=2, subsample=1.0).to(w.device, w.dtype)
    torch.manual_seed(0)
    learning.fit_heads([head], w.examples(), w.y())
    return head(w.x(5, 8))

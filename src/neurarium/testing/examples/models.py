"""How the components of `neurarium.models` are used."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from neurarium import models
from neurarium.testing.examples._shared import pixels
from neurarium.testing.world import Example, ModuleExample, World

MODULES: dict[str, ModuleExample] = {
    "ARMARNN": lambda w: (models.ARMARNN(4, 6, 3, 1, 1), (w.x(2, 5, 4),)),
    "CausalTransformer": lambda w: (models.CausalTransformer(11, 8, 2, 2, 16), (w.whole([1, 2, 3], [4, 5, 6]),)),
    "ConceptSubspaceNetwork": lambda w: (
        models.ConceptSubspaceNetwork(nn.Linear(8, 8), 4, {"a": 2, "b": 3}), (w.x(5, 8),),
    ),
    "DeepMlp": lambda w: (models.DeepMlp(8, 3, 16, 4), (w.x(5, 8),)),
    "FrozenEncoder": lambda w: (models.FrozenEncoder(nn.Linear(8, 4)), (w.x(5, 8),)),
    "Highway": lambda w: (models.Highway(nn.Linear(8, 8), 8), (w.x(5, 8),)),
    "MambaClassifier": lambda w: (models.MambaClassifier(14), (w.x(2, 14, 14),)),
    "MemoryNetwork": lambda w: (
        models.MemoryNetwork(9, 6, 2, 3), (w.whole([[1, 2], [3, 4], [5, 6]], [[1, 2], [2, 4], [5, 6]]),),
    ),
    "KAN": lambda w: (models.KAN([8, 3, 2]), (w.x(5, 8),)),
    "MonotonicNet": lambda w: (models.MonotonicNet([1, -1, 0, 0, 0, 0, 0, 1], (16,)), (w.x(5, 8),)),
    "OneNeuronNet": lambda w: (models.OneNeuronNet(3, 0.5), (w.x(5, 1),)),
    "RBM": lambda w: (models.RBM(8, 4), (w.positive(5, 8),)),
    "WideResNet": lambda w: (models.WideResNet(10, 1), (w.x(2, 3, 8, 8),)),
}  # fmt: skip

EXAMPLES: dict[str, Example] = {
    "NiNo": lambda w: forecast(w, w.new(lambda: models.NiNo(3, 2, 8, 1))),
    "WeightNowcast": lambda w: forecast(w, w.new(lambda: models.WeightNowcast(3, 2, 8))),
    "DenoisingBlock": lambda w: denoised(w),
    "TableStandardizer": lambda w: standardized(w),
    "describe": lambda w: models.describe(pixels(w), w.x(2, 8)),
    "extract": lambda w: models.extract(pixels(w))(w.x(5, 8)),
    "sliced": lambda w: cut_out(w),
    "neural_graph": lambda w: models.neural_graph(pixels(w)),
    "remove_layers": lambda w: models.remove_layers(pixels(w), w.x(2, 8), ["1"])(w.x(5, 8)),
    "shrink": lambda w: shrunk(w),
    "trace_architecture": lambda w: models.trace_architecture(pixels(w), w.x(2, 8)),
}  # fmt: skip


def forecast(w: World, forecaster: Any) -> Tensor:
    """Future states of a small network."""
    model = w.mlp(3, 4, 2)
    count = sum(p.numel() for p in model.parameters())
    return forecaster.bind(model).forecasts(w.x(1, count, 3))


def denoised(w: World) -> Any:
    """A denoised label embedding."""
    block = w.new(lambda: models.DenoisingBlock((1, 8, 8), 6, 6, channels=(4,), width=8))
    return block(w.x(2, 6), w.x(2, 1, 8, 8))


def cut_out(w: World) -> Tensor:
    """A network's output while nothing is cut."""
    with models.sliced(pixels(w)) as model:
        return model(w.x(5, 8))


def shrunk(w: World) -> Tensor:
    """A network with half the units in its first group."""
    model, example = pixels(w), w.x(2, 8)
    architecture = models.trace_architecture(model, example)
    group = next(iter(architecture.groups))
    return models.shrink(model, example, architecture, {group: 5}, {})(w.x(5, 8))


def standardized(w: World) -> Any:
    """Rows of a table."""
    table = models.TableStandardizer()
    table.observe(w.x(9, 3))
    return table(w.x(9, 3))

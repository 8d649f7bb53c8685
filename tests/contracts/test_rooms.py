"""Every public component against its room's contract, and each contract against something that breaks it."""

import dataclasses

import pytest
import torch
from torch import nn

from neurarium.compression import Compressor, IterativeMagnitudePruning
from neurarium.continual import EWC, Strategy
from neurarium.layers import Maxout
from neurarium.objectives import CrowdModel
from neurarium.probes import ProbeResult
from neurarium.speech import FullSumLoss
from neurarium.testing import (
    ContractError,
    check_classification_loss,
    check_compressor,
    check_layer,
    check_penalty,
    check_probe,
    check_probe_result,
    check_sequence_loss,
    check_strategy,
    has_forward,
    public,
)  # fmt: skip
from neurarium.testing.examples import MODULES
from neurarium.testing.objectives import check_model_penalty, takes

# what sensors, pairs of images and edges take is no batch of features: their examples show it, and the seams hold them
OTHERWISE = ("neurarium.layers.forward_maps", "neurarium.layers.context", "neurarium.layers.edges")
LAYERS = [
    layer for layer in public("layers", nn.Module).values()
    if has_forward(layer) and not layer.__module__.startswith(OTHERWISE)
]  # fmt: skip


def name(thing):
    return thing.__name__


@pytest.mark.parametrize("layer", LAYERS, ids=name)
def test_layer(layer):
    check_layer(layer)


@pytest.mark.parametrize("objective", public("objectives", nn.Module).values(), ids=name)
def test_objective(objective):
    match takes(objective):
        case _ if objective is CrowdModel or objective.__name__ in MODULES:
            pass  # several inputs, or no loss: its example shows what it takes, and the seams hold it
        case "parameters":
            check_penalty(objective)
        case "model":
            check_model_penalty(objective)
        case "features" | "logits":
            check_classification_loss(objective)
        case "x" | "args":
            assert objective.__name__ in ("RandomViews", "MomentumEncoder"), "a module that is no loss"
        case other:
            pytest.fail(f"no contract for an objective that takes {other}")


@pytest.mark.parametrize("strategy", public("continual", Strategy).values(), ids=name)
def test_strategy(strategy):
    check_strategy(strategy)


@pytest.mark.parametrize("compressor", public("compression", Compressor).values(), ids=name)
def test_compressor(compressor):
    check_compressor(compressor)


PROBES = [probe for name, probe in public("probes").items() if name != "required_data"]  # a number of examples, no more


@pytest.mark.parametrize("probe", PROBES, ids=name)
def test_probe(probe):
    check_probe(probe)


@pytest.mark.parametrize("result", public("probes", ProbeResult).values(), ids=name)
def test_probe_result(result):
    check_probe_result(result)


def test_full_sum_loss():
    check_sequence_loss(FullSumLoss)


class Noisy(Maxout):
    def forward(self, x):
        return super().forward(x) + torch.rand(())


class Hidden(Maxout):
    def __init__(self, in_features, out_features):
        super().__init__(in_features, out_features)
        self.shift = torch.randn(out_features)

    def forward(self, x):
        return super().forward(x) + self.shift.to(x.dtype)


class Odd(Maxout):
    def __init__(self, fan):
        super().__init__(fan, fan)


@pytest.mark.parametrize(
    ("broken", "sentence"), [(Noisy, "deterministic"), (Hidden, "state_dict"), (Odd, "conventional argument names")]
)
def test_layer_contract_catches(broken, sentence):
    with pytest.raises(ContractError, match=sentence):
        check_layer(broken)


class NeverPulls(EWC):
    """The defect of a well-known library: the penalty has a graph, and is always zero."""

    def penalty(self):
        return 0.0 * sum(p.sum() for p in self.model.parameters())


class Amnesiac(EWC):
    def state_dict(self, *args, **kwargs):
        return {k: v for k, v in super().state_dict(*args, **kwargs).items() if k.startswith("model.")}

    def load_state_dict(self, state, *args, **kwargs):
        return super().load_state_dict(state, strict=False)


class MovesWeights(EWC):
    def end_task(self, loader=None):
        super().end_task(loader)
        with torch.no_grad():
            for p in self.model.parameters():
                p += 1


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [(NeverPulls, "pull on the weights|penalty of 0"), (Amnesiac, "state_dict"), (MovesWeights, "leave the weights")],
)
def test_strategy_contract_catches(broken, sentence):
    with pytest.raises(ContractError, match=sentence):
        check_strategy(broken)


class InPlace(IterativeMagnitudePruning):
    def compress(self, model, loader):
        smaller = super().compress(model, loader)
        model.load_state_dict(smaller.state_dict())
        return smaller


class Idle(Compressor):
    def compress(self, model, loader):
        import copy

        return copy.deepcopy(model)


@pytest.mark.parametrize(("broken", "sentence"), [(InPlace, "untouched"), (Idle, "fewer weights")])
def test_compressor_contract_catches(broken, sentence):
    with pytest.raises(ContractError, match=sentence):
        check_compressor(broken)


def test_probe_contract_catches():
    def unlabelled(model):
        """Measures."""

    @dataclasses.dataclass
    class Thawed(ProbeResult):
        def summary(self):
            return ""

        def plot(self, ax):
            return ax

    with pytest.raises(ContractError, match="annotated"):
        check_probe(unlabelled)
    with pytest.raises(ContractError, match="frozen"):
        check_probe_result(Thawed)

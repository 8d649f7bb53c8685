"""Every public component against every seam that applies to it, each check by itself; checks against broken ones."""

import copy

import pytest
import torch
from torch import nn

from neurarium.layers import Maxout
from neurarium.learning import Backprop
from neurarium.testing import ContractError, World, components, exemption, seam_checks
from neurarium.testing.examples import EXAMPLES, MODULES
from neurarium.testing.exemptions import CHECKS_EXEMPT, EXEMPT

COMPONENTS = components()
CHECKED = {place: thing for place, thing in COMPONENTS.items() if not exemption(thing)}


def cases():
    for place, component in CHECKED.items():
        try:
            for name, check in seam_checks(component):
                yield pytest.param(check, id=f"{place}-{name}")
        except ContractError as error:
            yield pytest.param(error, id=f"{place}-example")


@pytest.mark.parametrize("check", cases())
def test_seam(check):
    if isinstance(check, ContractError):
        raise check
    check()


def test_every_public_component_is_checked_or_named_with_a_reason():
    left_out = {place: exemption(thing) for place, thing in COMPONENTS.items() if place not in CHECKED}
    assert all(len(reason) > 8 for reason in left_out.values())
    assert len(CHECKED) + len(left_out) == len(COMPONENTS)
    assert len(CHECKED) > 0.6 * len(COMPONENTS)
    names = {thing.__name__ for thing in COMPONENTS.values()}
    checks = {(thing.__name__, name) for thing in CHECKED.values() for name, _ in seam_checks(thing)}
    assert set(EXAMPLES) | set(MODULES) | set(EXEMPT) <= names  # nothing is kept for what is gone
    assert {name for name, _ in CHECKS_EXEMPT} <= names
    assert not checks & set(CHECKS_EXEMPT)
    assert not set(EXEMPT) & (set(EXAMPLES) | set(MODULES))


def broken(component, name):
    """What a check says of a component that breaks it."""
    check = dict(seam_checks(component))[name]
    with pytest.raises((ContractError, RuntimeError)) as caught:
        check()
    return str(caught.value)


class LeftBehind(Maxout):
    """Keeps a tensor that is no buffer."""

    def __init__(self, in_features, out_features):
        super().__init__(in_features, out_features)
        self.shift = torch.ones(out_features)

    def forward(self, x):
        return super().forward(x) + self.shift

    @staticmethod
    def example(world):
        return world.put(LeftBehind(8, 6))(world.x(4, 8))


class Shares(Backprop):
    """Its copy is itself."""

    def __deepcopy__(self, memo):
        return self


class Overflows(Backprop):
    """Gives half-precision gradients under autocast."""

    def assign_credit(self, x, y):
        loss = super().assign_credit(x, y)
        for p in self.parameters():
            if torch.is_autocast_enabled("cpu"):
                p.grad.fill_(torch.nan)
        return loss


def test_checks_catch_broken_components():
    assert "same device" in broken(LeftBehind, "second device")
    assert "share" in broken(Shares, "deepcopy")
    assert "autocast" in broken(Overflows, "autocast in bfloat16")


def disturbs(world):
    model = world.classifier()
    model.train()
    return model(world.examples())


def draws(world):
    return torch.rand(3)


def pair_only(world):
    return sum(float(y.sum()) for x, y in world.batches())


def no_gaps(world):
    return torch.eye(len(world.y().unique()))[world.y().long()]


@pytest.mark.parametrize(
    ("example", "name", "sentence"),
    [
        (disturbs, "inputs untouched", "state of the network"),
        (draws, "random state", "random state"),
        (pair_only, "batches as triple", "unpack"),
        (no_gaps, "labels with a gap", "out of bounds"),
    ],
)
def test_checks_catch_broken_functions(example, name, sentence):
    def component():
        """Stands for any function."""

    component.example = example
    check = dict(seam_checks(component))[name]
    with pytest.raises((ContractError, IndexError), match=sentence):
        check()


def test_worlds_hold_the_same_numbers():
    single, double = World(), World(dtype=torch.float64)
    torch.testing.assert_close(single.x(3, 4), double.x(3, 4).float())
    model = single.classifier()
    torch.testing.assert_close(copy.deepcopy(model)(single.x(2, 8)), double.classifier()(double.x(2, 8)).float())
    assert isinstance(World(batch="dict").classifier(), nn.Module)
    assert set(World(batch="encoding").batches()[0]) == {"x", "labels"}

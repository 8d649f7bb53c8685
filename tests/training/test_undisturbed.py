"""`undisturbed` puts everything back but parameters; names choose modules; the graph is walked once."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import prune

from neurarium.testing import second_device
from neurarium.training import (
    buffer_key,
    copy_module,
    find_module,
    graph_operations,
    graph_parameters,
    parameter_name,
    replace_module,
    select_modules,
    undisturbed,
)

X, Y = torch.randn(16, 4, generator=torch.Generator().manual_seed(0)), torch.arange(16) % 3


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))


@pytest.mark.parametrize("device", ["cpu", "second_device"])
def test_nothing_but_parameters_is_changed(device):
    second_device.register()
    model, x, y = network().to(device), X.to(device), Y.to(device)
    model[1].eval()
    cross_entropy(model(x), y).backward()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    gradients = [p.grad for p in model.parameters()]
    kept = [g.clone() for g in gradients]
    states = torch.get_rng_state(), torch.get_device_module(second_device.NAME).get_rng_state()
    with undisturbed(model) as rewind:
        assert all(p.grad is None for p in model.parameters())
        model.train()
        first = model(x)
        rewind()
        second = model(x)
        assert torch.equal(first, second)
        cross_entropy(second, y).backward()
        model[1].register_buffer("running_var", model[1].running_var + 1)
    assert [module.training for module in model] == [True, False, True, True]
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    for p, gradient, was in zip(model.parameters(), gradients, kept, strict=True):
        assert p.grad is gradient
        assert torch.equal(gradient, was)
    assert torch.equal(states[0], torch.get_rng_state())
    assert torch.equal(states[1], torch.get_device_module(second_device.NAME).get_rng_state())


def test_a_graph_made_before_can_still_be_differentiated():
    model = network().eval()
    loss = cross_entropy(model(X), Y)  # has saved the running statistics
    with undisturbed(model):
        model(X)
    loss.backward()


def test_an_error_inside_is_let_out_after_the_restoration():
    model = network()
    state = torch.get_rng_state()
    with pytest.raises(ValueError, match="batch"), undisturbed(model):
        cross_entropy(model(X), Y[:3])
    assert torch.equal(state, torch.get_rng_state())
    assert not model[1].running_mean.any()


def test_modules_are_chosen_by_name_pattern_and_kind():
    model = nn.Sequential(nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.ReLU()}), nn.Linear(2, 2), nn.Linear(2, 1))
    model[2].weight = model[1].weight
    assert list(select_modules(model, kinds=nn.Linear)) == ["0.a", "1", "2"]
    assert list(select_modules(model, "0.*", kinds=nn.Linear)) == ["0.a"]
    assert list(select_modules(model, ["2", nn.ReLU])) == ["0.b", "2"]
    assert list(select_modules(model, exclude="0", kinds=nn.Linear)) == ["1", "2"]
    assert list(select_modules(model, nn.Linear, ["1", "0.*"])) == ["2"]
    for arguments, sentence in (
        (("0.c",), "no module '0.c'; did you mean '0.[ab]'"),
        (("0.b", (), nn.Linear), "is a ReLU, not Linear"),
        ((None, "*"), "no module to act on"),
        ((None, "7"), "exclude: the model has no module '7'"),
        ((None, (), nn.Conv2d), "looked for Conv2d"),
    ):
        include, exclude, kinds = (*arguments, (), nn.Module)[:3] if len(arguments) < 3 else arguments
        with pytest.raises(ValueError, match=sentence):
            select_modules(model, include, exclude, kinds=kinds)
    assert find_module(model, "0.b") is model[0]["b"]
    with pytest.raises(ValueError, match="head: the model has no module '3'"):
        find_module(model, "3", "head")


def test_a_module_that_is_used_twice_is_chosen_under_either_name():
    shared = nn.Linear(2, 2)
    model = nn.Sequential(shared, nn.ReLU(), shared)
    assert list(select_modules(model, "2")) == ["0"]


def test_a_replacement_takes_the_mode_of_what_was_there():
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1))
    model[1].eval()
    assert replace_module(model, "1", nn.Dropout(0.2)) is model
    assert model[1].p == 0.2
    assert not model[1].training
    new = nn.Linear(2, 2)
    assert replace_module(model, "", new) is new


def test_keys_of_buffers_have_their_way_back():
    for name in ("weight", "layers.0.self_attn.in_proj_weight", "a_b.c_d", "a_b_c.d"):
        assert parameter_name(buffer_key(name)) == name
    assert buffer_key("a.b") != buffer_key("a_b")


def test_the_graph_is_walked_once_per_node():
    w, v = (torch.randn(3, requires_grad=True) for _ in range(2))
    shared = (w * 2).sin()
    first, second = shared + v, shared * 3
    for _ in range(40):
        second = second + second  # 2^40 paths
    assert graph_parameters(first) == {w, v}
    assert graph_parameters(second) == {w}
    assert graph_operations(first) & graph_operations(second) == graph_operations(shared)
    assert graph_parameters(torch.ones(3)) == set()


def test_copies_of_what_torch_refuses_or_changes():
    pruned = nn.Sequential(nn.Linear(4, 4), nn.utils.weight_norm(nn.Linear(4, 4)))
    prune.random_unstructured(pruned[0], "weight", 0.5)
    pruned(X)
    with pytest.raises(RuntimeError):
        copy.deepcopy(pruned)
    copied = copy_module(pruned)
    assert torch.equal(copied(X), pruned(X))
    copied(X).sum().backward()
    assert pruned[0].weight_orig.grad is None
    assert copied[0].weight_orig.grad is not None

    layer = nn.TransformerDecoderLayer(8, 2, 16, 0.0, nn.GELU())
    x = torch.randn(3, 2, 8)
    assert not torch.allclose(copy.deepcopy(layer)(x, x), layer(x, x))
    assert torch.equal(copy_module(layer)(x, x), layer(x, x))

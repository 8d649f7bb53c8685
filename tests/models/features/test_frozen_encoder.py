"""A frozen encoder: what it gives, what it leaves alone, what it remembers."""

import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from neurarium.data import load
from neurarium.models import FrozenEncoder
from neurarium.models.features._encoder_identity import encoder_identity


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.calls = 0
        self.linear = nn.Linear(4, 3)
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        self.calls += 1
        return self.drop(self.linear(x))


class Sentences:
    """As sentence-transformers look from outside."""

    def encode(self, texts):
        return np.array([[len(t), t.count("a")] for t in texts], dtype=np.float32)


def test_batches_evaluation_mode_and_no_gradient():
    net = Counting()
    encoder = FrozenEncoder(net, batch_size=3)
    encoder.train()
    x = torch.randn(8, 4)
    features = encoder(x)
    assert net.calls == 3
    assert net.training  # as it was
    assert encoder.training
    assert not features.requires_grad
    assert torch.allclose(features, net.linear(x))
    net.train()
    assert torch.equal(encoder(x), features)
    net.drop.eval()
    encoder(x)
    assert not net.drop.training
    assert not any(p.requires_grad for p in encoder.parameters())


def test_layers_and_pooling():
    net = nn.Sequential(nn.Conv2d(1, 5, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
    x = torch.randn(4, 1, 8, 8)
    net(x)
    maps = net[:2](x)
    assert torch.equal(FrozenEncoder(net, layer="1")(x), maps.flatten(1))
    assert torch.allclose(FrozenEncoder(net, layer="1", pooling="mean")(x), maps.mean((2, 3)))
    assert torch.equal(FrozenEncoder(net, layer="1", pooling="max")(x), maps.amax((2, 3)))
    assert not net[1]._forward_hooks
    tokens = torch.randn(4, 7, 5)
    assert torch.equal(FrozenEncoder(pooling="first")(tokens), tokens[:, 0])
    assert torch.allclose(FrozenEncoder(pooling="mean")(tokens), tokens.mean(1))


def test_the_cache_knows_contents_not_objects():
    net = Counting()
    encoder = FrozenEncoder(net, cache=2)
    a, b, c = (torch.randn(5, 4) for _ in range(3))
    first = encoder(a)
    assert torch.equal(encoder(a.clone()), first)
    assert net.calls == 1
    a[0] += 1
    assert not torch.equal(encoder(a), first)
    encoder(b)
    encoder(c)
    encoder(a)  # pushed out by b and c
    assert net.calls == 5
    encoder.forget()
    encoder(c)
    assert net.calls == 6


def test_texts_arrays_and_splits():
    encoder = FrozenEncoder(Sentences(), batch_size=2, cache=1)
    assert encoder(["a", "banana", "no"]).tolist() == [[1, 1], [6, 3], [2, 0]]
    split = load("digits")
    encoded = FrozenEncoder(lambda x: x.flatten(1).float()).encode(split)
    assert encoded.train.x.shape == (len(split.train), 64)
    assert torch.equal(encoded.test.y, split.test.y)


def test_refusals():
    with pytest.raises(ValueError, match="no layer 'head'; there are: linear, drop"):
        FrozenEncoder(Counting(), layer="head")
    with pytest.raises(ValueError, match="pooling must be one of"):
        FrozenEncoder(pooling="sum")
    with pytest.raises(TypeError, match="must be a module, a function"):
        FrozenEncoder(3)
    with pytest.raises(ValueError, match="no inputs"):
        FrozenEncoder()(torch.zeros(0, 3))
    with pytest.raises(ValueError, match="at least"):
        FrozenEncoder()(torch.zeros(3))


def test_threads_that_share_an_encoder_all_run_it_in_evaluation_mode():
    net = nn.Sequential(nn.Linear(4, 64), nn.Dropout(0.5), nn.Linear(64, 3))
    encoder, x = FrozenEncoder(net, batch_size=2), torch.randn(40, 4)
    wanted = encoder(x)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: encoder(x), range(60)))
    assert all(torch.equal(features, wanted) for features in found)
    assert all(module.training for module in net.modules())


class Scaled:
    def __init__(self, scale):
        self.scale = scale
        self._kept = None

    def __call__(self, x):
        self._kept = x
        return self.scale * x


def test_the_identity_of_an_encoder_is_its_weights_code_and_settings():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    same = copy.deepcopy(net).eval()
    assert encoder_identity(net) == encoder_identity(same)
    with torch.no_grad():
        same[0].bias[0] += 1e-6
    assert encoder_identity(net) != encoder_identity(same)
    assert encoder_identity(nn.Sequential(nn.Linear(4, 3), nn.Tanh())) != encoder_identity(net)
    one, other = Scaled(1.0), Scaled(2.0)
    before = encoder_identity(one)
    one(torch.ones(2, 2))
    assert encoder_identity(one) == before != encoder_identity(other)

    def by(factor):
        return lambda x: factor * x

    assert encoder_identity(by(2)) == encoder_identity(by(2)) != encoder_identity(by(3))
    assert encoder_identity(lambda x: x + 1) != encoder_identity(lambda x: x + 2)

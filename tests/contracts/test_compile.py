"""A few layers, and a rule around a model, under `torch.compile`: the same numbers as without.

In a process of its own: the checks of shapes that the tests install cannot be traced.
"""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from neurarium.layers import FewBitGELU, Maxout, ReZero, SReLU
from neurarium.learning import Backprop

torch.manual_seed(0)
for layer in (Maxout(8, 8), SReLU(8), ReZero(nn.Linear(8, 8)), FewBitGELU()):
    x = torch.randn(4, 8, requires_grad=True)
    expected, found = layer(x), torch.compile(layer, backend="eager")(x)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(y.square().sum(), x)[0] for y in (found, expected)]
    torch.testing.assert_close(*gradients)
model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
x, y = torch.randn(6, 8), torch.arange(6) % 3
plain, compiled = Backprop(model, cross_entropy), Backprop(torch.compile(model, backend="eager"), cross_entropy)
torch.testing.assert_close(plain.assign_credit(x, y), compiled.assign_credit(x, y))
print("same")
"""


def test_compiled_layers_and_models_give_the_same():
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=240, check=False, env=environment
    )
    assert done.stdout.strip() == "same", done.stderr[-2000:]

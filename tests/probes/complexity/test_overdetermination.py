"""The overdetermination ratio, by hand."""

import pytest
import torch
from torch import nn

from neurarium.probes import overdetermination


def test_examples_times_outputs_over_trained_parameters():
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    batches = [(torch.randn(n, 4), torch.zeros(n)) for n in (5, 7)]
    found = overdetermination(model, batches)
    assert (found.examples, found.outputs, found.parameters) == (12, 2, 23)
    assert found.ratio == pytest.approx(24 / 23)
    model[0].requires_grad_(False)
    assert overdetermination(model, batches).parameters == 8
    with pytest.raises(ValueError, match="no batches"):
        overdetermination(model, [])
    with pytest.raises(ValueError, match="no parameter"):
        overdetermination(model.requires_grad_(False), batches)

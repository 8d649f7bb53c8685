"""Every study at smoke scale on a second device: nothing stays behind on the CPU, nothing comes from there."""

import math
import random

import numpy as np
import pytest
import torch
from neurarium.lab.run import Run

from neurarium.lab.registry import entries
from neurarium.testing import second_device


@pytest.mark.smoke
@pytest.mark.parametrize("slug", entries())
def test_study_on_a_second_device(slug, monkeypatch):
    monkeypatch.setenv("NEURARIUM_OFFLINE", "1")
    device = second_device.register()
    study = entries()[slug].load()
    refused = {}
    for arm in study.arms:
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002 - libraries that still draw from it
        torch.manual_seed(0)
        try:
            metrics = study.trial(study.settings(arm, "smoke"), Run(0, device=device))
        except (RuntimeError, TypeError, NotImplementedError) as error:
            refused[arm] = f"{type(error).__name__}: {error}"
        else:
            assert metrics
            assert not any(math.isinf(float(value)) for value in metrics.values())
    assert not refused

"""Shared by all tests: one torch thread, a state folder of their own, shapes checked at run time."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import jaxtyping
import tests.typechecks  # noqa: F401 - the hook finds it by name

ROOMS = (
    "layers", "objectives", "training", "models", "learning", "probes", "theory", "speech", "search",
    "compression", "continual",
)  # fmt: skip
jaxtyping.install_import_hook([f"neurarium.{room}" for room in ROOMS], "tests.typechecks.checked")

import pytest
import torch

from neurarium.testing import second_device

second_device.register()  # torch's engine has to know it before the first backward pass


@pytest.fixture(autouse=True)
def _alone(tmp_path, monkeypatch, request):
    if request.node.get_closest_marker("untyped"):
        monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    monkeypatch.setenv("NEURARIUM_HOME", str(tmp_path / "neurarium-home"))
    torch.set_num_threads(1)
    torch.manual_seed(0)
    default = torch.get_default_dtype()
    yield
    torch.set_default_dtype(default)

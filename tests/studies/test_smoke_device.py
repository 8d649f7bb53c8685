"""Every study at smoke scale on a second device: nothing stays behind on the CPU, nothing comes from there."""

import pytest

from neurarium.lab.executors import Inline
from neurarium.lab.registry import entries
from neurarium.lab.runner import Request, run_study
from neurarium.lab.store import Store
from neurarium.testing import second_device


@pytest.mark.smoke
@pytest.mark.parametrize("slug", entries())
def test_study_on_a_second_device(slug, tmp_path, monkeypatch):
    monkeypatch.setenv("NEURARIUM_OFFLINE", "1")
    entry, request = entries()[slug], Request("smoke", device=second_device.register())
    finding = run_study(entry, entry.load(), request, executor=Inline(), store=Store(tmp_path / "s.sqlite"))
    assert not finding.failed, finding.failed[0][2].traceback

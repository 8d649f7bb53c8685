"""Every public component against every seam that applies to it, each check by itself."""

import pytest

from neurarium.testing.seams import components, exemption, seam_checks

COMPONENTS = components()
CHECKED = {name: thing for name, thing in COMPONENTS.items() if not exemption(thing)}


def cases():
    for place, component in CHECKED.items():
        for name, check in seam_checks(component):
            yield pytest.param(check, id=f"{place}-{name}")


@pytest.mark.parametrize("check", cases())
def test_seam(check):
    check()

"""Averages of g(x) = erf(x / √2) over jointly Gaussian fields of mean zero, in closed form (Saad and Solla, 1995).

Arguments are covariances: ``caa`` is ⟨a²⟩, ``cab`` is ⟨ab⟩ and so on; all broadcast.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def mean_gg(caa: Any, cab: Any, cbb: Any) -> Any:
    """⟨g(a) g(b)⟩."""
    return 2 / np.pi * np.arcsin(cab / np.sqrt((1 + caa) * (1 + cbb)))


def mean_dfg(caa: Any, cab: Any, cac: Any, cbc: Any, ccc: Any) -> Any:
    """⟨g'(a) b g(c)⟩."""
    root = np.sqrt((1 + caa) * (1 + ccc) - cac**2)
    return 2 / np.pi * (cbc * (1 + caa) - cab * cac) / (root * (1 + caa))


def mean_ddgg(
    caa: Any, cab: Any, cac: Any, cad: Any, cbb: Any, cbc: Any, cbd: Any, ccc: Any, ccd: Any, cdd: Any
) -> Any:
    """⟨g'(a) g'(b) g(c) g(d)⟩."""
    l4 = (1 + caa) * (1 + cbb) - cab**2
    l0 = l4 * ccd - cbc * cbd * (1 + caa) - cac * cad * (1 + cbb) + cab * (cac * cbd + cad * cbc)
    l1 = l4 * (1 + ccc) - cbc**2 * (1 + caa) - cac**2 * (1 + cbb) + 2 * cab * cac * cbc
    l2 = l4 * (1 + cdd) - cbd**2 * (1 + caa) - cad**2 * (1 + cbb) + 2 * cab * cad * cbd
    return 4 / np.pi**2 * np.arcsin(l0 / np.sqrt(l1 * l2)) / np.sqrt(l4)

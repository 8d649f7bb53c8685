"""The bound on a recurrent matrix under which the state forgets where it started (Chen & Deng, 2013)."""

from __future__ import annotations

STEEPEST = {"sigmoid": 0.25, "tanh": 1.0, "relu": 1.0, "softsign": 1.0}
"""Largest slope of each activation, the paper's gamma."""


def echo_state_bound(activation: str = "sigmoid", *, gamma: float | None = None, margin: float = 0.0) -> float:
    """The largest infinity norm of W for which ``h_t = f(W h_{t-1} + input_t)`` is an echo-state network.

    Two states under one input approach each other as ``max|h_t - h'_t| <= gamma ||W||_inf max|h_{t-1} - h'_{t-1}|``,
    where gamma is the largest slope of f and ``||W||_inf`` the largest sum of a row's absolute values. Below
    ``1 / gamma`` every start is forgotten, and a gradient sent back over T steps shrinks by ``(gamma ||W||_inf)^T`` or
    more.

    Args:
        activation: ``sigmoid`` (bound 4), ``tanh``, ``relu`` or ``softsign`` (bound 1).
        gamma: largest slope of another activation; overrides ``activation``.
        margin: share by which the bound is lowered, so that the inequality is strict: ``(1 - margin) / gamma``.

    Returns:
        The bound.

    Raises:
        ValueError: an unknown activation without ``gamma``, a ``gamma`` that is not positive, or a ``margin`` outside
            [0, 1).
    """
    if gamma is None:
        if activation not in STEEPEST:
            known = ", ".join(STEEPEST)
            raise ValueError(f"activation must be one of {known}, not {activation!r}; give gamma= for any other")
        gamma = STEEPEST[activation]
    if not gamma > 0:
        raise ValueError(f"gamma must be positive, not {gamma}")
    if not 0 <= margin < 1:
        raise ValueError(f"margin must lie in [0, 1), not {margin}")
    return (1 - margin) / gamma

"""How fast a two-layer network learns from a teacher, exactly, under three ways to send its error back.

Student φ(x) = Σ_k v_k g(w_k·x/√N) and teacher, both with g(x) = erf(x/√2), see each example x ~ N(0, I_N) once. For
N → ∞ the overlaps of their weights follow ordinary differential equations in t = examples / N (Srinivasan et al.,
2024, section 3; after Saad and Solla, 1995). The error reaches hidden unit k as −D_k e: backpropagation has D_k = −v_k,
direct feedback alignment a constant, adaptive feedback alignment (PEPITA to first order) D_k = w_k·F/N.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from neurarium.theory.teacher_student._gaussian_averages import mean_ddgg, mean_dfg, mean_gg

RULES = ("backprop", "dfa", "afa")
Vector = Float[ndarray, " _"]
Matrix = Float[ndarray, "_ _"]


@dataclass(frozen=True)
class TeacherStudent:
    """Weights of a student and its teacher, and a feedback vector.

    Args:
        student: w [K, N].
        readout: v [K].
        teacher: w* [M, N].
        teacher_readout: v* [M].
        feedback: F [N].
        direct: D [K] of direct feedback alignment; w F / N where it is empty.
    """

    student: Float[ndarray, "units inputs"]
    readout: Float[ndarray, " units"]
    teacher: Float[ndarray, "teachers inputs"]
    teacher_readout: Float[ndarray, " teachers"]
    feedback: Float[ndarray, " inputs"]
    direct: tuple[float, ...] = ()

    @classmethod
    def draw(cls, inputs: int, adaptive: Sequence[float], *, units: int = 2, seed: int = 0) -> TeacherStudent:
        """Gaussian weights, the student's shifted along F so that w_k·F/N is ``adaptive[k]``; teacher readout 1.

        Args:
            inputs: N.
            adaptive: D_k at the start, one per hidden unit of the student.
            units: M.
            seed: of NumPy's generator.
        """
        rng = np.random.default_rng(seed)
        f = rng.standard_normal(inputs)
        w = 0.5 * rng.standard_normal((len(adaptive), inputs))
        w += np.outer(np.asarray(adaptive) - w @ f / inputs, f / (f @ f / inputs))
        v = 0.5 * rng.standard_normal(len(adaptive))
        return cls(w, v, rng.standard_normal((units, inputs)), np.ones(units), f)

    @property
    def covariance(self) -> Matrix:
        """Of the fields w·x/√N, w*·x/√N and F·x/√N: the order parameters [K + M + 1, K + M + 1]."""
        rows = np.vstack([self.student, self.teacher, self.feedback])
        return rows @ rows.T / len(self.feedback)

    @property
    def generalisation_error(self) -> float:
        """ε = ½⟨(φ − φ*)²⟩ over Gaussian inputs."""
        return _error(self.covariance, np.concatenate([self.readout, -self.teacher_readout]))


@dataclass(frozen=True)
class LearningCurve:
    """Generalisation error over time, and the order parameters it is made of.

    Args:
        t: examples / N.
        error: ε.
        feedback: D = w·F/N [times, K], what adaptive feedback alignment sends back.
        readout: v [times, K].
        students: Q = w·w/N [times, K, K].
        teachers: R = w·w*/N [times, K, M].
    """

    t: tuple[float, ...]
    error: tuple[float, ...]
    feedback: Float[ndarray, "times units"]
    readout: Float[ndarray, "times units"]
    students: Float[ndarray, "times units units"]
    teachers: Float[ndarray, "times units teachers"]

    @property
    def order_parameters(self) -> dict[str, Float[ndarray, "times _"]]:
        """Every one by name, flattened: ``v``, ``Q`` (the upper triangle), ``R`` and ``D``."""
        upper = np.triu_indices(self.readout.shape[1])
        flat = self.teachers.reshape(len(self.teachers), -1)
        return {"v": self.readout, "Q": self.students[:, *upper], "R": flat, "D": self.feedback}


def order_parameter_dynamics(
    start: TeacherStudent, times: Sequence[float], *, rule: str = "afa", lr: float = 0.3, readout_lr: float = 0.3,
    dt: float = 0.02,
) -> LearningCurve:  # fmt: skip
    """Integrate the equations of motion (Runge-Kutta of order 4).

    Args:
        start: gives the order parameters at t = 0.
        times: increasing, where the curve is wanted.
        rule: "backprop", "dfa" or "afa".
        lr: η.
        readout_lr: η_v.
        dt: longest step.

    Raises:
        ValueError: an unknown rule, or times that decrease.
    """
    _check(rule, times)
    k = len(start.readout)
    direct = np.asarray(start.direct or start.covariance[:k, -1])
    c, v = start.covariance, start.readout

    def slope(c: Matrix, v: Vector) -> tuple[Matrix, Vector]:
        s = np.concatenate([v, -start.teacher_readout])
        d = -v if rule == "backprop" else direct if rule == "dfa" else c[:k, -1]
        return _slope(c, s, d, lr, readout_lr)

    now, passed = 0.0, []
    for t in times:
        for _ in range(steps := math.ceil((t - now) / dt - 1e-9)):
            h = (t - now) / steps
            (c1, v1) = slope(c, v)
            (c2, v2) = slope(c + h / 2 * c1, v + h / 2 * v1)
            (c3, v3) = slope(c + h / 2 * c2, v + h / 2 * v2)
            (c4, v4) = slope(c + h * c3, v + h * v3)
            c, v = c + h / 6 * (c1 + 2 * c2 + 2 * c3 + c4), v + h / 6 * (v1 + 2 * v2 + 2 * v3 + v4)
        now = t
        passed.append((c, v))
    return _curve(times, passed, start.teacher_readout)


def simulate(
    start: TeacherStudent, times: Sequence[float], *, rule: str = "afa", lr: float = 0.3, readout_lr: float = 0.3,
    seed: int = 0,
) -> LearningCurve:  # fmt: skip
    """Train a network of N inputs on t · N examples, one at a time; the arguments of `order_parameter_dynamics`.

    Args:
        start: where training starts; left as it is.
        times: increasing, where the curve is wanted.
        rule: "backprop", "dfa" or "afa".
        lr: η.
        readout_lr: η_v.
        seed: of the examples.

    Raises:
        ValueError: an unknown rule, or times that decrease.
    """
    _check(rule, times)
    rng = np.random.default_rng(seed)
    n, w, v = len(start.feedback), start.student.copy(), start.readout.copy()
    direct = np.asarray(start.direct or start.covariance[: len(v), -1])
    done, passed = 0, []
    for t in times:
        for _ in range(round(t * n) - done):
            x = rng.standard_normal(n)
            fields = w @ x / math.sqrt(n)
            g = _erf(fields)
            e = v @ g - start.teacher_readout @ _erf(start.teacher @ x / math.sqrt(n))
            d = -v if rule == "backprop" else direct if rule == "dfa" else w @ start.feedback / n
            slope = math.sqrt(2 / math.pi) * np.exp(-(fields**2) / 2)
            w += np.outer(lr / math.sqrt(n) * e * d * slope, x)
            v = v - readout_lr / n * e * g
        done = round(t * n)
        passed.append((replace(start, student=w).covariance, v))
    return _curve(times, passed, start.teacher_readout)


def _curve(times: Sequence[float], passed: list[tuple[Matrix, Vector]], teacher_readout: Vector) -> LearningCurve:
    """The curve through covariances of the fields and readouts."""
    c, v = (np.array(values) for values in zip(*passed, strict=True))
    k = v.shape[1]
    errors = tuple(_error(now, np.concatenate([readout, -teacher_readout])) for now, readout in passed)
    return LearningCurve(tuple(map(float, times)), errors, c[:, :k, -1], v, c[:, :k, :k], c[:, :k, k:-1])


def _slope(c: Matrix, s: Vector, d: Vector, lr: float, readout_lr: float) -> tuple[Matrix, Vector]:
    """Time derivatives of the fields' covariance and of the readout; s weighs the fields g(·) in the error e."""
    k, units, var = len(d), len(s), np.diag(c)
    i, b, a = np.ix_(range(k), range(len(c)), range(units))
    pull = mean_dfg(var[i], c[i, b], c[i, a], c[b, a], var[a]) @ s  # ⟨g'(λ_i) · field_b · e⟩
    moved = np.zeros_like(c)
    moved[:k] = lr * d[:, None] * pull
    i, j, a, b = np.ix_(range(k), range(k), range(units), range(units))
    noise = (
        mean_ddgg(var[i], c[i, j], c[i, a], c[i, b], var[j], c[j, a], c[j, b], var[a], c[a, b], var[b]) @ s @ s
    )  # ⟨g'(λ_i) g'(λ_j) e²⟩
    change = moved + moved.T
    change[:k, :k] += lr**2 * np.outer(d, d) * noise
    i, a = np.ix_(range(k), range(units))
    return change, -readout_lr * mean_gg(var[i], c[i, a], var[a]) @ s


def _error(c: Matrix, s: Vector) -> float:
    i, j = np.ix_(range(len(s)), range(len(s)))
    var = np.diag(c)
    return float(0.5 * s @ mean_gg(var[i], c[i, j], var[j]) @ s)


def _erf(x: Vector) -> Vector:
    return np.array([math.erf(value / math.sqrt(2)) for value in x])


def _check(rule: str, times: Sequence[float]) -> None:
    if rule not in RULES:
        raise ValueError(f"rule must be 'backprop', 'dfa' or 'afa', not {rule!r}")
    if any(b < a for a, b in zip([0.0, *times], times, strict=False)):
        raise ValueError("times must be at least 0 and must not decrease")

"""Closed-form averages against sampling, the equations of motion against training and against known limits."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import erf

from neurarium.theory import TeacherStudent, order_parameter_dynamics, simulate
from neurarium.theory.teacher_student._gaussian_averages import mean_ddgg, mean_dfg, mean_gg
from neurarium.theory.teacher_student._teacher_student import _slope


def fields(samples=2_000_000):
    rng = np.random.default_rng(0)
    mix = rng.standard_normal((4, 4)) * 0.6 + 0.5
    half = mix @ rng.standard_normal((4, samples // 2))
    return mix @ mix.T, np.hstack([half, -half])


def test_averages_are_what_sampling_gives():
    c, (a, b, x, y) = fields()

    def g(z):
        return erf(z / math.sqrt(2))

    def slope(z):
        return math.sqrt(2 / math.pi) * np.exp(-(z**2) / 2)

    assert mean_gg(c[0, 0], c[0, 1], c[1, 1]) == pytest.approx((g(a) * g(b)).mean(), rel=0.01)
    exact = mean_dfg(c[0, 0], c[0, 1], c[0, 2], c[1, 2], c[2, 2])
    assert exact == pytest.approx((slope(a) * b * g(x)).mean(), rel=0.01)
    upper = [c[i, j] for i in range(4) for j in range(i, 4)]
    exact = mean_ddgg(*upper)
    assert exact == pytest.approx((slope(a) * slope(b) * g(x) * g(y)).mean(), rel=0.01)
    swapped = [c[0, 0], c[0, 1], c[0, 3], c[0, 2], c[1, 1], c[1, 3], c[1, 2], c[3, 3], c[2, 3], c[2, 2]]
    assert mean_ddgg(*swapped) == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("rule", ["afa", "dfa", "backprop"])
def test_training_follows_the_equations(rule):
    start = TeacherStudent.draw(400, (0.5, -0.4), seed=1)
    times = [0, 2, 5, 10]
    exact = order_parameter_dynamics(start, times, rule=rule, dt=0.1)
    found = simulate(start, times, rule=rule)
    assert exact.error[0] == pytest.approx(found.error[0], abs=1e-12)
    assert np.abs(np.subtract(exact.error, found.error)).max() < 0.02
    np.testing.assert_allclose(exact.feedback, found.feedback, atol=0.15)
    assert exact.error[-1] < 0.9 * exact.error[0]
    for name, expected in exact.order_parameters.items():
        found_too = found.order_parameters[name]
        np.testing.assert_allclose(found_too[0], expected[0], atol=1e-12, err_msg=name)
        np.testing.assert_allclose(found_too, expected, atol=0.15, err_msg=name)


def test_order_parameters_are_the_overlaps_of_the_weights():
    start = TeacherStudent.draw(50, (0.5, -0.4, 0.1), units=2, seed=5)
    for curve in (order_parameter_dynamics(start, [0]), simulate(start, [0])):
        w, teacher = start.student, start.teacher
        np.testing.assert_allclose(curve.students[0], w @ w.T / 50, atol=1e-12)
        np.testing.assert_allclose(curve.teachers[0], w @ teacher.T / 50, atol=1e-12)
        np.testing.assert_allclose(curve.readout[0], start.readout)
        np.testing.assert_allclose(curve.feedback[0], (0.5, -0.4, 0.1), atol=1e-12)
        assert {name: values.shape[1] for name, values in curve.order_parameters.items()} == {
            "v": 3, "Q": 6, "R": 6, "D": 3,
        }  # fmt: skip
    moved = order_parameter_dynamics(start, [1, 2])
    np.testing.assert_allclose(moved.students, moved.students.transpose(0, 2, 1), atol=1e-12)


def test_the_equations_are_the_mean_step_of_training():
    n, lr = 200, 3.0  # a rate at which the noise of single examples matters
    start = TeacherStudent.draw(n, (0.5, -0.4), seed=2)
    x = np.random.default_rng(0).standard_normal((60_000, n))
    w, v = start.student, start.readout
    fields = x @ w.T / math.sqrt(n)
    hidden = erf(fields / math.sqrt(2))
    e = hidden @ v - erf(x @ start.teacher.T / math.sqrt(2 * n)) @ start.teacher_readout
    steps = lr * (w @ start.feedback / n) * math.sqrt(2 / math.pi) * np.exp(-(fields**2) / 2) * e[:, None]
    once = np.einsum("sk,sl->kl", steps, fields) / len(x)
    overlap = once + once.T + np.einsum("sk,sl,s->kl", steps, steps, (x**2).mean(1)) / len(x)  # dQ/dt
    adaptive = (steps * (x @ start.feedback / math.sqrt(n))[:, None]).mean(0)  # dD/dt
    s = np.concatenate([v, -start.teacher_readout])
    change, readout = _slope(start.covariance, s, start.covariance[:2, -1], lr, 0.3)
    np.testing.assert_allclose(change[:2, :2], overlap, rtol=0.08, atol=0.01)
    np.testing.assert_allclose(change[:2, -1], adaptive, rtol=0.05, atol=0.01)
    np.testing.assert_allclose(readout, -0.3 * (e[:, None] * hidden).mean(0), rtol=0.05, atol=0.003)


def test_direct_feedback_keeps_its_matrix_and_zero_feedback_leaves_the_hidden_layer():
    start = TeacherStudent.draw(100, (0.5, -0.4), seed=3)
    frozen = replace(start, feedback=start.feedback, direct=(1e-300, 1e-300))
    moved = order_parameter_dynamics(frozen, [0, 5], rule="dfa", dt=0.1)
    np.testing.assert_allclose(moved.feedback[0], moved.feedback[1])
    assert moved.error[1] < moved.error[0]  # the readout learns


def test_the_teacher_itself_has_no_error():
    start = TeacherStudent.draw(100, (0.5, -0.4), seed=4)
    solved = replace(start, student=start.teacher, readout=start.teacher_readout)
    assert solved.generalisation_error == pytest.approx(0, abs=1e-12)
    assert order_parameter_dynamics(solved, [3], rule="afa", dt=0.1).error[0] == pytest.approx(0, abs=1e-12)


@pytest.mark.untyped
def test_refusals():
    start = TeacherStudent.draw(20, (0.5, -0.4))
    with pytest.raises(ValueError, match="rule must be"):
        order_parameter_dynamics(start, [1], rule="other")
    with pytest.raises(ValueError, match="decrease"):
        simulate(start, [2, 1])

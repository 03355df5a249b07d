import math

import pytest
import torch

from toolkit.adapters._ode import EqualSteps
from toolkit.core.errors import ExportError


def rotate(t, x):
    return torch.stack([x[..., 1], -x[..., 0]], -1)


def turned(f, x, t0, t1, phi, atol, rtol):
    """Solve `rotate` exactly, and call it as often as an adaptive solver would."""
    for _ in range(21):
        f(t0, x)
    angle = torch.as_tensor(t1 - t0, dtype=x.dtype)
    sin, cos = angle.sin(), angle.cos()
    return torch.stack([cos * x[..., 0] + sin * x[..., 1], cos * x[..., 1] - sin * x[..., 0]], -1)


X = torch.tensor([[1.0, 2.0], [-0.5, 0.1]], dtype=torch.float64)


def test_steps_are_of_order_five():
    solver, errors = EqualSteps(turned), []
    for steps in (4, 8):
        solver.steps = steps
        exact = turned(rotate, X, 0.0, 3.0, (), 0, 0)
        errors.append(float((solver.solve(rotate, X, 0.0, 3.0) - exact).abs().max()))
    assert 4.5 < math.log2(errors[0] / errors[1]) < 6.5


@pytest.mark.parametrize("ends", [(0.0, 2.0), (2.0, 0.0), (torch.tensor(0.0), torch.tensor(2.0))])
def test_the_measured_steps_meet_the_tolerance(ends):
    for tolerance in (1e-3, 1e-9):
        solver = EqualSteps(turned)
        exact = solver.measure(rotate, X, *ends, (), tolerance, tolerance)
        assert torch.equal(exact, turned(rotate, X, *ends, (), 0, 0))
        error = (solver.solve(rotate, X, *ends) - exact).abs()
        assert float((error / (tolerance * (1 + exact.abs()))).max()) < 2


def test_the_hardest_equation_chooses_the_steps():
    solver, counts = EqualSteps(turned), []
    for end in (1.0, 20.0, 1.0):
        solver.measure(rotate, X, 0.0, end)
        counts.append(solver.steps)
    assert counts[0] < counts[1] == counts[2]


def test_without_a_measurement_nothing_is_solved():
    with pytest.raises(ExportError, match="steps of an ordinary differential") as raised:
        EqualSteps(turned).solve(rotate, X, 0.0, 1.0)
    assert "turned" in raised.value.where
    assert "measure" in raised.value.next_step


def test_an_equation_that_does_not_converge_is_an_error():
    with pytest.raises(ExportError, match=r"equal steps are .* tolerances off") as raised:
        EqualSteps(turned).measure(rotate, X, 0.0, 3000.0)
    assert "atol" in raised.value.next_step


def test_an_answer_that_the_adaptive_solver_does_not_share_is_an_error():
    def wrong(*arguments):
        return turned(*arguments) + 0.1

    with pytest.raises(ExportError, match=r"and the adaptive solver are .* apart"):
        EqualSteps(wrong).measure(rotate, X, 0.0, 1.0)

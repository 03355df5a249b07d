"""Ordinary differential equations in equal steps, as many as an adaptive solver's tolerance asks.

An adaptive solver chooses its steps from values, which no graph can do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from toolkit.core.errors import ExportError
from toolkit.nn.iterate import iterate

MOST_STEPS = 256

# Dormand and Prince, A family of embedded Runge-Kutta formulae (1980), order five.
NODES = (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0)
STAGES: tuple[tuple[float, ...], ...] = (
    (),
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
)
RESULT = (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84)

State = tuple[Tensor, ...]


class EqualSteps:
    """A solver with the arguments of zuko's `odeint` that takes equal steps.

    Arguments:
        adaptive: The solver that it stands in for.
    """

    def __init__(self, adaptive: Callable[..., Any]) -> None:
        self.adaptive = adaptive
        self.steps = 0

    @torch.no_grad()
    def solve(
        self,
        f: Callable[..., Any],
        x: Tensor | Iterable[Tensor],
        t0: float | Tensor,
        t1: float | Tensor,
        phi: Iterable[Tensor] = (),  # noqa: ARG002  (the adaptive solver's gradients need it)
        atol: float = 1e-6,
        rtol: float = 1e-5,
    ) -> Any:
        """Integrate dx/dt = f(t, x) from t0 to t1 in the steps that were measured.

        Raises:
            ExportError: Nothing was measured.
        """
        if not self.steps:
            raise ExportError(
                "the number of steps of an ordinary differential equation is not chosen",
                where=f"{_place(self.adaptive)}, tolerances {atol:g} and {rtol:g}",
                next_step="call the model once with this solver's measure before the capture",
            )
        return _integrate(f, x, t0, t1, self.steps)

    def measure(
        self,
        f: Callable[..., Any],
        x: Any,
        t0: float | Tensor,
        t1: float | Tensor,
        phi: Iterable[Tensor] = (),
        atol: float = 1e-6,
        rtol: float = 1e-5,
    ) -> Any:
        """Return the adaptive solver's answer; keep the most steps that any equation needed.

        The steps are doubled until one more doubling changes no value by more than the tolerance
        atol + rtol·|x|. The adaptive solver holds each of its steps to that tolerance, so that it
        may itself be off by many times as much: it only has to agree within a tolerance for every
        call of f that it made.

        Raises:
            ExportError: So many steps do not converge, or to another answer.
        """
        counted = _Counted(f)
        result = self.adaptive(counted, x, t0, t1, phi, atol, rtol)
        limits = _limits(_state(x), _state(result), atol, rtol)
        steps, coarse = 1, _integrate(f, x, t0, t1, 1)
        while (change := _excess(coarse, fine := _integrate(f, x, t0, t1, 2 * steps), limits)) > 1:
            steps, coarse = 2 * steps, fine
            if steps > MOST_STEPS:
                raise _unsolved(
                    f"{steps} equal steps are {change:.3g} tolerances off", self, atol, rtol
                )
        if (apart := _excess(coarse, result, limits)) > counted.calls:
            what = f"{steps} equal steps and the adaptive solver are {apart:.3g} tolerances apart"
            raise _unsolved(what, self, atol, rtol)
        self.steps = max(self.steps, steps)
        return result


class _Counted:
    """A function that counts its calls."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.calls = function, 0

    def __call__(self, *arguments: Any) -> Any:
        self.calls += 1
        return self.function(*arguments)


def _unsolved(what: str, solver: EqualSteps, atol: float, rtol: float) -> ExportError:
    return ExportError(
        what,
        where=f"{_place(solver.adaptive)}, tolerances {atol:g} and {rtol:g}",
        next_step="raise the transform's atol and rtol, or train a smoother flow",
    )


def _limits(start: State, end: State, atol: float, rtol: float) -> list[Tensor]:
    pairs = zip(start, end, strict=True)
    return [atol + rtol * torch.maximum(a.abs(), b.abs()) for a, b in pairs]


@torch.no_grad()
def _integrate(
    f: Callable[..., Any], x: Any, t0: float | Tensor, t1: float | Tensor, steps: int
) -> Any:
    state = _state(x)
    start, end = (
        torch.as_tensor(t, dtype=state[0].dtype, device=state[0].device) for t in (t0, t1)
    )
    dt = (end - start) / steps

    def step(number: Tensor, *now: Tensor) -> State:
        return number + 1, *_step(f, start + number * dt, dt, now)

    _, *end_state = iterate(step, steps, torch.zeros_like(start), *state)
    state = tuple(end_state)
    return state[0] if isinstance(x, Tensor) else state


def _step(f: Callable[..., Any], t: Tensor, dt: Tensor, state: State) -> State:
    slopes: list[State] = []
    for node, weights in zip(NODES, STAGES, strict=True):
        slopes.append(_state(f(t + node * dt, *_moved(state, dt, weights, slopes))))
    return _moved(state, dt, RESULT, slopes)


def _moved(state: State, dt: Tensor, weights: tuple[float, ...], slopes: list[State]) -> State:
    for weight, slope in zip(weights, slopes, strict=True):
        if weight:
            state = tuple(x + (dt * weight) * k for x, k in zip(state, slope, strict=True))
    return state


def _state(x: Any) -> State:
    return (x,) if isinstance(x, Tensor) else tuple(x)


def _excess(result: Any, other: Any, limits: list[Tensor]) -> float:
    """Return the largest difference in units of its limit."""
    pairs = zip(_state(result), _state(other), limits, strict=True)
    ratios = (((a - b).abs() / limit).nan_to_num(torch.inf) for a, b, limit in pairs)
    return max(float(ratio.max()) for ratio in ratios)


def _place(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{function.__qualname__}"

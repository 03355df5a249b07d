"""Loops that say so: one step applied again and again, which a recorder need not unroll."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

from torch import Tensor

State = tuple[Tensor, ...]
Step = Callable[..., State]
Listener = Callable[[Step, int, State], State]

FEWEST = 3
"""Iterations from which a loop is worth being one in a graph."""

_LISTENER: ContextVar[Listener | None] = ContextVar("listener", default=None)


def iterate(step: Step, count: int, *state: Tensor) -> State:
    """Apply a step a number of times.

    Arguments:
        step: Maps the state to the next one, of the same shapes and element types; it has no other
            effect, and is the same in every iteration.
        count: How often.
        state: Initial tensors.

    Returns:
        The last state.
    """
    listener = _LISTENER.get()
    if listener is not None and count >= FEWEST:
        return listener(step, count, state)
    for _ in range(count):
        state = step(*state)
    return state


def once(step: Step, _: int, state: State) -> State:
    """Take one step only: a listener for whoever looks at shapes and side effects."""
    return step(*state)


@contextlib.contextmanager
def heard_by(listener: Listener) -> Iterator[None]:
    """Let a listener run the loops that begin inside: it is given step, count and state.

    Arguments:
        listener: Returns a state like the last one.
    """
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)

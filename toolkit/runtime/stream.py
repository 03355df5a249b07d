"""A graph of one step, run on and on with its states in buffers that are bound once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from toolkit.core.errors import UsageError
from toolkit.core.signature import Signature, TensorSpec
from toolkit.runtime.feeds import Arrays, bind, check_range, describe, draw_inputs
from toolkit.runtime.graph import Graph

TIME = "time"
# Steps from random states that must come out the same with states in place and apart.
TRIALS = 4


class Stream:
    """Feed a sequence bit by bit; chunks of any size give what the whole sequence gives.

    A state is read from and written to one buffer where the graph allows it, which is tried out
    on random states; else it has two buffers that change places at every step.

    Arguments:
        graph: A graph of one step: an input that is fed, states in and out in the same order,
            and, where it has them, the number of the step (`time`) and conditioning inputs.
        batch: Sequences side by side.
        given: Conditioning inputs by name; states too, where they do not begin at zero.

    Raises:
        UsageError: The graph has no states, or an input is missing or does not fit.
    """

    def __init__(
        self, graph: Graph, *, batch: int = 1, given: Mapping[str, Any] | None = None
    ) -> None:
        self._graph, self._batch = graph, batch
        signature = self._signature = graph.signature
        self._following = _following(signature)
        self._fed = _fed(signature, {*self._following, *(given or {})})
        self._inputs = self._first(dict(given or {}))
        self._start = {name: self._inputs[name].copy() for name in self._following}
        self._results = {
            name: np.empty_like(value)
            for name, value in graph(self._inputs).items()
            if name not in self._following.values()
        }
        self._last = next((spec.high for spec in signature.inputs if spec.name == TIME), None)
        self.in_place = self._in_place()
        self._turns = self._calls()
        self.reset()

    def reset(self) -> None:
        """Go back to before the first step."""
        self.steps = 0
        for name, start in self._start.items():
            self._inputs[name][...] = start

    def step(self, x: Any) -> Any:
        """Return what one step gives beside the states: an array, or a tuple of arrays.

        Arguments:
            x: The input of the step, `(batch, …)`.

        Raises:
            UsageError: The input does not fit, or the sequence is at its end.
        """
        found = self.push(np.asarray(x)[np.newaxis])
        return tuple(part[0] for part in found) if isinstance(found, tuple) else found[0]

    def push(self, chunk: Any) -> Any:
        """Return what the next steps give: an array `(steps, batch, …)`, or a tuple of such.

        Arguments:
            chunk: Their inputs, `(steps, batch, …)`, of any number of steps.

        Raises:
            UsageError: The inputs do not fit, or the sequence is longer than the graph takes.
        """
        chunk = np.asarray(chunk)
        self._check(chunk)
        results = list(self._results.values())
        found = [np.empty((len(chunk), *item.shape), item.dtype) for item in results]
        x, time = self._inputs[self._fed.name], self._inputs.get(TIME)
        for number, value in enumerate(chunk):
            x[...] = value
            if time is not None:
                time[...] = self.steps
            self._turns[self.steps % len(self._turns)]()
            self.steps += 1
            for kept, result in zip(found, results, strict=True):
                kept[number] = result
        return found[0] if len(found) == 1 else tuple(found)

    def _first(self, given: dict[str, Any]) -> Arrays:
        """Return buffers of all inputs before the first step."""
        blank = {
            spec.name: _blank(spec, self._batch)
            for spec in self._signature.inputs
            if spec.name in {*self._following, TIME, self._fed.name}
        }
        bound = bind(self._signature, (), {**blank, **given})
        # Of their own: they are written to at every step.
        return {name: np.array(value, order="C") for name, value in bound.items()}

    def _check(self, chunk: np.ndarray) -> None:
        """Refuse a chunk that does not fit, or that leads past the last step."""
        spec, shape = self._fed, self._inputs[self._fed.name].shape
        where = f"input {spec.name!r} of {self._signature.entry!r}"
        if chunk.dtype != np.dtype(spec.dtype) or chunk.shape[1:] != shape or not chunk.ndim:
            raise UsageError(
                f"the chunk is {chunk.dtype}{list(chunk.shape)}, a step takes {describe(spec)}",
                where=where,
                next_step=f"give {spec.dtype} ({', '.join(['steps', *map(str, shape)])})",
            )
        check_range(spec, chunk, where)
        steps = self.steps + len(chunk)
        if self._last is not None and steps > self._last + 1:
            raise UsageError(
                f"the sequence would have {steps} steps, the graph takes {int(self._last) + 1}",
                where=where,
                next_step="reset(), or export with a longer example",
            )

    def _in_place(self) -> tuple[str, ...]:
        """Return the states that may be read from and written to one buffer."""
        if self._allows(self._following):
            return tuple(self._following)
        alone = [name for name in self._following if self._allows([name])]
        return tuple(alone) if self._allows(alone) else ()

    def _allows(self, names: Collection[str]) -> bool:
        """Return whether the graph gives the same, bit for bit, with these states in place."""
        written = self._written(names)
        call = self._graph.bound(self._inputs, written)
        for seed in range(TRIALS):
            drawn = draw_inputs(self._signature, seed=seed, batch=self._batch)
            expected = self._graph(drawn)
            for name, value in drawn.items():
                self._inputs[name][...] = value
            call()
            if not all(_same_bits(written[name], value) for name, value in expected.items()):
                return False
        return True

    def _written(self, names: Collection[str]) -> Arrays:
        """Return buffers of all outputs: of these states the inputs' own, else new ones."""
        states = {
            after: self._inputs[name] if name in names else np.empty_like(self._inputs[name])
            for name, after in self._following.items()
        }
        return {**self._results, **states}

    def _calls(self) -> list[Callable[[], object]]:
        """Return the calls that take turns: one, or two where a state has two buffers."""
        written = self._written(self.in_place)
        calls = [self._graph.bound(self._inputs, written)]
        apart = {
            name: after for name, after in self._following.items() if name not in self.in_place
        }
        if apart:
            swapped = {name: written[after] for name, after in apart.items()}
            back = {after: self._inputs[name] for name, after in apart.items()}
            calls.append(self._graph.bound({**self._inputs, **swapped}, {**written, **back}))
        return calls


def _following(signature: Signature) -> dict[str, str]:
    """Return the states and the outputs that hold them after a step: the last ones, in order.

    Raises:
        UsageError: There are none.
    """
    states = [spec for spec in signature.inputs if spec.kind == "state"]
    after = signature.outputs[len(signature.outputs) - len(states) :] if states else ()
    forms = [[(spec.dtype, len(spec.dims)) for spec in specs] for specs in (states, after)]
    if not states or len(after) == len(signature.outputs) or forms[0] != forms[1]:
        raise UsageError(
            f"{signature.entry!r} is no step: its outputs do not end with its states",
            where="; ".join(map(describe, (*signature.inputs, *signature.outputs))),
            next_step="stream the entry `step` of a sampler or a recurrent model",
        )
    return {spec.name: follow.name for spec, follow in zip(states, after, strict=True)}


def _fed(signature: Signature, known: Collection[str]) -> TensorSpec:
    """Return the input that a stream is fed.

    Raises:
        UsageError: There is not exactly one.
    """
    free = [
        spec
        for spec in signature.inputs
        if spec.name not in known and spec.name != TIME and spec.kind != "context"
    ]
    if len(free) != 1:
        raise UsageError(
            f"a stream is fed by one input, {signature.entry!r} has {len(free)}",
            where="; ".join(map(describe, signature.inputs)),
            next_step="give all others by name",
        )
    return free[0]


def _blank(spec: TensorSpec, batch: int) -> np.ndarray:
    """Return zeros, or what of the domain is nearest to them."""
    shape = tuple(dim if isinstance(dim, int) else batch for dim in spec.dims)
    low = -np.inf if spec.low is None else spec.low
    high = np.inf if spec.high is None else spec.high
    return np.full(shape, min(max(0, low), high), spec.dtype)


def _same_bits(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and one.tobytes() == other.tobytes()

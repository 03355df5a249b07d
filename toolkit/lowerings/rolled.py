"""Recurrent layers as ONNX's LSTM, GRU and RNN, several times as fast as a loop of their parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from onnxscript import opset18 as op
from torch import Tensor

from toolkit.core.protocols import Example
from toolkit.lowerings._maths import is_double
from toolkit.lowerings._scan import scan
from toolkit.nn.rolled import GATES, rolled


def translation(
    x: Any, states: Sequence[Any], weight: Any, recurrence: Any, bias: Any, kind: str
) -> Any:
    """Translate `rolled(Tensor x, Tensor[] states, …, str kind) -> Tensor`.

    ONNX Runtime has these operators in float32 and float16; in float64 their parts are looped.
    """
    if is_double(x):
        return _looped(x, states, weight, recurrence, bias, kind)
    given = (x, weight, recurrence, bias, None, *states)
    size = recurrence.shape[2]
    if kind == "LSTM":
        values, _, _ = op.LSTM(*given, hidden_size=size)
    elif kind == "GRU":
        values, _ = op.GRU(*given, hidden_size=size, linear_before_reset=1)
    else:
        # The defaults name a second direction's activation too, which TensorRT refuses; it also
        # asks for three parameters, of which tanh uses none.
        values, _ = op.RNN(
            *given, hidden_size=size, activations=["Tanh"], activation_alpha=[0.0, 0.0, 0.0]
        )
    return op.Squeeze(values, [1])


def _looped(
    x: Any, states: Sequence[Any], weight: Any, recurrence: Any, bias: Any, kind: str
) -> Any:
    gates = len(GATES[kind])
    first = [op.Squeeze(state, [0]) for state in states]
    input_weight, hidden_weight = (
        op.Transpose(op.Squeeze(item, [0]), perm=[1, 0]) for item in (weight, recurrence)
    )
    input_bias, hidden_bias = op.Split(op.Squeeze(bias, [0]), axis=0, num_outputs=2)

    def body(*values: Any) -> tuple[list[Any], list[Any]]:
        *before, row = values
        inputs = op.Add(op.MatMul(row, input_weight), input_bias)
        hidden = op.Add(op.MatMul(before[0], hidden_weight), hidden_bias)
        after = _CELLS[kind](_split(inputs, gates), _split(hidden, gates), before)
        return after, [after[0]]

    return scan(body, first, [x])[1][0]


def _split(value: Any, gates: int) -> list[Any]:
    return list(op.Split(value, axis=1, num_outputs=gates)) if gates > 1 else [value]


def _lstm(inputs: list[Any], hidden: list[Any], states: list[Any]) -> list[Any]:
    enter, leave, keep, new = (op.Add(x, h) for x, h in zip(inputs, hidden, strict=True))
    cell = op.Add(op.Mul(op.Sigmoid(keep), states[1]), op.Mul(op.Sigmoid(enter), op.Tanh(new)))
    return [op.Mul(op.Sigmoid(leave), op.Tanh(cell)), cell]


def _gru(inputs: list[Any], hidden: list[Any], states: list[Any]) -> list[Any]:
    update, reset = (op.Sigmoid(op.Add(x, h)) for x, h in zip(inputs[:2], hidden[:2], strict=True))
    new = op.Tanh(op.Add(inputs[2], op.Mul(reset, hidden[2])))
    return [op.Add(new, op.Mul(update, op.Sub(states[0], new)))]


def _rnn(inputs: list[Any], hidden: list[Any], states: list[Any]) -> list[Any]:
    del states
    return [op.Tanh(op.Add(inputs[0], hidden[0]))]


_CELLS: Mapping[str, Callable[..., list[Any]]] = {"LSTM": _lstm, "GRU": _gru, "RNN": _rnn}


class Rolled:
    """Recurrent layers over time."""

    def __call__(self) -> Mapping[torch._ops.OpOverload, Callable[..., Any]]:
        """Return the table."""
        return {torch.ops.toolkit.rolled.default: translation}

    def examples(self) -> Mapping[str, Example]:
        """Return every kind; inputs and states so large that gates saturate among them."""
        draws = torch.Generator().manual_seed(0)

        def make(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=draws, dtype=torch.float64)

        def example(kind: str, scale: float) -> Example:
            gates, states = len(GATES[kind]), 2 if kind == "LSTM" else 1
            x = scale * make(3, 6, 5)
            weights = make(1, 4 * gates, 5), make(1, 4 * gates, 4), make(1, 8 * gates)
            return Example(
                partial(_by_batch, kind), (x, *make(states, 3, 4), *weights), shared=SHARED[kind]
            )

        return {
            f"{kind} of {name}": example(kind, scale)
            for kind in GATES
            for name, scale in (("small inputs", 1.0), ("large inputs", 30.0))
        }


SHARED = {"LSTM": (3, 4, 5), "GRU": (2, 3, 4), "RNN": (2, 3, 4)}


def _by_batch(kind: str, x: Tensor, *tensors: Tensor) -> Tensor:
    """Apply the operator to inputs and states whose first axis is the batch."""
    *states, weight, recurrence, bias = tensors
    before = [state.unsqueeze(0) for state in states]
    values: Tensor = rolled(x.transpose(0, 1), before, weight, recurrence, bias, kind)
    return values.transpose(0, 1)


lowering = Rolled()

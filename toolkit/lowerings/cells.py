"""One step of a recurrent layer as two products and its gates.

Torch's exporter has no translation of the cells and would trace the whole program again to take
them apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from onnxscript import opset18 as op
from torch import Tensor

from toolkit.core.protocols import Example


def lstm_cell(
    input: Any,  # noqa: A002  (the operator's own signature)
    hx: Sequence[Any],
    w_ih: Any,
    w_hh: Any,
    b_ih: Any = None,
    b_hh: Any = None,
) -> Any:
    """Translate `lstm_cell`.

    `lstm_cell(Tensor input, Tensor[] hx, Tensor w_ih, Tensor w_hh, Tensor? b_ih=None,
    Tensor? b_hh=None) -> (Tensor, Tensor)`
    """
    hidden, cell = hx
    gates = op.Add(_product(input, w_ih, b_ih), _product(hidden, w_hh, b_hh))
    enter, keep, new, leave = op.Split(gates, axis=1, num_outputs=4)
    cell = op.Add(op.Mul(op.Sigmoid(keep), cell), op.Mul(op.Sigmoid(enter), op.Tanh(new)))
    return op.Mul(op.Sigmoid(leave), op.Tanh(cell)), cell


def gru_cell(
    input: Any,  # noqa: A002  (the operator's own signature)
    hx: Any,
    w_ih: Any,
    w_hh: Any,
    b_ih: Any = None,
    b_hh: Any = None,
) -> Any:
    """Translate `gru_cell`.

    `gru_cell(Tensor input, Tensor hx, Tensor w_ih, Tensor w_hh, Tensor? b_ih=None,
    Tensor? b_hh=None) -> Tensor`
    """
    sides = _product(input, w_ih, b_ih), _product(hx, w_hh, b_hh)
    (reset, update, new), (from_reset, from_update, from_new) = (
        op.Split(side, axis=1, num_outputs=3) for side in sides
    )
    reset, update = op.Sigmoid(op.Add(reset, from_reset)), op.Sigmoid(op.Add(update, from_update))
    new = op.Tanh(op.Add(new, op.Mul(reset, from_new)))
    return op.Add(new, op.Mul(update, op.Sub(hx, new)))


def rnn_tanh_cell(
    input: Any,  # noqa: A002  (the operator's own signature)
    hx: Any,
    w_ih: Any,
    w_hh: Any,
    b_ih: Any = None,
    b_hh: Any = None,
) -> Any:
    """Translate `rnn_tanh_cell`.

    `rnn_tanh_cell(Tensor input, Tensor hx, Tensor w_ih, Tensor w_hh, Tensor? b_ih=None,
    Tensor? b_hh=None) -> Tensor`
    """
    return op.Tanh(op.Add(_product(input, w_ih, b_ih), _product(hx, w_hh, b_hh)))


def _product(value: Any, weight: Any, bias: Any) -> Any:
    return op.Gemm(*(item for item in (value, weight, bias) if item is not None), transB=1)


class Cells:
    """Steps of an LSTM, a GRU and a plain recurrent layer."""

    def __call__(self) -> Mapping[torch._ops.OpOverload, Callable[..., Any]]:
        """Return the table."""
        return {
            torch.ops.aten.lstm_cell.default: lstm_cell,
            torch.ops.aten.gru_cell.default: gru_cell,
            torch.ops.aten.rnn_tanh_cell.default: rnn_tanh_cell,
        }

    def examples(self) -> Mapping[str, Example]:
        """Return cells with biases and without, and inputs that saturate the gates."""
        draws = torch.Generator().manual_seed(0)

        def make(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=draws, dtype=torch.float64)

        def example(kind: str, scale: float, *, bias: bool) -> Example:
            states, gates = (2 if kind == "LSTM" else 1), GATES[kind]
            weights = [make(4 * gates, 5), make(4 * gates, 4)]
            weights += [make(4 * gates), make(4 * gates)] if bias else []
            before = [make(3, 4) for _ in range(states)]
            shared = tuple(range(1 + states, 1 + states + len(weights)))
            return Example(CALLS[kind], (scale * make(3, 5), *before, *weights), shared=shared)

        return {
            f"{kind} of {name}": example(kind, scale, bias=bias)
            for kind in GATES
            for name, scale, bias in (
                ("small inputs", 1.0, True),
                ("large inputs", 30.0, True),
                ("no bias", 1.0, False),
            )
        }


def _lstm(x: Tensor, hidden: Tensor, cell: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
    after: tuple[Tensor, Tensor] = torch.lstm_cell(x, (hidden, cell), *weights)
    return after


GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
CALLS: Mapping[str, Callable[..., Any]] = {
    "LSTM": _lstm,
    "GRU": torch.gru_cell,
    "RNN": torch.rnn_tanh_cell,
}

lowering = Cells()

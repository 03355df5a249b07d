"""A recurrent layer as one torch operator, `toolkit::rolled`: a tracer keeps its loop over time.

Tracers follow torch's own recurrent layers step by step, and fix the number of steps.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# Torch's blocks of gates in the order of ONNX: input, output, forget, cell; update, reset, hidden.
GATES = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN": (0,)}


@torch.library.custom_op("toolkit::rolled", mutates_args=())
def rolled(
    x: Tensor, states: Sequence[Tensor], weight: Tensor, recurrence: Tensor, bias: Tensor, kind: str
) -> Tensor:
    """Return what one layer gives at every step, `(time, batch, hidden)`.

    Arguments:
        x: Inputs `(time, batch, features)`.
        states: The hidden state, and the cell of an LSTM, `(1, batch, hidden)` each.
        weight: Of the inputs, `(1, gates · hidden, features)`, in the order of ONNX.
        recurrence: Of the hidden state, `(1, gates · hidden, hidden)`.
        bias: Of the inputs, then of the hidden state, `(1, 2 · gates · hidden)`.
        kind: `LSTM`, `GRU` (its reset gate is applied after the product) or `RNN` (tanh).
    """
    order = torch.tensor(GATES[kind]).argsort().tolist()
    weights = [_ordered(item[0], order) for item in (weight, recurrence, *bias.chunk(2, 1))]
    given = (weights, True, 1, 0.0, False, False, False)
    if kind == "LSTM":
        return torch.lstm(x, tuple(states), *given)[0]
    apply = torch.gru if kind == "GRU" else torch.rnn_tanh
    return apply(x, states[0], *given)[0]


@rolled.register_fake
def _(
    x: Tensor, states: Sequence[Tensor], weight: Tensor, recurrence: Tensor, bias: Tensor, kind: str
) -> Tensor:
    del weight, bias, kind, states
    return x.new_empty(x.shape[0], x.shape[1], recurrence.shape[2])


def roll(x: Tensor, states: Sequence[Tensor], weights: Sequence[Tensor], kind: str) -> Tensor:
    """Apply `rolled` with a layer's weights as torch keeps them.

    Arguments:
        x: Inputs `(time, batch, features)`.
        states: The hidden state, and the cell of an LSTM, `(batch, hidden)` each.
        weights: Input weight, hidden weight and both biases of one layer.
        kind: As in `rolled`.
    """
    weight, recurrence, *biases = (_ordered(item, GATES[kind]) for item in weights)
    values: Tensor = rolled(
        x,
        [state.unsqueeze(0) for state in states],
        weight.unsqueeze(0),
        recurrence.unsqueeze(0),
        torch.cat(biases).unsqueeze(0),
        kind,
    )
    return values


def _ordered(weight: Tensor, order: Sequence[int]) -> Tensor:
    """Return a weight's blocks of gates in another order."""
    blocks = weight.chunk(len(order))
    return torch.cat([blocks[index] for index in order])

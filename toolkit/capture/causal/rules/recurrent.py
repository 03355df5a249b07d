"""LSTM and GRU: one product per layer and step, hidden values as states."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional

from toolkit.capture.causal.lane import Column, Lane, Refusal, lazy
from toolkit.capture.causal.walk import Walk

aten = torch.ops.aten
Cell = Callable[..., tuple[Tensor, ...]]


def lstm_cell(
    x: Tensor, h: Tensor, c: Tensor, wi: Tensor, wh: Tensor, bi: Any = None, bh: Any = None
) -> tuple[Tensor, ...]:
    """Return the next hidden value and cell, `(batch, hidden)` each."""
    bias = None if bi is None else bi + bh
    gates = functional.linear(torch.cat([x, h], -1), torch.cat([wi, wh], 1), bias)
    i, f, g, o = gates.chunk(4, -1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def gru_cell(
    x: Tensor, h: Tensor, wi: Tensor, wh: Tensor, bi: Any = None, bh: Any = None
) -> tuple[Tensor, ...]:
    """Return the next hidden value, `(batch, hidden)`."""
    rx, zx, nx = functional.linear(x, wi, bi).chunk(3, -1)
    rh, zh, nh = functional.linear(h, wh, bh).chunk(3, -1)
    z = torch.sigmoid(zx + zh)
    n = torch.tanh(nx + torch.sigmoid(rx + rh) * nh)
    return (n + z * (h - n),)


def rnn_cell(activation: Callable[[Tensor], Tensor]) -> Cell:
    """Return a plain cell."""

    def cell(
        x: Tensor, h: Tensor, wi: Tensor, wh: Tensor, bi: Any = None, bh: Any = None
    ) -> tuple[Tensor, ...]:
        bias = None if bi is None else bi + bh
        gates = functional.linear(torch.cat([x, h], -1), torch.cat([wi, wh], 1), bias)
        return (activation(gates),)

    return cell


def recurrent(cell: Cell, parts: str) -> Callable[..., Lane]:
    """Return the rule of a recurrent layer.

    Arguments:
        cell: One step of one layer.
        parts: One letter per state of a cell, the hidden value first.
    """

    def rule(
        walk: Walk,
        node: fx.Node,
        x: Any,
        hidden: Any,
        weights: Sequence[Any],
        has_biases: bool,  # noqa: FBT001  (the operator's own arguments)
        layers: int,
        dropout: float,
        train: bool,  # noqa: FBT001
        bidirectional: bool,  # noqa: FBT001
        batch_first: bool,  # noqa: FBT001
    ) -> Lane:
        if bidirectional:
            raise Refusal(node, "bidirectional: reads the future")
        if train and dropout:
            raise Refusal(node, "dropout in training mode")
        if not isinstance(x, Lane) or x.axis != (1 if batch_first else 0):
            raise Refusal(node, "a recurrent layer over another axis than time")
        if x.start > 0 or x.prefix is not None:
            raise Refusal(node, "a recurrent layer over a padded or late sequence")
        initial = [walk.const(node, item) for item in (hidden if len(parts) > 1 else [hidden])]
        per = 4 if has_biases else 2
        column = x.column
        for layer in range(layers):
            own = [walk.const(node, item) for item in weights[layer * per : (layer + 1) * per]]
            keys = [f"{node.name}!{layer}{part}" for part in parts]
            column = _layer(walk, cell, column, own, keys, [item[layer] for item in initial])
        return Lane(node.name, x.axis, x.shape, lazy(column))

    return rule


def _layer(
    walk: Walk,
    cell: Cell,
    column: Column,
    weights: Sequence[Tensor],
    keys: Sequence[str],
    initial: Sequence[Tensor],
) -> Column:
    results = lazy(lambda: cell(column(), *[walk.state(key) for key in keys], *weights))
    for index, (key, start) in enumerate(zip(keys, initial, strict=True)):
        walk.carry(key, start, partial(_pick, results, index))
    return partial(_pick, results, 0)


def _pick(results: Column, index: int) -> Tensor:
    value: Tensor = results()[index]
    return value


rules = {
    aten.lstm.input: recurrent(lstm_cell, "hc"),
    aten.gru.input: recurrent(gru_cell, "h"),
    aten.rnn_tanh.input: recurrent(rnn_cell(torch.tanh), "h"),
    aten.rnn_relu.input: recurrent(rnn_cell(torch.relu), "h"),
}

"""LSTM and GRU: one product per layer and step, hidden values as states."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional

from toolkit.capture.causal.lane import Column, Ended, Lane, Refusal, lazy
from toolkit.capture.causal.rules.linear import looked_up, times
from toolkit.capture.causal.walk import Walk

aten = torch.ops.aten
Cell = Callable[..., tuple[Tensor, ...]]


def lstm_cell(
    x: Column, h: Tensor, c: Tensor, wi: Tensor, wh: Tensor, bi: Any = None, bh: Any = None
) -> tuple[Tensor, ...]:
    """Return the next hidden value and cell, `(batch, hidden)` each."""
    # The three sigmoids side by side are one: a step costs by its number of operators.
    wi, wh = _gates_first(wi), _gates_first(wh)
    bias = None if bi is None else _gates_first(bi + bh)
    size = h.shape[-1]
    given = _of_both(x, h, wi, wh, bias)
    gates, g = torch.split(given, [3 * size, size], -1)
    i, f, o = torch.sigmoid(gates).chunk(3, -1)
    c = f * c + i * torch.tanh(g)
    return o * torch.tanh(c), c


def _gates_first(weight: Tensor) -> Tensor:
    """Return rows of input, forget, cell and output gates with the cell's last."""
    i, f, g, o = weight.chunk(4)
    return torch.cat([i, f, o, g])


def _of_both(x: Column, h: Tensor, wi: Tensor, wh: Tensor, bias: Tensor | None) -> Tensor:
    """Return what input and hidden value give together, by one product."""
    if looked_up(x, wi.T, bias):
        return torch.addmm(times(x, wi.T, bias)(), h, wh.T)
    return functional.linear(torch.cat([x(), h], -1), torch.cat([wi, wh], 1), bias)


def gru_cell(
    x: Column, h: Tensor, wi: Tensor, wh: Tensor, bi: Any = None, bh: Any = None
) -> tuple[Tensor, ...]:
    """Return the next hidden value, `(batch, hidden)`."""
    size = h.shape[-1]
    gates_x, nx = torch.split(times(x, wi.T, bi)(), [2 * size, size], -1)
    gates_h, nh = torch.split(functional.linear(h, wh, bh), [2 * size, size], -1)
    r, z = torch.sigmoid(gates_x + gates_h).chunk(2, -1)
    n = torch.tanh(nx + r * nh)
    return (n + z * (h - n),)


def rnn_cell(activation: Callable[[Tensor], Tensor]) -> Cell:
    """Return a plain cell."""

    def cell(
        x: Column, h: Tensor, wi: Tensor, wh: Tensor, bi: Any = None, bh: Any = None
    ) -> tuple[Tensor, ...]:
        bias = None if bi is None else bi + bh
        return (activation(_of_both(x, h, wi, wh, bias)),)

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
        column, ends = x.column, []
        for layer in range(layers):
            own = [walk.const(node, item) for item in weights[layer * per : (layer + 1) * per]]
            keys = [f"{node.name}!{layer}{part}" for part in parts]
            results = _layer(walk, cell, column, own, keys, [item[layer] for item in initial])
            ends.append(results)
            column = partial(_pick, results, 0)
        last = [partial(_stacked, ends, part) for part in range(len(parts))]
        return Ended(node.name, x.axis, x.shape, lazy(column), ends=last)

    return rule


def _layer(
    walk: Walk,
    cell: Cell,
    column: Column,
    weights: Sequence[Tensor],
    keys: Sequence[str],
    initial: Sequence[Tensor],
) -> Column:
    """Reserve a layer's states and return what gives their next values."""
    results = lazy(lambda: cell(column, *[walk.state(key) for key in keys], *weights))
    for index, (key, start) in enumerate(zip(keys, initial, strict=True)):
        walk.carry(key, start, partial(_pick, results, index))
    return results


def _stacked(layers: Sequence[Column], part: int) -> Tensor:
    """Return one state of every layer, `(layers, batch, hidden)`."""
    return torch.stack([results()[part] for results in layers])


def _pick(results: Column, index: int) -> Tensor:
    value: Tensor = results()[index]
    return value


rules = {
    aten.lstm.input: recurrent(lstm_cell, "hc"),
    aten.gru.input: recurrent(gru_cell, "h"),
    aten.rnn_tanh.input: recurrent(rnn_cell(torch.tanh), "h"),
    aten.rnn_relu.input: recurrent(rnn_cell(torch.relu), "h"),
}

"""Chains of causal layers that are evaluated in parallel, or one position after the other."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

State = Any


@runtime_checkable
class Stepping(Protocol):
    """A causal layer that can also be evaluated position by position.

    `forward` takes a whole sequence or picture. `step` takes its entry at one position, without
    the axis of positions, and what earlier steps left behind. Both give the same outputs.
    """

    def init_state(self, batch: int, *size: int) -> State:
        """Return the state before the first position: tensors, nested in tuples.

        Arguments:
            batch: Sequences or pictures that are stepped side by side.
            size: Width of the picture, where the layer walks over one.
        """

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Return the output at this position and the state for the next one."""


def init_state(layer: nn.Module, batch: int, *size: int) -> State:
    """Return a layer's state before the first position; `()` where it has none."""
    return layer.init_state(batch, *size) if isinstance(layer, Stepping) else ()


def step(layer: nn.Module, x: Tensor, state: State) -> tuple[Tensor, State]:
    """Step a layer; one without a `step` acts on every position alone."""
    return layer.step(x, state) if isinstance(layer, Stepping) else (layer(x), state)


class Stack(nn.Sequential):
    """Apply layers one after the other; their steps compose.

    Arguments:
        layers: Modules with `init_state` and `step`, and modules without, which must act on each
            position alone and alike on a whole sequence and on one entry of it.
    """

    def init_state(self, batch: int, *size: int) -> State:
        """Return every layer's state."""
        return tuple(init_state(layer, batch, *size) for layer in self)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Return the last layer's output at this position and every layer's next state."""
        after = []
        for layer, before in zip(self, state, strict=True):
            x, new = step(layer, x, before)
            after.append(new)
        return x, tuple(after)


class Residual(nn.Module):
    """Add a layer's input to its output.

    Arguments:
        layer: Keeps the shape of its input.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """Return `x + layer(x)`."""
        y: Tensor = self.layer(x)
        return x + y

    def init_state(self, batch: int, *size: int) -> State:
        """Return the layer's state."""
        return init_state(self.layer, batch, *size)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Return the sum at this position and the layer's next state."""
        y, state = step(self.layer, x, state)
        return x + y, state


class ChannelsFirst(nn.Module):
    """Give a layer the sequence as `(batch, features, time)`, as convolutions take it.

    Arguments:
        layer: Maps `(batch, channels, time)` to the same, with other channels.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """Return `(batch, time, channels)` of `(batch, time, features)`."""
        y: Tensor = self.layer(x.transpose(1, 2))
        return y.transpose(1, 2)

    def init_state(self, batch: int, *size: int) -> State:
        """Return the layer's state."""
        return init_state(self.layer, batch, *size)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Return the layer's output at this position and its next state."""
        return step(self.layer, x, state)


class Shift(nn.Module):
    """Move a sequence one position on: position 0 gets a learned start, the last entry is dropped.

    Behind it, outputs at position t depend on inputs before t alone.

    Arguments:
        features: Features of an entry.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.randn(features))

    def forward(self, x: Tensor) -> Tensor:
        """Return `(batch, time, features)` of the same."""
        start = self.start.expand(x.shape[0], 1, -1)
        # Not x[:, :-1] first: exporters take no length at which a part is empty.
        return torch.cat([start, x], 1)[:, :-1]

    def init_state(self, batch: int) -> Tensor:
        """Return the start, `(batch, features)`."""
        return self.start.expand(batch, -1)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return the entry before this one, and this one as the state."""
        return state, x


class Positions(nn.Module):
    """Add a learned vector per position.

    Arguments:
        length: Longest sequence.
        features: Features of an entry.

    References:
        Language Models are Unsupervised Multitask Learners, 2019 (GPT-2).
    """

    def __init__(self, length: int, features: int) -> None:
        super().__init__()
        self.table = nn.Parameter(0.1 * torch.randn(length, features))

    def forward(self, x: Tensor) -> Tensor:
        """Return `(batch, time, features)` of the same."""
        return x + self.table[: x.shape[1]]

    def init_state(self, batch: int) -> Tensor:  # noqa: ARG002
        """Return position 0, int64 `(1,)`."""
        return torch.zeros(1, dtype=torch.int64, device=self.table.device)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return the entry with the vector of this position, and the next position."""
        return x + self.table.index_select(0, state), state + 1

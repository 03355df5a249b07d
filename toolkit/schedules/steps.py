"""Steps: a model that draws pixel by pixel itself, in one scan over its own steps."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Protocol, TypeGuard

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from toolkit.capture.causal.body import Body, body
from toolkit.capture.causal.program import double_by_default
from toolkit.core.entry import Autoregressive
from toolkit.core.errors import ExportError
from toolkit.core.protocols import Scheduled
from toolkit.schedules._loop import scanned
from toolkit.schedules._step import precision_of

State = Any


Traced = tuple[Callable[..., tuple[Tensor, ...]], list[Tensor]]


class Stepping(Protocol):
    """A model of pictures that is built from layers with a step."""

    size: tuple[int, int, int]
    levels: int

    def init_state(self, batch: int) -> State:
        """Return the state before the first pixel: tensors, nested in tuples, batch first."""

    def draw(self, noise: Tensor, state: State) -> tuple[Tensor, State]:
        """Return a pixel's levels `(batch, colours)` for noise `(batch, colours * levels)`."""


class StepSampler(nn.Module):
    """Draw pictures from noise, one pixel a step, colours one after the other.

    Arguments:
        model: A model that steps itself, in evaluation mode.
        dtype: Its precision.
    """

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        super().__init__()
        self.colours, self.height, self.width = model.size
        double = copy.deepcopy(model).double()
        with double_by_default():
            self.first: Body = body(lambda batch: _first(double, batch), "the state").to(dtype)
            self.pixel: Body = body(lambda batch: _pixel(double, batch), "the step").to(dtype)

    def forward(self, noise: Tensor) -> Tensor:
        """Draw one picture per item of the batch.

        Arguments:
            noise: Standard Gumbel noise `(height * width * colours, batch, levels)`.

        Returns:
            Levels, int64 `(batch, colours, height, width)`.
        """
        batch, by_pixel = noise.shape[1], noise
        if self.colours > 1:
            by_pixel = noise.reshape(-1, self.colours, *noise.shape[1:]).transpose(1, 2).flatten(2)

        def step(states: Any, entries: Any, fixed: Any) -> tuple[Any, Any]:
            levels, *after = self.pixel.run(entries[0].shape[0], (*entries, *states), fixed)
            return after, (levels,)

        states = self.first(batch, noise[0])
        _, (levels,) = scanned(step, states, [by_pixel], self.pixel.constants())
        return levels.permute(1, 2, 0).reshape(batch, self.colours, self.height, self.width)


def schedule(model: nn.Module, sampler: Autoregressive) -> Scheduled:
    """Return the sampler of a picture model that steps itself, as one scan over its steps.

    Raises:
        ExportError: The model does not step itself, or walks another way than is declared.
    """
    dtype = precision_of(model)
    plain = sampler.order == "raster" and sampler.predicts == "this" and not sampler.head
    in_order = sampler.channel_order in (None, tuple(range(sampler.colours)))
    if not plain or not in_order or not _steps(model):
        raise ExportError(
            f"{type(model).__name__} does not draw a picture pixel by pixel itself",
            where="its init_state(), draw(), size and levels, along order 'raster'",
            next_step="build it from layers with a step, as toolkit/models/pixelrnn.py does",
        )
    return Scheduled(StepSampler(model, dtype))


def _first(model: Stepping, batch: int) -> Traced:
    """Return what gives the first states, and its example: noise, which it does not read."""
    return lambda _: tuple(pytree.tree_leaves(model.init_state(batch))), [torch.zeros(1, batch)]


def _pixel(model: Stepping, batch: int) -> Traced:
    """Return the step with its states one by one, and its examples."""
    states, nested = pytree.tree_flatten(model.init_state(batch))

    def pixel(noise: Tensor, *given: Tensor) -> tuple[Tensor, ...]:
        levels, after = model.draw(noise, pytree.tree_unflatten(given, nested))
        return levels, *pytree.tree_leaves(after)

    return pixel, [torch.zeros(batch, model.size[0] * model.levels), *states]


def _steps(model: object) -> TypeGuard[Stepping]:
    return all(hasattr(model, name) for name in ("init_state", "draw", "size", "levels"))

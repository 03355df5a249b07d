"""Wavefront: several rows at once, each a fixed number of steps behind the row above."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan

from toolkit.core.entry import Autoregressive
from toolkit.core.errors import ExportError
from toolkit.core.protocols import Scheduled
from toolkit.nn.masked import CausalLayer, Tap
from toolkit.schedules._pieces import History, PixelLayer
from toolkit.schedules._stack import causal_stack
from toolkit.schedules._wave import Wave, least_skew, past

Step = Callable[[list[Tensor], list[Tensor]], tuple[list[Tensor], Tensor]]


class Wavefront(nn.Module):
    """Draw pictures from noise, computing every layer once per pixel and several rows at once.

    Step t computes pixel (y, t - skew * y) of each row y that it meets. The skew is the least at
    which every tap but the current one was computed by an earlier step. What earlier steps gave to
    the layers is carried along, and the taps of all layers are read from it by one gather.

    The weights are copies regrouped by tap with no arithmetic but the mask's, so a cast to float64
    gives what regrouping float64 weights would. Train first, then schedule.

    Arguments:
        model: A causal stack (`layers`, `embed`, `levels`, `height`, `width`).

    Raises:
        ExportError: The model is no causal stack.
    """

    pixels: Tensor
    places: Tensor

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        stack = causal_stack(model)
        layers = list(stack.layers())
        taps = [tap for layer in layers for tap in past(layer.conv.taps())]
        self.wave = Wave(stack.height, stack.width, least_skew(taps))
        self.levels, self.embed = stack.levels, stack.embed
        self.register_buffer("pixels", self.wave.pixels())
        self.register_buffer("places", self.wave.places())
        self.layers = nn.ModuleList(PixelLayer(layer) for layer in layers)
        shared = _readers(layers)
        self.readers = list(shared.values())
        self.histories = nn.ModuleList(
            History(taps, len(readers), channels, self.wave)
            for (taps, channels), readers in shared.items()
        )

    def forward(self, noise: Tensor) -> Tensor:
        """Draw one picture per item of the batch.

        Arguments:
            noise: Standard Gumbel noise `(height * width, batch, levels)`.

        Returns:
            Grey levels, int64 `(batch, 1, height, width)`.
        """
        batch, histories = noise.shape[1], self._histories()
        zeros = [history.zero(noise) for history in histories]

        def step(states: list[Tensor], inputs: list[Tensor]) -> tuple[list[Tensor], Tensor]:
            here, *reads = inputs
            taps = self._taps(states, reads)
            levels, values = self._draw(here, taps)
            states = [
                history.remember(state, zero, [values[number] for number in readers])
                for history, state, zero, readers in zip(
                    histories, states, zeros, self.readers, strict=True
                )
            ]
            return states, levels

        blank = [history.blank(noise) for history in histories]
        inputs = [self._by_step(noise), *(history.reads for history in histories)]
        levels = _run(step, blank, inputs).reshape(self.wave.steps, batch, self.wave.slots)
        levels = levels.permute(1, 0, 2).reshape(batch, -1).index_select(1, self.places)
        return levels.reshape(batch, 1, self.wave.height, self.wave.width)

    def _taps(self, states: Sequence[Tensor], reads: Sequence[Tensor]) -> dict[int, Tensor]:
        """Return the past taps of each layer that has some, by its number."""
        taps: dict[int, Tensor] = {}
        for history, state, read, readers in zip(
            self._histories(), states, reads, self.readers, strict=True
        ):
            taps.update(zip(readers, history.taps(state, read), strict=True))
        return taps

    def _draw(self, noise: Tensor, taps: dict[int, Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Return a step's levels, `(batch * slots,)`, and the input of every layer."""
        value, values = noise, []
        for number, layer in enumerate(self.layers):
            values.append(value)
            value = layer(value, taps.get(number))
        levels = (value + noise).argmax(1)
        # The first layer reads the past alone: its input is what this step drew.
        values[0] = self.embed(levels.to(noise.dtype))
        return levels, values

    def _by_step(self, noise: Tensor) -> Tensor:
        """Return the noise of each step, `(steps, batch * slots, levels)`."""
        batch = noise.shape[1]
        items = torch.arange(batch, device=noise.device).reshape(1, -1, 1)
        rows = self.pixels.unsqueeze(1) * batch + items
        chosen = noise.reshape(-1, self.levels).index_select(0, rows.flatten())
        return chosen.reshape(self.wave.steps, -1, self.levels)

    def _histories(self) -> list[History]:
        return [history for history in self.histories if isinstance(history, History)]


def schedule(model: nn.Module, sampler: Autoregressive) -> Scheduled:
    """Return the sampler `noise -> levels` of a causal stack as one loop over wavefronts.

    Raises:
        ExportError: The model is no causal stack, or the sampler draws no picture.
    """
    plain = (
        sampler.predicts == "this"
        and not sampler.prefix
        and not sampler.controls
        and not sampler.head
    )
    if sampler.order != "raster" or not plain:
        raise ExportError(
            "a wavefront runs over pictures whose logits are for their own pixel, without options",
            where=f"order {sampler.order!r}, predicts {sampler.predicts!r}",
            next_step="scan lays out sequences, rows any pictures",
        )
    return Scheduled(Wavefront(model))


def _run(step: Step, states: list[Tensor], inputs: list[Tensor]) -> Tensor:
    """Stack what the steps give: by one `scan` in a captured graph, by a plain loop in eager."""
    if torch.compiler.is_compiling():
        stacked: Tensor = scan(step, states, inputs)[1]
        return stacked
    given = []
    for now in zip(*inputs, strict=True):
        states, result = step(states, list(now))
        given.append(result)
    return torch.stack(given)


def _readers(
    layers: Sequence[CausalLayer],
) -> dict[tuple[tuple[Tap, ...], int], list[int]]:
    """Return the numbers of the layers that share a history, by past taps and channels."""
    shared: dict[tuple[tuple[Tap, ...], int], list[int]] = {}
    for number, layer in enumerate(layers):
        if taps := past(layer.conv.taps()):
            shared.setdefault((taps, layer.conv.in_channels), []).append(number)
    return shared

"""What a step of a wavefront is made of: histories of layer inputs, and layers split by tap."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from toolkit.nn.masked import CausalLayer, Tap
from toolkit.schedules._stack import HERE
from toolkit.schedules._wave import Wave, lag, past


class History(nn.Module):
    """What the last steps gave to the layers that read equal taps, in one tensor.

    It has the shape `(layers, batch, 1 + lags * slots, channels)`: entry 0 stays zero and stands
    for pixels outside the picture, the rest is one step after the other, newest first.

    Arguments:
        taps: The layers' past taps.
        count: Number of layers.
        channels: Channels of their inputs.
        wave: The geometry.
    """

    reads: Tensor

    def __init__(self, taps: Sequence[Tap], count: int, channels: int, wave: Wave) -> None:
        super().__init__()
        self.count, self.channels, self.slots = count, channels, wave.slots
        self.kept = wave.slots * max(lag(tap, wave.skew) for tap in taps)
        self.reach = len(taps) * channels
        self.register_buffer("reads", wave.reads(taps).flatten(1))

    def blank(self, noise: Tensor) -> Tensor:
        """Return the history before the first step, of the noise's batch, device and precision."""
        return noise.new_zeros(self.count, noise.shape[1], 1 + self.kept, self.channels)

    def zero(self, noise: Tensor) -> Tensor:
        """Return the entry that stands for pixels outside the picture."""
        return noise.new_zeros(self.count, noise.shape[1], 1, self.channels)

    def taps(self, history: Tensor, reads: Tensor) -> Sequence[Tensor]:
        """Return each layer's past taps side by side, `(batch * slots, taps * channels)`."""
        read = history.index_select(2, reads)
        if self.count == 1:
            return [read.reshape(-1, self.reach)]
        # Not unbind, which becomes a Slice per layer where this becomes one Split.
        parts = read.reshape(self.count, -1, self.reach).chunk(self.count)
        return [part.squeeze(0) for part in parts]

    def remember(self, history: Tensor, zero: Tensor, values: Sequence[Tensor]) -> Tensor:
        """Return the history one step on, with each layer's input `(batch * slots, channels)`."""
        new = torch.cat(list(values)).reshape(self.count, -1, self.slots, self.channels)
        return torch.cat([zero, new, history[:, :, 1 : 1 + self.kept - self.slots]], 2)


class PixelLayer(nn.Module):
    """A causal layer at single pixels: one product for the past taps, one for the current tap.

    The past product does not wait for the layer below, and enters the other one as its bias. Each
    weight is a tensor of its own, because a runtime packs a constant matrix once, when it loads.

    Arguments:
        layer: The layer whose weights are regrouped by tap.
    """

    bias: Tensor
    past: Tensor | None
    current: Tensor | None

    def __init__(self, layer: CausalLayer) -> None:
        super().__init__()
        taps = layer.conv.taps()
        before = [_tap_weight(layer, tap) for tap in past(taps)]
        self.residual = layer.residual
        self.activation = copy.deepcopy(layer.activation).requires_grad_(requires_grad=False)
        self.register_buffer("past", torch.cat(before) if before else None)
        self.register_buffer("current", _tap_weight(layer, HERE) if HERE in taps else None)
        self.register_buffer("bias", _bias(layer))

    def forward(self, value: Tensor, taps: Tensor | None) -> Tensor:
        """Return `(pixels, out)` of the current input `(pixels, in)` and the past taps."""
        total = self.bias
        if self.past is not None and taps is not None:
            total = torch.addmm(total, taps, self.past)
        if self.current is not None:
            total = torch.addmm(total, value, self.current)
        result: Tensor = self.activation(total)
        return value + result if self.residual else result


def _tap_weight(layer: CausalLayer, tap: Tap) -> Tensor:
    """Return one tap's weight as a copy, `(in, out)`."""
    middle = layer.conv.mask.shape[0] // 2
    weight = layer.conv.masked_weight().detach()
    return weight[:, :, middle + tap[0], middle + tap[1]].T.clone(
        memory_format=torch.contiguous_format
    )


def _bias(layer: CausalLayer) -> Tensor:
    """Return the bias as a copy, `(1, out)`."""
    bias = layer.conv.bias
    if bias is None:
        return layer.conv.weight.new_zeros(1, layer.conv.out_channels)
    return bias.detach().clone().unsqueeze(0)

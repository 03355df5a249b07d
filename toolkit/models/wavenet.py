"""WaveNet: dilated causal convolutions whose receptive field doubles with every layer."""

from __future__ import annotations

from torch import nn

from toolkit.models import _categorical
from toolkit.models._size import is_full
from toolkit.nn.causal import CausalConv1d
from toolkit.nn.gated import GatedStack1d
from toolkit.nn.stack import ChannelsFirst, Shift, Stack

KERNEL = 2


class WaveNet(_categorical.Tokens):
    """Model a waveform of mu-law levels, one sample after the other.

    Arguments:
        levels: Number of levels.
        length: Samples of the entries' example; any length works.
        channels: Channels of the residual path.
        skip_channels: Channels of the path to the head.
        layers: Layers of a cycle; their dilations are 1, 2, 4, …
        cycles: How often the dilations are run through.
        size: `given` takes the other arguments; `full` takes 32 channels, 256 to the head, and
            3 cycles of 10 layers (dilations up to 512, as in the paper; its widths are not
            published, these are the usual ones).

    Raises:
        UsageError: The size is no known one.

    References:
        WaveNet: A Generative Model for Raw Audio, 2016, arXiv 1609.03499.
    """

    def __init__(
        self,
        *,
        levels: int = 32,
        length: int = 128,
        channels: int = 24,
        skip_channels: int = 32,
        layers: int = 6,
        cycles: int = 1,
        size: str = "given",
    ) -> None:
        if is_full(size):
            channels, skip_channels, layers, cycles = 32, 256, 10, 3
        dilations = [2**layer for layer in range(layers)] * cycles
        gated = GatedStack1d(channels, skip_channels, KERNEL, dilations)
        head = Stack(
            gated,
            nn.ReLU(),
            CausalConv1d(skip_channels, skip_channels, 1),
            nn.ReLU(),
            CausalConv1d(skip_channels, levels, 1),
        )
        net = Stack(nn.Embedding(levels, channels), Shift(channels), ChannelsFirst(head))
        super().__init__(net, levels, length, longest=4 * length)
        self.receptive_field = gated.receptive_field
        """How many of the latest samples decide the next one's law."""


model = WaveNet

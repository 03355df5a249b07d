"""WaveNet: dilated causal convolutions whose receptive field doubles with every layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from toolkit.core.entry import Autoregressive, Entry, Input
from toolkit.models import _categorical
from toolkit.nn.causal import CausalConv1d
from toolkit.nn.gated import GatedStack1d
from toolkit.nn.stack import ChannelsFirst, Shift, Stack

KERNEL = 2


class WaveNet(nn.Module):
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

    family: ClassVar[str] = "autoregressive"

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
        super().__init__()
        if _categorical.is_full(size):
            channels, skip_channels, layers, cycles = 32, 256, 10, 3
        self.levels, self.length = levels, length
        dilations = [2**layer for layer in range(layers)] * cycles
        self.gated = GatedStack1d(channels, skip_channels, KERNEL, dilations)
        self.net = Stack(
            nn.Embedding(levels, channels),
            Shift(channels),
            ChannelsFirst(
                Stack(
                    self.gated,
                    nn.ReLU(),
                    CausalConv1d(skip_channels, skip_channels, 1),
                    nn.ReLU(),
                    CausalConv1d(skip_channels, levels, 1),
                )
            ),
        )

    @property
    def receptive_field(self) -> int:
        """How many of the latest samples decide the next one's law."""
        return self.gated.receptive_field

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of x_t, `(batch, time, levels)` of int64 `(batch, time)`."""
        logits: Tensor = self.net(x)
        return logits

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-probability of each waveform in nats, `(batch,)`."""
        return _categorical.log_prob_of(self.forward(x), x, 2)

    def sample(self, noise: Tensor) -> Tensor:
        """Draw waveforms by one whole forward pass per sample.

        Arguments:
            noise: Standard Gumbel noise `(time, batch, levels)`.

        Returns:
            Levels, int64 `(batch, time)`.
        """
        return _categorical.draw_sequence(self, noise, lambda level: level)

    def entries(self) -> Sequence[Entry | Autoregressive]:
        """Return `log_prob` of a waveform, and how a waveform is sampled."""
        example = _categorical.drawn((_categorical.EXAMPLES, self.length), self.levels)
        x = Input("x", example, dims=("batch", "time"), kind="token", low=0, high=self.levels - 1)
        log_prob = _categorical.log_prob_entry(x, time=(1, self.length, 4 * self.length))
        return [log_prob, _categorical.sequence_sampler(x, self.levels)]


model = WaveNet

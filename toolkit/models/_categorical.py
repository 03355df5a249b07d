"""What autoregressive models of categories share: likelihood, entries and the plain samplers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from toolkit.core.entry import Autoregressive, Entry, Input

EXAMPLES = 3
Network = Callable[[Tensor], Tensor]


class Tokens(nn.Module):
    """Model sequences of categories, one after the other.

    Arguments:
        net: Maps int64 `(batch, time)` to logits of each position, `(batch, time, levels)`.
        levels: Number of categories.
        length: Positions of the entries' example.
        longest: Most positions that the network takes.
    """

    family: ClassVar[str] = "autoregressive"

    def __init__(self, net: nn.Module, levels: int, length: int, longest: int) -> None:
        super().__init__()
        self.net, self.levels, self.length, self.longest = net, levels, length, longest

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of x_t, `(batch, time, levels)` of int64 `(batch, time)`."""
        logits: Tensor = self.net(x)
        return logits

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-probability of each sequence in nats, `(batch,)`."""
        return log_prob_of(self.forward(x), x, 2)

    def sample(self, noise: Tensor) -> Tensor:
        """Draw sequences by one whole forward pass per position.

        Arguments:
            noise: Standard Gumbel noise `(time, batch, levels)`.

        Returns:
            Categories, int64 `(batch, time)`.
        """
        return draw_sequence(self, noise, lambda category: category)

    def entries(self) -> Sequence[Entry | Autoregressive]:
        """Return `log_prob` of a sequence, and how one is sampled."""
        example = drawn((EXAMPLES, self.length), self.levels)
        x = Input("x", example, dims=("batch", "time"), kind="token", low=0, high=self.levels - 1)
        log_prob = log_prob_entry(x, time=(1, self.length, self.longest))
        return [log_prob, sequence_sampler(x, self.levels)]


class Pictures(nn.Module):
    """Model pictures one pixel after the other, in raster order, and R, G, B within a pixel.

    A picture holds `level / (levels - 1)`, so values from 0 to 1. A subclass has the `forward`:
    pictures `(batch, colours, height, width)` to logits
    `(batch, levels, colours, height, width)`.

    Arguments:
        levels: Number of levels of a colour.
        size: Colours, height and width.
    """

    family: ClassVar[str] = "autoregressive"

    def __init__(self, levels: int, size: tuple[int, int, int]) -> None:
        super().__init__()
        self.levels, self.size = levels, size

    def embed(self, level: Tensor) -> Tensor:
        """Return the pixel values of levels."""
        return level / (self.levels - 1)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-probability of each picture in nats, `(batch,)`."""
        return log_prob_of(self.forward(x), nearest_level(x, self.levels), 1)

    def sample(self, noise: Tensor) -> Tensor:
        """Draw pictures by one whole forward pass per colour of a pixel.

        Arguments:
            noise: Standard Gumbel noise `(height * width * colours, batch, levels)`.

        Returns:
            Levels, int64 `(batch, colours, height, width)`.
        """
        return draw_picture(
            self, noise, lambda level: self.embed(level.to(noise.dtype)), size=self.size
        )

    def entries(self) -> Sequence[Entry | Autoregressive]:
        """Return `log_prob` of a picture, and how one is sampled."""
        example = self.embed(drawn((EXAMPLES, *self.size), self.levels))
        x = Input("x", example, dims=("batch", None, None, None))
        return picture_entries(x, self.levels, self.embed)


def log_prob_of(logits: Tensor, category: Tensor, axis: int) -> Tensor:
    """Return the log-probability of categories in nats, `(batch,)`.

    Arguments:
        logits: The categories' shape, with the levels as a further axis.
        category: Integers, batch first.
        axis: Axis of the levels in `logits`.
    """
    chosen = logits.log_softmax(axis).gather(axis, category.unsqueeze(axis))
    return chosen.flatten(1).sum(1)


def bernoulli_log_prob(logit: Tensor, x: Tensor) -> Tensor:
    """Return the log-probability of zeros and ones in nats, `(batch,)`.

    Arguments:
        logit: Log-odds of a one, `(batch, features)`.
        x: Zeros and ones, of the same shape.
    """
    return -F.binary_cross_entropy_with_logits(logit, x, reduction="none").sum(1)


def nearest_level(x: Tensor, levels: int) -> Tensor:
    """Return the level, int64, of pixel values from 0 to 1."""
    return (x * (levels - 1)).round().clamp(0, levels - 1).long()


def by_colour(logits: Tensor, colours: int) -> Tensor:
    """Return `(batch, levels, colours, height, width)` of a head's channels.

    Arguments:
        logits: All levels of the first colour, then of the next,
            `(batch, colours * levels, height, width)`.
        colours: Number of colours.
    """
    shape = (logits.shape[0], colours, -1, *logits.shape[2:])
    return logits.reshape(shape).transpose(1, 2)


def log_prob_entry(x: Input, **ranges: tuple[int, ...]) -> Entry:
    """Return `log_prob` of an input."""
    units = {"log_prob": "nats"}
    return Entry("log_prob", "log_prob", [x], ["log_prob"], units=units, ranges=ranges)


def sequence_sampler(x: Input, levels: int, embed: Network | None = None) -> Autoregressive:
    """Return how sequences are drawn: logits `(batch, time, levels)` are for their own position.

    Arguments:
        x: The network's input, `(batch, time)`.
        levels: Number of categories.
        embed: Categories to the values that the network reads; `None` where those are the same.
    """
    return Autoregressive(
        "sample", call="forward", input=x, order="time", levels=levels, levels_axis=2, embed=embed
    )


def picture_entries(x: Input, levels: int, embed: Network) -> list[Entry | Autoregressive]:
    """Return `log_prob` of a picture, and how pictures are drawn, R, G, B within a pixel.

    Arguments:
        x: The network's input, `(batch, colours, height, width)`.
        levels: Number of levels of a colour.
        embed: Levels to the values that the network reads.
    """
    colours = x.shape[1]
    sampler = Autoregressive(
        "sample",
        call="forward",
        input=x,
        order="raster",
        levels=levels,
        levels_axis=1,
        embed=embed,
        channel_order=tuple(range(colours)) if colours > 1 else None,
    )
    return [log_prob_entry(x), sampler]


def drawn(shape: tuple[int, ...], levels: int) -> Tensor:
    """Return repeatable uniform categories, int64 of a shape."""
    return torch.randint(levels, shape, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def draw_sequence(network: Network, noise: Tensor, embed: Network) -> Tensor:
    """Draw sequences by one whole forward pass per position: slow, and plainly right.

    Arguments:
        network: Inputs `(batch, time)` to logits `(batch, time, levels)`.
        noise: Standard Gumbel noise `(time, batch, levels)`.
        embed: Categories to the values that the network reads.

    Returns:
        Categories, int64 `(batch, time)`.
    """
    time, batch, _ = noise.shape
    category = torch.zeros(batch, time, dtype=torch.int64, device=noise.device)
    for position in range(time):
        logits = network(embed(category))[:, position]
        category[:, position] = (logits + noise[position]).argmax(1)
    return category


@torch.no_grad()
def draw_picture(
    network: Network, noise: Tensor, embed: Network, *, size: tuple[int, int, int]
) -> Tensor:
    """Draw pictures by one whole forward pass per colour of a pixel: slow, and plainly right.

    Arguments:
        network: Pictures `(batch, colours, height, width)` to logits
            `(batch, levels, colours, height, width)`.
        noise: Standard Gumbel noise `(height * width * colours, batch, levels)`; a pixel's
            colours come one after the other.
        embed: Levels to the values that the network reads.
        size: Colours, height and width.

    Returns:
        Levels, int64 `(batch, colours, height, width)`.
    """
    colours, height, width = size
    level = torch.zeros(noise.shape[1], *size, dtype=torch.int64, device=noise.device)
    for position in range(height * width * colours):
        pixel, colour = divmod(position, colours)
        row, column = divmod(pixel, width)
        logits = network(embed(level))[:, :, colour, row, column]
        level[:, colour, row, column] = (logits + noise[position]).argmax(1)
    return level

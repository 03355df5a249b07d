"""CNN and RNN over films: a convolutional network sees each frame, a recurrent one their order."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from toolkit.core.entry import Entry, Input
from toolkit.core.errors import UsageError
from toolkit.models import _recurrent as recurrent

Kind = Literal["rnn", "lstm", "gru"]
CELLS = {"rnn": recurrent.VANILLA, "lstm": recurrent.LSTM, "gru": recurrent.GRU}


@dataclass(frozen=True, slots=True)
class Sizes:
    """What `VideoRNN`'s arguments of the same names say."""

    classes: int
    channels: int
    size: int
    frames: int
    width: int
    stages: int
    features: int
    hidden: int


FULL = Sizes(101, channels=3, size=224, frames=16, width=16, stages=5, features=4096, hidden=256)


class VideoRNN(nn.Module):
    """Classify films of any number of frames.

    Arguments:
        classes: Number of classes.
        channels: Channels of a frame.
        size: Height and width of a frame; a multiple of `2 ** stages`. `full` takes 16 frames in
            colour, 224 pixels wide, 4,096 features and 256 hidden ones, as published, whatever else
            is given.
        frames: Frames of the entries' example; any number works.
        cell: `rnn`, `lstm` or `gru`.
        width: Channels of the first convolution, doubled by each later one.
        stages: Number of convolutions, each of which halves height and width.
        features: Features of a frame that the recurrent layers read.
        hidden: Features of each state.
        layers: Number of recurrent layers.

    Raises:
        UsageError: The size cannot be halved so often.

    References:
        Long-term Recurrent Convolutional Networks for Visual Recognition and Description,
        arXiv 1411.4389.
    """

    family: ClassVar[str] = "sequence"

    def __init__(
        self,
        *,
        classes: int = 8,
        channels: int = 1,
        size: int | Literal["full"] = 16,
        frames: int = 6,
        cell: Kind = "lstm",
        width: int = 8,
        stages: int = 2,
        features: int = 32,
        hidden: int = 64,
        layers: int = 1,
    ) -> None:
        sizes = (
            FULL
            if size == "full"
            else Sizes(classes, channels, size, frames, width, stages, features, hidden)
        )
        if sizes.stages < 1 or sizes.size < 1 or sizes.size % 2**sizes.stages:
            raise UsageError(
                f"size = {sizes.size} cannot be halved {sizes.stages} times",
                where="video_rnn",
                next_step=f"take a multiple of {2 ** max(sizes.stages, 1)}, or other stages",
            )
        super().__init__()
        self.frames, self.shape = sizes.frames, (sizes.channels, sizes.size, sizes.size)
        self.network = _frame_network(sizes)
        self.recurrence = recurrent.Recurrence(CELLS[cell], sizes.features, sizes.hidden, layers)
        self.readout = nn.Linear(sizes.hidden, sizes.classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `(batch, classes)` of films `(batch, time, channels, height, width)`."""
        batch, time = x.shape[:2]
        features = self.encode(x.flatten(0, 1)).reshape(batch, time, -1)
        logits: Tensor = self.readout(self.recurrence(features)[:, -1])
        return logits

    def encode(self, frame: Tensor) -> Tensor:
        """Return features `(batch, features)` of frames `(batch, channels, height, width)`."""
        features: Tensor = self.network(frame)
        return features

    def step(self, frame: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """Return logits `(batch, classes)` after one more frame, and the next states.

        Arguments:
            frame: `(batch, channels, height, width)`.
            states: Each `(batch, layers, hidden)`; zeros at first.
        """
        value, after = self.recurrence.step(self.encode(frame), states)
        return self.readout(value), *after

    def entries(self) -> list[Entry]:
        """Return `forward` of a film, `encode` of a frame, and `step` from frame to frame."""
        draws = torch.Generator().manual_seed(0)
        films = torch.rand(recurrent.EXAMPLES, self.frames, *self.shape, generator=draws)
        dims = ("batch", "time", None, None, None)
        frame = Input("frame", films[:, 0], dims=("batch", None, None, None))
        unit = {"logits": "accuracy"}
        return [
            Entry("forward", "forward", [Input("x", films, dims=dims)], ["logits"], units=unit),
            Entry("encode", "encode", [frame], ["features"]),
            Entry(
                "step",
                "step",
                [frame, *self.recurrence.state_inputs(draws)],
                ["logits", *self.recurrence.next_states()],
                units=unit,
            ),
        ]


def _frame_network(sizes: Sizes) -> nn.Sequential:
    """Return convolutions that halve height and width, then one layer over what is left."""
    widths = [sizes.channels, *(sizes.width * 2**stage for stage in range(sizes.stages))]
    convolutions = (nn.Conv2d(*pair, 3, stride=2, padding=1) for pair in pairwise(widths))
    area = (sizes.size // 2**sizes.stages) ** 2
    return nn.Sequential(
        *(part for convolution in convolutions for part in (convolution, nn.ReLU())),
        nn.Flatten(),
        nn.Linear(widths[-1] * area, sizes.features),
        nn.ReLU(),
    )


model = VideoRNN

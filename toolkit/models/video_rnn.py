"""CNN and RNN over films: a convolutional network sees each frame, a recurrent one their order."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from toolkit.core.entry import Entry, Input
from toolkit.core.errors import UsageError
from toolkit.models import _recurrent as recurrent

Kind = Literal["rnn", "lstm", "gru"]
CELLS = {"rnn": recurrent.VANILLA, "lstm": recurrent.LSTM, "gru": recurrent.GRU}
STRIDE = 4


class VideoRNN(nn.Module):
    """Classify films of any number of frames.

    Arguments:
        classes: Number of classes.
        channels: Channels of a frame.
        size: Height and width of a frame; a multiple of 4.
        frames: Frames of the entries' example; any number works.
        cell: `rnn`, `lstm` or `gru`.
        width: Channels of the first convolution, doubled by the second.
        features: Features of a frame that the recurrent layers read.
        hidden: Features of each state.
        layers: Number of recurrent layers.

    Raises:
        UsageError: The size is no multiple of 4.

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
        size: int = 16,
        frames: int = 6,
        cell: Kind = "lstm",
        width: int = 8,
        features: int = 32,
        hidden: int = 64,
        layers: int = 1,
    ) -> None:
        if size < STRIDE or size % STRIDE:
            raise UsageError(
                f"size = {size} cannot be halved twice",
                where="video_rnn",
                next_step=f"take a multiple of {STRIDE}",
            )
        super().__init__()
        self.frames, self.shape = frames, (channels, size, size)
        self.network = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(2 * width * (size // STRIDE) ** 2, features),
            nn.ReLU(),
        )
        self.recurrence = recurrent.Recurrence(CELLS[cell], features, hidden, layers)
        self.readout = nn.Linear(hidden, classes)

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


model = VideoRNN

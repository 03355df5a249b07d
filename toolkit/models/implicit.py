"""Implicit representation: a network that maps coordinates of a picture to its colours."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from toolkit.core.entry import Entry, Input
from toolkit.core.errors import UsageError
from toolkit.models._size import is_full
from toolkit.nn.coordinates import FourierFeatures, SineLayer

DIMENSIONS, COLOURS = 2, 3
EXAMPLES = 8
POINTS = (1, 4096, 512 * 512)


class Implicit(nn.Module):
    """Give the colour of any point of one picture: the picture is the network's weights.

    Every point is a sample of its own, so that one call takes any number of them: a whole
    picture, a part of it, or a finer grid than it was trained on.

    Arguments:
        size: `full` is the published SIREN for pictures of 512x512, and then the other arguments
            but `encoding` do not count.
        encoding: What the coordinates meet first: `none` for sine layers throughout (SIREN),
            `fourier` for random Fourier features and rectified layers.
        hidden: Features of every layer.
        layers: Number of layers before the linear one that gives colours.
        omega: Frequency of the sine layers, in radians per unit.
        deviation: Standard deviation of the Fourier features' frequencies, in periods per unit.

    Raises:
        UsageError: There is no such size or encoding, or a number is out of range.

    References:
        Implicit Neural Representations with Periodic Activation Functions, arXiv 2006.09661.
        Fourier Features Let Networks Learn High Frequency Functions in Low Dimensional Domains,
        arXiv 2006.10739.
    """

    family: ClassVar[str] = "coordinates"

    def __init__(
        self,
        *,
        size: str = "given",
        encoding: Literal["none", "fourier"] = "none",
        hidden: int = 128,
        layers: int = 3,
        omega: float = 17.0,
        deviation: float = 5.0,
    ) -> None:
        if encoding not in ("none", "fourier") or hidden < 2 or hidden % 2 or layers < 1:
            raise UsageError(
                f"implicit(encoding={encoding!r}, hidden={hidden}, layers={layers}) "
                "is out of range",
                where="[model] of the recipe",
                next_step="encoding is none or fourier, hidden even, layers at least 1",
            )
        if is_full(size):
            hidden, layers, omega, deviation = 256, 4, 30.0, 10.0
        super().__init__()
        head = nn.Linear(hidden, COLOURS)
        body: list[nn.Module] = []
        if encoding == "fourier":
            body.append(FourierFeatures(DIMENSIONS, hidden, deviation=deviation))
            for _ in range(layers - 1):
                body += [nn.Linear(hidden, hidden), nn.ReLU()]
        else:
            body.append(SineLayer(DIMENSIONS, hidden, omega=omega, first=True))
            body += [SineLayer(hidden, hidden, omega=omega) for _ in range(layers - 1)]
        self.network = nn.Sequential(*body, head, nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """Return colours `(points, 3)` in [0, 1] for coordinates `(points, 2)` in [-1, 1]."""
        colour: Tensor = self.network(x)
        return colour

    def entries(self) -> list[Entry]:
        """Return `forward`; its batch is the number of points."""
        points = 2 * torch.rand(EXAMPLES, DIMENSIONS, generator=_generator()) - 1
        return [
            Entry(
                "forward",
                inputs=[Input("x", points, dims=("batch", None), low=-1.0, high=1.0)],
                outputs=["colour"],
                units={"colour": "psnr"},
                ranges={"batch": POINTS},
            )
        ]


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


model = Implicit

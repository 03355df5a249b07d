"""Key points of pictures: stacked hourglasses give heat maps, soft-argmax gives their places."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from toolkit.core.entry import Entry, Input
from toolkit.core.errors import UsageError
from toolkit.models._vision import Size, pictures, side
from toolkit.nn.hourglass import Bottleneck, Hourglass
from toolkit.nn.soft_argmax import heat_maps, mean_places

LARGEST = 4
STRIDES = (2, 4)


class KeyPoints(nn.Module):
    """Find key points: one heat map for each, and the map's mean place.

    Each hourglass after the first starts from the features before, with the scores that were seen
    in them mixed in. While training, all of them answer.

    Arguments:
        channels: Channels of a picture.
        size: Height and width of the entry's example; both are multiples of `stride * 2 ** depth`.
            `full` is the published network of 8 hourglasses, for colour pictures of 256x256, and
            then the other arguments do not count.
        points: Number of key points.
        width: Channels of the hourglasses, a multiple of 8.
        depth: How often an hourglass halves its maps.
        stacks: Number of hourglasses.
        stride: How many pixels a heat map's cell is wide; 2 or 4.

    Raises:
        UsageError: An argument is out of range.

    References:
        Stacked Hourglass Networks for Human Pose Estimation, arXiv 1603.06937.
        Integral Human Pose Regression, arXiv 1711.08229.
    """

    family: ClassVar[str] = "geometry"

    def __init__(
        self,
        *,
        channels: int = 1,
        size: Size = 32,
        points: int = 16,
        width: int = 32,
        depth: int = 3,
        stacks: int = 1,
        stride: int = 2,
    ) -> None:
        if size == "full":
            channels, points, width, depth, stacks, stride = 3, 16, 256, 4, 8, 4
        if min(channels, points, depth, stacks) < 1 or width % 8 or stride not in STRIDES:
            raise UsageError(
                f"keypoints(channels={channels}, points={points}, width={width}, depth={depth}, "
                f"stacks={stacks}, stride={stride}) is out of range",
                where="[model] of the recipe",
                next_step="width is a multiple of 8, stride 2 or 4, the others at least 1",
            )
        step = stride * 2**depth
        pixels = side(size, full=256, smallest=step, multiple=step)
        super().__init__()
        self.shape = (channels, pixels, pixels)
        self.sides = (step, pixels, LARGEST * pixels, step)
        self.stride = stride
        self.stem = nn.Sequential(
            nn.Conv2d(channels, width // 4, 7, stride=2, padding=3),
            nn.BatchNorm2d(width // 4),
            nn.ReLU(),
            Bottleneck(width // 4, width // 2),
            nn.MaxPool2d(2) if stride == max(STRIDES) else nn.Identity(),
            Bottleneck(width // 2, width // 2),
            Bottleneck(width // 2, width),
        )
        self.hourglasses = nn.ModuleList(_hourglass(width, depth) for _ in range(stacks))
        self.heads = nn.ModuleList(nn.Conv2d(width, points, 1) for _ in range(stacks))
        self.features = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(stacks - 1))
        self.scores = nn.ModuleList(nn.Conv2d(points, width, 1) for _ in range(stacks - 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Find the key points of pictures `(batch, channels, height, width)`.

        Returns:
            Places `(batch, points, 2)` in pixels, x to the right and y down, the first pixel's
            middle at one half; heat maps `(batch, points, height / stride, width / stride)` that
            sum to one. While training, both of every hourglass, with a first axis of them.
        """
        features = self.stem(x)
        answers = []
        for index, (hourglass, head) in enumerate(zip(self.hourglasses, self.heads, strict=True)):
            seen = hourglass(features)
            scores = head(seen)
            answers.append(scores)
            if index < len(self.features):
                features = features + self.features[index](seen) + self.scores[index](scores)
        if not self.training:
            maps = heat_maps(answers[-1])
            return self.stride * mean_places(maps), maps
        found = [heat_maps(scores) for scores in answers]
        return self.stride * torch.stack([mean_places(maps) for maps in found]), torch.stack(found)

    def entries(self) -> list[Entry]:
        """Return `forward`."""
        return [
            Entry(
                "forward",
                "forward",
                [Input("x", pictures(self.shape), dims=("batch", None, "height", "width"))],
                ["points", "heat_maps"],
                units={"heat_maps": "psnr"},
                ranges=dict.fromkeys(("height", "width"), self.sides),
            )
        ]


def _hourglass(width: int, depth: int) -> nn.Sequential:
    return nn.Sequential(
        Hourglass(width, depth),
        Bottleneck(width, width),
        nn.Conv2d(width, width, 1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
    )


model = KeyPoints

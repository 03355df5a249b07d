"""LeNet: two convolutions with pools, then three linear layers."""

from __future__ import annotations

from torch import Tensor, nn

from toolkit.models._vision import Classifier, Size, side
from toolkit.nn.sizes import output_size

POOL = 2
HIDDEN = (120, 84)


class LeNet(Classifier):
    """Classify pictures by LeNet-5's layers, whose convolutions may have other shapes.

    Arguments:
        channels: Channels of a picture.
        size: Height and width; `full` is LeNet-5 on pictures of 32x32, and then the other
            arguments do not count.
        classes: Number of classes.
        widths: Channels of the two convolutions.
        kernel: Side of the kernels.
        stride: Stride of the convolutions.
        padding: Pixels of zeros around the pictures.
        dilation: Pixels between neighbouring taps of the kernels.

    References:
        Gradient-Based Learning Applied to Document Recognition, LeCun et al., Proceedings of the
        IEEE 86 (1998), 2278-2324 (no arXiv number).
    """

    def __init__(
        self,
        *,
        channels: int = 1,
        size: Size = 16,
        classes: int = 10,
        widths: tuple[int, int] = (6, 16),
        kernel: int = 3,
        stride: int = 1,
        padding: int = 1,
        dilation: int = 1,
    ) -> None:
        if size == "full":
            channels, classes, widths = 1, 10, (6, 16)
            kernel, stride, padding, dilation = 5, 1, 0, 1
        pixels = side(size, full=32)
        super().__init__((channels, pixels, pixels))
        layers: list[nn.Module] = []
        for before, after in ((channels, widths[0]), (widths[0], widths[1])):
            layers += [
                nn.Conv2d(before, after, kernel, stride, padding, dilation),
                nn.Tanh(),
                nn.AvgPool2d(POOL),
            ]
            pixels = output_size(pixels, kernel, stride=stride, padding=padding, dilation=dilation)
            pixels = output_size(pixels, POOL, stride=POOL)
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Linear(widths[1] * pixels**2, HIDDEN[0]),
            nn.Tanh(),
            nn.Linear(*HIDDEN),
            nn.Tanh(),
            nn.Linear(HIDDEN[1], classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of shape `(batch, classes)` for `x` of shape `(batch, channels, h, w)`."""
        logits: Tensor = self.head(self.features(x).flatten(1))
        return logits


model = LeNet

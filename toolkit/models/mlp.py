"""Multi-layer perceptron with a softmax or a sigmoid head."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from toolkit.core.entry import Entry, Input
from toolkit.models._vision import Classifier, Size, pictures, side


class MLP(Classifier):
    """Classify pictures by linear layers with ReLU between them.

    With a `softmax` head the classes exclude one another: train with the objective `supervised`,
    the negative log-likelihood of a categorical law. With a `sigmoid` head each class is present
    or not: train with `bernoulli`.

    Arguments:
        channels: Channels of a picture.
        size: Height and width; `full` is the deepest network of the paper, on pictures of 29x29,
            and then the other arguments but `head` do not count.
        classes: Number of classes.
        hidden: Features of the hidden layers.
        head: What makes probabilities of the logits.

    References:
        Deep Big Simple Neural Nets Excel on Handwritten Digit Recognition, arXiv 1003.0358.
    """

    def __init__(
        self,
        *,
        channels: int = 1,
        size: Size = 8,
        classes: int = 10,
        hidden: Sequence[int] = (64, 64),
        head: Literal["softmax", "sigmoid"] = "softmax",
    ) -> None:
        if size == "full":
            channels, classes, hidden = 1, 10, (2500, 2000, 1500, 1000, 500)
        pixels = side(size, full=29)
        super().__init__((channels, pixels, pixels))
        self.head = head
        layers: list[nn.Module] = []
        for before, after in pairwise([channels * pixels**2, *hidden]):
            layers += [nn.Linear(before, after), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(hidden[-1], classes))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of shape `(batch, classes)` for `x` of shape `(batch, channels, h, w)`."""
        logits: Tensor = self.layers(x.flatten(1))
        return logits

    def predict(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and probabilities, both of shape `(batch, classes)`."""
        logits = self.forward(x)
        return logits, logits.softmax(1) if self.head == "softmax" else logits.sigmoid()

    def entries(self) -> list[Entry]:
        """Return `forward`, which gives the probabilities too."""
        return [
            Entry(
                "forward",
                call="predict",
                inputs=[Input("x", pictures(self.shape), dims=("batch", None, None, None))],
                outputs=["logits", "probability"],
                units={"logits": "accuracy"},
            )
        ]


model = MLP

"""Perceptron: one linear threshold unit per class, with Rosenblatt's learning rule."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from toolkit.models._vision import Classifier, Size, side


class Perceptron(Classifier):
    """Classify pictures by the largest of linear scores; every weight starts at zero.

    Arguments:
        channels: Channels of a picture.
        size: Height and width; `full` is the Mark I's retina of 20x20 cells with its 8 response
            units, and then the other arguments do not count.
        classes: Number of classes.

    References:
        The Perceptron: A Probabilistic Model for Information Storage and Organization in the
        Brain, Rosenblatt, Psychological Review 65 (1958), 386-408 (no arXiv number).
    """

    def __init__(self, *, channels: int = 1, size: Size = 8, classes: int = 10) -> None:
        if size == "full":
            channels, classes = 1, 8
        pixels = side(size, full=20)
        super().__init__((channels, pixels, pixels))
        self.linear = nn.Linear(channels * pixels**2, classes)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return scores of shape `(batch, classes)` for `x` of shape `(batch, channels, h, w)`."""
        scores: Tensor = self.linear(x.flatten(1))
        return scores

    @torch.no_grad()
    def learn(self, x: Tensor, label: Tensor, *, passes: int) -> tuple[int, bool]:
        """Apply the perceptron rule to one sample after the other until none is wrong.

        A wrong sample is added to its class's weights and taken from those of the class that won.
        On data that unit-norm weights separate by a margin `m`, at most `2 (R² + 1) / m²` updates
        are made, where `R` is the largest norm of a sample (Novikoff, 1962; Kesler's construction).

        Arguments:
            x: Samples `(samples, channels, height, width)`.
            label: Their classes, `(samples,)`.
            passes: How often the samples are gone through at most.

        Returns:
            The number of updates, and whether a whole pass made none.
        """
        updates = 0
        for _ in range(passes):
            before = updates
            for sample, truth in zip(x.flatten(1), label.tolist(), strict=True):
                winner = int(self.linear(sample).argmax())
                if winner != truth:
                    updates += 1
                    for unit, sign in ((truth, 1.0), (winner, -1.0)):
                        self.linear.weight[unit] += sign * sample
                        self.linear.bias[unit] += sign
            if updates == before:
                return updates, True
        return updates, False


model = Perceptron

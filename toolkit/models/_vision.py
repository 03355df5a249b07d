"""What models of pictures share: their size, and the entry of a classifier or a segmenter."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from toolkit.core.entry import Entry, Input
from toolkit.core.errors import UsageError

Size = int | Literal["full"]
Shape = tuple[int, int, int]
EXAMPLES = 4


class Classifier(nn.Module):
    """A model whose `forward` maps pictures of one shape to logits.

    Arguments:
        shape: Channels, height and width of a picture.
    """

    family: ClassVar[str] = "classifier"

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape

    def entries(self) -> list[Entry]:
        """Return `forward`."""
        return [
            Entry(
                "forward",
                inputs=[Input("x", pictures(self.shape), dims=("batch", None, None, None))],
                outputs=["logits"],
                units={"logits": "accuracy"},
            )
        ]


class Segmenter(nn.Module):
    """A model whose `forward` maps pictures to logits of every pixel.

    Arguments:
        shape: Channels, height and width of the entry's example.
        sides: Smallest, typical and largest height and width, and what they are a multiple of;
            none where height and width are fixed.
    """

    family: ClassVar[str] = "segmenter"

    def __init__(self, shape: Shape, sides: tuple[int, int, int, int] | None = None) -> None:
        super().__init__()
        self.shape = shape
        self.sides = sides

    def entries(self) -> list[Entry]:
        """Return `forward`."""
        names = (None, None) if self.sides is None else ("height", "width")
        return [
            Entry(
                "forward",
                inputs=[Input("x", pictures(self.shape), dims=("batch", None, *names))],
                outputs=["logits"],
                units={"logits": "accuracy"},
                ranges={} if self.sides is None else dict.fromkeys(("height", "width"), self.sides),
            )
        ]


def pictures(shape: Shape, count: int = EXAMPLES) -> Tensor:
    """Return random pictures `(count, channels, height, width)` with values from 0 to 1."""
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(0))


def side(size: Size, *, full: int, smallest: int = 1, multiple: int = 1) -> int:
    """Return height and width of a picture.

    Arguments:
        size: The side, or `full` for that of the published network.
        full: Side of the published network's pictures.
        smallest: The smallest side that the network takes.
        multiple: What the side must be a multiple of.

    Raises:
        UsageError: It is another word, too small, or no such multiple.
    """
    given = full if size == "full" else size
    if not isinstance(given, int) or given < smallest or given % multiple:
        raise UsageError(
            f"size = {size!r} is no side of a picture",
            where="[model] of the recipe",
            next_step=f'a multiple of {multiple} from {smallest} on, or "full" for the published '
            "network",
        )
    return given

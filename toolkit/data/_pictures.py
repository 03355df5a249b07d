"""Pictures read from files: of one size, grey or colour, split into two parts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from toolkit.core.errors import IntegrityError, UsageError
from toolkit.core.protocols import Data

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image
    from torch import Tensor

LEVELS = 256
GREY_MODES = ("1", "L")
DEEP_MODES = ("I", "F")
RED_GREEN_BLUE = (0.299, 0.587, 0.114)
WHERE = "[data] of the recipe"


@dataclass(frozen=True, slots=True)
class Part:
    """Pictures before they are scaled to 0 … 1.

    Arguments:
        levels: Bytes `(samples, 1 or 3, height, width)`.
        label: Classes `(samples,)`; `None` where there are none.
    """

    levels: Tensor
    label: Tensor | None


@dataclass(frozen=True, slots=True)
class Options:
    """How pictures become data.

    Arguments:
        size: Height and width; 0 keeps the pictures' own.
        grey: Turn colours into grey (ITU-R BT.601).
        dequantize: Give `x = (level + u) / 256`, u uniform, instead of `level / 255`.
        draws: How often the training set is repeated, with noise of its own each time.
        test: Number of held-out pictures where the source holds none out; 0 for a fifth.
        limit: Most pictures of each part; 0 for all.
        seed: Seed of the split, of what a limit leaves out, and of the noise.

    Raises:
        UsageError: A number is negative, or there are no draws.
    """

    size: int = 0
    grey: bool = False
    dequantize: bool = False
    draws: int = 1
    test: int = 0
    limit: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.size, self.test, self.limit) < 0 or self.draws < 1:
            raise UsageError(
                f"size={self.size}, test={self.test}, limit={self.limit}, draws={self.draws}: none "
                "may be negative, and draws is at least 1",
                where=WHERE,
                next_step="give 0 or more, and draws = 1 or more",
            )


def as_data(train: Part, test: Part | None, options: Options) -> Data:
    """Return both parts as `x` in 0 … 1 and, where there are labels, `label`.

    Raises:
        UsageError: There are too few pictures, or the parts differ in shape.
    """
    import torch

    draws = torch.Generator().manual_seed(options.seed)
    if test is None:
        train, test = _split(train, options, draws)
    shapes = [tuple(part.levels.shape[1:]) for part in (train, test)]
    if shapes[0] != shapes[1]:
        raise UsageError(
            f"pictures to train on are {shapes[0]}, held-out ones {shapes[1]}",
            where=WHERE,
            next_step="give size, and grey = true where only some are in colour",
        )
    parts = [_limited(part, options.limit, draws) for part in (train, test)]
    parts[0] = _chosen(parts[0], torch.arange(len(parts[0].levels)).repeat(options.draws))
    tensors = [_tensors(part, options, draws) for part in parts]
    return Data(train=tensors[0], test=tensors[1], levels=LEVELS)


def stacked(pictures: Iterable[Image], options: Options, *, where: str) -> Tensor:
    """Return decoded pictures as bytes `(samples, 1 or 3, height, width)`.

    With a size, each is scaled until it covers the square, and its middle is cut out. They are
    grey where all of them are.

    Raises:
        UsageError: They differ in size and none is asked for, or have more than 8 bits.
        IntegrityError: One cannot be read.
    """
    import numpy as np
    import torch
    from PIL import ImageOps

    arrays = []
    try:
        for picture in pictures:
            if picture.mode.startswith(DEEP_MODES):
                raise UsageError(
                    f"a picture has more than 8 bits per channel (mode {picture.mode})",
                    where=where,
                    next_step="convert the pictures to 8 bits",
                )
            plain = picture.convert("L" if picture.mode in GREY_MODES else "RGB")
            if options.size:
                plain = ImageOps.fit(plain, (options.size, options.size))
            arrays.append(np.asarray(plain))
    except OSError as error:
        raise IntegrityError(
            f"a picture cannot be read: {error}", where=where, next_step="replace or remove it"
        ) from error
    if not arrays:
        raise UsageError("there are no pictures", where=where, next_step="name another folder")
    sizes = {array.shape[:2] for array in arrays}
    if len(sizes) > 1:
        raise UsageError(
            f"the pictures have {len(sizes)} different sizes",
            where=where,
            next_step="give size = 32, or another height and width",
        )
    if {array.ndim for array in arrays} == {2}:
        return torch.from_numpy(np.stack(arrays)[:, None])
    colour = [np.repeat(array[..., None], 3, 2) if array.ndim == 2 else array for array in arrays]
    return torch.from_numpy(np.stack(colour).transpose(0, 3, 1, 2).copy())


def without_colour(levels: Tensor) -> Tensor:
    """Return the levels of pictures `(samples, 1 or 3, height, width)` in grey."""
    import torch

    if levels.shape[1] == 1:
        return levels
    weights = torch.tensor(RED_GREEN_BLUE).view(1, 3, 1, 1)
    return (levels * weights).sum(1, keepdim=True).round()


def labels(classes: Sequence[int]) -> Tensor:
    """Return classes as a tensor."""
    import torch

    return torch.tensor(list(classes), dtype=torch.int64)


def _split(part: Part, options: Options, draws: torch.Generator) -> tuple[Part, Part]:
    import torch

    count = len(part.levels)
    held_out = options.test or count // 5
    if not 0 < held_out < count:
        raise UsageError(
            f"{held_out} of {count} pictures cannot be held out",
            where=WHERE,
            next_step=f"give test = 1 to {count - 1}, or more pictures",
        )
    order = torch.randperm(count, generator=draws)
    return _chosen(part, order[held_out:]), _chosen(part, order[:held_out])


def _limited(part: Part, limit: int, draws: torch.Generator) -> Part:
    import torch

    if not limit or limit >= len(part.levels):
        return part
    return _chosen(part, torch.randperm(len(part.levels), generator=draws)[:limit])


def _chosen(part: Part, rows: Tensor) -> Part:
    return Part(part.levels[rows], None if part.label is None else part.label[rows])


def _tensors(part: Part, options: Options, draws: torch.Generator) -> dict[str, Tensor]:
    import torch

    levels = _scaled(part.levels.float(), options)
    if options.dequantize:
        # float32 rounds a noise just below 1 up to the next level: stay inside [0, 1).
        noise = torch.rand(levels.shape, generator=draws)
        x = ((levels + noise) / LEVELS).clamp(max=1 - 2**-24)
    else:
        x = levels / (LEVELS - 1)
    return {"x": x} if part.label is None else {"x": x, "label": part.label}


def _scaled(levels: Tensor, options: Options) -> Tensor:
    from torch.nn import functional as F

    if options.grey:
        levels = without_colour(levels)
    side = (options.size, options.size)
    if options.size and levels.shape[2:] != side:
        levels = F.interpolate(levels, side, mode="bilinear", align_corners=False, antialias=True)
    return levels.round().clamp(0, LEVELS - 1)

"""Pictures of posed figures with their key points: drawn here, with clutter and noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toolkit.core.errors import UsageError
from toolkit.core.protocols import Data

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from toolkit.nn.figure import Joint

POINTS = (
    "right ankle",
    "right knee",
    "right hip",
    "left hip",
    "left knee",
    "left ankle",
    "pelvis",
    "neck",
    "head",
    "crown",
    "right wrist",
    "right elbow",
    "right shoulder",
    "left shoulder",
    "left elbow",
    "left wrist",
)
"""The key points of the MPII data set, in its order, as this figure has them."""

SWAY, SWING = 0.15, 0.5
FREE = ("shoulder", "elbow", "hip", "knee")
BRIGHTNESS = {"left": 1.0, "right": 0.5}
TRUNK = 0.75
CLUTTER, NOISE = 4, 0.04
BLOCK = 128


def dataset(
    *, size: int = 32, train: int = 1024, test: int = 256, noise: float = NOISE, seed: int = 0
) -> Data:
    """Draw a figure of 24 joints in a random pose, seen from its front on average, limb by limb.

    Left limbs are bright, right ones darker, so that the sides can be told. Behind it are a few
    bars, over it normal noise; edges are anti-aliased.

    `x` is `(samples, 1, size, size)` in [0, 1]; `points` is `(samples, 16, 2)`, in pixels, x to
    the right and y down, the first pixel's middle at one half. All of them lie in the picture.

    Arguments:
        size: Height and width of a picture.
        train: Number of training pictures.
        test: Number of held-out pictures.
        noise: Deviation of the noise.
        seed: Seed of poses, places, clutter and noise.

    Raises:
        UsageError: An argument is out of range.
    """
    import torch

    if min(size, train, test) < 1 or noise < 0:
        raise UsageError(
            f"figures(size={size}, train={train}, test={test}, noise={noise}) is out of range",
            where="[data] of the recipe",
            next_step="noise is 0 or more, the others at least 1",
        )
    generator = torch.Generator().manual_seed(seed)
    count = train + test
    parts = [
        _drawn(len(part), size, noise, generator)
        for part in torch.split(torch.arange(count), BLOCK)
    ]
    x, points = (torch.cat(part) for part in zip(*parts, strict=True))
    return Data(
        train={"x": x[:train], "points": points[:train]},
        test={"x": x[train:], "points": points[train:]},
    )


def _drawn(
    count: int, size: int, noise: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return pictures and their key points."""
    import torch

    from toolkit.nn.figure import LIMBS

    places, scale = _placed(_poses(count, generator), size, generator)
    names = [joint.name for joint in _joints()]
    starts = [limb.parent for limb in LIMBS]
    ends = [names.index(limb.name) for limb in LIMBS]
    radius = torch.tensor([limb.radius for limb in LIMBS]) * scale[:, None]
    grey = [BRIGHTNESS.get(limb.name.partition(" ")[0], TRUNK) for limb in LIMBS]
    ink = _bars(places[:, starts], places[:, ends], radius, size)
    figure = (ink * torch.tensor(grey)[:, None, None]).amax(1)
    x = _clutter(count, size, generator) * (1 - ink.amax(1)) + figure
    x = x + noise * torch.randn(x.shape, generator=generator)
    return x.clamp(0, 1)[:, None], places[:, [names.index(name) for name in POINTS]]


def _clutter(count: int, size: int, generator: torch.Generator) -> Tensor:
    """Return pictures of a few dim bars."""
    import torch

    start, end = size * torch.rand(2, count, CLUTTER, 2, generator=generator)
    radius = size / 32 * (0.5 + torch.rand(count, CLUTTER, generator=generator))
    grey = 0.1 + 0.4 * torch.rand(count, CLUTTER, 1, 1, generator=generator)
    return (_bars(start, end, radius, size) * grey).amax(1)


def _poses(count: int, generator: torch.Generator) -> Tensor:
    """Return where joints and tips of posed figures are, seen from the front, in metres."""
    import torch

    from toolkit.nn.skinning import KinematicTree, rotation_matrices

    joints = _joints()
    sway = torch.tensor(
        [SWING if joint.name.rpartition(" ")[2] in FREE else SWAY for joint in joints]
    )
    turns = sway[:, None] * torch.randn(count, len(joints), 3, generator=generator)
    at_rest = torch.tensor([joint.place for joint in joints]).expand(count, -1, -1)
    _, places = KinematicTree([joint.parent for joint in joints])(rotation_matrices(turns), at_rest)
    seen: Tensor = places[..., :2] * torch.tensor([1.0, -1.0])
    return seen


def _joints() -> tuple[Joint, ...]:
    from toolkit.nn.figure import JOINTS, TIPS

    return (*JOINTS, *TIPS)


def _placed(places: Tensor, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Put every figure at a random place and size into a picture; return pixels per metre too."""
    import torch

    low, high = places.amin(1, keepdim=True), places.amax(1, keepdim=True)
    share = 0.7 + 0.2 * torch.rand(len(places), 1, 1, generator=generator)
    scale = share * size / (high - low).amax(2, keepdim=True)
    room = size - scale * (high - low)
    corner = room * torch.rand(len(places), 1, 2, generator=generator)
    return scale * (places - low) + corner, scale[:, 0, 0]


def _bars(start: Tensor, end: Tensor, radius: Tensor, size: int) -> Tensor:
    """Return bars with round ends, `(batch, bars, size, size)`: the share of a pixel they cover.

    Arguments:
        start: Middles of one end, `(batch, bars, 2)`, in pixels.
        end: Middles of the other end.
        radius: Of shape `(batch, bars)`, in pixels.
        size: Height and width of the picture.
    """
    import torch

    middles = torch.arange(size) + 0.5
    bone = end - start
    length = bone.square().sum(2).clamp(min=1e-6)
    across, down = ((middles - start[..., axis, None]) for axis in (0, 1))
    # |p - s - a b|² = |p - s|² - 2 a (p - s)·b + a² |b|², with rows and columns summed apart.
    product = _outer_sum(down * bone[..., 1, None], across * bone[..., 0, None])
    along = (product / length[..., None, None]).clamp(0, 1)
    squared = _outer_sum(down.square(), across.square())
    squared += along * (along * length[..., None, None] - 2 * product)
    return (0.5 + radius[..., None, None] - squared.clamp(min=0).sqrt()).clamp(0, 1)


def _outer_sum(rows: Tensor, columns: Tensor) -> Tensor:
    total: Tensor = rows[..., :, None] + columns[..., None, :]
    return total

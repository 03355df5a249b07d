"""A human figure of 24 joints with a skin of capsules; made up here, of no measured person."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

Place = tuple[float, float, float]
GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))


class Joint(NamedTuple):
    """A joint: its parent's index (none: itself), its place in metres, its limb's radius."""

    name: str
    parent: int
    place: Place
    radius: float


JOINTS = (
    Joint("pelvis", 0, (0.00, 0.95, 0.00), 0.11),
    Joint("left hip", 0, (0.09, 0.87, 0.00), 0.09),
    Joint("right hip", 0, (-0.09, 0.87, 0.00), 0.09),
    Joint("lower spine", 0, (0.00, 1.05, 0.00), 0.11),
    Joint("left knee", 1, (0.10, 0.48, 0.01), 0.07),
    Joint("right knee", 2, (-0.10, 0.48, 0.01), 0.07),
    Joint("middle spine", 3, (0.00, 1.19, 0.00), 0.12),
    Joint("left ankle", 4, (0.10, 0.08, 0.00), 0.05),
    Joint("right ankle", 5, (-0.10, 0.08, 0.00), 0.05),
    Joint("upper spine", 6, (0.00, 1.28, 0.00), 0.12),
    Joint("left foot", 7, (0.11, 0.03, 0.11), 0.03),
    Joint("right foot", 8, (-0.11, 0.03, 0.11), 0.03),
    Joint("neck", 9, (0.00, 1.47, 0.00), 0.06),
    Joint("left collar", 9, (0.08, 1.40, 0.00), 0.06),
    Joint("right collar", 9, (-0.08, 1.40, 0.00), 0.06),
    Joint("head", 12, (0.00, 1.57, 0.02), 0.06),
    Joint("left shoulder", 13, (0.18, 1.42, 0.00), 0.05),
    Joint("right shoulder", 14, (-0.18, 1.42, 0.00), 0.05),
    Joint("left elbow", 16, (0.44, 1.42, 0.00), 0.04),
    Joint("right elbow", 17, (-0.44, 1.42, 0.00), 0.04),
    Joint("left wrist", 18, (0.70, 1.42, 0.00), 0.03),
    Joint("right wrist", 19, (-0.70, 1.42, 0.00), 0.03),
    Joint("left hand", 20, (0.78, 1.42, 0.00), 0.03),
    Joint("right hand", 21, (-0.78, 1.42, 0.00), 0.03),
)
"""In a T-pose, x to the figure's left, y up, z to the front; the tree is SMPL's."""

TIPS = (
    Joint("left toes", 10, (0.11, 0.03, 0.18), 0.03),
    Joint("right toes", 11, (-0.11, 0.03, 0.18), 0.03),
    Joint("crown", 15, (0.00, 1.68, 0.02), 0.09),
    Joint("left fingers", 22, (0.87, 1.42, 0.00), 0.02),
    Joint("right fingers", 23, (-0.87, 1.42, 0.00), 0.02),
)
"""Where the last limbs end."""

PARENTS = tuple(joint.parent for joint in JOINTS)
LIMBS = (*JOINTS[1:], *TIPS)
"""One capsule each, from the parent's place to the own; the parent moves it."""


def rest_joints() -> Tensor:
    """Return the places of the joints in metres, `(24, 3)`, in double precision."""
    return torch.tensor([joint.place for joint in JOINTS], dtype=torch.float64)


def skin(count: int) -> tuple[Tensor, Tensor]:
    """Spread points evenly over the capsules of all limbs, as many on each.

    Arguments:
        count: Number of points.

    Returns:
        The points in metres, `(count, 3)`, in double precision; the joint that moves each one's
        limb, `(count,)`.
    """
    index = torch.arange(count)
    limb, rank = index % len(LIMBS), (index // len(LIMBS)).double()
    shares = torch.bincount(limb, minlength=len(LIMBS))
    owner = torch.tensor([limb.parent for limb in LIMBS])[limb]
    end = torch.tensor([limb.place for limb in LIMBS], dtype=torch.float64)[limb]
    start = rest_joints()[owner]
    radius = torch.tensor([limb.radius for limb in LIMBS], dtype=torch.float64)[limb]
    length = (end - start).norm(dim=1)
    # Equal steps along the axis cut equal areas, of a cylinder and of a sphere alike.
    along = (length + 2 * radius) * (rank + 0.5) / shares[limb] - radius
    beyond = along - along.clamp(min=torch.zeros_like(length), max=length)
    out = (radius.square() - beyond.square()).clamp(min=0).sqrt()
    axis, first, second = _frames((end - start) / length[:, None])
    angle = GOLDEN_ANGLE * rank
    around = angle.cos()[:, None] * first + angle.sin()[:, None] * second
    return start + along[:, None] * axis + out[:, None] * around, owner


def _frames(axis: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return each axis with two directions that are perpendicular to it and to each other."""
    least = torch.nn.functional.one_hot(axis.abs().argmin(1), 3).to(axis.dtype)
    first = torch.nn.functional.normalize(torch.linalg.cross(axis, least), dim=1)
    return axis, first, torch.linalg.cross(axis, first)

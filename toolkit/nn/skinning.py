"""Linear blend skinning: rotations of joints, their chain along a tree, and the skin they move."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

NEAR_ZERO = 1e-3
CROSS = ((0, 0, 0, 0, 0, -1, 0, 1, 0), (0, 0, 1, 0, 0, 0, -1, 0, 0), (0, -1, 0, 1, 0, 0, 0, 0, 0))
"""The matrices of the cross products with x, y and z, row by row."""


def rotation_matrices(axis_angle: Tensor) -> Tensor:
    """Return the rotation about each axis by its length in radians: Rodrigues' formula.

    `I + sin θ / θ · K + (1 − cos θ) / θ² · K²`, smooth at zero, derivatives of any order included.

    Arguments:
        axis_angle: Axis times angle, `(..., 3)`.

    Returns:
        Matrices for columns, `(..., 3, 3)`.
    """
    squared = axis_angle.square().sum(-1)[..., None, None]
    cross = axis_angle @ torch.tensor(CROSS, dtype=axis_angle.dtype, device=axis_angle.device)
    cross = cross.reshape(*axis_angle.shape, 3)
    outer = axis_angle[..., :, None] * axis_angle[..., None, :]
    unit = torch.eye(3, dtype=axis_angle.dtype, device=axis_angle.device)
    half = _sine_over_angle(squared / 4).square() / 2
    matrices: Tensor = unit + _sine_over_angle(squared) * cross + half * (outer - squared * unit)
    return matrices


def _sine_over_angle(squared: Tensor) -> Tensor:
    """Return `sin θ / θ` of `θ²`, by its series where the quotient would be 0 / 0."""
    near = squared < NEAR_ZERO
    angle = torch.where(near, 1.0, squared).sqrt()
    series = 1 - squared / 6 * (1 - squared / 20 * (1 - squared / 42))
    return torch.where(near, series, angle.sin() / angle)


class KinematicTree(nn.Module):
    """Carries every joint along with its ancestors' rotations, one level of the tree at a time.

    Arguments:
        parents: Each joint's parent, which stands before it; the root's, the first, is itself.
    """

    def __init__(self, parents: Sequence[int]) -> None:
        super().__init__()
        self.parents = list(parents)
        depth = [0] * len(parents)
        for joint, parent in enumerate(self.parents[1:], 1):
            depth[joint] = depth[parent] + 1
        self.levels = [
            [joint for joint, own in enumerate(depth) if own == level]
            for level in range(max(depth) + 1)
        ]

    def forward(self, rotations: Tensor, joints: Tensor) -> tuple[Tensor, Tensor]:
        """Turn every joint, and all that hangs on it, about its place.

        Arguments:
            rotations: Each joint's rotation in its parent's frame, `(batch, joints, 3, 3)`.
            joints: Their places at rest, `(batch, joints, 3)`.

        Returns:
            Rotations from the frame at rest, and places, of the same shapes.
        """
        bones = (joints - joints[:, self.parents])[..., None]
        turned, placed = [rotations[:, :1]], [joints[:, :1, :, None]]
        for above, level in zip(self.levels, self.levels[1:], strict=False):
            chosen = [above.index(self.parents[joint]) for joint in level]
            frame = turned[-1][:, chosen]
            placed.append(placed[-1][:, chosen] + frame @ bones[:, level])
            turned.append(frame @ rotations[:, level])
        walked = [joint for level in self.levels for joint in level]
        order = [walked.index(joint) for joint in range(len(walked))]
        return torch.cat(turned, 1)[:, order], torch.cat(placed, 1)[:, order, :, 0]


def blend_skin(
    vertices: Tensor, weights: Tensor, joints: Tensor, rotations: Tensor, places: Tensor
) -> Tensor:
    """Move each vertex by the weighted mean of the joints' rigid motions: `(batch, vertices, 3)`.

    Arguments:
        vertices: At rest, `(batch, vertices, 3)`.
        weights: Of shape `(vertices, joints)`; rows sum to one.
        joints: Places of the joints at rest, `(batch, joints, 3)`.
        rotations: From the frame at rest, `(batch, joints, 3, 3)`.
        places: Places of the joints, `(batch, joints, 3)`.

    References:
        SMPL: A Skinned Multi-Person Linear Model, Loper et al., ACM Transactions on Graphics 34
        (2015) 248 (no arXiv number).
    """
    shifts = places[..., None] - rotations @ joints[..., None]
    motions = torch.cat([rotations, shifts], 3).flatten(2)
    blended = (weights @ motions).reshape(*vertices.shape, 4)
    moved: Tensor = (blended[..., :3] * vertices[:, :, None]).sum(3) + blended[..., 3]
    return moved

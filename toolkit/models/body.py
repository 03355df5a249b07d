"""Articulated body: shape and pose in, skin and joints out, by linear blend skinning."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from toolkit.core.entry import Entry, Input
from toolkit.core.errors import UsageError
from toolkit.models._size import is_full
from toolkit.nn.figure import PARENTS, rest_joints, skin
from toolkit.nn.skinning import KinematicTree, blend_skin, rotation_matrices

EXAMPLES = 4
CENTIMETRE = 0.01
FIRST_SHARE = 4.0
REACH = 0.05


class Body(nn.Module):
    """A body in SMPL's form, with a template that is made up here: capsules about 24 joints.

    Shape coefficients and the joints' rotations correct the template linearly; joints are means of
    its vertices; then each vertex follows the joints by its blend weights. All of these are
    learnt, from a start where a vertex mostly follows the one joint that moves its capsule.

    Arguments:
        size: `full` takes SMPL's 6890 vertices, 10 shape coefficients and 207 pose correctives,
            and then the other arguments do not count.
        vertices: Number of vertices.
        betas: Number of shape coefficients.

    Raises:
        UsageError: There is no such size, or an argument is out of range.

    References:
        SMPL: A Skinned Multi-Person Linear Model, Loper et al., ACM Transactions on Graphics 34
        (2015), 248 (no arXiv number).
        Embodied Hands: Modeling and Capturing Hands and Bodies Together, arXiv 2201.02610.
    """

    family: ClassVar[str] = "geometry"
    given: ClassVar[tuple[str, ...]] = ("betas", "translation")

    def __init__(self, *, size: str = "given", vertices: int = 336, betas: int = 10) -> None:
        if is_full(size):
            vertices, betas = 6890, 10
        if min(vertices, betas) < 1:
            raise UsageError(
                f"body(vertices={vertices}, betas={betas}) is out of range",
                where="[model] of the recipe",
                next_step="each is at least 1",
            )
        super().__init__()
        joints = len(PARENTS)
        template, owner = skin(vertices)
        distance = torch.cdist(rest_joints(), template)
        self.tree = KinematicTree(PARENTS)
        self.template = nn.Parameter(template.float())
        self.shapes = nn.Parameter(torch.zeros(betas, vertices, 3))
        self.correctives = nn.Parameter(torch.zeros(9 * (joints - 1), vertices, 3))
        self.regressor = nn.Parameter(-distance.float() / REACH)
        self.blending = nn.Parameter(FIRST_SHARE * F.one_hot(owner, joints).float())

    def forward(self, pose: Tensor, betas: Tensor, translation: Tensor) -> tuple[Tensor, Tensor]:
        """Shape and pose the body.

        Arguments:
            pose: Axis times angle of each joint in radians, in its parent's frame,
                `(batch, 24, 3)`.
            betas: Coefficients of shape, `(batch, betas)`.
            translation: Of the whole body, in metres, `(batch, 3)`.

        Returns:
            Vertices, `(batch, vertices, 3)`, and joints, `(batch, 24, 3)`, in metres.
        """
        rotations = rotation_matrices(pose)
        turns = (rotations[:, 1:] - torch.eye(3).to(pose)).flatten(1)
        vertices = self.shaped(betas) + _mix(turns, self.correctives)
        at_rest = self.joints(betas)
        turned, places = self.tree(rotations, at_rest)
        moved = blend_skin(vertices, self.blending.softmax(1), at_rest, turned, places)
        return moved + translation[:, None], places + translation[:, None]

    def shaped(self, betas: Tensor) -> Tensor:
        """Return the vertices of shape coefficients at rest, `(batch, vertices, 3)`."""
        return self.template + _mix(betas, self.shapes)

    def joints(self, betas: Tensor) -> Tensor:
        """Return the joints of shape coefficients at rest, `(batch, 24, 3)`: means of vertices."""
        shares = self.regressor.softmax(1)
        return shares @ self.template + _mix(betas, shares @ self.shapes)

    def entries(self) -> list[Entry]:
        """Return `forward`."""
        generator = torch.Generator().manual_seed(0)
        pose = 0.3 * torch.randn(EXAMPLES, len(PARENTS), 3, generator=generator)
        betas = torch.randn(EXAMPLES, len(self.shapes), generator=generator)
        translation = torch.randn(EXAMPLES, 3, generator=generator)
        inputs = [
            Input("x", pose, dims=("batch", None, None)),
            Input("betas", betas, dims=("batch", None)),
            Input("translation", translation, dims=("batch", None)),
        ]
        return [Entry("forward", "forward", inputs, ["vertices", "joints"])]


def _mix(coefficients: Tensor, directions: Tensor) -> Tensor:
    """Return the sum of directions in centimetres, `(directions, points, 3)`, in metres."""
    mixed = coefficients @ (CENTIMETRE * directions.flatten(1))
    return mixed.reshape(-1, *directions.shape[1:])


model = Body

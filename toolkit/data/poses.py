"""Posed figures: rotations of joints, coefficients of shape, and where the skin is then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toolkit.core.errors import UsageError
from toolkit.core.protocols import Data

if TYPE_CHECKING:
    from torch import Tensor

SWAY, TURN = 0.3, 1.0
WAVE, BULGE = 0.01, 0.02
SMOOTH, NEAR = 0.05, 0.12


def dataset(
    *, vertices: int = 336, betas: int = 10, train: int = 2048, test: int = 512, seed: int = 0
) -> Data:
    """Shape and pose a figure that is made up here, at random.

    The figure's skin lies on capsules about 24 joints. Its true blend weights fall off with the
    distance from the limbs, its joints are means of the skin near them, its shape varies by waves
    through space, and joints that turn make the skin near them bulge; no pose tells these by
    itself. Every joint sways by 0.3 radians about each axis, the root by 1.

    `x` is `(samples, 24, 3)`, axis times angle in radians; `betas` `(samples, betas)`, standard
    normal; `translation` `(samples, 3)` and `points`, the skin, `(samples, vertices, 3)`, in
    metres. The figure is the same for every seed.

    Arguments:
        vertices: Points of the skin.
        betas: Coefficients of shape.
        train: Number of training samples.
        test: Number of held-out samples.
        seed: Seed of shapes and poses.

    Raises:
        UsageError: An argument is out of range.
    """
    import torch

    if min(vertices, betas, train, test) < 1:
        raise UsageError(
            f"poses(vertices={vertices}, betas={betas}, train={train}, test={test}) "
            "is out of range",
            where="[data] of the recipe",
            next_step="each is at least 1",
        )
    generator = torch.Generator().manual_seed(seed)
    count = train + test
    pose = SWAY * torch.randn(count, 24, 3, generator=generator)
    pose[:, 0] *= TURN / SWAY
    samples = {
        "x": pose,
        "betas": torch.randn(count, betas, generator=generator),
        "translation": torch.randn(count, 3, generator=generator),
    }
    figure = Figure(vertices, betas)
    samples["points"] = torch.cat(
        [
            figure.posed(*(tensor[part] for tensor in samples.values()))
            for part in torch.split(torch.arange(count), 256)
        ]
    )
    return Data(
        train={name: tensor[:train] for name, tensor in samples.items()},
        test={name: tensor[train:] for name, tensor in samples.items()},
    )


class Figure:
    """The true figure, in double precision.

    Arguments:
        vertices: Points of its skin.
        betas: Coefficients of its shape.
    """

    def __init__(self, vertices: int, betas: int) -> None:
        import torch

        from toolkit.nn.figure import PARENTS, rest_joints, skin
        from toolkit.nn.skinning import KinematicTree

        self.tree = KinematicTree(PARENTS)
        self.template, _ = skin(vertices)
        distance = torch.cdist(rest_joints(), self.template)
        self.regressor = (-(distance / NEAR).square()).softmax(1)
        self.weights = _weights(self.template)
        draws = torch.Generator().manual_seed(0)
        waves = 4 * torch.randn(betas, 3, 3, dtype=torch.float64, generator=draws)
        phases = 3 * torch.randn(betas, 1, 3, dtype=torch.float64, generator=draws)
        self.shapes = WAVE * torch.sin(self.template @ waves + phases)
        bulges = torch.randn(23, 9, 1, 3, dtype=torch.float64, generator=draws)
        near = torch.exp(-(distance[1:] / NEAR).square())
        self.correctives = (BULGE * near[:, None, :, None] * bulges).flatten(0, 1)

    def posed(
        self, pose: Tensor, betas: Tensor, translation: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        """Return the skin in metres, `(batch, vertices, 3)`; `weights` stand for the true ones."""
        import torch

        from toolkit.nn.skinning import blend_skin, rotation_matrices

        rotations = rotation_matrices(pose.double())
        turns = (rotations[:, 1:] - torch.eye(3)).flatten(1)
        shaped = self.template + torch.einsum("bk,kvi->bvi", betas.double(), self.shapes)
        vertices = shaped + torch.einsum("bk,kvi->bvi", turns, self.correctives)
        joints = self.regressor @ shaped
        chosen = self.weights if weights is None else weights
        moved = blend_skin(vertices, chosen, joints, *self.tree(rotations, joints))
        return (moved + translation[:, None].double()).float()


def _weights(points: Tensor) -> Tensor:
    """Return how much each joint moves each point, `(points, 24)`: by the distance of its limbs."""
    import torch

    from toolkit.nn.figure import LIMBS, rest_joints

    joints = rest_joints()
    owner = torch.tensor([limb.parent for limb in LIMBS])
    start = joints[owner]
    bone = torch.tensor([limb.place for limb in LIMBS], dtype=joints.dtype) - start
    radius = torch.tensor([limb.radius for limb in LIMBS], dtype=joints.dtype)
    offset = points[:, None] - start
    along = ((offset * bone).sum(2) / bone.square().sum(1)).clamp(0, 1)
    distance = ((offset - along[..., None] * bone).norm(dim=2) - radius).clamp(min=0)
    shares = (-(distance / SMOOTH).square()).softmax(1)
    return torch.zeros(len(points), len(joints), dtype=joints.dtype).index_add(1, owner, shares)

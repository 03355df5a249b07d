from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from toolkit.nn.skinning import KinematicTree, blend_skin, rotation_matrices

PARENTS = (0, 0, 1, 0, 3, 1)


def turn(axis_angle: np.ndarray) -> np.ndarray:
    """Return a rotation by Taylor's series of the matrix exponential, squared ten times."""
    x, y, z = axis_angle / 1024
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    total, term = np.eye(3), np.eye(3)
    for order in range(1, 12):
        term = term @ cross / order
        total = total + term
    for _ in range(10):
        total = total @ total
    return total


def reference(vertices, weights, joints, pose, parents):
    """Skin one body, joint by joint and vertex by vertex, by homogeneous matrices."""
    world = []
    for joint, parent in enumerate(parents):
        local = np.eye(4)
        local[:3, :3] = turn(pose[joint])
        local[:3, 3] = joints[joint] - (joints[parent] if joint else 0)
        world.append(world[parent] @ local if joint else local)
    moved = np.empty_like(vertices)
    for index, vertex in enumerate(vertices):
        total = np.zeros(4)
        for joint in range(len(parents)):
            back = np.eye(4)
            back[:3, 3] = -joints[joint]
            total += weights[index, joint] * (world[joint] @ back @ np.append(vertex, 1.0))
        moved[index] = total[:3]
    return moved, np.array([matrix[:3, 3] for matrix in world])


def bodies(count: int = 3):
    draws = torch.Generator().manual_seed(0)
    vertices, joints, pose = (
        torch.randn(count, size, 3, dtype=torch.float64, generator=draws) for size in (20, 6, 6)
    )
    weights = torch.randn(20, 6, dtype=torch.float64, generator=draws).softmax(1)
    return vertices, weights, joints, pose


def skinned(vertices, weights, joints, pose, parents=PARENTS, transposed=False):
    rotations = rotation_matrices(pose)
    rotations = rotations.mT if transposed else rotations
    turned, places = KinematicTree(parents)(rotations, joints)
    return blend_skin(vertices, weights, joints, turned, places), places


def gap(**fault) -> float:
    vertices, weights, joints, pose = bodies()
    found = skinned(vertices, weights, joints, pose, **fault)
    worst = 0.0
    for index in range(len(pose)):
        expected = reference(
            vertices[index].numpy(),
            weights.numpy(),
            joints[index].numpy(),
            pose[index].numpy(),
            PARENTS,
        )
        for mine, theirs in zip(found, expected, strict=True):
            worst = max(worst, np.abs(mine[index].numpy() - theirs).max())
    return worst


def test_skinning_equals_the_plain_reference():
    assert gap() < 1e-10


@pytest.mark.parametrize("fault", [{"parents": (0, 0, 1, 0, 3, 3)}, {"transposed": True}])
def test_a_planted_fault_is_far_from_the_reference(fault):
    assert gap(**fault) > 1e-2


@pytest.mark.parametrize(
    "angle", [0.0, 1e-300, 1e-20, 1e-8, 1e-3, 0.0316, 0.0317, 1.0, math.pi - 1e-8, math.pi, 6.0]
)
def test_rotations_are_exact_at_any_angle(angle):
    axis = np.array([2.0, -1.0, 2.0]) / 3
    found = rotation_matrices(torch.from_numpy(angle * axis)).numpy()
    np.testing.assert_allclose(found, turn(angle * axis), rtol=0, atol=1e-12)
    np.testing.assert_allclose(found @ found.T, np.eye(3), rtol=0, atol=1e-14)


@pytest.mark.parametrize("angle", [0.0, 1e-30, 1e-8, 1e-3, 0.0316, 0.0317, 1.0, math.pi])
def test_rotations_in_single_precision_are_as_exact_as_it_is(angle):
    single = torch.tensor([2.0, -1.0, 2.0]) / 3 * angle
    expected = rotation_matrices(single.double()).float()
    torch.testing.assert_close(rotation_matrices(single), expected, rtol=0, atol=3e-7)


@pytest.mark.parametrize("scale", [0.0, 1e-8, 1e-2, 1.0])
def test_rotations_have_first_and_second_derivatives(scale):
    draws = torch.Generator().manual_seed(0)
    axis_angle = scale * torch.randn(4, 3, dtype=torch.float64, generator=draws)
    axis_angle.requires_grad_()
    assert torch.autograd.gradcheck(rotation_matrices, axis_angle)
    assert torch.autograd.gradgradcheck(rotation_matrices, axis_angle)


def test_single_joints_and_chains_are_trees():
    joints, pose = torch.rand(2, 3, 3), torch.zeros(2, 3, 3)
    _, places = KinematicTree((0, 0, 1))(rotation_matrices(pose), joints)
    torch.testing.assert_close(places, joints)
    _, places = KinematicTree((0,))(rotation_matrices(pose[:, :1]), joints[:, :1])
    torch.testing.assert_close(places, joints[:, :1])

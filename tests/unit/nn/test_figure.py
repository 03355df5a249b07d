from __future__ import annotations

import pytest
import torch

from toolkit.nn.figure import JOINTS, LIMBS, PARENTS, rest_joints, skin


def test_parents_stand_before_their_children():
    assert len(JOINTS) == 24
    assert all(parent < joint for joint, parent in enumerate(PARENTS[1:], 1))


def test_left_and_right_mirror_each_other():
    places = {joint.name: joint.place for joint in (*JOINTS, *LIMBS)}
    for name, (x, y, z) in places.items():
        if name.startswith("left"):
            assert places[name.replace("left", "right")] == (-x, y, z)


@pytest.mark.parametrize("count", [1, 28, 336, 1000])
def test_every_point_of_the_skin_lies_on_the_capsule_of_its_joints_limb(count):
    points, owner = skin(count)
    for index, point in enumerate(points):
        limb = LIMBS[index % len(LIMBS)]
        start, end = rest_joints()[limb.parent], torch.tensor(limb.place, dtype=torch.float64)
        assert owner[index] == limb.parent
        share = ((point - start) @ (end - start) / (end - start).square().sum()).clamp(0, 1)
        distance = (point - start - share * (end - start)).norm()
        assert distance == pytest.approx(limb.radius, rel=1e-9)


def test_the_points_of_a_limb_cover_it_on_every_side():
    points, _ = skin(28 * 400)
    shin = points[LIMBS.index(JOINTS[7]) :: len(LIMBS)]
    middle = (rest_joints()[4] + rest_joints()[7]) / 2
    side = (shin - middle).sign()
    assert side.mean(0).abs().max() < 0.05

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

import toolkit
from toolkit.core.errors import UsageError
from toolkit.core.folder import RunFolder
from toolkit.core.recipe import load_recipe
from toolkit.data.poses import Figure, dataset
from toolkit.models.body import Body
from toolkit.nn.skinning import rotation_matrices
from toolkit.stages.pipeline import run_pipeline

CLOSE = {"rtol": 0, "atol": 1e-12}


@pytest.fixture
def model() -> Body:
    torch.manual_seed(0)
    model = Body(vertices=60, betas=3).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model


@pytest.fixture
def given() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(1)
    shapes = ((5, 24, 3), (5, 3), (5, 3))
    return tuple(torch.randn(shape, dtype=torch.float64, generator=draws) for shape in shapes)


def test_at_rest_it_is_the_shaped_template(model, given):
    _, betas, _ = given
    vertices, joints = model(betas.new_zeros(5, 24, 3), betas, betas.new_zeros(5, 3))
    expected = model.template + 0.01 * torch.einsum("bk,kvi->bvi", betas, model.shapes)
    torch.testing.assert_close(vertices, expected, **CLOSE)
    torch.testing.assert_close(joints, model.regressor.softmax(1) @ expected, **CLOSE)


def test_turning_the_root_turns_all_of_it_about_the_root(model, given):
    pose, betas, translation = given
    still = torch.cat([torch.zeros_like(pose[:, :1]), pose[:, 1:]], 1)
    before = model(still, betas, torch.zeros_like(translation))
    after = model(pose, betas, translation)
    rotation, root = rotation_matrices(pose[:, 0]), before[1][:, :1]
    for old, new in zip(before, after, strict=True):
        expected = (old - root) @ rotation.mT + root + translation[:, None]
        torch.testing.assert_close(new, expected, **CLOSE)


def test_a_joint_moves_what_hangs_on_it_and_nothing_else(model, given):
    pose, betas, translation = given
    other = pose.clone()
    other[:, 18] += 1.0
    moved = (model(other, betas, translation)[1] - model(pose, betas, translation)[1]).norm(dim=2)
    assert (moved.amax(0) > 1e-6).nonzero().flatten().tolist() == [20, 22]


def test_correctives_take_the_joints_turns_but_not_the_roots(model, given):
    pose, betas, translation = given
    with torch.no_grad():
        model.blending.zero_()
        model.blending[:, 0] = 1e4
    root = torch.zeros_like(pose)
    root[:, 0] = pose[:, 0]
    rotation = rotation_matrices(pose[:, 0])
    found = model(pose, betas, translation)[0] - model(root, betas, translation)[0]
    turns = (rotation_matrices(pose[:, 1:]) - torch.eye(3)).flatten(1)
    bulges = 0.01 * torch.einsum("bk,kvi->bvi", turns, model.correctives)
    torch.testing.assert_close(found, bulges @ rotation.mT, **CLOSE)


def test_full_has_smpls_dimensions():
    model = Body(size="full")
    assert model.template.shape == (6890, 3)
    assert model.shapes.shape == (10, 6890, 3)
    assert model.correctives.shape == (207, 6890, 3)
    assert model.regressor.shape == (24, 6890)
    assert model.blending.shape == (6890, 24)


@pytest.mark.slow
def test_full_exports(tmp_path):
    torch.manual_seed(0)
    result = toolkit.export(Body(size="full").eval(), Body(size="full").entries(), tmp_path)
    assert all(item.outcome.status == "ok" for item in result.values())


@pytest.mark.parametrize("arguments", [{"vertices": 0}, {"betas": 0}, {"size": "large"}])
def test_arguments_out_of_range_are_refused(arguments):
    with pytest.raises(UsageError):
        Body(**arguments)


@pytest.mark.slow
def test_the_recipe_meets_held_out_skins_better_than_rigid_limbs(tmp_path):
    recipe, folder = load_recipe("body"), RunFolder(tmp_path)
    trained, exported = run_pipeline(recipe, folder, last="export")
    assert exported.outcome.ok
    metrics = trained.outcome.detail["metrics"]
    held_out = dataset().test
    given = {name: held_out[name] for name in ("x", "betas", "translation")}
    vertices, _ = toolkit.load(folder.path).forward(
        **{name: tensor.numpy() for name, tensor in given.items()}
    )
    figure = Figure(336, 10)
    rigid = figure.posed(*given.values(), weights=F.one_hot(figure.weights.argmax(1), 24).double())
    error, baseline = (
        float((skin - held_out["points"]).norm(dim=2).mean())
        for skin in (torch.from_numpy(vertices), rigid)
    )
    assert error == pytest.approx(metrics["test_loss"], rel=1e-3)
    assert error < 0.0011
    assert baseline > 0.010

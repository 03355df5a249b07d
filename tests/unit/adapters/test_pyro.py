import copy

import pytest
import torch
from torch import nn

from toolkit.adapters.pyro import (
    PyroFlow,
    adapter,
    autoregressive_inverse,
    context_size,
    inverse,
    log_prob,
    sample,
)
from toolkit.core.errors import UsageError
from toolkit.core.require import install_line

pytest.importorskip("pyro", reason=install_line("flows"))
import pyro.distributions as dist
import pyro.distributions.transforms as T

Conditional = dist.conditional.ConditionalComposeTransformModule


def entries(flow):
    return {entry.name: entry for entry in adapter.entries(flow)}


def values(entry):
    return [item.value for item in entry.inputs]


def over(transforms, low=None):
    base = dist.Normal(torch.ones(4), 2 * torch.ones(4))
    if low is not None:
        base = dist.Uniform(low * torch.ones(4), 3 * torch.ones(4))
    return dist.TransformedDistribution(base.to_event(1), transforms)


FEATURES = {
    "affine_autoregressive": lambda: T.affine_autoregressive(5),
    "affine_coupling": lambda: T.affine_coupling(5),
    "spline": lambda: T.spline(5),
    "spline_coupling": lambda: T.spline_coupling(5),
    "spline_autoregressive": lambda: T.spline_autoregressive(5),
    "neural_autoregressive": lambda: T.neural_autoregressive(5),
    "block_autoregressive": lambda: T.block_autoregressive(5),
    "polynomial": lambda: T.polynomial(5),
    "planar": lambda: T.planar(5),
    "radial": lambda: T.radial(5),
    "sylvester": lambda: T.sylvester(5),
    "householder": lambda: T.householder(5),
    "matrix_exponential": lambda: T.matrix_exponential(5),
    "batchnorm": lambda: T.batchnorm(5).eval(),
    "compose": lambda: T.ComposeTransformModule([T.permute(5), T.leaky_relu()]),
    "list": lambda: [T.leaky_relu(), T.spline(5)],
    "module list": lambda: nn.ModuleList([T.planar(5), T.radial(5)]),
}
GIVEN = {
    "affine_autoregressive": T.conditional_affine_autoregressive,
    "affine_coupling": T.conditional_affine_coupling,
    "spline": T.conditional_spline,
    "spline_autoregressive": T.conditional_spline_autoregressive,
    "neural_autoregressive": T.conditional_neural_autoregressive,
    "planar": T.conditional_planar,
    "radial": T.conditional_radial,
    "householder": T.conditional_householder,
    "matrix_exponential": T.conditional_matrix_exponential,
}
ONE_WAY = {"neural_autoregressive", "block_autoregressive", "polynomial", "planar", "radial"}


@pytest.mark.parametrize("name", FEATURES)
def test_a_bare_transform_tells_its_features(name):
    made = entries(FEATURES[name]())
    assert made["inverse"].inputs[0].shape == (16, 5)
    both = name not in ONE_WAY | {"sylvester", "module list"}
    assert list(made) == (["log_prob"] if both else []) + ["inverse", "sample"]


@pytest.mark.parametrize("name", GIVEN)
def test_a_conditional_transform_tells_its_context(name):
    flow = GIVEN[name](5, 3)
    assert context_size(flow) == 3
    made = entries(flow)
    assert [item.shape for item in made["inverse"].inputs] == [(16, 5), (16, 3)]
    assert ("log_prob" in made) == (name not in ONE_WAY)


@pytest.mark.parametrize("name", ["spline", "batchnorm", "householder", "planar", "polynomial"])
def test_inverse_gives_its_own_log_determinant(name):
    flow = FEATURES[name]().double()
    z = torch.randn(3, 5, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda row: inverse(flow, row[None])[0][0], z[0])
    log_det = inverse(flow, z)[1]
    assert log_det.shape == (3,)
    assert torch.allclose(log_det[0], torch.linalg.slogdet(jacobian)[1], atol=1e-6)


@torch.no_grad()
def test_density_and_inverse_agree_over_the_distributions_own_base():
    flow = PyroFlow(over([T.affine_coupling(4), T.permute(4), T.leaky_relu()]))
    z = torch.randn(6, 4)
    x, log_det = inverse(flow, z)
    expected = flow.flow.base_dist.log_prob(z) - log_det
    assert torch.allclose(log_prob(flow, x), expected, atol=1e-4)
    assert torch.equal(flow(x), log_prob(flow, x))


@torch.no_grad()
def test_noise_is_moved_and_scaled_like_the_base():
    shift = over([T.permute(4, torch.arange(4))])
    noise = torch.randn(6, 4)
    assert torch.allclose(sample(shift, noise), 1 + 2 * noise)
    made = entries(over([T.permute(4, torch.arange(4))], low=-1.0))
    draw, place = made["sample"].inputs[0], made["inverse"].inputs[0]
    assert (draw.law, place.low, place.high) == ("uniform", -1.0, 3.0)
    assert torch.allclose(sample(over([T.leaky_relu()], low=1.0), noise * 0 + 0.5), noise * 0 + 2)


def test_pictures_take_their_shape_from_the_base():
    base = dist.Normal(torch.zeros(3, 4, 4), torch.ones(3, 4, 4)).to_event(3)
    flow = PyroFlow(dist.TransformedDistribution(base, [T.generalized_channel_permute()]))
    assert entries(flow)["log_prob"].inputs[0].shape == (16, 3, 4, 4)
    with pytest.raises(UsageError, match="PyroFlow"):
        adapter.entries(T.generalized_channel_permute())


def test_a_turned_transform_gives_the_density_only():
    assert list(entries(over([T.planar(4).inv]))) == ["log_prob"]
    flow = dist.conditional.ConditionalTransformedDistribution(
        dist.Normal(torch.zeros(4), torch.ones(4)).to_event(1),
        [Conditional([T.conditional_planar(4, 3)]).inv],
    )
    (density,) = adapter.entries(PyroFlow(flow))
    assert [item.name for item in density.inputs] == ["x", "context"]


@pytest.mark.parametrize(
    "flow",
    [
        over([T.spline(4)]),
        [T.spline(4), T.permute(4)],
        nn.ModuleList([T.spline(4)]),
        Conditional([T.conditional_spline(4, 3)]),
        PyroFlow([T.spline(4)]),
    ],
)
def test_flows_that_are_no_modules_are_known_too(flow):
    assert adapter.detects(flow)


@pytest.mark.parametrize(
    "other", [[], [1], nn.ModuleList(), dist.Normal(0.0, 1.0), nn.Linear(1, 1)]
)
def test_other_objects_are_not(other):
    assert not adapter.detects(other)


def test_a_module_of_a_distribution_has_its_parameters_and_copies_with_them():
    transform = T.spline(4)
    flow = PyroFlow(over([transform, T.permute(4)]))
    assert {id(part) for part in flow.parameters()} == {id(part) for part in transform.parameters()}
    double = copy.deepcopy(flow).double()
    x = values(entries(flow)["log_prob"])[0]
    with torch.no_grad():
        assert log_prob(double, x.double()).dtype == torch.float64
        assert log_prob(flow, x).dtype == torch.float32


@torch.no_grad()
@pytest.mark.parametrize("name", ["affine_autoregressive", "spline_coupling", "compose", "planar"])
def test_nothing_of_a_call_stays_in_the_transforms(name):
    flow = FEATURES[name]()
    kept = torch.randn(3, 5)
    flow(kept)
    before = {id(part): vars(part).copy() for part in (*flow.modules(), flow)}
    inverse(flow, kept)
    for part in (*flow.modules(), flow):
        assert vars(part).keys() == before[id(part)].keys()
        assert all(value is before[id(part)][key] for key, value in vars(part).items())


@torch.no_grad()
def test_a_cached_answer_is_never_taken_for_the_flow():
    flow = T.affine_coupling(5)
    z = torch.randn(3, 5)
    flow._cached_x_y = z, torch.full_like(z, 7.0)
    assert not torch.equal(inverse(flow, z)[0], flow._cached_x_y[1])


def test_float64_reaches_the_zeros_that_the_library_makes():
    flow = T.affine_autoregressive(4).double()
    x = torch.randn(3, 4, dtype=torch.float64)
    assert log_prob(flow, x).dtype == torch.float64
    assert torch.get_default_dtype() == torch.float32


@torch.no_grad()
def test_the_autoregressive_inverse_is_the_librarys_and_gives_its_determinant():
    flow = T.affine_autoregressive(6)
    y = torch.randn(5, 6)
    expected = flow._inverse(y)
    scale = flow._cached_log_scale
    assert torch.allclose(autoregressive_inverse(flow, y), expected, atol=1e-5)
    assert torch.allclose(flow._cached_log_scale, scale, atol=1e-5)

import math

import pytest
import torch

from toolkit.adapters.normflows import adapter, inverse, log_prob, sample
from toolkit.core.errors import ExportError, UsageError
from toolkit.core.require import install_line

nf = pytest.importorskip("normflows", reason=install_line("flows"))
bases = nf.distributions.base

pytestmark = [
    pytest.mark.filterwarnings("ignore:torch.lu is deprecated"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept context"),
]


def entries(flow):
    return {entry.name: entry for entry in adapter.entries(flow.eval())}


def values(entry):
    return [item.value for item in entry.inputs]


def over(base, *layers):
    return nf.NormalizingFlow(base, list(layers))


def coupling(features=4):
    return nf.flows.AffineCouplingBlock(nf.nets.MLP([features // 2, 8, features]))


def pictures(base, **arguments):
    block = nf.flows.GlowBlock(12, 4)
    block.flows[-1].data_dep_init_done.fill_(1.0)
    return nf.MultiscaleFlow(
        [base((24, 2, 2)), base((6, 4, 4))],
        [[nf.flows.Squeeze()], [block, nf.flows.Squeeze()]],
        [nf.flows.Merge()],
        nf.transforms.Logit(),
        **arguments,
    )


def numeric_log_det(call, z):
    jacobian = torch.autograd.functional.jacobian(lambda row: call(row[None])[0][0], z[0])
    return torch.linalg.slogdet(jacobian)[1]


@pytest.mark.parametrize("name", ["coupling", "coupled spline", "autoregressive", "residual"])
def test_inverse_gives_its_own_log_determinant(name):
    flow = adapter.examples()[name]().double().eval()
    z = values(entries(flow)["inverse"])[0].double()
    log_det = inverse(flow, z)[1][0]
    assert torch.allclose(log_det, numeric_log_det(lambda row: inverse(flow, row), z), atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("name", ["coupling", "coupled spline", "autoregressive", "conditional"])
def test_density_of_the_inverse_is_the_bases_less_the_log_determinant(name):
    flow = adapter.examples()[name]().eval()
    z, *given = values(entries(flow)["inverse"])
    x, log_det = inverse(flow, z, *given)
    base = flow.q0.log_prob(z, *given)
    assert torch.allclose(log_prob(flow, x, *given), base - log_det, atol=1e-4)


@pytest.mark.parametrize(
    ("make", "laws"),
    [
        (lambda: bases.DiagGaussian(4), ["normal"]),
        (lambda: bases.GlowBase((4,)), ["normal"]),
        (lambda: bases.AffineGaussian((4,), (4,)), ["normal"]),
        (lambda: bases.GaussianPCA(4, 2), ["normal"]),
        (lambda: bases.Uniform(4, -2.0, 3.0), ["uniform"]),
        (lambda: bases.UniformGaussian(4, [1, 2], torch.rand(4)), ["uniform", "normal"]),
    ],
)
def test_noise_becomes_what_the_base_draws(make, laws, monkeypatch):
    base = make()
    for parameter in base.parameters():
        torch.nn.init.normal_(parameter)
    flow = over(base, nf.flows.Permute(4, mode="swap"))
    sampler = entries(flow)["sample"]
    assert [item.law for item in sampler.inputs] == laws
    noise = {item.law: item.value for item in sampler.inputs}
    monkeypatch.setattr(torch, "randn", lambda *_, **__: noise["normal"])
    monkeypatch.setattr(torch, "rand", lambda *_, **__: noise["uniform"])
    drawn, _ = flow.forward_and_log_det(base.sample(16))
    assert torch.allclose(sample(flow, *values(sampler)), drawn, atol=1e-6)


@pytest.mark.parametrize(
    "base",
    [
        bases.ClassCondDiagGaussian(4, 3),
        bases.GlowBase((4,), 3),
        bases.AffineGaussian((4,), (4,), 3),
    ],
)
def test_classes_are_an_integer_input(base, monkeypatch):
    for parameter in base.parameters():
        torch.nn.init.normal_(parameter)
    flow = nf.ClassCondFlow(base, [coupling()])
    made = entries(flow)
    for entry in made.values():
        label = entry.inputs[-1]
        assert (label.name, label.dtype, label.low, label.high) == ("label", "int64", 0, 2)
    noise, label = values(made["sample"])
    monkeypatch.setattr(torch, "randn", lambda *_, **__: noise)
    drawn = flow.flows[0](base.sample(16, y=label))[0]
    assert torch.allclose(sample(flow, noise, label), drawn, atol=1e-6)


def test_a_mixture_is_not_moved_noise():
    flow = over(bases.GaussianMixture(3, 4).float(), coupling())
    assert list(entries(flow)) == ["log_prob", "inverse"]


@pytest.mark.parametrize("kind", [nf.flows.Planar, nf.flows.Radial])
def test_a_layer_of_one_direction_only_samples(kind):
    assert list(entries(over(bases.DiagGaussian(4), kind((4,))))) == ["inverse", "sample"]


def test_each_level_has_its_own_input():
    flow = pictures(bases.GlowBase, class_cond=False)
    made = entries(flow)
    assert [item.name for item in made["inverse"].inputs] == ["z_0", "z_1"]
    assert [item.shape[1:] for item in made["sample"].inputs] == [(24, 2, 2), (6, 4, 4)]
    x = made["log_prob"].inputs[0]
    assert (x.shape[1:], x.low, x.high) == ((3, 8, 8), 0.0, 1.0)
    z, _ = flow.inverse_and_log_det(x.value)
    with torch.no_grad():
        assert torch.allclose(inverse(flow, *z)[0], x.value, atol=1e-4)


def test_circular_splines_are_bounded():
    layer = nf.flows.CircularCoupledRationalQuadraticSpline(4, 1, 8, [0], tail_bound=math.pi)
    flow = over(bases.UniformGaussian(4, [0], torch.tensor([2 * math.pi, 0.5, 0.5, 0.5])), layer)
    made = entries(flow)
    for item in (made["log_prob"].inputs[0], made["inverse"].inputs[0]):
        assert -math.pi <= item.low < -3.1415
        assert 3.1415 < item.high <= math.pi


def test_a_layer_that_waits_for_data_is_refused_by_name_and_left_alone():
    flow = over(bases.DiagGaussian(4), coupling(), nf.flows.ActNorm(4))
    with pytest.raises(UsageError, match="first batch") as raised:
        adapter.entries(flow)
    assert raised.value.where == "flows.1"
    assert not flow.flows[1].data_dep_init_done


def test_a_context_of_unknown_width_is_an_error():
    flow = nf.ConditionalNormalizingFlow(
        bases.ConditionalDiagGaussian(4, lambda given: given), [nf.flows.Permute(4)]
    )
    with pytest.raises(UsageError, match="does not say the shape of its context"):
        adapter.entries(flow)


def test_residual_densities_repeat_and_leave_the_model():
    flow = adapter.examples()["residual"]().eval()
    x = values(entries(flow)["log_prob"])[0]
    before = {name: value.clone() for name, value in flow.state_dict().items()}
    with torch.no_grad():
        assert torch.equal(log_prob(flow, x), log_prob(flow, x))
    assert not x.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in flow.state_dict().items())


def test_the_residual_inverse_needs_its_steps_measured():
    replacement = adapter.replacements()[0]
    (block, y), _ = replacement.examples()["slow, far out"]
    with pytest.raises(ExportError, match="not chosen"):
        replacement.function(block, y)
    found = replacement.measure(block, y)
    assert torch.equal(found, block._inverse_fixed_point(y))
    assert torch.equal(replacement.function(block, y), found)
    assert torch.equal(replacement.function(block, y[:1]), block._inverse_fixed_point(y[:1]))


def test_a_residual_block_that_does_not_converge_is_an_error():
    replacement = adapter.replacements()[0]
    (block, y), _ = replacement.examples()["two features"]
    block.nnet = torch.nn.Linear(2, 2, bias=False, dtype=torch.float64)
    torch.nn.init.eye_(block.nnet.weight).data.mul_(2)
    with pytest.raises(ExportError, match="does not converge"):
        replacement.measure(block, y)


def test_a_flow_without_density_is_not_claimed():
    prior = torch.distributions.Normal(0.0, 1.0)
    assert not adapter.detects(nf.NormalizingFlowVAE(prior, flows=[]))
    assert not adapter.detects(coupling())


@torch.no_grad()
def test_sampling_a_residual_flow_draws_no_noise_of_its_own():
    net = nf.nets.LipschitzMLP([4, 8, 4], lipschitz_const=0.5)
    flow = over(bases.DiagGaussian(4), nf.flows.Residual(net)).eval()
    state = torch.get_rng_state()
    assert sample(flow, torch.ones(2, 4)).shape == (2, 4)
    assert torch.equal(torch.get_rng_state(), state)
    inverse(flow, torch.ones(2, 4))
    assert not torch.equal(torch.get_rng_state(), state)

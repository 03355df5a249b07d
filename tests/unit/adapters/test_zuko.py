import math

import pytest
import torch

from toolkit.adapters.zuko import (
    adapter,
    context_size,
    inverse,
    log_prob,
    sample,
    sample_mixture,
)
from toolkit.core.errors import UsageError
from toolkit.core.require import install_line
from toolkit.runtime import load
from toolkit.stages.export import export

zuko = pytest.importorskip("zuko", reason=install_line("flows"))
flows = zuko.flows

SMALL = {"hidden_features": (8,), "transforms": 2}


def settled(flow):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return flow.eval()


EVERY = ["log_prob", "inverse", "sample"]


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: flows.NICE(4, **SMALL), EVERY),
        (lambda: flows.MAF(4, **SMALL), EVERY),
        (lambda: flows.NAF(2, **SMALL), EVERY),
        (lambda: flows.CNF(2, hidden_features=(8,)), EVERY),
        (lambda: flows.GMM(2), ["log_prob", "sample"]),
        (lambda: over(zuko.distributions.GeneralizedNormal, torch.ones(4)), EVERY[:2]),
    ],
    ids=["coupling", "maf", "naf", "cnf", "mixture", "a base of another law"],
)
def test_sequential_inverses_are_entries_too(make, names):
    assert [entry.name for entry in adapter.entries(make())] == names


def over(law, *arguments):
    return flows.Flow(
        flows.MaskedAutoregressiveTransform(4, hidden_features=(8,)),
        flows.UnconditionalDistribution(law, *arguments),
    )


@pytest.mark.parametrize("width", [0, 3])
@pytest.mark.parametrize("name", ["NICE", "MAF", "NSF", "NCSF", "NAF", "UNAF", "GF"])
def test_finds_the_context(name, width):
    small = {} if name == "GF" and not width else {"hidden_features": (8,)}
    assert context_size(getattr(flows, name)(4, width, **small)) == width


def test_finds_the_context_of_a_continuous_flow():
    assert context_size(flows.CNF(4, 3, hidden_features=(8,))) == 3
    assert context_size(flows.CNF(4, hidden_features=(8,))) == 0


@torch.no_grad()
@pytest.mark.parametrize(
    "make",
    [
        lambda: flows.NICE(4, 3, **SMALL),
        lambda: flows.NCSF(4, 3, bins=3, **SMALL),
        lambda: flows.UNAF(2, 3, **SMALL),
        lambda: flows.CNF(2, 3, hidden_features=(8,)),
    ],
    ids=["normal base", "uniform base", "bisection", "continuous"],
)
def test_sampling_and_inverse_invert_the_density(make):
    flow = settled(make())
    density, inverter, sampler = adapter.entries(flow)
    noise, context = (item.value for item in sampler.inputs)
    x = sample(flow, noise, context)
    built = flow(context)
    z, log_det = built.transform.call_and_ladj(x)
    base = built.base.base_dist
    uniform = sampler.inputs[0].law == "uniform"
    placed = (z - base.low) / (base.high - base.low) if uniform else z
    assert torch.allclose(placed, noise, atol=1e-4)
    back, inverted = inverse(flow, z, context)
    assert torch.allclose(back, x, atol=1e-4)
    assert torch.allclose(inverted, -log_det, atol=2e-3)
    assert torch.allclose(log_prob(flow, x, context), built.base.log_prob(z) + log_det, atol=2e-3)
    assert density.inputs[0].value.shape == inverter.inputs[0].value.shape == x.shape


def test_a_bounded_flow_says_where_it_is_defined():
    density, inverter, _ = adapter.entries(flows.NCSF(2, bins=3, **SMALL))
    ends = {"x": math.pi, "z": math.pi + 1e-5}
    for item in (density.inputs[0], inverter.inputs[0]):
        assert (item.low, item.high) == pytest.approx((-ends[item.name], ends[item.name]))
    assert adapter.entries(flows.NSF(2, **SMALL))[0].inputs[0].low is None


@torch.no_grad()
@pytest.mark.parametrize("kind", ["full", "diagonal", "spherical"])
@pytest.mark.parametrize("width", [0, 3])
def test_a_mixture_draws_the_component_that_the_choice_falls_on(kind, width):
    mixture = flows.GMM(2, width, components=3, covariance_type=kind)
    item = adapter.entries(mixture)[-1]
    context = [torch.randn(5, width)] if width else []
    built = mixture(*context)
    edges = built.logits.softmax(-1).cumsum(-1).expand(5, 3)
    parts = built.base if kind == "full" else built.base.base_dist
    zero = torch.zeros(5, 2)
    for component in range(3):
        for choice in (edges[:, component] - 1e-4, edges[:, component - 1] * bool(component)):
            drawn = sample_mixture(mixture, zero, choice[:, None], *context)
            assert torch.allclose(drawn, parts.loc[..., component, :].expand(5, 2), atol=1e-6)
    noise, choice = torch.randn(5, 2), torch.zeros(5, 1)
    drawn = sample_mixture(mixture, noise, choice, *context)
    spread = drawn - parts.loc[..., 0, :]
    if kind == "full":
        expected = (parts.scale_tril[..., 0, :, :] @ noise[..., None]).squeeze(-1)
    else:
        expected = parts.scale[..., 0, :] * noise
    assert torch.allclose(spread, expected, atol=1e-6)
    assert [entry.law for entry in item.inputs[:2]] == ["normal", "uniform"]


@torch.no_grad()
def test_a_base_that_reads_the_context_is_sampled_too():
    flow = flows.MAF(4, 3, **SMALL)
    flow.base = flows.GMM(4, 3, hidden_features=(8,))
    density, inverter, sampler = adapter.entries(flow)
    assert [item.name for item in sampler.inputs] == ["noise", "choice", "context"]
    noise, choice, context = (item.value for item in sampler.inputs)
    x = sample_mixture(flow, noise, choice, context)
    z = sample_mixture(flow.base, noise, choice, context)
    assert torch.allclose(inverse(flow, z, context)[0], x, atol=1e-5)
    assert density.inputs[0].value.shape == inverter.inputs[0].value.shape == x.shape


class Own(zuko.lazy.LazyDistribution):
    def __init__(self):
        super().__init__()
        self.network = torch.nn.Linear(5, 4)

    def forward(self, c=None):
        return zuko.distributions.DiagNormal(self.network(c), torch.ones(4))


def test_a_part_that_reads_a_context_of_unknown_size_is_refused():
    flow = flows.NICE(4, **SMALL)
    flow.base = Own()
    with pytest.raises(UsageError, match="how many features its context has") as raised:
        adapter.entries(flow)
    assert "entries" in raised.value.next_step


@torch.no_grad()
def test_a_trace_that_is_estimated_is_taken_exactly_and_the_flow_left_alone():
    flow = settled(flows.CNF(3, hidden_features=(8,), exact=False))
    (density, inverter, _), exact = (
        adapter.entries(flow),
        settled(flows.CNF(3, hidden_features=(8,))),
    )
    for entry in (density, inverter):
        value = entry.inputs[0].value
        assert torch.equal(entry.call(flow, value)[-1], entry.call(exact, value)[-1])
    assert not flow.transform.exact


@torch.no_grad()
@pytest.mark.parametrize(
    "make",
    [lambda: flows.NICE(4, **SMALL), lambda: flows.MAF(4, 3, **SMALL)],
    ids=["coupling", "conditional maf"],
)
def test_the_density_exports_and_agrees(make, tmp_path):
    flow = settled(make())
    entry = adapter.entries(flow)[0]
    result = export(flow, [entry], tmp_path)["log_prob"]
    assert result.outcome.ok, result.outcome.reason
    values = {item.name: item.value for item in entry.inputs}
    expected = log_prob(flow, *values.values())
    session = load(tmp_path)
    got = session.log_prob(**{name: value.numpy() for name, value in values.items()})
    assert torch.allclose(torch.from_numpy(got), expected, atol=1e-4)

import pytest
import torch

from toolkit.adapters.zuko import adapter, context_size, log_prob, sample
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


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: flows.NICE(4, **SMALL), ["log_prob", "sample"]),
        (lambda: flows.MAF(4, **SMALL), ["log_prob"]),
        (lambda: flows.MAF(4, passes=2, **SMALL), ["log_prob", "sample"]),
        (lambda: flows.NSF(4, **SMALL), ["log_prob"]),
        (lambda: flows.NSF(4, passes=2, **SMALL), ["log_prob", "sample"]),
        (lambda: flows.NAF(2, passes=2, **SMALL), ["log_prob"]),
        (lambda: flows.GF(2, transforms=2), ["log_prob"]),
        (lambda: flows.CNF(2, hidden_features=(8,)), ["log_prob"]),
    ],
    ids=["coupling", "maf", "maf passes=2", "spline", "coupled spline", "naf", "gf", "cnf"],
)
def test_samples_only_where_no_inverse_iterates(make, names):
    assert [entry.name for entry in adapter.entries(make())] == names


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
        lambda: flows.NCSF(4, 3, bins=3, passes=2, **SMALL),
    ],
    ids=["normal base", "uniform base"],
)
def test_sampling_inverts_the_density(make):
    flow = settled(make())
    density, sampler = adapter.entries(flow)
    noise, context = (item.value for item in sampler.inputs)
    x = sample(flow, noise, context)
    built = flow(context)
    z, log_det = built.transform.call_and_ladj(x)
    base = built.base.base_dist
    if sampler.inputs[0].law == "uniform":
        assert torch.allclose((z - base.low) / (base.high - base.low), noise, atol=1e-4)
    else:
        assert torch.allclose(z, noise, atol=1e-4)
    assert torch.equal(log_prob(flow, x, context), built.base.log_prob(z) + log_det)
    assert density.inputs[0].value.shape == x.shape


def test_a_base_that_depends_on_the_context_is_refused():
    flow = flows.NICE(4, 3, **SMALL)
    flow.base = zuko.mixtures.GMM(4, 3, components=2)
    with pytest.raises(UsageError, match="its base is conditional") as raised:
        adapter.entries(flow)
    assert "entries" in raised.value.next_step


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
    assert result.detail["strategy"] == "dynamo"
    values = {item.name: item.value for item in entry.inputs}
    expected = log_prob(flow, *values.values())
    session = load(tmp_path)
    got = session.log_prob(**{name: value.numpy() for name, value in values.items()})
    assert torch.allclose(torch.from_numpy(got), expected, atol=1e-4)

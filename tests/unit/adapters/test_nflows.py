import pytest
import torch
from torch import nn

from toolkit.adapters.nflows import adapter, context_size, inverse, sample
from toolkit.core.errors import UsageError
from toolkit.core.require import install_line
from toolkit.stages.export import export

pytest.importorskip("nflows", reason=install_line("flows"))
from nflows import distributions, flows, transforms
from nflows.nn.nets import ConvResidualNet
from nflows.transforms.nonlinearities import CauchyCDF

pytestmark = pytest.mark.filterwarnings(
    r"ignore:torch\.(triangular_solve|qr|lu) is deprecated:UserWarning"
)
EXAMPLES = adapter.examples()


@pytest.mark.parametrize(
    ("name", "width"),
    [
        ("coupling", 0),
        ("conditional coupling", 3),
        ("embedded context", 5),
        ("conditional base", 3),
        ("autoregressive", 0),
        ("linear", 0),
        ("image", 0),
    ],
)
def test_finds_the_context(name, width):
    assert context_size(EXAMPLES[name]()) == width


@pytest.mark.parametrize(
    ("name", "shape"), [("coupling", (4,)), ("image", (2, 4, 4)), ("embedded context", (4,))]
)
def test_examples_have_the_datas_shape_not_the_noises(name, shape):
    for entry in adapter.entries(EXAMPLES[name]()):
        if entry.name == "log_prob":
            assert entry.inputs[0].value.shape[1:] == shape


def test_entries_are_what_the_layers_and_the_base_allow():
    names = {key: [e.name for e in adapter.entries(make())] for key, make in EXAMPLES.items()}
    assert names.pop("no inverse") == ["log_prob"]
    assert names.pop("mixture base") == ["log_prob", "inverse"]
    assert all(value == ["log_prob", "inverse", "sample"] for value in names.values())


def test_a_layer_without_an_inverse_leaves_the_density():
    class OneWay(transforms.Transform):
        def forward(self, inputs, context=None):
            return inputs, inputs.new_zeros(len(inputs))

    flow = flows.Flow(OneWay(), distributions.StandardNormal([4]))
    assert [entry.name for entry in adapter.entries(flow)] == ["log_prob"]


UNIT, FREE = (0.0, 1.0), (None, None)


def between(*layers):
    return flows.Flow(transforms.CompositeTransform(layers), distributions.StandardNormal([4]))


@pytest.mark.parametrize(
    ("make", "below", "above"),
    [
        (lambda: between(transforms.Logit()), UNIT, FREE),
        (lambda: between(transforms.Sigmoid()), FREE, UNIT),
        (lambda: between(transforms.Tanh()), FREE, (-1.0, 1.0)),
        (lambda: between(transforms.InverseTransform(CauchyCDF())), UNIT, FREE),
        (lambda: between(transforms.PiecewiseLinearCDF([4])), UNIT, UNIT),
        (lambda: between(transforms.PiecewiseLinearCDF([4], tails="linear")), FREE, FREE),
        (
            lambda: between(
                transforms.ReversePermutation(4),
                transforms.MaskedPiecewiseLinearAutoregressiveTransform(3, 4, 8),
                transforms.Logit(),
            ),
            UNIT,
            FREE,
        ),
        (EXAMPLES["bounded spline"], UNIT, FREE),
        (EXAMPLES["coupling"], FREE, FREE),
    ],
    ids=["logit", "sigmoid", "tanh", "cauchy", "cdf", "tails", "reordered", "spline", "coupling"],
)
def test_a_bounded_flow_says_where_it_is_defined(make, below, above):
    density, inverter, *samplers = adapter.entries(make())
    assert (density.inputs[0].low, density.inputs[0].high) == below
    assert (inverter.inputs[0].low, inverter.inputs[0].high) == above
    assert bool(samplers) == (above == FREE)


@torch.no_grad()
@pytest.mark.parametrize("name", ["coupling", "autoregressive", "conditional base", "linear"])
def test_sampling_and_inverse_invert_the_density(name):
    flow = EXAMPLES[name]().eval()
    _, inverter, sampler = adapter.entries(flow)
    noise, *context = (item.value for item in sampler.inputs)
    z = flow.transform_to_noise(sample(flow, noise, *context), *context)
    if name == "conditional base":
        mean, log_scale = flow._distribution._compute_params(context[0])
        z = (z - mean) / log_scale.exp()
    assert torch.allclose(z, noise, atol=1e-4)
    latent = inverter.inputs[0].value
    x, log_det = inverse(flow, latent, *context)
    back, forward = flow._transform(x, flow._embedding_net(*context) if context else None)
    assert torch.allclose(back, latent, atol=1e-4)
    assert torch.allclose(forward, -log_det, atol=1e-4)


@torch.no_grad()
def test_a_cache_of_another_type_is_neither_read_nor_left_behind():
    layer = transforms.LULinear(4, using_cache=True)
    flow = flows.Flow(layer, distributions.StandardNormal([4])).eval()
    entries = adapter.entries(flow)
    assert layer.using_cache
    assert layer.cache.weight is None
    flow.log_prob(torch.randn(2, 4))
    flow.double()
    for entry in entries:
        results = entry.call(flow, entry.inputs[0].value.double())
        assert all(result.dtype == torch.float64 for result in results)


def convolutional():
    coupling = transforms.AffineCouplingTransform(
        torch.tensor([1, 0]), lambda a, b: ConvResidualNet(a, b, 4, context_channels=1)
    )
    return flows.Flow(coupling, distributions.StandardNormal([2, 4, 4]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: flows.Flow(transforms.IdentityTransform(), nn.Identity()), "how many features"),
        (convolutional, "the height and width of its context"),
        (
            lambda: flows.Flow(
                transforms.IdentityTransform(), distributions.StandardNormal([4]), nn.Flatten()
            ),
            "the shape of its context",
        ),
    ],
    ids=["unknown base", "image context", "opaque embedding"],
)
def test_what_cannot_be_read_is_an_error(make, message):
    with pytest.raises(UsageError, match=message) as raised:
        adapter.entries(make())
    assert "entries" in raised.value.next_step


@pytest.mark.parametrize("name", ["conditional coupling", "linear"])
def test_every_entry_exports(name, tmp_path):
    flow = EXAMPLES[name]()
    results = export(flow, adapter.entries(flow), tmp_path)
    assert {key: value.outcome.reason for key, value in results.items()} == {
        "log_prob": "",
        "inverse": "",
        "sample": "",
    }

import pytest
import torch
from torch import nn

from toolkit.adapters.freia import adapter, inverse, log_prob, mixture, sample
from toolkit.core.errors import UsageError
from toolkit.core.require import install_line

pytest.importorskip("FrEIA", reason=install_line("flows"))
import FrEIA.framework as ff
import FrEIA.modules as fm

EXAMPLES = adapter.examples()


def entries(flow):
    return {entry.name: entry for entry in adapter.entries(flow.eval())}


def values(entry):
    return [item.value for item in entry.inputs]


def dense(read, given):
    return nn.Sequential(nn.Linear(read, 8), nn.ReLU(), nn.Linear(8, given))


def sequence(*layers):
    flow = ff.SequenceINN(4)
    for kind, arguments in layers:
        flow.append(kind, **arguments)
    return flow


def two_sided():
    first, second = ff.InputNode(2), ff.InputNode(2)
    joined = ff.Node([first.out0, second.out0], fm.Concat, {})
    coupled = ff.Node(joined, fm.GLOWCouplingBlock, {"subnet_constructor": dense})
    apart = ff.Node(coupled, fm.Split, {"section_sizes": [1, 3]})
    ends = [ff.OutputNode(apart.out0), ff.OutputNode(apart.out1)]
    return ff.GraphINN([first, second, joined, coupled, apart, *ends])


@pytest.mark.filterwarnings("ignore:Using non-full backward hooks:FutureWarning")
@pytest.mark.parametrize("name", ["coupling", "conditional", "graph", "orthogonal", "reflections"])
def test_inverse_gives_its_own_log_determinant(name):
    flow = EXAMPLES[name]().double().eval()
    z, *given = (value.double() for value in values(entries(flow)["inverse"]))
    first = [value[:1] for value in given]
    jacobian = torch.autograd.functional.jacobian(
        lambda row: inverse(flow, row[None], *first)[0][0], z[0]
    )
    expected = torch.linalg.slogdet(jacobian)[1]
    assert torch.allclose(inverse(flow, z, *given)[1][0], expected, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("name", EXAMPLES)
def test_density_is_a_standard_normals_of_the_base_variable(name):
    flow = EXAMPLES[name]().eval()
    z, *given = values(entries(flow)["inverse"])
    x, log_det = inverse(flow, z, *given)
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(z).flatten(1).sum(1)
    assert torch.allclose(log_prob(flow, x, *given), normal - log_det, atol=1e-4)
    assert torch.equal(sample(flow, z, *given), x)


@torch.no_grad()
def test_inputs_and_outputs_of_a_graph_are_separate_tensors():
    flow = two_sided()
    made = entries(flow)
    assert [item.name for item in made["log_prob"].inputs] == ["x_0", "x_1"]
    assert [item.shape[1:] for item in made["inverse"].inputs] == [(1,), (3,)]
    assert list(made["inverse"].outputs) == ["x_0", "x_1", "log_det"]
    assert list(made["sample"].outputs) == ["x_0", "x_1"]
    x = values(made["log_prob"])
    z, _ = flow(x)
    for back, there in zip(inverse(flow, *z)[:2], x, strict=True):
        assert torch.allclose(back, there, atol=1e-5)


def test_every_condition_is_an_input():
    given = {"subnet_constructor": dense, "cond_shape": (3,)}
    flow = sequence(
        (fm.NICECouplingBlock, {**given, "cond": 1}),
        (fm.PermuteRandom, {}),
        (fm.NICECouplingBlock, {**given, "cond": 0}),
    )
    names = [item.name for item in entries(flow)["log_prob"].inputs]
    assert names == ["x", "context_0", "context_1"]


def test_a_condition_that_no_layer_reads_has_no_shape():
    given = {"subnet_constructor": dense, "cond_shape": (3,)}
    flow = sequence((fm.NICECouplingBlock, {**given, "cond": 1}))
    with pytest.raises(UsageError, match="every condition"):
        adapter.entries(flow)


def test_a_layer_that_waits_for_data_is_refused_by_name_and_left_alone():
    flow = sequence((fm.PermuteRandom, {}), (fm.ActNorm, {}))
    with pytest.raises(UsageError, match="first batch") as raised:
        adapter.entries(flow)
    assert raised.value.where == "module_list.1"
    assert flow.module_list[1].init_on_next_batch


def test_a_last_sigmoid_bounds_the_base_and_leaves_no_sampler():
    made = entries(sequence((fm.PermuteRandom, {}), (fm.InvertibleSigmoid, {})))
    assert list(made) == ["log_prob", "inverse"]
    z = made["inverse"].inputs[0]
    assert 0 < z.low < z.high < 1
    assert z.value.min() > 0


def test_a_mixtures_component_must_come_from_the_user():
    start, index = ff.InputNode(4), ff.ConditionNode()
    rest = [ff.ConditionNode(3), ff.ConditionNode(3, 4), ff.ConditionNode(3, 10)]
    mixed = ff.Node(start, fm.GaussianMixtureModel, {}, conditions=[*rest, index])
    flow = ff.GraphINN([start, *rest, index, mixed, ff.OutputNode(mixed)])
    with pytest.raises(UsageError, match="component"):
        adapter.entries(flow)


def test_the_mixtures_factors_do_not_depend_on_the_batchs_size():
    (layer, x, c), arguments = adapter.replacements()[0].examples()["components"]
    whole, log_det = mixture(layer, x, c, **arguments)
    one, first = mixture(layer, [x[0][:1]], [part[:1] for part in c], **arguments)
    assert torch.allclose(one[0], whole[0][:1])
    assert torch.allclose(first, log_det[:1])


@torch.no_grad()
def test_nothing_that_a_layer_notes_stays_in_the_model():
    arguments = {"subnet_constructor": dense, "learned_householder_permutation": 2}
    flow = sequence((fm.AllInOneBlock, arguments)).eval()
    x = torch.randn(5, 4)
    log_prob(flow, x)
    assert flow.module_list[0].w_perm is None
    assert flow.module_list[0].w_perm_inv is None


@torch.no_grad()
def test_a_residual_layer_runs_without_gradients_and_asks_none_of_its_input():
    flow = sequence((fm.IResNetLayer, {}), (fm.IResNetLayer, {})).eval()
    for layer in flow:
        layer.lipschitz_correction()
    x = torch.randn(5, 4)
    assert not log_prob(flow, x).requires_grad
    assert not x.requires_grad


@torch.no_grad()
def test_sampling_a_residual_layer_draws_no_noise_of_its_own():
    flow = sequence((fm.IResNetLayer, {})).eval()
    state = torch.get_rng_state()
    assert sample(flow, torch.ones(2, 4)).shape == (2, 4)
    assert torch.equal(torch.get_rng_state(), state)
    inverse(flow, torch.ones(2, 4))
    assert not torch.equal(torch.get_rng_state(), state)

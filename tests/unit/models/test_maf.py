from __future__ import annotations

import onnx
import pytest
import torch

import toolkit
from toolkit.core.errors import UsageError
from toolkit.core.folder import RunFolder
from toolkit.core.recipe import load_recipe
from toolkit.data.tabular import dataset
from toolkit.models.iaf import IAF
from toolkit.models.maf import MAF
from toolkit.stages import train

SEQUENTIAL = {MAF: "inverse", IAF: "log_prob"}


@pytest.fixture(scope="module", params=SEQUENTIAL, ids=lambda model: model.__name__)
def graphs(request, tmp_path_factory):
    """Return the graphs of two lengths of a vector, by entry, and which are sequential."""
    found = {}
    for features in (44, 50):
        torch.manual_seed(0)
        model = request.param(features=features, depth=1, hidden=50, layers=1)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        entries = [entry for entry in model.entries() if entry.name != "sample"]
        result = toolkit.export(model.eval(), entries, tmp_path_factory.mktemp(str(features)))
        for name, item in result.items():
            assert item.outcome.status == "ok", item.outcome.reason
            found.setdefault(name, []).append(onnx.load(item.path).graph)
    return found, SEQUENTIAL[request.param]


def loops(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    return [node for node in graph.node if node.op_type in ("Loop", "Scan")]


def nodes(graph: onnx.GraphProto) -> int:
    bodies = [attribute.g for node in graph.node for attribute in node.attribute if attribute.g]
    return len(graph.node) + sum(map(nodes, bodies))


def test_one_direction_is_one_pass_and_the_other_a_loop(graphs):
    found, sequential = graphs
    for name, pair in found.items():
        for graph in pair:
            assert len(loops(graph)) == (name == sequential)


def test_graphs_do_not_grow_with_the_vector(graphs):
    found, _ = graphs
    for short, long in found.values():
        assert nodes(short) == nodes(long)


def test_two_transforms_let_every_feature_reach_every_other():
    torch.manual_seed(0)
    for kind in SEQUENTIAL:
        model = kind(features=4, depth=2, hidden=16).double()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
        x = torch.randn(32, 4, dtype=torch.float64)
        jacobian = torch.func.vmap(torch.func.jacrev(lambda v, m=model: m(v[None])[0][0]))(x)
        assert (jacobian.abs().amax(0) > 0).all()


def test_graphs_of_wide_networks_solve_and_others_repeat_passes():
    with torch.device("meta"):
        wide = MAF(features=8, hidden=256), IAF(features=8, hidden=256)
        narrow = MAF(features=26, hidden=64)
    solved = [{e.name for e in model.entries() if e.reference is not None} for model in wide]
    assert solved == [{"inverse", "sample"}, {"log_prob"}]
    assert not any(entry.reference for entry in narrow.entries())


def test_too_few_hidden_units_are_refused():
    with pytest.raises(UsageError, match="hidden"):
        MAF(features=26, hidden=16)


@pytest.mark.parametrize(("kind", "transforms", "hidden"), [(MAF, 10, 512), (IAF, 8, 1920)])
def test_the_full_size_is_the_papers(kind, transforms, hidden):
    with torch.device("meta"):
        model = kind(features=63, size="full")
    assert len(model.transform) == transforms
    weights = [weight for weight in model.parameters() if weight.shape == (hidden, hidden)]
    assert len(weights) == transforms


@pytest.mark.slow
def test_the_full_size_exports(tmp_path):
    model = MAF(features=63, size="full").eval()
    result = toolkit.export(model, model.entries(), tmp_path)
    assert all(item.outcome.status == "ok" for item in result.values())


@pytest.mark.slow
@pytest.mark.parametrize(("name", "nats"), [("maf", 15.8), ("iaf", 15.0)])
def test_the_recipe_reaches_its_nats_far_below_a_normals(name, nats, tmp_path):
    data = dataset(table="breast_cancer")
    x = data.train["x"].double()
    normal = torch.distributions.MultivariateNormal(x.mean(0), torch.cov(x.T, correction=0))
    metrics = train.run(load_recipe(name), RunFolder(tmp_path)).detail["metrics"]
    assert metrics["test_loss"] < nats < -normal.log_prob(data.test["x"].double()).mean() - 7

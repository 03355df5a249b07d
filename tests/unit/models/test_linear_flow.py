from __future__ import annotations

import onnx
import pytest
import torch

import toolkit
from toolkit.core.folder import RunFolder
from toolkit.core.recipe import load_recipe
from toolkit.data.tabular import dataset
from toolkit.models.linear_flow import LinearFlow
from toolkit.stages import train
from toolkit.stages._model import load_model

ELEMENTWISE = {"Add", "Expand", "Mul", "Neg", "ReduceSum", "Reshape", "Shape"}


def test_no_linear_algebra_on_the_weights_reaches_a_graph(tmp_path):
    torch.manual_seed(0)
    model = LinearFlow(features=5).eval()
    result = toolkit.export(model, model.entries(), tmp_path)
    for item in result.values():
        operators = [node.op_type for node in onnx.load(item.path).graph.node]
        products = [name for name in operators if name in ("Gemm", "MatMul")]
        assert len(products) == 1
        assert set(operators) - set(products) <= ELEMENTWISE


def test_the_covariance_is_that_of_the_inverses_matrix():
    torch.manual_seed(0)
    model = LinearFlow(features=3).double()
    torch.nn.init.normal_(model.transform.weight)
    torch.nn.init.normal_(model.transform.bias)
    inverse = torch.linalg.inv(model.transform.weight)
    normal = torch.distributions.MultivariateNormal(
        -inverse @ model.transform.bias, inverse @ inverse.T
    )
    x = torch.randn(8, 3, dtype=torch.float64)
    torch.testing.assert_close(model.log_prob(x), normal.log_prob(x))


@pytest.mark.slow
def test_the_recipe_reaches_the_closed_form_of_the_normal(tmp_path):
    recipe, folder = load_recipe("linear_flow"), RunFolder(tmp_path)
    train.run(recipe, folder)
    model = load_model(recipe, folder).double()
    data = dataset(table="wine")
    known, held_out = data.train["x"].double(), data.test["x"].double()
    normal = torch.distributions.MultivariateNormal(known.mean(0), torch.cov(known.T, correction=0))
    for x in (known, held_out):
        reached, best = model.log_prob(x).mean(), normal.log_prob(x).mean()
        torch.testing.assert_close(reached, best, rtol=0, atol=0.01)

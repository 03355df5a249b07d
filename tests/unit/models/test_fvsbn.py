from __future__ import annotations

import pytest
import torch

from toolkit.core.folder import RunFolder
from toolkit.core.recipe import load_recipe
from toolkit.models.fvsbn import FVSBN
from toolkit.stages import train


def fvsbn(features: int = 12) -> FVSBN:
    torch.manual_seed(0)
    model = FVSBN(features=features).double().eval()
    with torch.no_grad():
        model.linear.weight.copy_(torch.randn(features, features))
    return model


def test_the_logits_jacobian_is_strictly_triangular_and_full_below():
    model = fvsbn()
    x = torch.randint(2, (12,)).double()
    jacobian = torch.autograd.functional.jacobian(lambda v: model(v[None])[0, :, 1], x)
    assert torch.equal(jacobian, model.linear.masked_weight())
    assert (jacobian.triu() == 0).all()
    assert (jacobian.tril(-1) != 0).sum() == 12 * 11 // 2


def test_weights_on_and_above_the_diagonal_get_no_gradient():
    model = fvsbn()
    model.log_prob(torch.randint(2, (8, 12)).double()).sum().backward()
    assert (model.linear.weight.grad.triu() == 0).all()
    assert (model.linear.weight.grad.tril(-1) != 0).any()


@torch.no_grad()
def test_probabilities_of_all_vectors_add_up_to_one():
    model = fvsbn(10)
    vectors = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 10).double()
    torch.testing.assert_close(model.log_prob(vectors).exp().sum(), torch.ones(()).double())


@torch.no_grad()
def test_a_parallel_pass_gives_the_samples_back():
    model = fvsbn()
    noise = torch.randn(12, 5, 2, dtype=torch.float64)
    bits = model.sample(noise)
    assert torch.equal((model(bits.double()) + noise.transpose(0, 1)).argmax(2), bits)


@pytest.mark.slow
def test_the_recipe_reaches_its_bits_per_dimension(tmp_path):
    metrics = train.run(load_recipe("fvsbn"), RunFolder(tmp_path)).detail["metrics"]
    assert metrics["bits_per_dim"] < 0.44

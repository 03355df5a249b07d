"""A model is copied and put in evaluation mode, also where torch alone refuses."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from toolkit.capture.preserve import copied, evaluating, preserved

X = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))


def pruned() -> nn.Module:
    return prune.l1_unstructured(nn.Linear(4, 3), "weight", 0.5)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize(
    "make",
    [
        pruned,
        lambda: nn.utils.weight_norm(nn.Linear(4, 3)),
        lambda: nn.utils.spectral_norm(nn.Linear(4, 3)),
    ],
)
def test_a_tensor_with_a_history_is_copied_as_its_numbers(make) -> None:
    model = make().eval()
    model(X)
    copy = copied(model)
    assert torch.equal(copy(X), model(X))
    assert not {p.data_ptr() for p in copy.parameters()} & {
        p.data_ptr() for p in model.parameters()
    }


def test_a_tied_tensor_with_a_history_stays_tied() -> None:
    model = nn.Identity()
    model.one = model.two = torch.ones(2, requires_grad=True) * 2
    copy = copied(model)
    assert copy.one is copy.two
    assert copy.one is not model.one


def exported() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout()).eval()
    return torch.export.export(model, (X,)).module()


def test_an_exported_program_needs_no_evaluation_mode() -> None:
    model = nn.Sequential(nn.Dropout(), exported(), nn.Dropout())
    with preserved(model) as inside:
        assert not any(module.training for module in (inside[0], inside[2]))
        inside(X)
    assert model[0].training
    assert evaluating(exported())(X).shape == X.shape

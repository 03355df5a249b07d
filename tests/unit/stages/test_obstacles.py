from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from toolkit.core.recipe import parse_recipe
from toolkit.stages._obstacles import FOLDS, NO_LOWERING, STOPS, forecast

HERE = f"stages/{Path(__file__).name}:"


class Digamma(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.digamma(x)


class Inverted(nn.Module):
    """The inverse of a parameter, and below it an operator on the input that nothing lowers."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(4))
        self.inner = Digamma()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ torch.linalg.inv(self.weight)

    def deep(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(self(x))


class Guarded(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


class Broken(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(3, 5)


def expect(model: type[nn.Module], *entries: str):
    """Return the forecasts of a model of this file."""
    table = {
        "model": {"name": f"{__name__}:{model.__name__}"},
        "export": {"inputs": ["x:float32[batch,4]"], "entries": list(entries)},
    }
    return forecast(parse_recipe(table, where="test"))


def test_linear_algebra_on_parameters_folds():
    (found,) = expect(Inverted, "forward")
    assert found.exports
    assert found.folded > 0
    assert found.constants == 1
    assert [(item.kind, item.what) for item in found.obstacles] == [(FOLDS, "aten.linalg_inv_ex")]


def test_operator_without_lowering_is_named_with_its_place():
    found = {item.entry: item for item in expect(Inverted, "forward", "deep")}
    assert found["forward"].exports
    assert not found["deep"].exports
    obstacle = next(item for item in found["deep"].obstacles if item.kind == NO_LOWERING)
    assert (obstacle.what, obstacle.module) == ("aten.digamma", "inner")
    assert obstacle.source.startswith(HERE)
    assert obstacle.source.endswith("in forward")


def test_data_dependent_branch_is_reported_as_torch_says_it():
    (found,) = expect(Guarded)
    (obstacle,) = found.obstacles
    assert obstacle.kind == STOPS
    assert "data-dependent" in obstacle.what
    assert obstacle.source.startswith(HERE)
    assert not found.exports


def test_entry_that_fails_in_eager_is_reported():
    (found,) = expect(Broken)
    (obstacle,) = found.obstacles
    assert "fails in eager" in obstacle.what
    assert not found.exports

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from toolkit.core.recipe import parse_recipe
from toolkit.stages._forecast import FAILS, FOLDS, LOWERED, TRANSLATED, forecast

HERE = f"stages/{Path(__file__).name}:"


class Unknown(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.special.airy_ai(x)


class Inverted(nn.Module):
    """The inverse of a parameter, and below it an operator on the input that nothing lowers."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(4))
        self.inner = Unknown()

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
    assert (found.exports, found.strategy, found.because) == (True, "dynamo", "")
    assert found.folded > 0
    assert found.constants == 1
    handled = {item.name: item.how for item in found.operators}
    assert handled == {"aten.linalg_inv_ex": FOLDS, "aten.matmul": TRANSLATED}


def test_operator_without_lowering_comes_first_with_its_place():
    found = {item.entry: item for item in expect(Inverted, "forward", "deep")}
    assert found["forward"].exports
    assert not found["deep"].exports
    first = found["deep"].operators[0]
    assert (first.name, first.how, first.module) == ("aten.special_airy_ai", FAILS, "inner")
    assert first.source.startswith(HERE)
    assert first.source.endswith("in forward")


class Sorted(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.zeros_like(x)
        inside = x > 0
        if inside.any():
            y[inside] = torch.erfinv(x[inside].clamp(max=0.9))
        return y


def test_a_guard_is_listed_with_how_it_is_proven():
    (found,) = expect(Sorted)
    assert (found.exports, found.strategy) == (True, "record")
    assert "Python reads a value" in found.because
    (guard,) = found.guards
    assert (guard.status, guard.seen) == ("both sides", "True")
    assert {item.how for item in found.operators if "erfinv" in item.name} == {LOWERED}


def test_a_branch_on_the_whole_batch_stops():
    (found,) = expect(Guarded)
    assert not found.exports
    assert "branch" in found.stopped or "path" in found.stopped
    assert "test_forecast.py" in found.where


class Drawing(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.randn_like(x)


def test_random_numbers_are_listed_as_the_inputs_they_become():
    (found,) = expect(Drawing)
    assert found.noise == ("noise_0",)
    assert found.exports


def test_entry_that_fails_in_eager_is_reported():
    (found,) = expect(Broken)
    assert "fails in eager" in found.stopped
    assert not found.exports

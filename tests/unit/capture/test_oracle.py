"""The oracle answers in float64, also where the model asks for float32."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from torch import nn

from toolkit.capture.oracle import Oracle, in_double
from toolkit.capture.preserve import copied
from toolkit.core.entry import Entry, Input
from toolkit.core.errors import ExportError

X = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
ENTRY = Entry("forward", inputs=[Input("x", X, ("batch", None))], outputs=["y"])


class Casting(nn.Module):
    """Casts to float32 inside, and makes tensors of the default element type."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x / 3).float() * torch.full((4,), 1 / 3) + torch.zeros(4)


def test_answers_in_both_precisions() -> None:
    case = Oracle(nn.Linear(4, 2).eval(), ENTRY, ["y"]).answer("parity", "real", {"x": X})
    assert case.oracle["y"].dtype == np.float64
    assert case.eager["y"].dtype == np.float32
    assert 0 < np.abs(case.oracle["y"] - case.eager["y"]).max() < 1e-6


def test_a_cast_inside_does_not_lower_the_oracle() -> None:
    case = Oracle(Casting(), ENTRY, ["y"]).answer("parity", "real", {"x": X})
    wanted = X.double().numpy() / 3 * (1 / 3)
    np.testing.assert_allclose(case.oracle["y"], wanted, rtol=1e-15)


def test_the_default_element_type_is_put_back() -> None:
    Oracle(Casting(), ENTRY, ["y"]).answer("parity", "real", {"x": X})
    assert torch.get_default_dtype() is torch.float32


def test_the_models_own_parameters_stay_in_float32() -> None:
    model = nn.Linear(4, 2)
    Oracle(model, ENTRY, ["y"])
    assert model.weight.dtype is torch.float32


def test_the_same_samples_are_answered_once_and_changed_ones_anew() -> None:
    calls = []

    def counted(_: nn.Module, x: torch.Tensor) -> torch.Tensor:
        calls.append(x.dtype)
        return 2 * x

    given = Entry("f", counted, [Input("x", X, ("batch", None))], ["y"])
    oracle = Oracle(nn.Identity(), given, ["y"])
    x = X.clone()
    oracle.answer("parity", "real", {"x": x})
    once = len(calls)
    oracle.exact(given, [x])
    oracle.answer("parity", "real", {"x": x})
    assert len(calls) == once
    x += 1
    assert torch.equal(oracle.eager(given, [x])[0], 2 * x)
    assert torch.equal(oracle.eager(given, [x[:1]])[0], 2 * x[:1])
    for seed in range(20):
        other = torch.full_like(x, seed)
        assert torch.equal(oracle.eager(given, [other])[0], 2 * other)


def test_neighbours_show_how_far_rounding_carries() -> None:
    def chaotic(_: nn.Module, x: torch.Tensor) -> torch.Tensor:
        for _step in range(14):
            x = 3.99 * x * (1 - x)
        return x

    x = torch.rand(256, 4, generator=torch.Generator().manual_seed(0))
    given = Entry("f", chaotic, [Input("x", x, ("batch", None))], ["y"])
    alone = Oracle(nn.Identity(), given, ["y"]).answer("c", "n", {"x": x})
    asked = Oracle(nn.Identity(), given, ["y"], neighbours=3).answer("c", "n", {"x": x})
    errors = [np.abs(case.eager["y"] - case.oracle["y"]) for case in (alone, asked)]
    assert (errors[1] >= errors[0]).all()
    assert np.median(errors[1]) > 1.5 * np.median(errors[0])
    assert np.median(errors[1]) < 20 * np.median(errors[0])
    for case in (alone, asked):
        assert case.eager["y"].dtype == np.float32
        np.testing.assert_array_equal(case.oracle["y"], alone.oracle["y"])


def test_neighbours_show_roundings_that_no_rounding_of_the_input_moves() -> None:
    def saturated(_: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return torch.log1p(-torch.sigmoid(x))

    x = torch.full((512, 1), 9.0) + torch.linspace(0, 1e-2, 512)[:, None]
    given = Entry("f", saturated, [Input("x", x, ("batch", None))], ["y"])
    alone = Oracle(nn.Identity(), given, ["y"]).answer("c", "n", {"x": x})
    asked = Oracle(nn.Identity(), given, ["y"], neighbours=3).answer("c", "n", {"x": x})
    errors = [np.abs(case.eager["y"] - case.oracle["y"]) for case in (alone, asked)]
    assert np.quantile(errors[1], 0.1) > 4 * np.quantile(errors[0], 0.1)
    assert errors[1].max() < 3 * errors[0].max()


def test_neighbours_stay_inside_the_domain() -> None:
    def rooted(_: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return torch.sqrt(1 - x)

    x = torch.ones(8, 1)
    given = Entry("f", rooted, [Input("x", x, ("batch", None), low=0.0, high=1.0)], ["y"])
    asked = Oracle(nn.Identity(), given, ["y"], neighbours=3).answer("c", "n", {"x": x})
    assert np.isfinite(asked.eager["y"]).all()


def test_operations_are_those_of_one_sample() -> None:
    # With zuko loaded, its solvers are looked for, by a call of the model.
    pytest.importorskip("zuko")
    assert Oracle(nn.Linear(4, 2).eval(), ENTRY, ["y"]).operations == 2 * 4 * 2


class _FromAStart(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.zeros(4))
        self.layer = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :2] + self.layer(self.start.expand(len(x), -1))


def test_operations_are_counted_where_a_layer_reads_a_parameter() -> None:
    model = _FromAStart().eval()
    assert Oracle(model, ENTRY, ["y"]).operations == 2 * 4 * 2


class _Slope(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            x = x.requires_grad_(requires_grad=True)
            (slope,) = torch.autograd.grad(self.layer(x).sum(), x)
        return slope


def test_operations_are_counted_where_a_model_differentiates() -> None:
    assert Oracle(_Slope().eval(), ENTRY, ["y"]).operations == 2 * 2 * 4 * 2


class _Plain(nn.Module):
    """Holds layers and tensors where `nn.Module` does not look for them."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = [nn.Linear(4, 4), nn.GRU(4, 4)]
        self.held = {"table": torch.rand(4, 4)}
        self.phase = nn.Parameter(torch.polar(torch.ones(4), torch.rand(4)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        table = torch.exp(self.held["table"] / 3)
        hidden, _ = self.layers[1](self.layers[0](x))
        return (hidden @ table * self.phase).real


def test_what_plain_attributes_hold_is_part_of_the_model() -> None:
    torch.manual_seed(0)
    model = _Plain().eval()
    case = Oracle(model, ENTRY, ["y"]).answer("parity", "real", {"x": X})
    for layer in model.layers:
        assert {p.dtype for p in layer.parameters()} == {torch.float32}
        layer.double()
    model.held["table"] = model.held["table"].double()
    model.phase.data = model.phase.data.to(torch.complex128)
    wanted = model(X.double()).detach().numpy()
    np.testing.assert_allclose(case.oracle["y"], wanted, rtol=1e-14)


TABLE = torch.rand(4, 4, generator=torch.Generator().manual_seed(0))


def _product(_: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return torch.cat([x @ TABLE, x, TABLE[:3].T[0].expand(len(x), -1)], 1)


def _filled(_: nn.Module, x: torch.Tensor) -> torch.Tensor:
    rows = torch.zeros_like(x)
    rows[x > 0] = TABLE[0, 0]
    return rows.addmm_(x, TABLE)


@pytest.mark.parametrize("call", [_product, _filled])
def test_a_tensor_from_outside_the_model_is_read_in_float64(call, monkeypatch) -> None:
    given = Entry("f", call, [Input("x", X, ("batch", None))], ["y"])
    case = Oracle(nn.Identity(), given, ["y"]).answer("parity", "real", {"x": X})
    monkeypatch.setitem(globals(), "TABLE", TABLE.double())
    wanted = call(nn.Identity(), X.double()).numpy()
    np.testing.assert_allclose(case.oracle["y"], wanted, rtol=1e-14)


def test_a_view_of_a_tensor_of_lower_precision_writes_to_that_tensor() -> None:
    table = torch.zeros(4, 2)
    with in_double():
        table[1].add_(torch.ones(2))
    assert table.dtype is torch.float32
    assert table.sum() == 2


def test_a_model_of_lower_precision_is_copied_in_float64_too() -> None:
    with in_double():
        copy = copied(nn.BatchNorm1d(4)).double()
    assert copy.running_mean.dtype is torch.float64


def test_a_model_that_cannot_be_copied_is_refused() -> None:
    model = nn.Linear(4, 2)
    model.lock = threading.Lock()
    with pytest.raises(ExportError, match="cannot be copied: TypeError") as caught:
        Oracle(model, ENTRY, ["y"])
    assert caught.value.where == "Linear"


def test_bfloat16_is_refused_with_the_way_out() -> None:
    model, x = nn.Linear(4, 2).bfloat16(), X.bfloat16()
    given = Entry("forward", inputs=[Input("x", x, ("batch", None))], outputs=["y"])
    with pytest.raises(ExportError, match="bfloat16") as caught:
        Oracle(model, given, ["y"]).answer("parity", "real", {"x": x})
    assert caught.value.where == "x"
    assert "model.float()" in caught.value.next_step

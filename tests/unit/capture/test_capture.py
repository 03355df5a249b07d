"""Capture: strategies, their reasons, dynamic dimensions, the model left as it was."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir as ir
import pytest
import torch
from torch import nn
from torch.distributions import Distribution, Normal

from toolkit.capture.capture import capture
from toolkit.capture.dynamo import Form
from toolkit.core.entry import Entry, Input
from toolkit.core.errors import ExportError, UsageError
from toolkit.core.signature import Signature

X = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))


def entry(call: object = "forward", example: torch.Tensor = X) -> Entry:
    return Entry("forward", call, [Input("x", example, ("batch", None))], ["y"])


class InPlaceMask(nn.Module):
    """The usual PixelCNN idiom, which the dynamo exporter refuses."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.register_buffer("mask", torch.tril(torch.ones(4, 4)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.linear.weight.data *= self.mask
        return self.linear(x)


class Baked(nn.Module):
    """Reads the batch size as a Python number."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.arange(int(x.shape[0]) * 4).reshape(3, 4)


class Airy(nn.Module):
    """An operator of the input that no exporter knows."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.special.airy_ai(x)


class Dropping(nn.Module):
    """Has a training flag, a buffer that training changes, and draws random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.drop(self.norm(x))


def density(_: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return Normal(torch.zeros(4), torch.ones(4)).log_prob(x).sum(1)


def test_dimensions_have_the_names_that_were_asked_for(tmp_path: Path) -> None:
    captured = capture(nn.Linear(4, 2), entry(), tmp_path / "m.onnx")
    assert captured.signature.inputs[0].dims == ("batch", 4)
    assert captured.signature.outputs[0].dims == ("batch", 2)
    value = onnx.load(tmp_path / "m.onnx").graph.input[0]
    assert value.type.tensor_type.shape.dim[0].dim_param == "batch"


def test_an_in_place_mask_goes_to_the_second_strategy_with_the_reason(tmp_path: Path) -> None:
    captured = capture(InPlaceMask(), entry(), tmp_path / "m.onnx")
    first, second, third = captured.attempts
    assert (first.strategy, first.status) == ("dynamo", "failed")
    assert first.reason
    assert (captured.strategy, second.status) == ("record", "ok")
    assert (third.strategy, third.status) == ("torchscript", "skipped")


def test_a_graph_that_the_judge_refuses_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="3 strategies failed") as caught:
        capture(nn.Linear(4, 2), entry(), tmp_path / "m.onnx", judge=lambda *_: "parity: 9 > 1")
    assert "parity: 9 > 1" in caught.value.where
    assert list(tmp_path.iterdir()) == []


def test_a_baked_batch_is_an_error_not_a_static_graph(tmp_path: Path) -> None:
    with pytest.raises(ExportError) as caught:
        capture(Baked(), entry(), tmp_path / "m.onnx", strategies=["dynamo"])
    assert "dynamo" in caught.value.where
    assert not (tmp_path / "m.onnx").exists()


def test_a_dynamic_export_after_a_static_one_stays_dynamic(tmp_path: Path) -> None:
    model = nn.Linear(4, 2)
    static = capture(model, entry(), tmp_path / "s.onnx", form=Form(static=True))
    assert static.signature.inputs[0].dims == (3, 4)
    assert capture(model, entry(), tmp_path / "d.onnx").signature.inputs[0].dims == ("batch", 4)


def test_a_dimension_of_a_multiple_keeps_its_name(tmp_path: Path) -> None:
    whole = Entry(
        "forward",
        inputs=[Input("x", torch.zeros(2, 1, 8), ("batch", None, "time"))],
        outputs=["y"],
        ranges={"time": (4, 8, 32, 4)},
    )
    captured = capture(nn.AvgPool1d(2), whole, tmp_path / "m.onnx", strategies=["dynamo"])
    assert captured.signature.inputs[0].dims == ("batch", 1, "time")
    assert captured.signature.outputs[0].dims == ("batch", 1, "2*time_by_4")


def test_an_unknown_operator_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExportError) as caught:
        capture(Airy(), entry(), tmp_path / "m.onnx")
    assert "airy_ai" in caught.value.where
    assert "test_capture.py" in caught.value.where


def test_an_example_of_batch_one_is_not_baked_in(tmp_path: Path) -> None:
    captured = capture(nn.Linear(4, 2), entry(example=X[:1]), tmp_path / "m.onnx")
    assert captured.signature.inputs[0].dims == ("batch", 4)


def test_validation_of_distributions_is_off_during_capture_only(tmp_path: Path) -> None:
    before = Distribution._validate_args
    captured = capture(nn.Identity(), entry(density), tmp_path / "m.onnx")
    assert captured.strategy == "dynamo"
    assert Distribution._validate_args == before


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_as_it_was(tmp_path: Path, fails: bool) -> None:
    model = Dropping().train()
    model.drop.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    random_state = torch.get_rng_state()
    judge = (lambda *_: "no") if fails else None
    if fails:
        with pytest.raises(ExportError):
            capture(model, entry(), tmp_path / "m.onnx", judge=judge)
    else:
        capture(model, entry(), tmp_path / "m.onnx", judge=judge)
    assert (model.training, model.norm.training, model.drop.training) == (True, True, False)
    assert all(torch.equal(before[name], now) for name, now in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)


def test_exporting_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        capture(Dropping(), entry(), tmp_path / f"{name}.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_no_path_of_this_machine_is_in_the_file(tmp_path: Path) -> None:
    capture(Dropping(), entry(), tmp_path / "m.onnx")
    assert str(Path(__file__).parents[3]).encode() not in (tmp_path / "m.onnx").read_bytes()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (Entry("f", "missing", [Input("x", X, ("batch", None))]), "no method 'missing'"),
        (Entry("f", "forward", [Input("x", X[:, :2], ("batch", None))]), "fails in eager"),
        (Entry("f", "forward", [Input("x", X, ("batch", None))], ["a", "b"]), "names 2 outputs"),
    ],
)
def test_a_wrong_entry_says_what_is_wrong(tmp_path: Path, wrong: Entry, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        capture(nn.Linear(4, 2), wrong, tmp_path / "m.onnx")


@pytest.mark.parametrize(("refused", "operator"), [(False, "Sigmoid"), (True, "Exp")])
def test_a_runtimes_own_operator_gives_way_where_the_judge_doubts_it(
    tmp_path: Path, refused: bool, operator: str
) -> None:
    asked: list[bool] = []

    def judge(path: Path, signature: Signature, can_yield: bool) -> str:
        asked.append(can_yield)
        return "parity" if can_yield and refused else ""

    captured = capture(nn.Sigmoid(), entry(), tmp_path / "m.onnx", judge=judge)
    assert asked == ([True, False] if refused else [True])
    for graph in (captured.made.graph, ir.load(tmp_path / "m.onnx")):
        assert operator in {node.op_type for node in graph.graph}
    assert captured.attempts[0].status == "ok"

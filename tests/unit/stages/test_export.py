"""Export: entries of recipes and of a user's own model, golden cases, failures."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import toolkit
from toolkit.capture.oracle import Oracle
from toolkit.core.case import load_cases
from toolkit.core.errors import ExportError, UsageError
from toolkit.core.folder import RunFolder
from toolkit.core.recipe import parse_recipe
from toolkit.stages import _open, export
from toolkit.stages._entries import entries_of
from toolkit.stages.export import export_entries

FORBIDDEN = {"Det", "Inverse", "Einsum"}


class Affine(nn.Module):
    """A flow of one line, in the style of a user who does not know the toolkit."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.eye(4) + 0.1 * torch.ones(4, 4))

    def log_prob(self, x: torch.Tensor) -> torch.Tensor:
        z = x @ torch.linalg.inv(self.matrix).T
        return -0.5 * (z**2).sum(1) - torch.linalg.slogdet(self.matrix)[1]

    def both(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"twice": 2 * x, "sign": torch.sign(x)}


def batch(rows: int = 3) -> torch.Tensor:
    return torch.randn(rows, 4, generator=torch.Generator().manual_seed(0))


def test_python_interface_exports_verifies_and_loads(tmp_path: Path) -> None:
    model = Affine()
    x = toolkit.Input("x", batch(), dims=("batch", None))
    entries = [
        toolkit.Entry("log_prob", call="log_prob", inputs=[x]),
        toolkit.Entry("shifted", call=lambda m, x: m.log_prob(x + 1), inputs=[x]),
        toolkit.Entry("both", call="both", inputs=[x]),
    ]
    result = toolkit.export(model, entries, tmp_path / "run")
    assert {name: item.outcome.status for name, item in result.items()} == {
        "log_prob": "ok",
        "shifted": "ok",
        "both": "ok",
    }
    assert model.training
    assert [spec.name for spec in result["both"].signature.outputs] == ["twice", "sign"]
    onnx.checker.check_model(onnx.load(result["log_prob"].path), full_check=True)

    findings = toolkit.verify(tmp_path / "run", backends=["onnxruntime"])
    assert findings
    assert all(item.status == "ok" for item in findings)

    session = toolkit.load(tmp_path / "run")
    with torch.no_grad():
        wanted = model.log_prob(batch(64)).numpy()
    np.testing.assert_allclose(session.log_prob(x=batch(64).numpy()), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
def test_a_model_and_examples_on_a_gpu_are_exported_from_the_processor(tmp_path: Path) -> None:
    model = Affine().cuda()
    x = toolkit.Input("x", batch().cuda(), dims=("batch", None))
    entry = toolkit.Entry("log_prob", call="log_prob", inputs=[x])
    assert toolkit.export(model, [entry], tmp_path / "run")["log_prob"].outcome.ok
    found = toolkit.verify(tmp_path / "run", model=model, inputs={"x": batch().cuda()})
    assert all(finding.status == "ok" for finding in found)
    assert model.matrix.is_cuda


def test_new_inputs_need_the_model(tmp_path: Path) -> None:
    model = Affine()
    entry = toolkit.Entry(
        "log_prob", "log_prob", [toolkit.Input("x", batch(), dims=("batch", None))]
    )
    toolkit.export(model, [entry], tmp_path / "run")
    with pytest.raises(UsageError, match="need the model"):
        toolkit.verify(tmp_path / "run", inputs={"x": batch(8).numpy()})


def test_a_failing_entry_does_not_stop_the_others(tmp_path: Path) -> None:
    x = toolkit.Input("x", batch(), dims=("batch", None))
    entries = [
        toolkit.Entry("broken", call=lambda m, x: x @ m.missing, inputs=[x]),
        toolkit.Entry("log_prob", call="log_prob", inputs=[x]),
    ]
    result = toolkit.export(Affine(), entries, tmp_path / "run")
    assert result["broken"].outcome.status == "failed"
    assert "missing" in result["broken"].outcome.reason
    assert not result["broken"].path.exists()
    assert result["log_prob"].outcome.status == "ok"


def test_an_unknown_setting_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="opsett"):
        toolkit.export(Affine(), [], tmp_path / "run", opsett=20)


def test_entries_from_the_command_line() -> None:
    recipe = parse_recipe(
        {"export": {"entries": ["log_prob"], "inputs": ["x:float32[batch,4]"]}}, where="test"
    )
    (entry,) = entries_of(Affine(), recipe)
    assert (entry.name, entry.inputs[0].dims, entry.inputs[0].shape) == (
        "log_prob",
        ("batch", None),
        (8, 4),
    )


def test_a_model_without_entries_says_how_to_name_them() -> None:
    with pytest.raises(UsageError) as caught:
        entries_of(Affine(), parse_recipe({}, where="test"))
    assert "--input" in caught.value.next_step


@pytest.mark.parametrize("entry", ["log_prob", "inverse", "sample"])
def test_the_exported_glow_holds_no_linear_algebra_on_weights(
    finished_run: Callable[[str, str], RunFolder], entry: str
) -> None:
    folder = finished_run("glow", "export")
    graph = onnx.load(folder.entry(entry) / "exported.onnx").graph
    assert not FORBIDDEN & {node.op_type for node in graph.node}
    constants = {item.name for item in graph.initializer}
    from_weights = [
        node.op_type
        for node in graph.node
        if node.input and all(name in constants for name in node.input if name)
    ]
    assert set(from_weights) <= {"Expand"}


def test_golden_cases_hold_both_answers(finished_run: Callable[[str, str], RunFolder]) -> None:
    folder = finished_run("realnvp", "export")
    cases = load_cases(folder.entry("inverse") / "golden.safetensors")
    asked = {"antisymmetry", "batch", "bin_edges", "log_det", "parity", "round_trip"}
    assert {case.check for case in cases} == asked
    for case in cases:
        assert case.oracle["x"].dtype == np.float64
        assert case.eager["x"].dtype == np.float32


@pytest.mark.parametrize(
    ("operations", "asked", "samples"),
    [
        (32.0, {}, 1024),
        (30e9, {}, 16),
        (2e9, {}, 50),
        (100e9, {}, 5),
        (1e12, {}, 2),
        (1e12, {"samples": 100}, 100),
    ],
)
def test_a_case_of_a_heavy_model_holds_fewer_samples_unless_they_are_asked_for(
    tmp_path, monkeypatch, operations, asked, samples
):
    monkeypatch.setattr(Oracle, "operations", operations)
    assert samples_of_parity(tmp_path, asked) == samples


@pytest.mark.parametrize(("fit", "samples"), [(1.5, 2), (7.0, 7), (100.0, 100)])
def test_a_case_of_large_inputs_holds_fewer_samples(tmp_path, monkeypatch, fit, samples):
    monkeypatch.setattr(export, "MOST_NUMBERS", fit * batch()[0].numel())
    assert samples_of_parity(tmp_path, {}) == samples
    assert samples_of_parity(tmp_path, {"samples": 50}) == 50


def samples_of_parity(tmp_path: Path, asked: dict[str, int]) -> int:
    x = toolkit.Input("x", batch(), dims=("batch", None))
    entry = toolkit.Entry("log_prob", call="log_prob", inputs=[x])
    recipe = parse_recipe({"name": "heavy", "verify": asked}, where="here")
    (result,) = export_entries(Affine(), [entry], RunFolder(tmp_path), recipe).values()
    cases = load_cases(result.path.with_name("golden.safetensors"))
    return max(len(case.inputs["x"]) for case in cases if case.check == "parity")


def test_the_manifest_says_which_strategy_won(
    finished_run: Callable[[str, str], RunFolder],
) -> None:
    folder = finished_run("realnvp", "export")
    manifest = json.loads(folder.manifest_path.read_text())
    entry = manifest["stages"]["export"]["result"]["entries"]["log_prob"]
    assert entry["strategy"] == "dynamo"
    strategies = [item["strategy"] for item in entry["attempts"]]
    assert strategies == ["dynamo", "record", "torchscript"]
    assert all(item["reason"] for item in entry["attempts"][1:])


def test_a_graph_that_does_not_run_is_that_strategys_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ExportError("onnxruntime refuses the graph")

    monkeypatch.setattr(_open, "opened", refuse)
    x = toolkit.Input("x", batch(), dims=("batch", None))
    result = toolkit.export(
        Affine(), [toolkit.Entry("log_prob", "log_prob", [x])], tmp_path / "run"
    )
    reason = result["log_prob"].outcome.reason
    assert "dynamo: the graph does not run" in reason
    assert "torchscript:" in reason


class Decaying(nn.Module):
    """A recurrence in a plain Python loop over time."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total = torch.zeros_like(x[:, 0])
        for step in range(x.shape[1]):
            total = 0.9 * total + x[:, step]
        return total


def test_a_trace_that_keeps_the_examples_length_is_refused(tmp_path):
    x = toolkit.Input("x", torch.randn(3, 5, 2), dims=("batch", "time", None))
    entry = toolkit.Entry("forward", call="forward", inputs=[x])
    result = toolkit.export(Decaying(), [entry], tmp_path, strategies=["torchscript"])
    assert result["forward"].outcome.status == "failed"
    assert "sizes:" in result["forward"].outcome.reason


@pytest.mark.parametrize("outputs", [["x"], ["y", "y"]])
def test_a_name_that_stands_twice_is_refused(tmp_path, outputs):
    x = toolkit.Input("x", torch.randn(3, 4), dims=("batch", None))
    entry = toolkit.Entry(
        "forward", call=lambda _, x: (2 * x,) * len(outputs), inputs=[x], outputs=outputs
    )
    outcome = toolkit.export(nn.Identity(), [entry], tmp_path)["forward"].outcome
    assert (outcome.status, "more than one value called" in outcome.reason) == ("failed", True)


class Made(nn.Module):
    """A module that does what a function of it and its inputs says."""

    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__()
        self.layer, self.function = nn.Linear(4, 4), function

    def forward(self, *tensors: torch.Tensor) -> object:
        return self.function(self, *tensors)


def exported(folder: Path, model: nn.Module, *inputs: toolkit.Input) -> export.Exported:
    given = inputs or (toolkit.Input("x", batch(), dims=("batch", None)),)
    return toolkit.export(model, [toolkit.Entry("forward", inputs=given)], folder)["forward"]


def test_hooks_of_the_exported_module_are_in_the_graph(tmp_path: Path) -> None:
    model = nn.Linear(4, 3)
    model.register_forward_pre_hook(lambda _, inputs: (inputs[0] * 10,))
    model.register_forward_hook(lambda _, inputs, output: output * 2)
    assert exported(tmp_path, model).outcome.ok
    x = batch(5)
    np.testing.assert_allclose(
        toolkit.load(tmp_path).forward(x=x.numpy()), model(x).detach(), atol=1e-4
    )


@pytest.mark.parametrize(
    "draw",
    [
        lambda m, x: m.layer(x) * random.random(),
        lambda m, x: x + torch.from_numpy(np.random.rand(4)).float(),
        lambda m, x: nn.functional.dropout(m.layer(x), 0.5),
    ],
)
def test_a_call_of_chance_is_refused(draw: Callable[..., object], tmp_path: Path) -> None:
    result = exported(tmp_path, Made(draw))
    assert "other answers to the same inputs" in result.outcome.reason
    assert not result.path.exists()


@pytest.mark.parametrize(
    ("call", "dims", "check"),
    [
        (lambda m, x: x if x.shape[0] == 1 else x + 1, ("batch", None), "batch"),
        (lambda m, x: x if x.shape[1] == 1 else x + 1, ("batch", "time"), "sizes"),
        (lambda m, x: x if x.shape[1] <= 50 else x + 1, ("batch", "time"), "sizes"),
    ],
)
def test_a_branch_on_a_size_that_no_graph_has_is_refused(
    call: Callable[..., object], dims: tuple[str | None, ...], check: str, tmp_path: Path
) -> None:
    result = exported(tmp_path, Made(call), toolkit.Input("x", batch(), dims=dims))
    assert f"{check}: 1 against a limit" in result.outcome.reason


def test_samples_that_depend_on_one_another_are_judged_together(tmp_path: Path) -> None:
    model = Made(lambda m, x: m.layer(x) - m.layer(x).mean(0))
    assert exported(tmp_path, model).outcome.ok
    assert all(finding.status == "ok" for finding in toolkit.verify(tmp_path))


def test_integers_beside_floats_are_verified(tmp_path: Path) -> None:
    model = Made(lambda m, x: (m.layer(x), m.layer(x).argmax(1)))
    assert exported(tmp_path, model).outcome.ok
    assert all(finding.status == "ok" for finding in toolkit.verify(tmp_path))


def test_nested_outputs_are_named_by_their_place_and_none_is_left_out(tmp_path: Path) -> None:
    model = Made(lambda m, x: {"a": m.layer(x), "b": {"c": x + 1, "d": [x * 2, None]}, "e": None})
    signature = exported(tmp_path, model).detail["signature"]
    assert [item["name"] for item in signature["outputs"]] == ["a", "b_c", "b_d_0"]


def test_what_a_model_raises_inside_is_one_failure_in_three_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("unforeseen")

    monkeypatch.setattr(export._Judge, "_prepare", broken)
    outcome = exported(tmp_path, nn.Linear(4, 3)).outcome
    assert "KeyError: 'unforeseen'" in outcome.reason
    assert outcome.detail["exit_code"] == ExportError.exit_code

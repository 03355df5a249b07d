import json
import math

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from toolkit.adapters._flow import comes_from, density, drawing, first_width, last_width, switched
from toolkit.cli._app import build_app
from toolkit.core.errors import UsageError
from toolkit.core.registry import adapters
from toolkit.core.require import install_line
from toolkit.stages._entries import declared_entries


class Stranger(nn.Module):
    def forward(self, x):
        return x


def test_a_class_comes_from_its_own_and_its_parents_libraries():
    parent = type("Flow", (nn.Module,), {"__module__": "somelib.flows.base"})
    child = type("Mine", (parent,), {"__module__": "mine"})
    lookalike = type("Flow", (nn.Module,), {"__module__": "somelibrary.flows"})
    assert comes_from(parent(), "somelib")
    assert comes_from(child(), "somelib")
    assert not comes_from(lookalike(), "somelib")


def test_a_model_that_no_adapter_claims_is_an_error_that_says_what_to_do():
    assert not any(adapter.detects(Stranger()) for _, adapter in adapters.items())
    with pytest.raises(UsageError, match="does not say what its entries are") as raised:
        declared_entries(Stranger())
    assert "--entry forward" in raised.value.next_step


def test_an_adapter_that_claims_a_model_gives_its_entries(monkeypatch):
    class Everything:
        def detects(self, model):
            return isinstance(model, Stranger)

        def entries(self, model):
            return ["its entries"]

    monkeypatch.setattr("toolkit.adapters.zuko.adapter", Everything())
    assert declared_entries(Stranger()) == ["its entries"]


def test_drawing_puts_flags_gradients_and_random_state_back_after_an_error():
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    model[1].eval()
    state = torch.get_rng_state()

    def fail():
        with drawing(model):
            assert not model.training
            assert not torch.is_grad_enabled()
            torch.randn(3)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [module.training for module in model.modules()] == [True, True, False]
    assert torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), state)


def test_a_flag_is_switched_where_it_is_set_and_put_back_after_an_error():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.ReLU())
    model[0].fast, model[1].fast = True, False

    def fail():
        with switched(model, "fast", to=False):
            assert (model[0].fast, model[1].fast) == (False, False)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert (model[0].fast, model[1].fast) == (True, False)
    assert not hasattr(model[2], "fast")


def test_bounds_are_rounded_inwards():
    x = torch.full((2, 3), math.pi)
    item = density(lambda *_: x[:, 0], x, None, (-math.pi, math.pi)).inputs[0]
    assert item.high < math.pi < x.max().item()
    assert item.low == -item.high
    assert density(lambda *_: x[:, 0], x, None).inputs[0].low is None


def test_widths_are_those_of_the_outer_layers():
    network = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))
    assert (first_width(network), last_width(network)) == (5, 3)
    assert (first_width(nn.ReLU()), last_width(nn.ReLU())) == (0, 0)


def export(tmp_path, monkeypatch, module, source):
    (tmp_path / f"{module}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    words = ["export", f"{module}:flow", "--json", "-o", str(tmp_path / "run")]
    result = CliRunner().invoke(build_app(), words)
    return result.exit_code, json.loads(result.stdout)


def test_the_command_line_exports_a_librarys_flow_without_code(tmp_path, monkeypatch):
    pytest.importorskip("zuko", reason=install_line("flows"))
    source = "import zuko\ndef flow():\n    return zuko.flows.NICE(4, hidden_features=(8,))\n"
    code, answer = export(tmp_path, monkeypatch, "users_flow", source)
    assert (code, answer["reason"]) == (0, "")
    assert set(answer["detail"]["entries"]) == {"log_prob", "inverse", "sample"}


def test_the_command_line_says_what_to_name_where_no_library_is_known(tmp_path, monkeypatch):
    source = "import torch\ndef flow():\n    return torch.nn.Linear(2, 2)\n"
    code, answer = export(tmp_path, monkeypatch, "users_module", source)
    assert code == 2
    assert "Linear does not say what its entries are" in json.dumps(answer)

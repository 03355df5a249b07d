from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import nn

from toolkit.core.errors import IntegrityError, ToolkitError, UsageError
from toolkit.core.folder import RunFolder
from toolkit.core.protocols import Data
from toolkit.core.recipe import Recipe, parse_recipe
from toolkit.stages._model import build_model, load_data, load_model, on_processor

MODULE = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
TEXT = "not a model"


class Tied(nn.Module):
    """A model of the user's own, with one weight under two names."""

    def __init__(self, width: int = 3, *, depth: int = 1) -> None:
        super().__init__()
        self.first = nn.Linear(width, width)
        self.second = nn.Linear(width, width)
        self.second.weight = self.first.weight
        self.depth = depth


def picky(width: int) -> nn.Module:
    if width < 1:
        raise ValueError("width is below 1")
    return nn.Linear(width, width)


def absent() -> nn.Module:
    return nn.Linear(2, int(Path("no/such/checkpoint").read_text()))


def broken() -> nn.Module:
    raise RuntimeError("the checkpoint is another model's")


def exported() -> nn.Module:
    return torch.export.export(nn.Linear(2, 2), (torch.zeros(1, 2),)).module()


def lazy() -> nn.Module:
    return nn.Sequential(nn.Identity(), nn.Sequential(nn.LazyLinear(2)))


def quantised() -> nn.Module:
    return torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(2, 2)), {nn.Linear})


def samples() -> Data:
    return Data(train={"x": torch.zeros(2, 1)}, test={"x": torch.zeros(1, 1)})


def recipe(name: str, **arguments: object) -> Recipe:
    target = f"{__name__}:{name}" if name in globals() else name
    return parse_recipe({"model": {"name": target, **arguments}}, where="test")


def of_data(name: str, **arguments: object) -> Recipe:
    target = f"{__name__}:{name}" if name in globals() else name
    return parse_recipe({"data": {"name": target, **arguments}}, where="test")


def test_the_same_seed_builds_the_same_weights_and_leaves_the_random_state():
    state = torch.random.get_rng_state()
    one, two = build_model(recipe("realnvp")), build_model(recipe("realnvp"))
    other = build_model(recipe("realnvp").model_copy(update={"seed": 1}))
    name = "transform.0.network.0.weight"
    assert torch.equal(one.state_dict()[name], two.state_dict()[name])
    assert not torch.equal(one.state_dict()[name], other.state_dict()[name])
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not one.training


def test_arguments_reach_the_model():
    assert len(build_model(recipe("realnvp", depth=3)).transform) == 3
    assert build_model(recipe("Tied", depth=2)).depth == 2


def test_a_users_module_is_copied_and_stays_as_it_was():
    MODULE.train()
    built = build_model(recipe("MODULE"))
    with torch.no_grad():
        built[0].weight.fill_(7)
    assert MODULE.training
    assert not built.training
    assert not (MODULE[0].weight == 7).any()


def test_a_model_without_numbers_is_refused():
    with torch.device("meta"):
        empty = nn.Linear(2, 2)
    with pytest.raises(UsageError, match="weight is on the meta device"):
        on_processor(empty)


def test_a_lazy_layer_is_named_until_it_has_seen_a_batch():
    model = lazy()
    with pytest.raises(UsageError, match="LazyLinear") as caught:
        on_processor(model)
    assert caught.value.where == "module 1.0"
    assert "run the model once" in caught.value.next_step
    model(torch.zeros(1, 3))
    assert on_processor(model) is model


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_quantised_model_is_refused_with_the_way_to_int8():
    with pytest.raises(UsageError, match="quantised already") as caught:
        on_processor(quantised())
    assert caught.value.where.startswith("module 0")
    assert "toolkit optimize" in caught.value.next_step


def test_an_exported_program_is_a_model():
    assert build_model(recipe("exported"))(torch.zeros(1, 2)).shape == (1, 2)


@pytest.mark.parametrize(
    ("name", "what"),
    [("absent", "FileNotFoundError.*no/such/checkpoint"), ("broken", "RuntimeError: the check")],
)
def test_a_factory_that_raises_is_named_by_its_own_line(name, what):
    with pytest.raises(UsageError, match=what) as caught:
        build_model(recipe(name))
    line = inspect.getsourcelines(globals()[name])[1] + 1
    assert f"{__file__}:{line}" in caught.value.where


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
def test_a_model_on_a_gpu_stays_there_and_its_copy_is_captured():
    model = nn.Linear(2, 2).cuda()
    copied = on_processor(model)
    assert copied.weight.device.type == "cpu"
    assert model.weight.is_cuda
    assert torch.equal(copied.weight, model.weight.cpu())


@pytest.mark.parametrize(
    ("made", "what", "next_step"),
    [
        (recipe(""), "names no model", "glow"),
        (recipe("glwo"), "glwo", "glow"),
        (recipe("realnvp", detph=3), "detph", "'depth'"),
        (recipe("Tied", widht=3), "widht", "'width'"),
        (recipe("picky"), "width", "takes"),
        (recipe("picky", width=0), "below 1", "width"),
        (recipe("realnvp", depth="many"), "TypeError", "many"),
        (recipe("TEXT"), "cannot be called", "function"),
        (recipe("samples"), "not a torch.nn.Module", "module"),
        (recipe("no.such.package:model"), "no module", ""),
    ],
)
def test_a_wrong_model_says_what_to_do(made, what, next_step):
    with pytest.raises(UsageError, match=what) as caught:
        build_model(made)
    assert next_step in caught.value.next_step


def test_data_is_loaded_with_its_arguments():
    data = load_data(of_data("moons", samples=10, test=3))
    assert (len(data.train["x"]), len(data.test["x"])) == (10, 3)
    assert len(load_data(of_data("samples")).train["x"]) == 2
    assert load_data(parse_recipe({}, where="test")) is None


@pytest.mark.parametrize(
    ("made", "what", "next_step"),
    [
        (of_data("moon"), "moon", "'moons'"),
        (of_data("moons", sample=3), "sample", "'samples'"),
        (of_data("samples", x=3), "unknown argument 'x'", "none"),
        (of_data("Tied"), "not a toolkit.core.protocols.Data", "Data("),
    ],
)
def test_wrong_data_says_what_to_do(made, what, next_step):
    with pytest.raises(UsageError, match=what) as caught:
        load_data(made)
    assert next_step in caught.value.next_step


def test_weights_with_a_tied_parameter_come_back(tmp_path):
    model = Tied()
    save_model(model, str(tmp_path / "weights.safetensors"))
    loaded = load_model(recipe("Tied"), RunFolder(tmp_path))
    assert torch.equal(loaded.second.weight, model.second.weight)
    assert loaded.second.weight is loaded.first.weight
    assert not loaded.training


@pytest.mark.parametrize(
    ("tensors", "match"),
    [
        ({"first.weight": torch.zeros(3, 3)}, "missing: first.bias, second.bias"),
        (
            {
                "first.weight": torch.zeros(3, 3),
                "first.bias": torch.zeros(3),
                "second.bias": torch.zeros(3),
                "third": torch.zeros(1),
            },
            "unexpected: third",
        ),
        (
            {
                "first.weight": torch.zeros(4, 4),
                "first.bias": torch.zeros(3),
                "second.bias": torch.zeros(3),
            },
            "size mismatch",
        ),
    ],
)
def test_weights_of_another_model_are_refused_with_the_names(tensors, match, tmp_path):
    save_file(tensors, tmp_path / "weights.safetensors")
    with pytest.raises(UsageError, match=match):
        load_model(recipe("Tied"), RunFolder(tmp_path))


@pytest.mark.parametrize(
    ("content", "error"),
    [(None, UsageError), (b"", IntegrityError), (b"\xff" * 99, IntegrityError)],
)
def test_absent_and_damaged_weights_are_told_apart(content, error, tmp_path):
    if content is not None:
        (tmp_path / "weights.safetensors").write_bytes(content)
    with pytest.raises(ToolkitError) as caught:
        load_model(recipe("Tied"), RunFolder(tmp_path))
    assert type(caught.value) is error
    assert "weights.safetensors" in caught.value.where


def test_truncated_weights_are_damaged(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_model(Tied(), str(path))
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(IntegrityError, match="cannot be read"):
        load_model(recipe("Tied"), RunFolder(tmp_path))

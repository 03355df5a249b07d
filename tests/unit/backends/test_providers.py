import onnxruntime
import pytest

from toolkit.backends._providers import PROVIDERS, full_name, resolve
from toolkit.core.errors import MissingError, UsageError


def test_short_and_full_names_are_one_provider() -> None:
    assert resolve(["cpu", "CPUExecutionProvider", "CPU"]) == ["CPUExecutionProvider"]


def test_short_names_are_known_to_onnxruntime() -> None:
    known = set(onnxruntime.get_all_providers())
    assert set(PROVIDERS.values()) <= known


@pytest.mark.parametrize(
    ("name", "hint"), [("cuad", "'cuda'"), ("CUDAExecutionProvidr", "'CUDAExecutionProvider'")]
)
def test_unknown_name_is_answered_with_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(UsageError) as error:
        full_name(name)
    assert hint in error.value.next_step


def test_absent_provider_is_answered_with_the_install_line(monkeypatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(MissingError, match="no CUDAExecutionProvider") as error:
        resolve(["cuda", "cpu"])
    assert "toolkit[gpu]" in error.value.next_step


def test_order_is_kept(monkeypatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(PROVIDERS.values()))
    assert resolve(["tensorrt", "cuda", "cpu"]) == [
        "TensorrtExecutionProvider",
        "CUDAExecutionProvider",
        "CPUExecutionProvider",
    ]

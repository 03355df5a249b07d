"""The list of compiled-in providers is a double here; sessions are the installed onnxruntime's,
which goes on without a provider that it cannot start, whatever the reason."""

import onnxruntime
import pytest
from onnx import parser

from toolkit.backends import _providers
from toolkit.backends.onnxruntime import backend
from toolkit.core.errors import MissingError
from toolkit.core.protocols import Artifact
from toolkit.core.signature import Signature, TensorSpec
from toolkit.runtime.graph import Graph
from toolkit.runtime.providers import PROVIDERS, open_session

CPU = PROVIDERS["cpu"]
SPEC = (TensorSpec("x", "float32", (1,)), TensorSpec("y", "float32", (1,)))
SIGNATURE = Signature("forward", "", SPEC[:1], SPEC[1:])


@pytest.fixture
def path(tmp_path):
    found = tmp_path / "a.onnx"
    found.write_bytes(parser.parse_model(_providers.SMALLEST).SerializeToString())
    return found


@pytest.fixture(params=["cuda", "tensorrt"])
def absent(request, monkeypatch):
    """Return a provider that is listed and does not start."""
    if request.param in _startable():
        pytest.skip(f"{request.param} starts here")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [*PROVIDERS.values()])
    _providers.trouble.cache_clear()
    yield request.param
    _providers.trouble.cache_clear()


def _startable():
    listed = onnxruntime.get_available_providers()
    names = [short for short, name in PROVIDERS.items() if name in listed]
    return [short for short in names if not _providers.trouble(PROVIDERS[short])]


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_left_to_itself_onnxruntime_goes_on_without(absent, path):
    session = onnxruntime.InferenceSession(path, providers=[PROVIDERS[absent]])
    assert session.get_providers() == [CPU]


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_session_has_all_its_providers_or_is_refused(absent, path):
    with pytest.raises(MissingError, match=f"{PROVIDERS[absent]} does not start"):
        open_session(str(path), onnxruntime.SessionOptions(), [PROVIDERS[absent], CPU])
    with pytest.raises(MissingError, match="does not start"):
        Graph(path, SIGNATURE, providers=(absent, "cpu"))
    with pytest.raises(MissingError, match="does not start"):
        backend.open(Artifact(path, SIGNATURE, "fp32"), providers=[absent])


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_what_does_not_start_is_absent(absent):
    assert "does not start" in backend.absent(providers=[absent])
    assert "pip install" in backend.absent(device="cuda")
    assert backend.absent() == ""


def test_the_processor_starts(path):
    session = open_session(str(path), onnxruntime.SessionOptions(), [CPU])
    assert session.get_providers() == [CPU]
    assert _providers.trouble(CPU) == ""

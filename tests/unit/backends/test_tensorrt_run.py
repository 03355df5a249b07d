from pathlib import Path

import numpy as np
import pytest
import torch

from toolkit.backends import _tensorrt_run
from toolkit.backends._tensorrt_build import device_capability
from toolkit.backends._tensorrt_run import DTYPES, EngineBackend
from toolkit.core.engine import EngineJob
from toolkit.core.errors import MissingError, UsageError
from toolkit.core.protocols import Artifact
from toolkit.core.registry import backends
from toolkit.core.require import install_line
from toolkit.core.signature import Signature, TensorSpec

SIGNATURE = Signature(
    "forward",
    "classifier",
    (TensorSpec("x", "float32", ("batch", 8)),),
    (TensorSpec("y", "float32", ("batch", 4)),),
    {"batch": (1, 4, 16, 1)},
)


def test_absent_package_is_answered_with_the_install_line(tmp_path: Path) -> None:
    backend = EngineBackend("no_such_library", extra="tensorrt", needs_gpu=False)
    assert install_line("tensorrt") in backend.absent()
    assert install_line("tensorrt") in backend.cannot_build()
    with pytest.raises(MissingError, match="not installed"):
        backend.open(Artifact(tmp_path / "a.engine", SIGNATURE, "fp32"))


def test_without_a_device_an_engine_may_be_built_but_not_run(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(_tensorrt_run, "installed", lambda package: True)
    rtx = EngineBackend("tensorrt_rtx", extra="tensorrt-rtx", needs_gpu=False)
    classic = EngineBackend("tensorrt", extra="tensorrt", needs_gpu=True)
    assert "CUDA" in rtx.absent()
    assert rtx.cannot_build() == ""
    assert "CUDA" in classic.cannot_build()


def test_engine_types_are_torch_types() -> None:
    assert all(isinstance(getattr(torch, name), torch.dtype) for name in DTYPES.values())


@pytest.mark.gpu
@pytest.mark.tensorrt
@pytest.mark.parametrize("name", ["tensorrt", "tensorrt-rtx"])
def test_engine_equals_onnxruntime(name: str, tmp_path: Path) -> None:
    backend = backends.load(name)
    if reason := backend.absent() or backend.cannot_build():
        pytest.skip(reason)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4))
    source, engine = tmp_path / "a.onnx", tmp_path / "a.engine"
    torch.onnx.export(
        model.eval(),
        (torch.randn(4, 8),),
        source,
        dynamo=True,
        verbose=False,
        input_names=["x"],
        output_names=["y"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
    )
    one = EngineJob(str(source), str(engine), device_capability(), "fp32", {"batch": (1, 4, 16)})
    (result,) = backend.build([one], timeout=300)
    if result["status"] == "skipped":
        pytest.skip(result["reason"])
    assert result["status"] == "ok", result["reason"]
    runner = backend.open(Artifact(engine, SIGNATURE, "fp32"), device="cuda")
    reference = backends.load("onnxruntime").open(Artifact(source, SIGNATURE, "fp32"))
    try:
        for batch in (1, 7, 16, 1):
            feeds = {"x": np.random.default_rng(batch).normal(size=(batch, 8)).astype("float32")}
            np.testing.assert_allclose(runner(feeds)["y"], reference(feeds)["y"], atol=1e-5)
            runner.prepare(feeds)()
        with pytest.raises(UsageError, match="does not take 'x'"):
            runner({"x": np.zeros((17, 8), "float32")})
        with pytest.raises(UsageError, match="no value is given for x"):
            runner({})
    finally:
        runner.close()
        reference.close()

import ctypes
import math
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from toolkit.backends import _tensorrt_run
from toolkit.backends._tensorrt_build import device_capability
from toolkit.backends._tensorrt_run import DTYPES, EngineBackend, EngineRunner
from toolkit.core.engine import EngineJob
from toolkit.core.errors import ExportError, MissingError, UsageError
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


class Context:
    """A double of an execution context that takes batches up to 16 and writes `2 x` to `y`."""

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = ()
        self.addresses: dict[str, int] = {}
        self.runs = 0

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shape = shape
        return shape[0] <= 16

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shape

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        count = math.prod(self.shape)
        x = (ctypes.c_float * count).from_address(self.addresses["x"])
        y = (ctypes.c_float * count).from_address(self.addresses["y"])
        y[:] = [2.0 * value for value in x]
        self.runs += 1
        return stream_handle == 7


class Api:
    """A double of TensorRT's runtime: no machine of the test suite need have a GPU."""

    __version__ = "0"
    TensorIOMode = SimpleNamespace(INPUT="in", OUTPUT="out")
    TensorLocation = SimpleNamespace(HOST="host", DEVICE="device")

    class ILogger:
        ERROR, INTERNAL_ERROR = range(2)

    class Runtime:
        def __init__(self, log: object) -> None:
            self.log = log

        def deserialize_cuda_engine(self, plan: bytes) -> SimpleNamespace | None:
            if plan != b"plan":
                self.log.log(0, "magic tag does not match")
                return None
            return SimpleNamespace(
                num_io_tensors=2,
                get_tensor_name=lambda index: "xy"[index],
                get_tensor_mode=lambda name: "in" if name == "x" else "out",
                get_tensor_dtype=lambda name: SimpleNamespace(name="FLOAT"),
                get_tensor_location=lambda name: "device",
                create_execution_context=Context,
            )


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], EngineRunner]:
    """Return what opens a plan with the double, buffers being host memory."""
    stream = SimpleNamespace(
        cuda_stream=7, synchronize=lambda: None, wait_stream=lambda other: None
    )
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "Stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a double")

    def opened(plan: bytes) -> EngineRunner:
        path = tmp_path / "a.engine"
        path.write_bytes(plan)
        return EngineRunner(Api, path, "cpu")

    return opened


def test_runner_answers_by_name_and_keeps_prepared_calls_apart(runner: Callable) -> None:
    engine = runner(b"plan")
    small, large = np.ones((2, 8), "float32"), np.ones((16, 8), "float32")
    first, second = engine.bind({"x": small}), engine.bind({"x": large})
    engine.prepare({"x": large})()
    first.enqueue(7)
    assert first.outputs["y"].shape == (2, 8)
    assert second.context.runs == 0
    np.testing.assert_array_equal(engine({"x": large})["y"], 2 * large)
    np.testing.assert_array_equal(engine({"x": small.astype("float16")})["y"], 2 * small)
    with pytest.raises(ExportError, match="did not run"):
        first.enqueue(0)
    engine.close()


@pytest.mark.parametrize(
    ("feeds", "said"),
    [
        ({"x": np.zeros((17, 8), "float32")}, "does not take 'x' of shape"),
        ({"x": np.zeros((2, 8), "int64")}, "as torch.float32, not torch.int64"),
        ({"z": np.zeros((2, 8), "float32")}, "no value is given for x"),
    ],
)
def test_wrong_feeds_are_named(runner: Callable, feeds: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        runner(b"plan")(feeds)


def test_kernels_of_the_asked_shapes_are_ready_when_a_context_is_asked(
    runner: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, asked = SimpleNamespace(), []
    strategies = SimpleNamespace(EAGER="eager")
    monkeypatch.setattr(Api, "DynamicShapesKernelSpecializationStrategy", strategies, raising=False)
    engine = SimpleNamespace(
        create_runtime_config=lambda: config, create_execution_context=asked.append
    )
    _tensorrt_run._context_of(Api, engine)
    assert asked == [config]
    assert config.dynamic_shapes_kernel_specialization_strategy == "eager"


def test_the_package_has_the_names_that_are_asked_of_it() -> None:
    api = pytest.importorskip("tensorrt_rtx")
    assert api.DynamicShapesKernelSpecializationStrategy.EAGER
    assert isinstance(api.IRuntimeConfig.dynamic_shapes_kernel_specialization_strategy, property)
    assert api.ICudaEngine.create_runtime_config


def test_an_engine_that_does_not_load_says_why(runner: Callable) -> None:
    with pytest.raises(ExportError, match="magic tag does not match"):
        runner(b"torn")


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

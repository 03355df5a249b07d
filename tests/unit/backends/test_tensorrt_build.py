import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from toolkit.backends._tensorrt_build import FIXED_ADDRESSES, build, build_isolated
from toolkit.backends._tensorrt_plan import check_target, plan_targets
from toolkit.core.engine import EngineBuilder, EngineJob
from toolkit.core.errors import ExportError
from toolkit.core.registry import backends
from toolkit.core.require import install_line, installed

PERSONALITY = Path("/proc/self/personality")
BATCH = {"batch": (1, 2, 4)}
RTX = {"package": "tensorrt_rtx", "extra": "tensorrt-rtx"}


def needs_rtx(test: Callable) -> Callable:
    reason = f"tensorrt_rtx is not installed: {install_line('tensorrt-rtx')}"
    skip = pytest.mark.skipif(not installed("tensorrt_rtx"), reason=reason)
    return pytest.mark.tensorrt(skip(test))


def graph(path: Path, operator: str = "Neg", dim: str = "batch") -> Path:
    shape = [dim, 3, 3]
    model = helper.make_model(
        helper.make_graph(
            [
                helper.make_node("Abs", ["x"], ["a"], "node_abs"),
                helper.make_node(operator, ["a"], ["y"], "node_refused"),
            ],
            "graph",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    onnx.save(model, path)
    return path


def job(folder: Path, operator: str = "Neg", target: str = "8.6", name: str = "") -> EngineJob:
    source = graph(folder / f"{operator}.onnx", operator)
    engine = folder / f"{name or operator}-{target}.engine"
    return EngineJob(str(source), str(engine), target, "fp32", BATCH)


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt-rtx"])
def test_engine_backends_build(name: str) -> None:
    assert isinstance(backends.load(name), EngineBuilder)


@needs_rtx
def test_engines_refusals_and_other_targets_come_back_in_order(tmp_path: Path) -> None:
    jobs = [
        job(tmp_path),
        job(tmp_path, "Det"),
        job(tmp_path, target="8.7"),
        job(tmp_path, target="8.9"),
    ]
    seen: list[str] = []
    backend = backends.load("tensorrt-rtx")
    results = backend.build(
        jobs, timeout=120, progress=lambda one, result: seen.append(one.engine_path)
    )
    assert seen == [one.engine_path for one in jobs]
    assert [result["status"] for result in results] == ["ok", "failed", "skipped", "ok"]
    (refused,) = results[1]["refused"]
    assert (refused["operator"], refused["node"]) == ("Det", "node_refused")
    assert "not 8.7" in results[2]["reason"]
    for one, result in zip(jobs, results, strict=True):
        path = Path(one.engine_path)
        assert path.exists() == (result["status"] == "ok")
        if path.exists():
            assert hashlib.sha256(path.read_bytes()).hexdigest() == result["sha256"]
            assert plan_targets(path.read_bytes()) == [one.target]
    json.dumps(results)


@needs_rtx
def test_building_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    jobs = [job(tmp_path), job(tmp_path, "Relu")]
    first = build_isolated(**RTX, jobs=jobs, timeout=120)
    second = build_isolated(**RTX, jobs=jobs, timeout=120)
    assert [one["sha256"] for one in first] == [one["sha256"] for one in second]


@pytest.mark.skipif(not PERSONALITY.exists(), reason="needs Linux's /proc/self/personality")
def test_builds_see_fixed_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = tmp_path / "personality"
    copy = f"open({str(seen)!r}, 'w').write(open({str(PERSONALITY)!r}).read())"
    build_isolated(**stub(tmp_path, monkeypatch, copy), jobs=[job(tmp_path, "Det")], timeout=60)
    refuses = "import ctypes, sys; sys.exit(ctypes.CDLL(None).personality(0x40000) == -1)"
    if subprocess.run([sys.executable, "-c", refuses]).returncode:
        pytest.skip("this system does not let a process fix its addresses")
    assert int(seen.read_text(), 16) & FIXED_ADDRESSES


@needs_rtx
def test_engine_for_another_target_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.engine"
    source = graph(tmp_path / "a.onnx")
    build(source, path, **RTX, target="8.6", precision="fp32", profiles=BATCH)
    plan = bytearray(path.read_bytes())
    check_target(bytes(plan), "8.6", where="a")
    with pytest.raises(ExportError, match=r"for 8\.6, not for 8\.9"):
        check_target(bytes(plan), "8.9", where="a")
    plan[32] = 0x48
    assert plan_targets(bytes(plan)) == ["8.9", "bits 0x40"]


def test_plan_of_another_layout_is_not_judged() -> None:
    assert plan_targets(b"ftrt" + bytes(100)) is None
    check_target(b"short", "8.6", where="a")


def stub(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> dict[str, str]:
    """Make a package whose builder does `body` for the operator Det and refuses the others."""
    lines = [
        "import os, signal, time",
        "__version__ = '0'",
        "class ComputeCapability: __members__ = {'SM86': 0}",
        "class NetworkDefinitionCreationFlag: __members__ = {}",
        "class ILogger: pass",
        "class Error:",
        "    code = desc = lambda self: 'false'",
        "    node = lambda self: 0",
        "class Builder:",
        "    def __init__(self, log): pass",
        "    def create_network(self, flags): pass",
        "class OnnxParser:",
        "    num_errors = 1",
        "    def __init__(self, network, log): pass",
        "    def get_error(self, index): return Error()",
        "    def parse(self, data, path):",
        f"        if b'Det' in data: {body}",
        "        return False",
    ]
    (folder / "stub_engine_library.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(folder)
    return {"package": "stub_engine_library", "extra": "tensorrt"}


@pytest.mark.parametrize(
    ("body", "timeout", "said"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", 60.0, "killed by SIGSEGV"),
        ("time.sleep(60)", 1.0, "did not finish within 1 s"),
        ("raise MemoryError('out')", 60.0, "MemoryError"),
    ],
)
def test_a_build_that_dies_costs_only_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, timeout: float, said: str
) -> None:
    library = stub(tmp_path, monkeypatch, body)
    jobs = [job(tmp_path), job(tmp_path, "Det"), job(tmp_path, "Relu")]
    results = build_isolated(**library, jobs=jobs, timeout=timeout)
    assert [bool(result["refused"]) for result in results] == [True, False, True]
    assert results[1]["status"] == "failed"
    assert said in results[1]["reason"]


def test_a_library_that_does_not_load_is_skipped_with_the_install_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = stub(tmp_path, monkeypatch, "pass")
    (tmp_path / "stub_engine_library.py").write_text("raise ImportError('libnvinfer.so.10')")
    results = build_isolated(**library, jobs=[job(tmp_path), job(tmp_path, "Relu")], timeout=60)
    assert [result["status"] for result in results] == ["skipped", "skipped"]
    assert "libnvinfer.so.10" in results[0]["reason"]
    assert install_line("tensorrt") in results[0]["reason"]


def test_a_dimension_without_range_is_named(tmp_path: Path, monkeypatch) -> None:
    library = stub(tmp_path, monkeypatch, "pass")
    source = graph(tmp_path / "a.onnx", dim="rows")
    one = EngineJob(str(source), str(tmp_path / "a.engine"), "8.6", "fp32", BATCH)
    (result,) = build_isolated(**library, jobs=[one], timeout=60)
    assert result["status"] == "failed"
    assert "rows = [1, 8, 64]" in result["reason"]

"""The bundle's own command: documents, exit codes, `.npz` in and out."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from toolkit.core.errors import IntegrityError, UsageError
from toolkit.core.signature import Signature, TensorSpec
from toolkit.runtime.arrays import read_npz
from toolkit.runtime.command import main

SIGNATURE = Signature("f", "any", (TensorSpec("x", "float32", ("batch", 4)),), ())


def test_selftest_in_json_and_in_text(unpacked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(unpacked, ["selftest", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["status"] == "ok"
    assert document["machine"]["onnxruntime"]
    assert main(unpacked, ["selftest"]) == 0
    assert capsys.readouterr().out.endswith("passed\n")


def test_damage_exits_six_in_three_parts(
    unpacked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (unpacked / "extra").touch()
    assert main(unpacked, ["selftest", "--json"]) == 6
    printed = capsys.readouterr()
    assert json.loads(printed.out)["exit_code"] == 6
    assert "extra is extra" in printed.err
    assert "next:" in printed.err


def test_an_impossible_memory_limit_is_a_usage_error(unpacked: Path) -> None:
    assert main(unpacked, ["selftest", "--memory", str(1 << 50)]) == 2


def test_info_names_entries(unpacked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(unpacked, ["info"]) == 0
    assert "log_prob: (x: float32[batch, 4])" in capsys.readouterr().out
    assert main(unpacked, ["info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "toolkit-bundle"


def test_run_reads_and_writes_arrays(unpacked: Path, tmp_path: Path) -> None:
    source, target = tmp_path / "in.npz", tmp_path / "out.npz"
    np.savez(source, x=np.ones((2, 4), np.float32))
    assert main(unpacked, ["run", "log_prob", str(source), "-o", str(target)]) == 0
    with np.load(target) as outputs:
        assert outputs["log_prob"].shape == (2,)
    assert main(unpacked, ["run", "log_prbo", str(source)]) == 2
    unwritable = tmp_path / "none" / "out.npz"
    assert main(unpacked, ["run", "log_prob", str(source), "-o", str(unwritable)]) == 2


def npz(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return stream.getvalue()


def npy(header: str, body: bytes = b"") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body


def pickled() -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.array([{}], object), allow_pickle=True)
    return stream.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(npz(x=pickled()), id="98 pickle"),
        pytest.param(
            npz(x=npy("{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904,)}")),
            id="99 shape",
        ),
        pytest.param(npz(x=npy("{" + " " * 60000)), id="99 header"),
        pytest.param(npz(x=b"nothing"), id="no magic"),
        pytest.param(b"PK\x03\x04", id="no zip"),
    ],
)
def test_98_99_hostile_arrays_are_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "in.npz").write_bytes(data)
    with pytest.raises(IntegrityError):
        read_npz(tmp_path / "in.npz", SIGNATURE)


def test_an_array_of_another_name_is_a_usage_error(tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", xx=np.ones(3))
    with pytest.raises(UsageError, match="has no input 'xx'"):
        read_npz(tmp_path / "in.npz", SIGNATURE)


@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_keep_their_order(order: str, tmp_path: Path) -> None:
    array = np.asarray(np.arange(8, dtype=np.float32).reshape(2, 4), order=order)
    np.savez(tmp_path / "in.npz", x=array)
    assert np.array_equal(read_npz(tmp_path / "in.npz", SIGNATURE)["x"], array)

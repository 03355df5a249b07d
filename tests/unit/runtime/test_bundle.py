"""Bundles that are damaged or hostile: refused by name, nothing written, nothing loaded."""

from __future__ import annotations

import os
import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from toolkit.core.errors import IntegrityError, UsageError
from toolkit.runtime import container, load, selftest
from toolkit.runtime.bundle import open_bundle
from toolkit.runtime.manifest import parse, render

MODEL = "entries/log_prob/fp32.onnx"
GOLDEN = "entries/log_prob/golden.safetensors"


def rezip(
    source: Path, target: Path, *, extra: list[tuple[zipfile.ZipInfo | str, bytes]] = ()
) -> Path:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            new.writestr(info, old.read(info))
        for info, content in extra:
            new.writestr(info, content)
    return target


def link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.parametrize(
    "name",
    [
        "manifest.json",
        MODEL,
        GOLDEN,
        "run.py",
        "toolkit/runtime/session.py",
        "entries/sample.generate/fp32.onnx",
    ],
)
@pytest.mark.parametrize("where", [0.0, 0.5, 1.0])
def test_84_one_flipped_byte_is_refused_and_the_file_named(
    name: str, where: float, unpacked: Path
) -> None:
    data = bytearray((unpacked / name).read_bytes())
    data[int(where * (len(data) - 1))] ^= 1
    (unpacked / name).write_bytes(data)
    with pytest.raises(IntegrityError) as caught:
        selftest(unpacked)
    assert name in str(caught.value)
    assert caught.value.exit_code == 6
    with pytest.raises(IntegrityError):
        load(unpacked)


@pytest.mark.parametrize("where", [0.02, 0.3, 0.6])
def test_84_one_flipped_byte_of_a_zip_is_refused(
    where: float, bundle_zip: Path, tmp_path: Path
) -> None:
    data = bytearray(bundle_zip.read_bytes())
    data[int(where * len(data))] ^= 1
    (tmp_path / "flipped.zip").write_bytes(data)
    with pytest.raises(IntegrityError):
        selftest(tmp_path / "flipped.zip")


@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.999])
def test_a_truncated_zip_is_refused(kept: float, bundle_zip: Path, tmp_path: Path) -> None:
    data = bundle_zip.read_bytes()
    (tmp_path / "cut.zip").write_bytes(data[: int(kept * len(data)) if kept < 1 else kept])
    with pytest.raises(IntegrityError, match="not a zip"):
        load(tmp_path / "cut.zip")


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "../unpacked_evil/x",
        "/etc/x",
        "C:/x",
        "C:\\x",
        "a\\b",
        "a/../../x",
        "./x",
        "a//b",
        "\x1b[31m",
        "x" * 300,
    ],
)
def test_73_to_75_a_member_that_climbs_is_refused(
    name: str, bundle_zip: Path, tmp_path: Path
) -> None:
    path = rezip(bundle_zip, tmp_path / "evil.zip", extra=[(name, b"x")])
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(IntegrityError, match="may not stand in a bundle"):
        load(path)
    assert sorted(tmp_path.rglob("*")) == before


def test_76_a_member_that_is_a_link_is_refused(bundle_zip: Path, tmp_path: Path) -> None:
    path = rezip(bundle_zip, tmp_path / "evil.zip", extra=[(link("out"), b"/etc")])
    with pytest.raises(IntegrityError, match="link"):
        load(path)


def test_78_a_bomb_is_refused_before_it_unpacks(bundle_zip: Path, tmp_path: Path) -> None:
    bomb = zipfile.ZipInfo("bomb")
    bomb.compress_type = zipfile.ZIP_DEFLATED
    path = rezip(bundle_zip, tmp_path / "evil.zip", extra=[(bomb, bytes(32 << 20))])
    with pytest.raises(IntegrityError, match="would unpack to"):
        load(path)


def test_79_a_lying_size_is_refused(bundle_zip: Path, tmp_path: Path) -> None:
    data = bundle_zip.read_bytes()
    central = data.rindex(MODEL.encode()) - 46
    size = int.from_bytes(data[central + 24 : central + 28], "little")
    lying = data[: central + 24] + (size + 1).to_bytes(4, "little") + data[central + 28 :]
    (tmp_path / "lying.zip").write_bytes(lying)
    with pytest.raises(IntegrityError, match=MODEL):
        load(tmp_path / "lying.zip")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", [MODEL, MODEL.upper()])
def test_80_81_two_members_of_one_name_are_refused(
    name: str, bundle_zip: Path, tmp_path: Path
) -> None:
    path = rezip(bundle_zip, tmp_path / "evil.zip", extra=[(name, b"x")])
    with pytest.raises(IntegrityError, match="two files are called"):
        load(path)


def test_82_too_many_members_are_refused(
    bundle_zip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container, "MAX_FILES", 20)
    with pytest.raises(IntegrityError, match="more than 20 members"):
        load(bundle_zip)


def test_82_a_long_list_of_members_is_refused_before_it_is_read(tmp_path: Path) -> None:
    end = b"PK\x05\x06" + bytes(6) + (9).to_bytes(2, "little") + b"\xff" * 3 + bytes(7)
    (tmp_path / "evil.zip").write_bytes(b"x" * 100 + end)
    with pytest.raises(IntegrityError, match="list of members"):
        load(tmp_path / "evil.zip")


def test_83_86_an_extra_file_is_refused(unpacked: Path) -> None:
    (unpacked / "sitecustomize.py").write_text("")
    with pytest.raises(IntegrityError, match=r"sitecustomize.py is extra"):
        load(unpacked)


def test_85_a_missing_file_is_refused(unpacked: Path) -> None:
    (unpacked / MODEL).unlink()
    with pytest.raises(IntegrityError, match=f"{MODEL} is missing"):
        load(unpacked)


@pytest.mark.parametrize(
    "plant",
    [
        lambda path: path.symlink_to("/etc/passwd"),
        lambda path: os.mkfifo(path),
    ],
    ids=["link", "fifo"],
)
def test_a_special_file_in_the_folder_is_refused(
    plant: Callable[[Path], object], unpacked: Path
) -> None:
    (unpacked / MODEL).unlink()
    plant(unpacked / MODEL)
    with pytest.raises(IntegrityError, match="link or a special file"):
        load(unpacked)


@pytest.mark.parametrize("name", ["../x", "/x", "", ".", "a/", "a\\b", "a b", "é"])
def test_87_a_path_of_the_manifest_that_climbs_is_refused(
    name: str, unpacked: Path, edit: Any
) -> None:
    edit(lambda table: table["files"].update({name: table["files"][MODEL]}))
    with pytest.raises(IntegrityError, match="may not stand in a bundle"):
        load(unpacked)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'{"schema": 1, "schema": 1}', "twice"),
        (b'{"schema": NaN}', "not a number"),
        (b'{"schema": 1e400}', "out of range"),
        (b'{"schema": ' + b"1" * 5000 + b"}", "too many digits"),
        (b"[" * 100_000 + b"]" * 100_000, "recursion"),
        (b'\xef\xbb\xbf{"schema": 1}', "not valid JSON"),
        (b'{"schema": "\xff"}', "not valid JSON"),
        (b"[]", "not a JSON object"),
        (b" " * (5 << 20), "larger than"),
    ],
)
def test_88_to_90_odd_json_is_refused(text: bytes, reason: str, unpacked: Path) -> None:
    (unpacked / "manifest.json").write_bytes(text)
    with pytest.raises(IntegrityError, match=reason):
        open_bundle(unpacked)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schema": 2, "needs": "9.1"}, "needs toolkit >= 9.1"),
        ({"requires": ["teleport"]}, "needs the feature 'teleport'"),
        ({"kind": "cake"}, "not a bundle's"),
        ({"surprise": 1}, "unknown key 'surprise'"),
        ({"entries": {}}, "no entry"),
        ({"files": []}, "wrong type"),
        ({"k": True}, "wrong type"),
    ],
)
def test_91_another_schema_is_refused(
    change: dict[str, Any], reason: str, unpacked: Path, edit: Any
) -> None:
    edit(lambda table: table.update(change))
    with pytest.raises(IntegrityError) as caught:
        load(unpacked)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    "record",
    [
        {"md5": "0" * 32, "bytes": 307},
        {"sha256": "", "bytes": 307},
        {"sha256": "0" * 64, "bytes": -1},
        {"bytes": 307},
        "none",
    ],
)
def test_92_another_checksum_is_refused(record: Any, unpacked: Path, edit: Any) -> None:
    edit(lambda table: table["files"].update({MODEL: record}))
    with pytest.raises(IntegrityError, match=r"manifest|malformed"):
        load(unpacked)


def bounded(entry: str, **bounds: Any) -> Callable[[dict[str, Any]], object]:
    return lambda table: table["entries"][entry]["signature"]["inputs"][0].update(bounds)


def test_a_bundle_carries_the_domain_of_its_inputs(unpacked: Path, edit: Any) -> None:
    x = np.zeros((1, 4), np.float32)
    assert load(unpacked).log_prob(x + 9).shape == (1,)
    edit(bounded("log_prob", low=-0.5, high=3))
    session = load(unpacked)
    assert session.log_prob(x).shape == (1,)
    with pytest.raises(UsageError, match=r"the graph takes -0\.5 to 3"):
        session.log_prob(x + 9)


@pytest.mark.parametrize(
    "bounds",
    [{"low": 1.0, "high": 0.5}, {"low": "0"}, {"low": True}, {"dtype": "int64", "high": 1.5}],
)
def test_a_malformed_domain_is_refused(bounds: dict, unpacked: Path, edit: Any) -> None:
    edit(bounded("log_prob", **bounds))
    with pytest.raises(IntegrityError, match=r"malformed|wrong type"):
        load(unpacked)


def test_95_what_was_checked_is_what_is_loaded(unpacked: Path) -> None:
    session = load(unpacked)
    data = (unpacked / MODEL).read_bytes()
    (unpacked / MODEL).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(IntegrityError, match=f"{MODEL} was altered"):
        session.log_prob.graph  # noqa: B018


def test_a_manifest_of_an_unlisted_variant_is_refused(unpacked: Path, edit: Any) -> None:
    def change(table: dict[str, Any]) -> None:
        table["entries"]["log_prob"]["variants"]["fp32"]["file"] = "entries/other.onnx"

    edit(change)
    with pytest.raises(IntegrityError, match=r"no checksum of entries/other\.onnx"):
        load(unpacked)


@pytest.mark.parametrize("path", ["absent.zip", "/dev/null"])
def test_what_is_no_bundle_is_a_usage_error(path: str) -> None:
    with pytest.raises(UsageError):
        load(path)


def test_a_folder_without_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match=r"no manifest\.json"):
        load(tmp_path)


def test_zip_and_folder_hold_the_same(bundle_zip: Path, unpacked: Path) -> None:
    assert open_bundle(bundle_zip).manifest == open_bundle(unpacked).manifest
    assert open_bundle(bundle_zip).check() == open_bundle(unpacked).check()


def test_a_bundle_zipped_anew_is_read(unpacked: Path, tmp_path: Path) -> None:
    again = shutil.make_archive(str(tmp_path / "again"), "zip", unpacked)
    assert load(again).entries == ("log_prob", "sample.generate")


def test_the_manifest_has_one_spelling(unpacked: Path) -> None:
    data = (unpacked / "manifest.json").read_bytes()
    assert render(parse(data).table) == data
    with pytest.raises(IntegrityError, match="altered"):
        parse(data.replace(b"\n ", b"\n  ", 1))

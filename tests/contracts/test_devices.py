"""Every device tests good, wrong and damaged bundles, and outlives bad answers."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from toolkit.core import registry
from toolkit.core.errors import (
    InconclusiveError,
    IntegrityError,
    MissingError,
    TimedOut,
    ToolkitError,
    UsageError,
)
from toolkit.devices._process import Ended, read_answer
from toolkit.devices.ssh import Ssh

Make = Callable[..., object]
SSHD = shutil.which("sshd", path=os.environ["PATH"] + ":/usr/sbin")


@pytest.fixture(scope="session")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str | Path]]:
    """A real sshd on loopback: unprivileged port, own host key, own configuration."""
    if SSHD is None or shutil.which("ssh") is None:
        pytest.skip("no sshd here: apt-get install openssh-server openssh-client")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    root = tmp_path_factory.mktemp("sshd")
    for name in ("host", "user", "other"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", root / name]
        subprocess.run(command, check=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (root / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {root}/host\nPidFile none\n"
        f"AuthorizedKeysFile {root}/user.pub\nStrictModes no\nUsePAM no\n"
        "PasswordAuthentication no\nPermitRootLogin prohibit-password\n"
    )
    for known in ("host", "other"):
        key = (root / f"{known}.pub").read_text().split()[:2]
        (root / f"known_{known}").write_text(f"[127.0.0.1]:{port} {' '.join(key)}\n")
        (root / f"config_{known}").write_text(
            f"Host *\nIdentityFile {root}/user\nIdentitiesOnly yes\n"
            f"UserKnownHostsFile {root}/known_{known}\nGlobalKnownHostsFile /dev/null\n"
            "StrictHostKeyChecking yes\n"
        )
    log = (root / "log").open("wb")
    process = subprocess.Popen([SSHD, "-D", "-e", "-f", root / "sshd_config"], stderr=log)
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        else:
            pytest.skip(f"sshd does not start: {(root / 'log').read_text()[-300:]}")
        yield {"address": f"ssh://{getpass.getuser()}@127.0.0.1:{port}", "root": root}
    finally:
        process.terminate()
        process.wait()
        log.close()


@pytest.fixture(params=registry.devices.names())
def make(request: pytest.FixtureRequest) -> Make:
    """Make the device with an interpreter of the test's choice."""
    kind = registry.devices.load(request.param)
    if request.param != "ssh":
        return lambda python=sys.executable: kind(python=python)
    found = request.getfixturevalue("board")
    config = found["root"] / "config_host"
    return lambda python=sys.executable: kind(found["address"], python=python, config=config)


def fake(path: Path, script: str) -> str:
    """An interpreter that does as it pleases, at a path that needs quoting."""
    target = path / "a $(touch planted) 'python'"
    target.write_text(f'#!/bin/sh\ncase "$*" in *zipfile*) exit 0;; esac\n{script}\n')
    target.chmod(0o755)
    return str(target)


def test_a_good_bundle_passes(make: Make, bundle_zip: Path) -> None:
    answer = make().selftest(bundle_zip, timeout=60)
    assert answer["status"] == "ok"
    assert answer["exit_code"] == 0
    assert {item["check"] for item in answer["results"]} == {"checksums", "golden", "latency"}
    assert answer["machine"]["python"]


def test_a_wrong_bundle_fails(make: Make, wrong_zip: Path) -> None:
    answer = make().selftest(wrong_zip, timeout=60)
    assert (answer["status"], answer["exit_code"]) == ("failed", 1)


def test_a_damaged_bundle_does_not_travel(make: Make, bundle_zip: Path, tmp_path: Path) -> None:
    data = bytearray(bundle_zip.read_bytes())
    data[len(data) // 3] ^= 1
    (tmp_path / "bad.zip").write_bytes(data)
    with pytest.raises(IntegrityError):
        make().selftest(tmp_path / "bad.zip", timeout=60)


def test_what_never_ends_is_stopped(make: Make, bundle_zip: Path, tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    python = fake(tmp_path, f'echo $$ > "{marker}"; exec sleep 600')
    with pytest.raises(TimedOut) as caught:
        make(python).selftest(bundle_zip, timeout=1)
    assert caught.value.exit_code == 7
    assert not Path("/proc", marker.read_text().strip()).exists()
    assert not list(Path.cwd().glob("planted"))
    assert not list(Path.home().glob("planted"))


@pytest.mark.parametrize(
    "script",
    [
        "yes",
        "echo hello",
        "exit 0",
        'echo \'{"status": "ok", "results": []}\'',
        'echo \'{"status": "ok", "results": [{"status": "ok", "value": NaN}]}\'',
        'echo \'{"status": "failed", "results": [{"status": "failed"}]}\'',
        "printf '\\033[31m' >&2; exit 1",
    ],
)
def test_112_a_bad_answer_is_inconclusive(
    script: str, make: Make, bundle_zip: Path, tmp_path: Path
) -> None:
    with pytest.raises(InconclusiveError) as caught:
        make(fake(tmp_path, script)).selftest(bundle_zip, timeout=30)
    assert str(caught.value).isascii()
    assert "\033" not in str(caught.value)


def test_a_refusal_there_keeps_its_three_parts() -> None:
    document = b'{"error": "MissingError", "what": "w", "where": "h", "next": "n", "exit_code": 4}'
    with pytest.raises(ToolkitError, match="w") as caught:
        read_answer(Ended(4, document, b""), "board")
    assert caught.value.as_dict() | {"error": ""} == {
        "error": "",
        "what": "w",
        "where": "board: h",
        "next": "n",
        "exit_code": 4,
    }


@pytest.mark.parametrize(
    "address",
    [
        "ssh://-oProxyCommand=touch planted",
        "ssh://user@-oProxyCommand=x",
        "ssh://host name",
        "ssh://host;id",
        "ssh://$(id)",
        "ssh://-l@host",
        "host",
        "",
    ],
)
def test_113_an_address_that_is_an_option_is_refused(address: str, bundle_zip: Path) -> None:
    with pytest.raises(UsageError, match="cannot read the address"):
        Ssh(address).selftest(bundle_zip, timeout=1)


def test_113_a_changed_host_key_is_refused(board: dict, bundle_zip: Path) -> None:
    device = Ssh(board["address"], config=board["root"] / "config_other")
    with pytest.raises(MissingError, match=r"cannot be reached"):
        device.selftest(bundle_zip, timeout=10)


def test_a_board_that_is_off_is_missing(board: dict, bundle_zip: Path) -> None:
    device = Ssh("ssh://127.0.0.1:1", config=board["root"] / "config_host")
    with pytest.raises(MissingError, match="cannot be reached"):
        device.selftest(bundle_zip, timeout=10)


def test_a_board_without_python_is_missing(board: dict, bundle_zip: Path) -> None:
    device = Ssh(board["address"], python="/none/python", config=board["root"] / "config_host")
    with pytest.raises(MissingError, match="lacks Python"):
        device.selftest(bundle_zip, timeout=10)


def test_a_folder_is_not_sent(unpacked: Path) -> None:
    with pytest.raises(UsageError, match=r"folder"):
        Ssh("ssh://host").selftest(unpacked)


@pytest.fixture
def wrong_zip(unpacked: Path, tmp_path: Path) -> Path:
    """A bundle whose limits its own graph cannot meet, with right checksums."""
    import json

    from toolkit.runtime.manifest import render

    table = json.loads((unpacked / "manifest.json").read_text())
    table["entries"]["log_prob"]["variants"]["fp16"]["limits"]["log_prob"]["limit"] = 1e-9
    (unpacked / "manifest.json").write_bytes(render(table))
    with zipfile.ZipFile(tmp_path / "wrong.zip", "w") as archive:
        for path in sorted(unpacked.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(unpacked).as_posix())
    return tmp_path / "wrong.zip"

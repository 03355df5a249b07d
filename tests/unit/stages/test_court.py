import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from toolkit.core.errors import ExportError, TimedOut, ToolkitError
from toolkit.core.signature import Signature
from toolkit.stages._bench import contestant, court
from toolkit.stages._bench.contestant import Contestant, Worker
from toolkit.stages._bench.measurements import lost_of, rows_of, samples_of

FAKE = """
import os
import time

from toolkit.core.errors import ExportError


class Runner:
    settings = {"fake": True}

    def __init__(self, variant):
        self.word, _, number = variant.partition("-")
        self.loops = int(number or 1)
        self.calls = 0

    def prepare(self, feeds):
        assert feeds["x"].shape == (1,)
        return self.call

    def call(self):
        self.calls += 1
        if self.word == "dies" and self.calls > self.loops:
            os.kill(os.getpid(), 11)
        if self.word == "hangs":
            time.sleep(3600)
        if self.word == "spins":
            for _ in range(self.loops):
                pass

    def close(self):
        pass


class Backend:
    formats = ("onnx",)

    def open(self, artifact, **options):
        print("a library that prints")
        if artifact.variant == "refuses":
            raise ExportError("this graph is refused")
        if artifact.variant == "raises":
            raise ValueError("a defect")
        return Runner(artifact.variant)


backend = Backend()
"""


@pytest.fixture
def fake(tmp_path, monkeypatch):
    (tmp_path / "fake_backend.py").write_text(FAKE)
    monkeypatch.syspath_prepend(str(tmp_path))
    save_file({"x": np.zeros(1, np.float32)}, tmp_path / "feeds.safetensors")

    def contestant(variant):
        return Contestant(
            backend="fake_backend:backend",
            variant=variant,
            path="none",
            signature=Signature("entry", "", (), ()).as_dict(),
            feeds=str(tmp_path / "feeds.safetensors"),
        )

    return contestant


@pytest.fixture(autouse=True)
def short_warm_up(monkeypatch):
    monkeypatch.setattr(court, "WARM_UP", 0.05)


def test_a_planted_ratio_is_found_and_the_losers_are_named(fake):
    variants = ["refuses", "spins-20000", "dies-40", "spins-2000", "raises"]
    hearing = court.hold([fake(v) for v in variants], rounds=5, slot=0.01)
    assert hearing.baseline.contestant.variant == "spins-20000"
    ratio, _ = hearing.verdict(hearing.trials[3])
    assert ratio.low > 1.0
    lost = {item["variant"]: item["reason"] for item in lost_of(hearing, "entry", 1)}
    assert lost.keys() == {"refuses", "dies-40", "raises"}
    assert lost["refuses"] == "this graph is refused"
    assert "SIGSEGV" in lost["dies-40"]
    assert "ValueError: a defect" in lost["raises"]


def test_rows_and_samples_hold_every_trial(fake):
    hearing = court.hold([fake("spins-9000"), fake("spins-3000")], rounds=4, slot=0.01)
    rows = rows_of(hearing, "entry", 3)
    assert [row["role"] for row in rows] == ["contestant", "contestant", "noise"]
    assert rows[0]["verdict"] == "baseline"
    assert rows[2]["verdict"] == "undecided"
    assert all(row["noise_band"] == hearing.noise_band > 0 for row in rows)
    assert all(row["settings"] == {"fake": True} and row["rounds"] == 4 for row in rows)
    assert all(0 < row["peak_memory_bytes"] < 2**31 and row["cold_start_ms"] > 0 for row in rows)
    for row, sample in zip(rows, samples_of(hearing, "entry", 3), strict=True):
        assert row["count"] == sum(map(len, sample["wall_ns"])) == sum(map(len, sample["cpu_ns"]))
        assert row["throughput_per_s"] == pytest.approx(3000 / row["p50_ms"])


def test_without_a_twin_nothing_is_decided(fake):
    hearing = court.hold([fake("spins-20000"), fake("spins-200")], rounds=4, slot=0.01)
    hearing.twin.lost = "planted"
    assert hearing.noise_band is None
    assert hearing.verdict(hearing.trials[1])[1] == "undecided"


def test_long_calls_cut_the_rounds(fake, monkeypatch):
    monkeypatch.setattr(court, "PATIENCE", 0.0)
    hearing = court.hold([fake("spins-10")], rounds=50, slot=0.001)
    assert len(hearing.trials[0].slots) == court.FEWEST_ROUNDS


def test_a_contestant_that_hangs_is_killed(fake, tmp_path, monkeypatch):
    monkeypatch.setattr(contestant, "OPEN_LIMIT", 0.5)
    with Worker(fake("hangs"), tmp_path) as worker:
        with pytest.raises(TimedOut, match="did not answer"):
            worker.opened()
        assert worker._process.poll() is not None


def test_asking_the_dead_says_how_it_died(fake, tmp_path):
    with Worker(fake("dies-1"), tmp_path) as worker:
        worker.opened()
        with pytest.raises(ExportError, match="killed by SIGSEGV"):
            worker.slot(0.01)
        with pytest.raises(ToolkitError, match="killed by SIGSEGV"):
            worker.slot(0.01)


def test_the_child_does_not_count_the_parents_memory(fake, tmp_path):
    ballast = np.ones(400_000_000 // 8)
    with Worker(fake("spins-1"), tmp_path) as worker:
        worker.opened()
        assert worker.peak_memory_bytes < ballast.nbytes


PARENT = """
import sys, time
from pathlib import Path
from toolkit.stages._bench.contestant import Contestant, Worker
from toolkit.core.signature import Signature

signature = Signature("entry", "", (), ()).as_dict()
workers = [
    Worker(
        Contestant("fake_backend:backend", variant, "none", signature, sys.argv[1]),
        Path(sys.argv[2]),
    )
    for variant in ("hangs", "spins-1")
]
print(*(worker._process.pid for worker in workers), flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_orphans(fake, tmp_path, signal_number):
    feeds = fake("hangs").feeds
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, feeds, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with parent:
        children = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(children) == 2
        parent.send_signal(signal_number)
    deadline = time.monotonic() + 20
    while any(map(alive, children)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, children))


def alive(pid):
    """Whether a process runs: one that nobody has waited for is a zombie, not an orphan at work."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False

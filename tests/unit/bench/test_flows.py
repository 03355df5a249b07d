import importlib
import json
import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from toolkit.capture.capture import capture
from toolkit.capture.dynamo import Form

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "bench" / "flows.py"
CATALOGUE = """
import torch

from toolkit.core.entry import Entry, Input


class Affine(torch.nn.Module):
    def __init__(self, size):
        super().__init__()
        self.scale = torch.nn.Parameter(1 + torch.rand(size))

    def log_prob(self, x):
        return (self.scale.log() - (self.scale * x) ** 2 / 2).sum(-1)

    def entries(self):
        x = torch.linspace(-2, 2, 4 * len(self.scale)).reshape(4, -1)
        return [Entry("log_prob", "log_prob", [Input("x", x, dims=("batch", None))])]


FLOWS = {"affine d3": lambda: Affine(3), "broken": lambda: 1 / 0}
"""


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    folder = tmp_path / "catalogue"
    folder.mkdir()
    (folder / "tiny.py").write_text(CATALOGUE)
    return folder


@pytest.fixture
def flows(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(SCRIPT.parent)
    import _flows.judge
    import _flows.places

    return _flows


def run(catalogue: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    folder = catalogue.parent
    places = ("--catalogue", catalogue, "--out", folder / "flows.json", "--scratch", folder / "s")
    return subprocess.run(
        [sys.executable, SCRIPT, *places, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=180,
    )


def test_every_entry_has_a_row_with_both_peers_and_their_speeds(catalogue: Path) -> None:
    exported = run(catalogue)
    assert exported.returncode == 0, exported.stderr
    timed = run(catalogue, "--time", "--rounds", "4", "--slot", "0.01")
    assert timed.returncode == 0, timed.stderr
    saved = json.loads((catalogue.parent / "flows.json").read_text())
    row = saved["rows"]["tiny / affine d3 / log_prob"]
    for peer in ("ours", "plain"):
        assert row[peer]["ok"], row[peer]["reason"]
        assert set(row[peer]["errors"]) == {"7", "64", "1"}
        assert row[peer]["nodes"] > 0
    assert row["eager"]["ok"]
    slots = json.loads((catalogue.parent / "flows_slots.json").read_text())[
        "tiny / affine d3 / log_prob"
    ]
    for item in row["latency"]:
        assert len(slots[str(item["batch"])]["slot_medians_ns"]["ours"]) == 4
        assert item["over_plain"]["low"] <= item["over_plain"]["value"]
    broken = saved["rows"]["tiny / broken / (no entries)"]["ours"]
    assert not broken["ok"]
    assert "ZeroDivisionError" in broken["reason"]
    assert "tiny / broken / (no entries): ZeroDivisionError" in timed.stdout
    told = saved["summary"]["all"]["all"]
    assert (told["entries"], told["ours"], told["plain"]) == (2, 1, 1)


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        ("sum, range(10**12), limit=1", "did not finish within"),
        ("time.sleep, 60, limit=0.3", "did not finish within 1.8 s"),
        ("os.abort, limit=60", "no answer (killed by SIGABRT): "),
        ("int, 'seven', limit=60", "ValueError: invalid literal for int() with base 10: 'seven'"),
        ("int, '7', limit=60", "7"),
    ],
)
def test_child_answers_or_says_why_not(call: str, answer: str) -> None:
    lines = (
        "import os, time",
        "from _flows import child",
        f"try: print(child.call({call}))",
        "except Exception as error: print(error)",
    )
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (SCRIPT.parent, ROOT)))},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.startswith(answer), done.stderr


@pytest.mark.parametrize(
    ("told", "failed", "stale"),
    [
        (None, False, True),
        ({"ok": True, "source": "now"}, False, False),
        ({"ok": True, "source": "then"}, False, True),
        ({"ok": True, "source": "then"}, True, False),
        ({"ok": False, "source": "now"}, True, True),
    ],
)
def test_result_of_other_source_is_made_again(
    flows: ModuleType, told: dict[str, Any] | None, failed: bool, stale: bool
) -> None:
    options = Namespace(fresh=False, failed=failed)
    assert importlib.import_module("flows")._stale(told, "now", options) == stale


def test_wrong_graph_fails_parity(flows: ModuleType, catalogue: Path, tmp_path: Path) -> None:
    place = flows.places.Place(catalogue, "tiny", "affine d3", "log_prob")
    model, entry = flows.places.made(place)
    right, wrong = tmp_path / "right.onnx", tmp_path / "wrong.onnx"
    capture(model, entry, right)
    with torch.no_grad():
        model.scale += 0.01
    capture(model, entry, wrong)
    found = flows.judge.judge(place, {"ours": str(right), "plain": str(wrong)})
    assert found["ours"]["ok"]
    assert not found["plain"]["ok"]
    assert found["plain"]["reason"].startswith("batch 7: error")


def test_graph_of_one_batch_size_fails_parity(
    flows: ModuleType, catalogue: Path, tmp_path: Path
) -> None:
    place = flows.places.Place(catalogue, "tiny", "affine d3", "log_prob")
    model, entry = flows.places.made(place)
    capture(model, entry, tmp_path / "static.onnx", form=Form(static=True))
    found = flows.judge.judge(place, {"ours": str(tmp_path / "static.onnx")})
    assert found["ours"]["reason"].startswith("batch 7: does not run")


@pytest.mark.parametrize(
    ("got", "expected", "reason"),
    [
        ([1.0, 2.0], [1.0, 2.0], ""),
        ([1.0, np.inf], [1.0, np.inf], ""),
        ([[1.0, 2.0]], [1.0, 2.0], "shape [1, 2] instead of [2]"),
        ([1.0, np.nan], [1.0, 2.0], "infinite or NaN where eager is finite"),
        ([1.0, 2.0], [1.0, np.nan], "not infinite or NaN where eager is"),
        ([np.nan], [np.nan], "eager gives no finite number"),
    ],
)
def test_deviation_asks_for_shapes_and_what_is_not_finite(
    flows: ModuleType, got: list[float], expected: list[float], reason: str
) -> None:
    error, told = flows.judge.deviation(np.array(got), np.array(expected))
    assert told == reason
    assert (error == 0) == (not reason)


def test_deviation_is_relative_above_one(flows: ModuleType) -> None:
    error, _ = flows.judge.deviation(np.array([1001.0, 0.5]), np.array([1000.0, 0.4]))
    assert error == pytest.approx(0.1)

"""The table of a sweep: one line per entry, reasons as numbered notes."""

from __future__ import annotations

from toolkit.cli.sweep import _text
from toolkit.stages.sweep import KEPT_OUT, Cell, Swept


def swept(entry: str, *, ratio: float, reason: str = "") -> Swept:
    cells = {
        "exported": Cell("ok"),
        "fp16": Cell(KEPT_OUT, f"onnxruntime: slower than fp32: {ratio}x"),
        "tensorrt-rtx 8.6": Cell("ok", "2 of 2 built"),
        "tensorrt-rtx 8.9": Cell("ok", "1 of 2 built; out of memory"),
    }
    return Swept("flow", entry, "somewhere", cells, reason)


def test_reasons_that_differ_in_numbers_are_one_note() -> None:
    text = _text([swept("log_prob", ratio=0.9), swept("sample", ratio=0.75)])
    assert text.count(f"{KEPT_OUT} [1]") == 2
    assert "onnxruntime: slower than fp32: 0.75 to 0.9x" in text
    assert text.endswith("recipes: 1 · entries: 2 · failed: 0")


def test_all_built_needs_no_note_and_some_built_does() -> None:
    text = _text([swept("log_prob", ratio=0.9)])
    assert "2 of 2" not in text
    assert "ok [2]" in text
    assert "1 of 2 built; out of memory" in text


def test_a_run_that_ended_early_says_why() -> None:
    rows = [swept("log_prob", ratio=0.9), Swept("other", "", "", reason="train: loss is NaN")]
    text = _text(rows)
    assert "ended early" in text
    assert "train: loss is NaN" in text
    assert text.endswith("recipes: 2 · entries: 2 · failed: 1")

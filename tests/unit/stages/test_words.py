import math

import pytest

from toolkit.stages._report import words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (math.nan, "–"),
        (True, "–"),
        (0.0, "0"),
        (7, "7"),
        (-1234, "−1,234"),
        (0.012345, "0.0123"),
        (12.0, "12.0"),
        (99.96, "100"),
        (2_324_187.4, "2,324,187"),
        (3.14e-7, "3.14e−7"),
        (2e12, "2.00e12"),
        (-1e-10, "−1.00e−10"),
        (math.inf, "inf"),
    ],
)
def test_number(value, text):
    assert words.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (999, "999 B"), (1500, "1.50 kB"), (58_800, "58.8 kB"), (4e12, "4,000 GB")],
)
def test_size(value, text):
    assert words.size(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.04, "0.0 s"), (59.94, "59.9 s"), (59.96, "1 min 00 s"), (185, "3 min 05 s")],
)
def test_duration(value, text):
    assert words.duration(value) == text


def test_ratios_intervals_and_shares():
    assert words.times(2) == "2.00 ×"
    assert words.interval([2.314, 2.5]) == "2.31–2.50"
    assert words.interval(None) == words.interval([1.0, None]) == ""
    assert words.percent(0.0123) == "1.2 %"
    assert [words.change(value) for value in (3, -3, 0)] == ["+3", "−3", "0"]


def test_counts_agree_with_their_noun():
    assert words.counted(1, "pass") == "1 pass"
    assert words.counted(2, "pass") == "2 passes"
    assert words.counted(1200, "node") == "1,200 nodes"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mb", "a␛[31mb"),
        ("a\x00\x7f", "a␀␡"),
        ("a\x9b1m", "a\ufffd1m"),
        ("a\u202eb\u200b", "a\ufffdb\ufffd"),
        ("two\nlines\tø λ 漢", "two\nlines\tø λ 漢"),
    ],
)
def test_control_characters_are_seen(text, shown):
    assert words.clean(text) == shown


def test_charts_get_short_labels():
    assert words.short("onnxruntime\x1b fp32") == "onnxruntime␛ fp32"
    assert words.short("x" * 30) == "x" * 30
    assert words.short("x" * 31) == "x" * 29 + "…"

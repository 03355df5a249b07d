import math

import pytest

from toolkit.stages import _words


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
    assert _words.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (999, "999 B"), (1500, "1.50 kB"), (58_800, "58.8 kB"), (4e12, "4,000 GB")],
)
def test_size(value, text):
    assert _words.size(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.04, "0.0 s"), (59.94, "59.9 s"), (59.96, "1 min 00 s"), (185, "3 min 05 s")],
)
def test_duration(value, text):
    assert _words.duration(value) == text


def test_ratios_intervals_and_shares():
    assert _words.times(2) == "2.00 ×"
    assert _words.interval([2.314, 2.5]) == "2.31–2.50"
    assert _words.interval(None) == _words.interval([1.0, None]) == ""
    assert _words.percent(0.0123) == "1.2 %"
    assert [_words.change(value) for value in (3, -3, 0)] == ["+3", "−3", "0"]


def test_counts_agree_with_their_noun():
    assert _words.counted(1, "pass") == "1 pass"
    assert _words.counted(2, "pass") == "2 passes"
    assert _words.counted(1200, "node") == "1,200 nodes"


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
    assert _words.clean(text) == shown


def test_charts_get_short_labels():
    assert _words.short("onnxruntime\x1b fp32") == "onnxruntime␛ fp32"
    assert _words.short("x" * 30) == "x" * 30
    assert _words.short("x" * 31) == "x" * 29 + "…"

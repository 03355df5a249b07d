"""Which other sizes of its dynamic dimensions an entry is asked at."""

from __future__ import annotations

import torch

from toolkit.checks.sizes import others, sizes_of
from toolkit.core.entry import Entry, Input


def entry_of(dims: tuple[str | None, ...], shape: tuple[int, ...], **ranges: tuple) -> Entry:
    return Entry("forward", inputs=[Input("x", torch.zeros(shape), dims=dims)], ranges=ranges)


def test_one_dimension_is_asked_at_its_least_beside_the_example_and_far_beyond() -> None:
    entry = entry_of(("batch", "time"), (3, 20), time=(2, 20, 1000))
    asked = others(entry, sizes_of(entry))
    assert {name: sizes["time"] for name, sizes in asked.items()} == {
        "least": 2,
        "smaller": 17,
        "larger": 23,
        "far larger": 323,
    }


def test_two_dimensions_together_grow_as_far_as_one() -> None:
    entry = entry_of(("batch", "height", "width"), (3, 20, 30))
    far = others(entry, sizes_of(entry))["far larger"]
    assert far == {"height": 83, "width": 125}


def test_sizes_stay_within_the_range_keep_their_multiple_and_are_asked_once() -> None:
    entry = entry_of(("batch", "height"), (3, 8), height=(4, 8, 15, 4))
    asked = others(entry, sizes_of(entry))
    assert {name: sizes["height"] for name, sizes in asked.items()} == {
        "least": 4,
        "larger": 12,
    }


def test_a_fixed_entry_is_asked_at_no_other_size() -> None:
    entry = entry_of(("batch", None), (3, 8))
    assert others(entry, sizes_of(entry)) == {}

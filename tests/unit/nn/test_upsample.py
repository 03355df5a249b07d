from __future__ import annotations

import pytest
import torch

from toolkit.core.errors import UsageError
from toolkit.nn.upsample import BedOfNails, Nearest, Transposed, upsampler

KINDS = ("nearest", "bed_of_nails", "transposed")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("factor", [2, 4, 8])
def test_both_sides_grow_by_the_factor(kind, factor):
    up = upsampler(kind, 3, factor)
    assert up(torch.rand(2, 3, 5, 1)).shape == (2, 3, 5 * factor, factor)


def test_nearest_repeats_every_pixel():
    x = torch.rand(2, 3, 4, 5)
    expected = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.equal(Nearest(2)(x), expected)


def test_a_bed_of_nails_has_one_nail_per_square():
    x = torch.rand(2, 3, 4, 5) + 0.1
    y = BedOfNails(3, 3)(x)
    assert torch.equal(y[:, :, ::3, ::3], x)
    assert torch.equal((y != 0).sum((2, 3)), torch.full((2, 3), 20))


def test_a_transposed_convolution_starts_as_bilinear_interpolation():
    x = torch.rand(1, 2, 6, 6)
    expected = torch.nn.functional.interpolate(x, scale_factor=4, mode="bilinear")
    inside = (slice(None), slice(None), slice(4, -4), slice(4, -4))
    torch.testing.assert_close(Transposed(2, 4)(x)[inside], expected[inside])


@pytest.mark.parametrize(("kind", "factor"), [("bicubic", 2), ("transposed", 3)])
def test_another_kind_or_an_odd_transposed_factor_is_refused(kind, factor):
    with pytest.raises(UsageError, match="upsampling"):
        upsampler(kind, 3, factor)

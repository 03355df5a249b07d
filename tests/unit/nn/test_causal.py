import pytest
import torch

from toolkit.core.errors import UsageError
from toolkit.nn.causal import CausalConv1d, MaskedConv1d, RowCausalConv2d, colour_mask
from toolkit.nn.masked import MaskedConv2d
from toolkit.nn.recurrent import skew, unskew


def test_colours_read_earlier_colours_and_with_b_their_own():
    assert colour_mask("A", 3, 6, colours=3).tolist() == [
        [0, 0, 0],
        [0, 0, 0],
        [1, 0, 0],
        [1, 0, 0],
        [1, 1, 0],
        [1, 1, 0],
    ]
    assert colour_mask("B", 3, 3, colours=3).tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]


def test_the_blocks_of_a_gate_are_masked_alike():
    mask = colour_mask("B", 6, 12, colours=3, repeats=4)
    assert torch.equal(mask, colour_mask("B", 6, 3, colours=3).repeat(4, 1))


@pytest.mark.parametrize(
    "make",
    [
        lambda: colour_mask("A", 4, 3, colours=3),
        lambda: colour_mask("A", 3, 4, colours=3),
        lambda: colour_mask("B", 3, 9, colours=3, repeats=2),
        lambda: MaskedConv2d("B", 3, 4, 3, colours=3),
        lambda: MaskedConv1d("B", 2, 3, 2, repeats=2),
        lambda: RowCausalConv2d(1, 1, 2, 4),
    ],
)
def test_channels_and_kernels_that_do_not_fit_are_refused(make):
    with pytest.raises(UsageError) as raised:
        make()
    assert raised.value.next_step


@torch.no_grad()
def test_past_and_current_taps_add_up_to_the_last_output():
    conv = CausalConv1d(3, 4, 3, dilation=2).double()
    x = torch.randn(2, 3, 5, dtype=torch.float64)
    expected = conv(x)[:, :, -1]
    parts = conv.past(x[:, :, :4]), conv.current(x[:, :, 4])
    torch.testing.assert_close(parts[0] + parts[1], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 1, 1, 4), (1, 2, 5, 1)])
def test_skewed_pictures_hold_diagonals_as_columns(shape):
    x = torch.randn(shape)
    skewed = skew(x)
    height, width = shape[-2:]
    for row in range(height):
        assert torch.equal(skewed[:, :, row, row : row + width], x[:, :, row])
    assert torch.equal(unskew(skewed.permute(3, 0, 1, 2), width), x)

import pytest
import torch
from torch import nn

from toolkit.core.errors import UsageError
from toolkit.nn.masked import CausalLayer, MaskedConv2d


def moved_outputs(layer, y, x):
    """Return the output pixels that change when input pixel (y, x) changes."""
    picture = torch.randn(1, layer.in_channels, 7, 7)
    other = picture.clone()
    other[:, :, y, x] += 1
    with torch.no_grad():
        moved = (layer(picture) != layer(other)).any(1)[0]
    return {(int(row), int(column)) for row, column in moved.nonzero()}


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("kind", ["A", "B"])
def test_reads_exactly_the_taps_it_names(kind, kernel):
    torch.manual_seed(0)
    layer = MaskedConv2d(kind, 2, 3, kernel)
    expected = {
        (3 - dy, 3 - dx)
        for dy in range(-(kernel // 2), 1)
        for dx in range(-(kernel // 2), kernel // 2 + 1)
        if (dy, dx) < ((0, 0) if kind == "A" else (0, 1))
    }
    assert moved_outputs(layer, 3, 3) == expected
    assert {(3 - dy, 3 - dx) for dy, dx in layer.taps()} == expected


def test_dead_taps_get_no_gradient():
    layer = MaskedConv2d("B", 1, 4, 3)
    layer(torch.randn(2, 1, 5, 5)).square().sum().backward()
    alive = layer.mask.bool()
    assert (layer.weight.grad[:, :, ~alive] == 0).all()
    assert (layer.weight.grad[:, :, alive] != 0).all()


def test_weight_itself_is_left_alone():
    layer = MaskedConv2d("A", 1, 4, 3)
    before = layer.weight.detach().clone()
    layer(torch.randn(2, 1, 5, 5))
    assert torch.equal(layer.weight, before)
    assert torch.equal(layer.masked_weight(), before * layer.mask)


@pytest.mark.parametrize("kernel", [0, 2, 4])
def test_refuses_a_kernel_without_a_middle(kernel):
    with pytest.raises(UsageError, match="middle"):
        MaskedConv2d("A", 1, 1, kernel)


def test_layer_adds_its_input_where_residual():
    conv = MaskedConv2d("B", 3, 3, 3)
    x = torch.randn(2, 3, 5, 5)
    plain = CausalLayer(conv, nn.ReLU(), residual=False)(x)
    assert torch.equal(plain, conv(x).relu())
    assert torch.equal(CausalLayer(conv, nn.ReLU(), residual=True)(x), x + plain)

import pytest
import torch
from torch import nn

from toolkit.core.errors import ExportError
from toolkit.models.pixelcnn import PixelCNN
from toolkit.nn.masked import CausalLayer, MaskedConv2d
from toolkit.schedules._stack import causal_stack


@pytest.fixture
def stack():
    return PixelCNN(levels=3, height=4, width=4, channels=4, layers=1)


def test_accepts_a_chain_of_causal_layers(stack):
    assert causal_stack(stack) is stack


def test_refuses_a_model_without_a_description():
    with pytest.raises(ExportError, match="does not describe itself") as raised:
        causal_stack(nn.Linear(2, 2))
    assert raised.value.next_step


def test_refuses_other_layers(stack):
    stack.layers = lambda: [nn.ReLU()]
    with pytest.raises(ExportError, match="does not describe itself"):
        causal_stack(stack)


def test_refuses_a_tap_on_a_later_pixel(stack):
    stack.stack[1].conv.mask = torch.ones(3, 3)
    with pytest.raises(ExportError, match="4 pixels that come later") as raised:
        causal_stack(stack)
    assert raised.value.where == "layer 1 of 4"


def test_refuses_a_first_layer_that_reads_its_own_pixel(stack):
    stack.stack[0].conv.mask[3, 3] = 1
    with pytest.raises(ExportError, match="reads the pixel whose law"):
        causal_stack(stack)


def test_refuses_a_residual_around_the_first_layer(stack):
    conv = MaskedConv2d("A", 1, 3, 3)
    stack.layers = lambda: [CausalLayer(conv, nn.Identity(), residual=True)]
    with pytest.raises(ExportError, match="reads the pixel whose law"):
        causal_stack(stack)


def test_refuses_colour(stack):
    stack.stack[0] = CausalLayer(MaskedConv2d("A", 3, 4, 3), nn.ReLU(), residual=False)
    with pytest.raises(ExportError, match="from 3 channels to 3"):
        causal_stack(stack)

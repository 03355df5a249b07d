import copy

import pytest
import torch
from torch import nn

from toolkit.models.pixelcnn import PixelCNN
from toolkit.nn.masked import CausalLayer, MaskedConv2d
from toolkit.schedules.wavefront import Wavefront


class Uneven(nn.Module):
    """A stack with layers of several kernels, no bias in one, a learnt activation, no head."""

    levels, height, width = 3, 5, 7

    def __init__(self):
        super().__init__()
        first = MaskedConv2d("A", 1, 6, 5)
        first.bias = None
        self.stack = nn.Sequential(
            CausalLayer(first, nn.PReLU(6), residual=False),
            CausalLayer(MaskedConv2d("B", 6, 6, 5), nn.Tanh(), residual=True),
            CausalLayer(MaskedConv2d("A", 6, 4, 3), nn.GLU(1), residual=False),
            CausalLayer(MaskedConv2d("B", 2, 3, 5), nn.Identity(), residual=False),
        )

    layers = PixelCNN.layers
    embed = PixelCNN.embed
    forward = PixelCNN.forward
    sample = PixelCNN.sample


def gumbel(*shape, seed=0):
    uniform = torch.rand(*shape, generator=torch.Generator().manual_seed(seed))
    return -(-uniform.clamp(1e-7, 1 - 1e-7).log()).log()


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return PixelCNN(levels=5, height=6, width=6, channels=6, layers=2).eval()


@torch.no_grad()
@pytest.mark.parametrize("seed", range(4))
def test_a_stack_of_uneven_layers_draws_the_same(seed):
    torch.manual_seed(seed)
    stack = Uneven().eval()
    noise = gumbel(35, 4, 3, seed=seed)
    assert torch.equal(Wavefront(stack)(noise), stack.sample(noise))


@torch.no_grad()
@pytest.mark.parametrize("order", ["double then schedule", "schedule then double"])
def test_draws_the_same_in_float64(model, order):
    plain = copy.deepcopy(model).double()
    sampler = Wavefront(plain) if order.startswith("double") else Wavefront(model).double()
    noise = gumbel(36, 4, 5).double()
    assert torch.equal(sampler(noise), plain.sample(noise))


@torch.no_grad()
def test_one_forward_pass_gives_every_index_back(model):
    noise = gumbel(36, 16, 5)
    levels = Wavefront(model)(noise)
    shifted = noise.reshape(6, 6, 16, 5).permute(2, 3, 0, 1)
    logits = model(model.embed(levels))
    assert torch.equal((logits + shifted).argmax(1, keepdim=True), levels)


def test_shares_no_tensor_with_the_model(model):
    own = {tensor.data_ptr() for tensor in Wavefront(model).state_dict().values()}
    assert own.isdisjoint(tensor.data_ptr() for tensor in model.state_dict().values())


def test_needs_no_gradient():
    assert not [p for p in Wavefront(Uneven()).parameters() if p.requires_grad]

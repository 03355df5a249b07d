import copy

import pytest
import torch
from torch import nn

from toolkit.core.entry import Autoregressive
from toolkit.core.errors import ExportError
from toolkit.models.pixelcnn import PixelCNN
from toolkit.nn.masked import CausalLayer, MaskedConv2d
from toolkit.schedules.wavefront import schedule


class Uneven(nn.Module):
    """A stack with layers of several kernels, no bias in one, a learnt activation, no head."""

    levels, height, width = 3, 5, 7

    def __init__(self):
        super().__init__()
        first = MaskedConv2d("A", 1, 6, 5)
        first.bias = None
        self.stack = nn.Sequential(
            CausalLayer(first, nn.LeakyReLU(0.2), residual=False),
            CausalLayer(MaskedConv2d("B", 6, 6, 5), nn.Tanh(), residual=True),
            CausalLayer(MaskedConv2d("A", 6, 4, 3), nn.GELU(), residual=False),
            CausalLayer(MaskedConv2d("B", 4, 3, 5), nn.Identity(), residual=False),
        )

    embed = PixelCNN.embed
    forward = PixelCNN.forward
    sample = PixelCNN.sample
    entries = PixelCNN.entries


def declared(model) -> Autoregressive:
    return next(item for item in model.entries() if isinstance(item, Autoregressive))


def laid_out(model):
    return schedule(model, declared(model)).generate


def gumbel(*shape, seed=0):
    uniform = torch.rand(*shape, generator=torch.Generator().manual_seed(seed))
    return -(-uniform.clamp(1e-7, 1 - 1e-7).log()).log()


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return PixelCNN(levels=5, height=6, width=6, channels=6, layers=2).eval()


@torch.no_grad()
@pytest.mark.parametrize("seed", range(2))
def test_a_stack_of_uneven_layers_draws_the_same(seed):
    torch.manual_seed(seed)
    stack = Uneven().eval()
    noise = gumbel(35, 4, 3, seed=seed)
    assert torch.equal(laid_out(stack)(noise), stack.sample(noise))


@torch.no_grad()
def test_draws_the_same_in_float64(model):
    noise = gumbel(36, 4, 5).double()
    expected = copy.deepcopy(model).double().sample(noise)
    assert torch.equal(laid_out(model).double()(noise), expected)


@torch.no_grad()
def test_one_forward_pass_gives_every_index_back(model):
    noise = gumbel(36, 16, 5)
    levels = laid_out(model)(noise)
    shifted = noise.reshape(6, 6, 16, 5).permute(2, 3, 0, 1)
    logits = model(model.embed(levels))
    assert torch.equal((logits + shifted).argmax(1, keepdim=True), levels)


def test_shares_no_tensor_with_the_model(model):
    own = {tensor.data_ptr() for tensor in laid_out(model).state_dict().values()}
    assert own.isdisjoint(tensor.data_ptr() for tensor in model.state_dict().values())


def test_needs_no_gradient(model):
    assert not [p for p in laid_out(model).parameters() if p.requires_grad]


def test_refuses_a_picture_on_which_it_gains_too_little():
    narrow = PixelCNN(levels=3, height=6, width=4, channels=4, layers=1).eval()
    with pytest.raises(ExportError, match="pays below") as raised:
        laid_out(narrow)
    assert raised.value.next_step

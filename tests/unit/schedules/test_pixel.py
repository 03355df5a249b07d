import pytest
import torch
from torch import nn

from toolkit.core.entry import Autoregressive
from toolkit.models.gated_pixelcnn import GatedPixelCNN
from toolkit.models.pixelcnn import PixelCNN
from toolkit.schedules._pixel import pixel_step


def declared(model: nn.Module) -> Autoregressive:
    return next(item for item in model.entries() if isinstance(item, Autoregressive))


def laid_out(model):
    torch.manual_seed(0)
    model = model.eval()
    return model, pixel_step(model, declared(model))


GREY = {"levels": 5, "height": 3, "width": 6, "channels": 6, "layers": 1}


@torch.no_grad()
@pytest.mark.parametrize(
    "model",
    [PixelCNN(**GREY), GatedPixelCNN(**GREY, colours=3, first_kernel=3)],
    ids=["grey", "coloured"],
)
def test_steps_give_the_whole_forward(model):
    model, step = laid_out(model)
    x = torch.rand(3, *declared(model).input.shape[1:])
    whole = model(x).reshape(3, 5, -1, 3, 6).transpose(1, 2).flatten(1, 2)
    states = step.zeros(3)
    for place in range(18):
        pixel = x[:, :, place // 6, place % 6]
        logits, *states = step(pixel, torch.tensor(place), *states)
        assert torch.allclose(logits, whole[:, :, place // 6, place % 6], atol=1e-5)


@torch.no_grad()
def test_its_examples_are_states_after_some_pixels():
    _, step = laid_out(PixelCNN(**GREY))
    x, place, *states = step.inputs()
    assert x.shape == (2, 1)
    assert int(place.value) == 5
    assert all(state.value.any() for state in states)
    assert len(step(*(item.value for item in (x, place, *states)))) == len(step.outputs())


def test_there_is_none_where_a_row_begins_before_the_row_above_is_complete():
    _, step = laid_out(GatedPixelCNN(levels=3, height=4, width=4, channels=4, layers=3))
    assert step is None

"""Every schedule draws what the plain loop draws, index for index, in eager and as one graph."""

import onnxruntime
import pytest
import torch
from torch.export import Dim

from toolkit.core.errors import ExportError
from toolkit.core.registry import schedules
from toolkit.models.pixelcnn import PixelCNN

NAMES = schedules.names()
SHAPES = [
    {"height": 8, "width": 8},
    {"height": 5, "width": 11, "layers": 1},
    {"height": 11, "width": 4, "layers": 3, "levels": 2},
    {"height": 7, "width": 6, "layers": 0, "first_kernel": 3},
    {"height": 6, "width": 9, "first_kernel": 3, "kernel": 5},
    {"height": 1, "width": 9},
    {"height": 9, "width": 1},
]


def make(**arguments):
    """Return a network whose head is sharp, so that what it has read decides its levels."""
    torch.manual_seed(0)
    model = PixelCNN(**{"levels": 5, "channels": 8, "layers": 2, **arguments}).eval()
    with torch.no_grad():
        model.stack[-1].conv.weight *= 8
    return model


def gumbel(model, batch, seed=1):
    shape = (model.height * model.width, batch, model.levels)
    uniform = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    return -(-uniform.clamp(1e-7, 1 - 1e-7).log()).log()


def export(module, noise):
    """Return an ONNX Runtime session of the module with a dynamic batch."""
    torch._dynamo.reset()
    dims = ({1: Dim("batch", min=1, max=1024)},)
    with torch.no_grad():
        program = torch.export.export(module, (noise,), dynamic_shapes=dims, strict=False)
        onnx = torch.onnx.export(
            program, dynamo=True, opset_version=20, input_names=["noise"], verbose=False
        )
    return onnxruntime.InferenceSession(
        onnx.model_proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )


def hidden_taps(module):
    """Return the past weights of every layer but the first."""
    return [layer.past for layer in module.layers[1:] if layer.past is not None]


@torch.no_grad()
@pytest.mark.parametrize("batch", [1, 16])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_draws_what_the_plain_loop_draws(name, shape, batch):
    model = make(**shape)
    noise = gumbel(model, batch)
    expected = model.sample(noise)
    drawn = schedules.load(name)(model)(noise)
    assert drawn.dtype == torch.int64
    assert torch.equal(drawn, expected)
    assert len(expected.unique()) > 1


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_one_parallel_pass_gives_every_index_back(name):
    model = make()
    noise = gumbel(model, 16)
    levels = schedules.load(name)(model)(noise)
    by_pixel = noise.permute(1, 2, 0).reshape(16, model.levels, model.height, model.width)
    again = (model(model.embed(levels)) + by_pixel).argmax(1, keepdim=True)
    assert torch.equal(again, levels)


@torch.no_grad()
@pytest.mark.parametrize("shape", [SHAPES[0], SHAPES[1]], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_the_exported_graph_draws_the_same_at_every_batch(name, shape):
    model = make(**shape)
    session = export(schedules.load(name)(model), gumbel(model, 2))
    for batch in (1, 3, 16):
        noise = gumbel(model, batch, seed=batch)
        (drawn,) = session.run(None, {"noise": noise.numpy()})
        assert torch.equal(torch.from_numpy(drawn), model.sample(noise))


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_the_exported_graph_holds_one_scan_and_no_loop_unrolled(name):
    small, large = make(height=5, width=5), make(height=10, width=5)
    module = schedules.load(name)
    torch._dynamo.reset()
    counts = []
    for model in (small, large):
        program = torch.export.export(module(model), (gumbel(model, 2),), strict=False)
        targets = [str(node.target) for node in program.graph.nodes]
        assert targets.count("scan") == 1
        counts.append(len(targets))
    assert counts[0] == counts[1]


@torch.no_grad()
@pytest.mark.parametrize("tap", range(4))
@pytest.mark.parametrize("name", NAMES)
def test_a_dropped_tap_is_noticed(name, tap):
    model = make()
    noise = gumbel(model, 16)
    module = schedules.load(name)(model)
    assert torch.equal(module(noise), model.sample(noise))
    weight = hidden_taps(module)[0]
    channels = weight.shape[0] // 4
    weight[tap * channels : (tap + 1) * channels] = 0
    assert not torch.equal(module(noise), model.sample(noise))


@pytest.mark.parametrize("name", NAMES)
def test_refuses_what_it_cannot_schedule(name):
    with pytest.raises(ExportError) as raised:
        schedules.load(name)(torch.nn.Conv2d(1, 5, 3, padding=1))
    assert raised.value.where
    assert raised.value.next_step

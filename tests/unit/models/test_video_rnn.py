from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch

from toolkit.capture.capture import capture
from toolkit.core.errors import UsageError
from toolkit.core.folder import RunFolder
from toolkit.core.recipe import load_recipe
from toolkit.models.video_rnn import VideoRNN
from toolkit.stages import train


def make(**arguments):
    torch.manual_seed(0)
    sizes = {"classes": 3, "size": 8, "frames": 4, "width": 2, "features": 5, "hidden": 4}
    return VideoRNN(**{**sizes, **arguments}).eval()


def films(batch, frames, size=8):
    return torch.rand(batch, frames, 1, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_stepping_from_frame_to_frame_equals_the_full_forward(cell):
    model, x = make(cell=cell, layers=2).double(), films(3, 5).double()
    states = model.recurrence.blank(x, 3)
    for frame in x.unbind(1):
        logits, *states = model.step(frame, *states)
    torch.testing.assert_close(logits, model(x))


def test_the_order_of_the_frames_matters():
    model, x = make(), films(2, 4)
    assert not torch.allclose(model(x.flip(1)), model(x))


def test_any_number_of_frames_fits_the_graph(tmp_path):
    model = make()
    capture(model, model.entries()[0], tmp_path / "forward.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "forward.onnx"))
    for batch, frames in ((1, 7), (3, 2), (2, 1)):
        x = films(batch, frames)
        with torch.no_grad():
            expected = model(x)
        np.testing.assert_allclose(
            session.run(None, {"x": x.numpy()})[0], expected.numpy(), atol=1e-6
        )


def test_the_full_size_is_the_published_one():
    with torch.device("meta"):
        model = VideoRNN(size="full")
    assert (model.frames, model.shape) == (16, (3, 224, 224))
    assert model.recurrence.layers.input_size == 4096
    assert model.recurrence.layers.hidden_size == 256


def test_a_size_that_cannot_be_halved_so_often_is_an_error():
    with pytest.raises(UsageError, match="cannot be halved 2 times"):
        VideoRNN(size=10)


@pytest.mark.slow
def test_the_full_size_exports(tmp_path):
    model = VideoRNN(size="full").eval()
    entry = model.entries()[0]
    capture(model, entry, tmp_path / "forward.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "forward.onnx"))
    x = entry.inputs[0].value
    with torch.no_grad():
        expected = model(x)
    np.testing.assert_allclose(session.run(None, {"x": x.numpy()})[0], expected.numpy(), atol=1e-5)


@pytest.mark.slow
def test_the_recipe_tells_the_directions_apart(tmp_path):
    metrics = train.run(load_recipe("video_rnn"), RunFolder(tmp_path)).detail["metrics"]
    assert metrics["accuracy"] > 97

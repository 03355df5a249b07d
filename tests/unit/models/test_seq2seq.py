from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch

from toolkit.capture.capture import capture
from toolkit.core.folder import RunFolder
from toolkit.core.recipe import load_recipe
from toolkit.data import number_words
from toolkit.models.seq2seq import Seq2Seq
from toolkit.stages import train
from toolkit.stages._model import load_model

SIZES = {
    "source_tokens": 6,
    "target_tokens": 5,
    "source_length": 4,
    "target_length": 3,
    "embedding": 3,
    "hidden": 4,
}


def make(**arguments):
    torch.manual_seed(0)
    return Seq2Seq(**{**SIZES, **arguments}).double().eval()


def tokens(count, *shape, low=0):
    return torch.randint(low, count, shape, generator=torch.Generator().manual_seed(1))


def noise(*shape):
    uniform = torch.rand(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return -torch.log(-torch.log(uniform))


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("layers", [1, 2])
def test_stepping_equals_the_full_forward(cell, layers):
    model = make(cell=cell, layers=layers)
    x, target = tokens(6, 2, 7), tokens(5, 2, 4)
    memory, *states = model.encode(x)
    token, given = torch.zeros(2, dtype=torch.int64), []
    for known in target.unbind(1):
        logits, *states = model.step(token, x, memory, *states)
        given.append(logits)
        token = known
    torch.testing.assert_close(torch.stack(given, 1), model(x, target))


def test_what_fills_up_a_source_changes_nothing():
    model, x, target = make(), tokens(6, 2, 5, low=1), tokens(5, 2, 3)
    longer = torch.cat([x, torch.zeros(2, 3, dtype=torch.int64)], 1)
    torch.testing.assert_close(model(longer, target), model(x, target))
    assert torch.equal(model.generate(longer, noise(4, 2, 5)), model.generate(x, noise(4, 2, 5)))


def test_every_source_word_matters_to_every_later_one():
    model, x, target = make(), tokens(6, 1, 5, low=1), tokens(5, 1, 3)
    for place in range(5):
        other = x.clone()
        other[0, place] = x[0, place] % 5 + 1
        assert not torch.allclose(model(other, target), model(x, target))


def test_a_law_sees_the_target_words_before_it_alone():
    model, x, target = make(), tokens(6, 1, 5), tokens(5, 1, 4)
    other = target.clone()
    other[0, 2] = (target[0, 2] + 1) % 5
    difference = (model(x, other) - model(x, target)).abs().sum((0, 2))
    assert torch.equal(difference[:3], torch.zeros(3).double())
    assert difference[3] > 0


def test_both_lengths_of_the_graphs_are_free(tmp_path):
    model = make().float()
    for entry in model.entries():
        if entry.name in ("forward", "generate"):
            capture(model, entry, tmp_path / f"{entry.name}.onnx")
    forward, generate = (
        onnxruntime.InferenceSession(str(tmp_path / f"{name}.onnx"))
        for name in ("forward", "generate")
    )
    for batch, source, target in ((1, 9, 2), (3, 2, 8)):
        x, known = tokens(6, batch, source), tokens(5, batch, target)
        drawn = noise(target, batch, 5).float()
        with torch.no_grad():
            logits, words = model(x, known), model.generate(x, drawn)
        (given,) = forward.run(None, {"x": x.numpy(), "target": known.numpy()})
        np.testing.assert_allclose(given, logits.numpy(), atol=1e-6)
        (given,) = generate.run(None, {"x": x.numpy(), "noise": drawn.numpy()})
        np.testing.assert_array_equal(given, words.numpy())


def test_the_full_size_is_the_published_one():
    with torch.device("meta"):
        model = Seq2Seq(size="full")
    layers = model.decoder.layers
    assert (model.target.embedding_dim, layers.hidden_size, layers.num_layers) == (1000, 1000, 4)


@pytest.mark.slow
def test_the_full_size_exports(tmp_path):
    model = Seq2Seq(size="full").eval()
    for entry in model.entries():
        capture(model, entry, tmp_path / "entry.onnx")
        session = onnxruntime.InferenceSession(str(tmp_path / "entry.onnx"))
        given = {item.name: item.value for item in entry.inputs}
        with torch.no_grad():
            expected = getattr(model, entry.call)(*given.values())
        first = expected[0] if isinstance(expected, tuple) else expected
        answer = session.run(None, {key: value.numpy() for key, value in given.items()})[0]
        np.testing.assert_allclose(answer, first.numpy(), atol=1e-5)


@pytest.mark.slow
def test_the_recipe_learns_to_translate_numbers(tmp_path):
    recipe, folder = load_recipe("seq2seq"), RunFolder(tmp_path)
    assert train.run(recipe, folder).detail["metrics"]["exact"] > 98
    model = load_model(recipe, folder)
    words = [number_words.ENGLISH.index(word) for word in number_words.english(765_432)]
    drawn = model.generate(torch.tensor([words]), torch.zeros(12, 1, model.target_tokens))
    text = " ".join(number_words.GERMAN[token] for token in drawn[0]).strip()
    assert text == " ".join(number_words.german(765_432))

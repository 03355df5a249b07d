from __future__ import annotations

import itertools

import numpy as np
import onnxruntime
import pytest
import torch

from toolkit.capture.capture import capture
from toolkit.core import registry
from toolkit.core.errors import UsageError
from toolkit.core.folder import RunFolder
from toolkit.core.recipe import load_recipe
from toolkit.stages import train

CELLS = ("rnn", "lstm", "gru")
FULL = {"rnn": (500, 500, 1), "lstm": (1500, 1500, 2), "gru": (100, 1000, 1)}


def make(name, **arguments):
    torch.manual_seed(0)
    sizes = {"tokens": 5, "embedding": 3, "hidden": 4, "layers": 2, "code": 3, "length": 6}
    classes = 3 if arguments.get("head") == "label" else 0
    return registry.models.load(name)(**{"classes": classes, **sizes, **arguments}).double().eval()


def tokens(*shape, low=0):
    return torch.randint(low, 5, shape, generator=torch.Generator().manual_seed(1))


def gumbel(*shape):
    uniform = torch.rand(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return -torch.log(-torch.log(uniform))


def stepped(model, sequence, states):
    """Return the logits of every step, `(batch, time, classes)`."""
    given = []
    for token in sequence.unbind(1):
        logits, *states = model.step(token, *states)
        given.append(logits)
    return torch.stack(given, 1)


@pytest.mark.parametrize("name", CELLS)
def test_stepping_equals_the_full_forward(name):
    model, x = make(name), tokens(3, 6)
    zeros = model.recurrence.blank(torch.zeros(1).double(), 3)
    torch.testing.assert_close(stepped(model, x, zeros), model(x))
    assert not torch.allclose(stepped(model, x, [zero + 0.1 for zero in zeros]), model(x))


@pytest.mark.parametrize("name", CELLS)
def test_stepping_from_a_code_equals_the_captions_forward(name):
    model, target = make(name, head="caption"), tokens(3, 6)
    code = torch.rand(3, 3, generator=torch.Generator().manual_seed(3)).double()
    known = torch.cat([torch.zeros(3, 1, dtype=torch.int64), target[:, :-1]], 1)
    torch.testing.assert_close(stepped(model, known, model.encode(code)), model(code, target))


@pytest.mark.parametrize("name", CELLS)
def test_a_label_is_read_at_the_last_word_however_long_the_filling(name):
    model, x = make(name, head="label"), tokens(3, 6, low=1)
    longer = torch.cat([x, torch.zeros(3, 4, dtype=torch.int64)], 1)
    zeros = model.recurrence.blank(torch.zeros(1).double(), 3)
    torch.testing.assert_close(model(longer), model(x))
    steps = stepped(model, longer, zeros)
    torch.testing.assert_close(steps[:, -1], model(x))
    torch.testing.assert_close(steps[:, 5], model(x))
    assert not torch.allclose(steps[:, 4], model(x))


@pytest.mark.parametrize("name", CELLS)
def test_generating_equals_a_whole_forward_per_token(name):
    model, noise = make(name), gumbel(7, 3, 5)
    known = torch.zeros(3, 1, dtype=torch.int64)
    for row in noise:
        token = (model(known)[:, -1] + row).argmax(1, keepdim=True)
        known = torch.cat([known, token], 1)
    assert torch.equal(model.generate(noise), known[:, 1:])


@pytest.mark.parametrize("name", CELLS)
def test_the_probabilities_of_all_sequences_sum_to_one(name):
    model = make(name, tokens=3)
    every = torch.tensor(list(itertools.product(range(3), repeat=4)))
    torch.testing.assert_close(model.log_prob(every).exp().sum(), torch.tensor(1.0).double())


@pytest.mark.parametrize("name", CELLS)
def test_tags_are_given_but_not_generated(name):
    model = make(name, classes=2)
    assert model(tokens(3, 6)).shape == (3, 6, 2)
    assert [entry.name for entry in model.entries()] == ["forward", "step"]


@pytest.mark.parametrize("name", CELLS)
def test_the_full_size_is_the_published_one(name):
    with torch.device("meta"):
        model = registry.models.load(name)(size="full")
    layers = model.recurrence.layers
    assert (model.embedding.embedding_dim, layers.hidden_size, layers.num_layers) == FULL[name]


@pytest.mark.parametrize("arguments", [{"head": "tree"}, {"head": "label", "classes": 0}])
def test_a_head_that_is_none_is_an_error(arguments):
    with pytest.raises(UsageError, match="is no model"):
        registry.models.load("gru")(**arguments)


def graph_of(model, name, path):
    entry = next(entry for entry in model.entries() if entry.name == name)
    captured = capture(model, entry, path / "entry.onnx")
    session = onnxruntime.InferenceSession(str(path / "entry.onnx"))
    return captured, lambda **feeds: session.run(None, feeds)


@pytest.mark.parametrize(
    ("name", "head"), [("rnn", "aligned"), ("gru", "caption"), ("lstm", "label")]
)
def test_any_length_is_one_recurrent_operator_per_layer(name, head, tmp_path):
    model = make(name, head=head).float()
    captured, run = graph_of(model, "forward", tmp_path)
    operators = [node.op_type for node in captured.made.graph.graph]
    assert operators.count(name.upper()) == 2
    for batch, time in ((1, 9), (4, 2), (2, 1)):
        x = tokens(batch, time)
        feeds = {"x": torch.rand(batch, 3), "target": x} if head == "caption" else {"x": x}
        with torch.no_grad():
            expected = model(*feeds.values())
        (logits,) = run(**{key: value.numpy() for key, value in feeds.items()})
        np.testing.assert_allclose(logits, expected.numpy(), atol=1e-6)


def test_generating_any_length_is_one_loop(tmp_path):
    model = make("lstm").float()
    captured, run = graph_of(model, "generate", tmp_path)
    assert "Scan" in [node.op_type for node in captured.made.graph.graph]
    for batch, time in ((1, 9), (4, 2)):
        noise = gumbel(time, batch, 5).float()
        with torch.no_grad():
            expected = model.generate(noise)
        np.testing.assert_array_equal(run(noise=noise.numpy())[0], expected.numpy())


@pytest.mark.slow
@pytest.mark.parametrize("name", CELLS)
def test_the_full_size_exports(name, tmp_path):
    model = registry.models.load(name)(size="full").eval()
    _, run = graph_of(model, "step", tmp_path)
    entry = next(entry for entry in model.entries() if entry.name == "step")
    given = {item.name: item.value for item in entry.inputs}
    with torch.no_grad():
        expected = model.step(*given.values())[0]
    logits = run(**{key: value.numpy() for key, value in given.items()})[0]
    np.testing.assert_allclose(logits, expected.numpy(), atol=1e-5)


def metrics_of(recipe, folder):
    return train.run(load_recipe(recipe), RunFolder(folder)).detail["metrics"]


@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "bits"), [("rnn", 3.0), ("lstm", 3.0)])
def test_the_recipes_predict_letters(recipe, bits, tmp_path):
    assert metrics_of(recipe, tmp_path)["bits_per_dim"] < bits


@pytest.mark.slow
def test_the_recipe_spells_the_digits_names(tmp_path):
    assert metrics_of("gru", tmp_path)["exact"] > 95


@pytest.mark.slow
def test_the_recipe_reads_the_sentiment(tmp_path):
    assert metrics_of("sentiment", tmp_path)["accuracy"] > 99

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor, nn

import toolkit
from toolkit.capture.capture import capture
from toolkit.core import registry
from toolkit.core.errors import UsageError
from toolkit.core.folder import RunFolder
from toolkit.core.protocols import Data
from toolkit.core.recipe import load_recipe
from toolkit.data.digits import dataset
from toolkit.nn.distances import sliced_wasserstein
from toolkit.stages import train
from toolkit.stages._model import load_model

NAMES = ("gan", "wgan")
SAMPLES = 1000
DISTANCE = {"gan": 1.25, "wgan": 1.35}
NEAREST = 1.45


@pytest.fixture(scope="module")
def digits() -> Data:
    return dataset()


def distance_ratio(x: Tensor, data: Data, *, draws: int = 10) -> float:
    """Return how far samples are from the held-out digits, in units of training digits' own."""
    held_out, others = data.test["x"], data.train["x"]
    generator = torch.Generator().manual_seed(0)

    def distance(cloud: Tensor) -> float:
        orders = [torch.randperm(len(cloud), generator=generator) for _ in range(draws)]
        chosen = (cloud[order[: len(held_out)]] for order in orders)
        return sum(float(sliced_wasserstein(some, held_out)) for some in chosen)

    return distance(x) / distance(others)


def nearest_ratio(x: Tensor, data: Data) -> float:
    """Return how far samples are from the nearest training digit, in units of held-out digits'."""
    train, held_out = data.train["x"].flatten(1), data.test["x"].flatten(1)
    found, usual = (torch.cdist(cloud, train).amin(1) for cloud in (x.flatten(1), held_out))
    return float(found.median() / usual.median())


def shares(x: Tensor, data: Data) -> Tensor:
    """Return which share of the samples is nearest to each of the ten digits."""
    judge = KNeighborsClassifier(1).fit(data.train["x"].flatten(1), data.train["label"])
    return torch.from_numpy(judge.predict(x.flatten(1))).bincount(minlength=10) / len(x)


def test_digits_themselves_are_as_near_as_digits_are_and_hit_every_class(digits):
    x = digits.train["x"][:SAMPLES]
    assert distance_ratio(x, digits) == pytest.approx(1, abs=0.05)
    assert shares(x, digits).min() > 0.07


@pytest.mark.parametrize("kept", [1, 5, 9])
def test_a_generator_that_collapsed_is_noticed(digits, kept):
    x = digits.train["x"][digits.train["label"] < kept]
    x = x[torch.arange(SAMPLES) % len(x)]
    assert int((shares(x, digits) > 0.02).sum()) == kept
    assert distance_ratio(x, digits) > 1.02 + 0.1 * (10 - kept)


def test_blurred_digits_are_noticed(digits):
    blurred = nn.functional.avg_pool2d(digits.train["x"], 3, stride=1, padding=1)
    assert distance_ratio(blurred, digits) > 2


def test_a_normal_law_of_the_digits_own_mean_and_covariance_is_noticed(digits):
    train = digits.train["x"].flatten(1)
    factor = torch.linalg.cholesky(train.T.cov() + 1e-4 * torch.eye(64))
    noise = torch.randn(SAMPLES, 64, generator=torch.Generator().manual_seed(0))
    x = (train.mean(0) + noise @ factor.T).clamp(0, 1).reshape(-1, 1, 8, 8)
    assert distance_ratio(x, digits) > 1.8
    assert nearest_ratio(x, digits) > NEAREST + 0.05


@pytest.mark.parametrize("name", NAMES)
def test_noise_is_the_only_input_of_a_generator_and_pixels_lie_in_the_unit_interval(name):
    model = registry.models.load(name)().eval()
    (entry,) = [entry for entry in model.entries() if entry.name == "generate"]
    (noise,) = entry.inputs
    assert (noise.kind, noise.law) == ("noise", "normal")
    with torch.no_grad():
        x, again = (model.generate(100 * noise.value) for _ in range(2))
        assert torch.equal(x, again)
        assert x.min() >= 0
        assert x.max() <= 1
        assert model.discriminate(x).shape == (len(x),)


def test_only_the_discriminator_of_a_gan_normalises_its_batches():
    def normalised(model: nn.Module) -> bool:
        return any(isinstance(part, nn.BatchNorm2d) for part in model.discriminator.modules())

    gan, wgan = (registry.models.load(name) for name in NAMES)
    assert normalised(gan())
    assert not normalised(gan(batch_norm=False))
    assert not normalised(wgan())


@pytest.mark.parametrize(
    ("name", "latent", "widths"),
    [("gan", 100, [1024, 512, 256, 128, 3]), ("wgan", 128, [512, 256, 128, 64, 3])],
)
def test_the_full_size_has_the_papers_dimensions(name, latent, widths):
    with torch.device("meta"):
        model = registry.models.load(name)(size="full")
        ups = [part for part in model.generator if isinstance(part, nn.ConvTranspose2d)]
        downs = [part for part in model.discriminator if isinstance(part, nn.Conv2d)]
        assert model.noise_shape == (latent,)
        assert [ups[0].in_channels, *(up.out_channels for up in ups)] == widths
        assert [downs[0].in_channels, *(down.out_channels for down in downs)] == widths[::-1]
        assert {part.kernel_size for part in [*ups, *downs]} == {(5, 5)}
        assert model.generate(torch.zeros(2, latent)).shape == (2, 3, 64, 64)
        assert model.discriminate(torch.zeros(2, 3, 64, 64)).shape == (2,)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("gan", {"instance_noise": -0.1}),
        ("gan", {"size": "huge"}),
        ("gan", {"widths": [8, 8, 8, 8]}),
        ("wgan", {"shape": (1, 8, 9)}),
        ("wgan", {"penalty": -1.0}),
        ("wgan", {"latent": -1}),
    ],
)
def test_arguments_out_of_range_are_refused(name, arguments):
    with pytest.raises(UsageError):
        registry.models.load(name)(**arguments)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_published_size_exports(name, tmp_path):
    torch.manual_seed(0)
    model = registry.models.load(name)(size="full").eval()
    for entry in model.entries():
        path = tmp_path / f"{entry.name}.onnx"
        capture(model, entry, path)
        (given,), (output,) = entry.inputs, entry.outputs
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        found = session.run([output], {given.name: given.value[:2].numpy()})[0]
        with torch.no_grad():
            expected = getattr(model, entry.call)(given.value[:2]).numpy()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_recipe_and_its_exported_graph_draw_digits_of_every_class(name, digits, tmp_path):
    recipe, folder = load_recipe(name), RunFolder(tmp_path / "run")
    train.run(recipe, folder)
    model = load_model(recipe, folder)
    entries = [entry for entry in model.entries() if entry.name == "generate"]
    toolkit.export(model, entries, tmp_path / "exported")
    session = toolkit.load(tmp_path / "exported")
    noise = torch.randn(SAMPLES, *model.noise_shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        eager = model.generate(noise)
    exported = torch.from_numpy(session.generate(noise=noise.numpy()))
    assert distance_ratio(exported, digits) < DISTANCE[name]
    assert nearest_ratio(exported, digits) < NEAREST
    assert shares(exported, digits).min() > 0.03
    assert distance_ratio(exported, digits) == pytest.approx(
        distance_ratio(eager, digits), abs=1e-3
    )

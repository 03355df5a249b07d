from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from matplotlib.image import imread
from onnx import TensorProto, helper

from toolkit.core.case import Case, save_cases
from toolkit.core.errors import UsageError
from toolkit.core.folder import RunFolder
from toolkit.core.protocols import Data
from toolkit.core.signature import Signature, TensorSpec
from toolkit.stages.sample import draw, save, suffix_of

# The miniature sampler adds Gumbel noise to these logits and takes the largest.
LOGITS = np.random.default_rng(1).normal(size=(3, 1, 5)).astype(np.float32)[:, 0]
PICTURES = np.linspace(0, 1, 3 * 64, dtype=np.float32).reshape(3, 1, 8, 8)
POINTS = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)


def sampler_run(root: Path, inputs: tuple[TensorSpec, ...], batch: int | str) -> RunFolder:
    """A run whose `sample` gives the sum of its inputs."""
    names = [spec.name for spec in inputs]
    graph = helper.make_graph(
        [helper.make_node("Sum", names, ["x"])],
        "sampler",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 2]) for name in names],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 2])],
    )
    folder = RunFolder(root)
    folder.entry("sample").mkdir(parents=True)
    file = "entries/sample/exported.onnx"
    opset = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), root / file)
    output = TensorSpec("x", "float32", (batch, 2), kind="output")
    ranges = {"batch": (1, 8, 64)} if batch == "batch" else {}
    signature = Signature("sample", "flow", inputs, (output,), ranges)
    entries = {"sample": {"signature": signature.as_dict(), "file": file}}
    result = {"files": [], "family": "flow", "entries": entries}
    folder.record("export", {"status": "ok", "reason": "", "result": result})
    return folder


def noise(batch: int | str, law: str = "normal") -> TensorSpec:
    return TensorSpec("noise", "float32", (batch, 2), kind="noise", law=law)


def test_draws_as_many_as_asked_along_the_batch(mini_run):
    drawn = draw(mini_run, count=5, seed=3)
    assert {name: array.shape for name, array in drawn.items()} == {"sample": (5, 3)}


def test_same_seed_same_samples(mini_run):
    first, again, other = (draw(mini_run, count=64, seed=seed)["sample"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_noise_follows_the_law_of_the_signature(mini_run):
    drawn = draw(mini_run, count=20_000)["sample"]
    wanted = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
    found = np.stack([(drawn == level).mean(0) for level in range(5)], axis=1)
    np.testing.assert_allclose(found, wanted, atol=0.015)


def test_beyond_the_largest_batch_the_noise_is_new(tmp_path):
    run = sampler_run(tmp_path / "run", (noise("batch"),), "batch")
    drawn = draw(run, count=150)["x"]
    assert len(np.unique(drawn[:, 0])) == len(drawn) == 150


def test_a_fixed_batch_is_run_as_often_as_needed(tmp_path):
    run = sampler_run(tmp_path / "run", (noise(4, "uniform"),), 4)
    drawn = draw(run, count=6)["x"]
    assert drawn.shape == (6, 2)
    assert len(np.unique(drawn)) == 12
    assert drawn.min() >= 0
    assert drawn.max() < 1


def test_contexts_are_the_golden_ones(tmp_path):
    context = TensorSpec("context", "float32", ("batch", 2), kind="context")
    run = sampler_run(tmp_path / "run", (noise("batch"), context), "batch")
    real = {"noise": np.zeros((3, 2), np.float32), "context": np.full((3, 2), 1e6, np.float32)}
    save_cases(run.entry("sample") / "golden.safetensors", [Case("parity", "real", real)])
    drawn = draw(run, count=8)["x"]
    assert (np.abs(drawn - 1e6) < 10).all()
    assert len(np.unique(drawn)) > 8


def test_the_rewritten_graph_is_preferred_and_any_variant_can_be_named(mini_run):
    (mini_run.entry("sample.generate") / "exported.onnx").unlink()
    assert draw(mini_run, count=2)["sample"].shape == (2, 3)
    with pytest.raises(UsageError, match="no variant 'fp33'") as caught:
        draw(mini_run, variant="fp33")
    assert "fp32" in caught.value.next_step


def test_a_run_without_sampler_says_so(mini_run):
    manifest = mini_run.manifest()
    del manifest["stages"]["export"]["result"]["entries"]["sample.generate"]
    mini_run.record("export", manifest["stages"]["export"])
    with pytest.raises(UsageError, match="has no sample entry") as caught:
        draw(mini_run)
    assert caught.value.where == "entries: log_prob"


def test_no_samples_is_an_error(mini_run):
    with pytest.raises(UsageError, match="cannot draw 0"):
        draw(mini_run, count=0)


@pytest.mark.parametrize("array", [PICTURES, POINTS], ids=["pictures", "points"])
@pytest.mark.parametrize("suffix", [".npz", ".png", ".txt"])
def test_same_samples_same_bytes(tmp_path, array, suffix):
    for name in ("a", "b"):
        save({"x": array}, tmp_path / f"{name}{suffix}")
    first, second = ((tmp_path / f"{name}{suffix}").read_bytes() for name in ("a", "b"))
    assert first == second
    save({"x": array[:2]}, tmp_path / f"b{suffix}")
    assert (tmp_path / f"b{suffix}").read_bytes() != first


def test_npz_holds_every_array(tmp_path):
    save({"x": POINTS, "log_det": POINTS[:, 0]}, tmp_path / "samples.npz")
    with np.load(tmp_path / "samples.npz") as archive:
        np.testing.assert_array_equal(archive["x"], POINTS)
        np.testing.assert_array_equal(archive["log_det"], POINTS[:, 0])


def test_pictures_become_a_grid_of_whole_pixels(tmp_path):
    save({"x": PICTURES}, tmp_path / "grid.png")
    grid = imread(tmp_path / "grid.png")
    assert grid.shape == (102, 102, 4)
    np.testing.assert_allclose(grid[3:48:6, 3:48:6, 0], PICTURES[0, 0], atol=1 / 255)
    np.testing.assert_allclose(grid[3:48:6, 57:102:6, 0], PICTURES[1, 0], atol=1 / 255)
    assert (grid[48:54, :, 3] == 0).all()
    assert (grid[54:, 54:, 3] == 0).all()


def test_whole_levels_are_scaled_by_the_data(tmp_path):
    levels = np.full((1, 1, 8, 8), 8)
    data = Data({"x": torch.zeros(1, 1, 8, 8)}, {"x": torch.zeros(1, 1, 8, 8)}, levels=17)
    save({"x": levels}, tmp_path / "grid.png", data=data)
    assert imread(tmp_path / "grid.png")[0, 0, 0] == pytest.approx(0.5, abs=1 / 255)


def test_points_lie_over_the_data(tmp_path):
    save({"x": POINTS}, tmp_path / "alone.png")
    data = Data({"x": torch.zeros(1, 2)}, {"x": torch.full((50, 2), 4.0)})
    save({"x": POINTS}, tmp_path / "over.png", data=data)
    alone, over = (imread(tmp_path / f"{name}.png") for name in ("alone", "over"))
    assert alone.shape == over.shape
    assert not np.array_equal(alone, over)


def test_text_has_a_line_per_sample(tmp_path):
    save({"x": POINTS}, tmp_path / "points.txt")
    np.testing.assert_allclose(np.loadtxt(tmp_path / "points.txt"), POINTS, rtol=1e-5)


def test_text_shades_a_grey_picture(tmp_path):
    save({"x": PICTURES}, tmp_path / "shades.txt")
    lines = (tmp_path / "shades.txt").read_text().splitlines()
    assert len(lines) == 3 * 9
    darkness = [" .:-=+*#%@".index(line[0]) for line in lines if line.strip()]
    assert all(before <= after for before, after in pairwise(darkness))
    assert darkness[-1] == 9


@pytest.mark.parametrize(
    ("symbols", "text"),
    [
        (("", "a", "b"), "ab\nb\n"),
        (("", "two ", "and "), "two and\nand\n"),
        (("\n", "a", "b"), "ab\n\nb\n\n"),
        (("", "a"), "1 2 0\n2 0 0\n"),
    ],
    ids=["letters", "words", "lines", "a token without symbol"],
)
def test_tokens_become_the_text_of_the_datas_symbols(tmp_path, symbols, text):
    data = Data({"x": torch.zeros(1, 3)}, {"x": torch.zeros(1, 3)}, symbols=symbols)
    tokens = np.array([[1, 2, 0], [2, 0, 0]])
    save({"x": tokens}, tmp_path / "x.txt", data=data)
    assert (tmp_path / "x.txt").read_text() == text


@pytest.mark.parametrize(
    ("array", "suffix"),
    [
        (PICTURES, ".png"),
        (POINTS, ".png"),
        (np.zeros((4, 7)), ".npz"),
        (np.zeros((4, 7), np.int64), ".txt"),
        (np.full((4, 7), 9), ".npz"),
    ],
)
def test_the_suffix_suits_the_samples(array, suffix):
    data = Data({"x": torch.zeros(1, 3)}, {"x": torch.zeros(1, 3)}, symbols=("a", "b"))
    assert suffix_of({"x": array}, data=data) == suffix


@pytest.mark.parametrize(
    ("array", "name", "message"),
    [
        (POINTS, "x.wav", "cannot be saved as .wav"),
        (POINTS, "x", "without suffix"),
        (np.zeros((4, 7)), "x.png", "no pictures and no points"),
        (np.zeros((4, 2), np.int64), "x.png", "no pictures and no points"),
    ],
)
def test_what_cannot_be_saved_leaves_no_file(tmp_path, array, name, message):
    with pytest.raises(UsageError, match=message):
        save({"x": array}, tmp_path / name)
    assert not list(tmp_path.iterdir())

from __future__ import annotations

import gzip
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from toolkit.core.errors import IntegrityError, UsageError
from toolkit.data._folder import dataset

DRAWS = np.random.default_rng(0)


def pictures(count: int, *shape: int) -> np.ndarray:
    return DRAWS.integers(0, 256, (count, *shape), dtype=np.uint8)


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_mnist(folder: Path, *, compressed: bool = False) -> dict[str, np.ndarray]:
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {}
    for part, count in (("train", 12), ("t10k", 5)):
        arrays[f"{part}-images-idx3-ubyte"] = pictures(count, 28, 28)
        arrays[f"{part}-labels-idx1-ubyte"] = pictures(count) % 10
    for name, array in arrays.items():
        if compressed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
        else:
            (folder / name).write_bytes(idx(array))
    return arrays


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("inside", ["", "MNIST/raw"])
def test_mnist_is_read_as_it_was_written(tmp_path, compressed, inside):
    arrays = write_mnist(tmp_path / inside, compressed=compressed)
    data = dataset(str(tmp_path))
    for part, name in (("train", "train"), ("test", "t10k")):
        x, label = getattr(data, part)["x"], getattr(data, part)["label"]
        images = arrays[f"{name}-images-idx3-ubyte"]
        assert np.array_equal((x * 255).round().numpy()[:, 0], images)
        assert np.array_equal(label.numpy(), arrays[f"{name}-labels-idx1-ubyte"])
    assert data.levels == 256
    assert data.train["x"].dtype == torch.float32


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00\x00\x08\x03",
        b"\x00\x00\x0d\x03" + bytes(12),
        idx(pictures(12, 28, 28))[:-1],
        idx(pictures(12, 28, 28)) + b"\x00",
        struct.pack(">BBBBIII", 0, 0, 8, 3, 2**31, 2**31, 2**31),
    ],
)
def test_a_damaged_idx_file_is_refused(tmp_path, content):
    write_mnist(tmp_path)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(IntegrityError, match="cannot be read"):
        dataset(str(tmp_path))


@pytest.mark.parametrize("content", [b"no gzip", gzip.compress(bytes(999), mtime=0)[:-9]])
def test_a_damaged_compressed_file_is_refused(tmp_path, content):
    write_mnist(tmp_path, compressed=True)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(content)
    with pytest.raises(IntegrityError, match="cannot be read"):
        dataset(str(tmp_path))


def test_labels_and_pictures_of_different_number_are_refused(tmp_path):
    write_mnist(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(pictures(11)))
    with pytest.raises(IntegrityError, match="11 labels for 12 pictures"):
        dataset(str(tmp_path))


@pytest.mark.parametrize(("labels", "names"), [(1, "data_batch_{}.bin"), (2, "train.bin")])
def test_cifars_binary_version_is_read_as_it_was_written(tmp_path, labels, names):
    folder = tmp_path / "cifar-batches-bin"
    folder.mkdir()
    rows = {name: pictures(4, labels + 3072) for name in {names.format(1), names.format(2)}}
    rows["test_batch.bin" if labels == 1 else "test.bin"] = pictures(3, labels + 3072)
    for name, array in rows.items():
        (folder / name).write_bytes(array.tobytes())
    data = dataset(str(tmp_path))
    train = np.concatenate([rows[name] for name in sorted(rows) if not name.startswith("test")])
    assert np.array_equal(
        (data.train["x"] * 255).round().numpy().reshape(len(train), -1), train[:, labels:]
    )
    assert np.array_equal(data.train["label"].numpy(), train[:, labels - 1])
    assert data.test["x"].shape == (3, 3, 32, 32)


def test_a_broken_cifar_file_is_refused(tmp_path):
    (tmp_path / "data_batch_1.bin").write_bytes(bytes(3072))
    with pytest.raises(IntegrityError, match="records of 3073"):
        dataset(str(tmp_path))


def test_cifars_pickles_are_never_loaded(tmp_path):
    class Hostile:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    (tmp_path / "data_batch_1").write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(UsageError, match="pickles") as caught:
        dataset(str(tmp_path))
    assert "binary version" in caught.value.next_step
    assert not (tmp_path / "ran").exists()


def test_folders_of_classes_are_numbered_by_name_in_both_parts(tmp_path):
    arrays = {}
    for part, count in (("train", 3), ("test", 2)):
        for name in ("cat", "ant"):
            for index in range(count):
                arrays[part, name, index] = array = pictures(1, 6, 5, 3)[0]
                save(tmp_path / part / name / f"{index}.png", array)
    data = dataset(str(tmp_path))
    assert data.train["label"].tolist() == [0, 0, 0, 1, 1, 1]
    assert data.test["label"].tolist() == [0, 0, 1, 1]
    assert data.train["x"].shape == (6, 3, 6, 5)
    first = (data.train["x"][3] * 255).round().numpy().transpose(1, 2, 0)
    assert np.array_equal(first, arrays["train", "cat", 0])


def test_classes_without_parts_are_split_and_repeatably_so(tmp_path):
    for name in ("a", "b"):
        for index in range(10):
            save(tmp_path / name / f"{index}.png", pictures(1, 4, 4)[0])
    data, again = dataset(str(tmp_path)), dataset(str(tmp_path))
    assert (len(data.train["x"]), len(data.test["x"])) == (16, 4)
    assert torch.equal(data.test["x"], again.test["x"])
    rows = {tuple(x.flatten().tolist()) for x in [*data.train["x"], *data.test["x"]]}
    assert len(rows) == 20
    assert len(dataset(str(tmp_path), test=7).test["x"]) == 7
    assert not torch.equal(dataset(str(tmp_path), seed=1).test["x"], data.test["x"])


def test_a_flat_folder_has_no_labels(tmp_path):
    for index in range(10):
        save(tmp_path / f"{index}.png", pictures(1, 4, 4)[0])
    data = dataset(str(tmp_path))
    assert set(data.train) == {"x"}
    assert data.train["x"].shape == (8, 1, 4, 4)


def test_pictures_of_different_sizes_and_modes_are_brought_to_one(tmp_path):
    save(tmp_path / "wide.png", np.full((8, 20, 3), 100, np.uint8))
    save(tmp_path / "tall.png", np.full((20, 8), 100, np.uint8))
    with pytest.raises(UsageError, match="different sizes"):
        dataset(str(tmp_path))
    data = dataset(str(tmp_path), size=8, test=1)
    assert data.train["x"].shape == (1, 3, 8, 8)
    torch.testing.assert_close(data.train["x"], torch.full((1, 3, 8, 8), 100 / 255))
    assert dataset(str(tmp_path), size=8, test=1, grey=True).test["x"].shape == (1, 1, 8, 8)


def test_options_scale_limit_and_dequantise(tmp_path):
    arrays = write_mnist(tmp_path)
    data = dataset(str(tmp_path), size=14, limit=3)
    assert data.train["x"].shape == (3, 1, 14, 14)
    noisy = dataset(str(tmp_path), dequantize=True).train["x"]
    levels = arrays["train-images-idx3-ubyte"]
    assert ((noisy * 256).floor().numpy()[:, 0] != levels).mean() < 1e-3
    assert noisy.max() < 1


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda folder: None, "no pictures"),
        (lambda folder: (folder / "train" / "a").mkdir(parents=True), "no pictures"),
        (lambda folder: save(folder / "0.png", pictures(1, 2, 2)[0]), "cannot be held out"),
    ],
)
def test_too_little_says_so(tmp_path, make, what):
    make(tmp_path)
    with pytest.raises(UsageError, match=what):
        dataset(str(tmp_path))


def test_a_class_that_only_the_held_out_part_has_is_refused(tmp_path):
    save(tmp_path / "train" / "a" / "0.png", pictures(1, 2, 2)[0])
    save(tmp_path / "test" / "b" / "0.png", pictures(1, 2, 2)[0])
    with pytest.raises(UsageError, match="'b'"):
        dataset(str(tmp_path))


def test_a_damaged_picture_is_refused(tmp_path):
    for index in range(6):
        save(tmp_path / f"{index}.png", pictures(1, 4, 4)[0])
    (tmp_path / "3.png").write_bytes(b"no picture")
    with pytest.raises(IntegrityError, match="cannot be read"):
        dataset(str(tmp_path))


def test_deep_pictures_are_refused(tmp_path):
    save(tmp_path / "0.png", np.zeros((4, 4), np.uint16))
    with pytest.raises(UsageError, match="8 bits"):
        dataset(str(tmp_path))


def test_no_folder_and_negative_options_are_refused(tmp_path):
    with pytest.raises(UsageError, match="no such folder"):
        dataset(str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match="negative"):
        dataset(str(tmp_path), size=-1)

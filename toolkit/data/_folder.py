"""Pictures in a local folder: MNIST's files, CIFAR's binary ones, or one folder per class."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.core.errors import UsageError
from toolkit.core.protocols import Data
from toolkit.data import _cifar, _idx
from toolkit.data._pictures import Options, Part, as_data, labels, stacked

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
)
TRAIN_NAMES, TEST_NAMES = ("train", "training"), ("test", "val", "valid", "validation")


def dataset(path: str, **options: Any) -> Data:
    """Load the pictures of a folder as `x` of shape `(samples, channels, height, width)`.

    Taken are MNIST's IDX files (also compressed), CIFAR-10's and CIFAR-100's binary ones, in the
    folder itself or in one inside it, and picture files: `train/<class>/*` and `test/<class>/*`,
    or `<class>/*`, or without classes. Classes are numbered in the order of their names.

    Arguments:
        path: The folder.
        options: Those of `Options`: size, grey, dequantize, draws, test, limit,
            seed.

    Raises:
        UsageError: There is no such folder, or nothing in it that is known.
        IntegrityError: A file is damaged.
    """
    root, chosen = Path(path).expanduser(), Options(**options)
    if not root.is_dir():
        raise UsageError(
            "there is no such folder", where=str(root), next_step="write it like folder:path/to/it"
        )
    parts = _files(root) or _picture_folders(root, chosen)
    train = parts.get("train")
    if train is None:
        raise UsageError(
            "no pictures to train on are known here",
            where=str(root),
            next_step="give MNIST's IDX files, CIFAR's .bin files, or <class>/<picture>.png",
        )
    return as_data(train, parts.get("test"), chosen)


def _files(root: Path) -> dict[str, Part]:
    inside = [path for path in sorted(root.rglob("*")) if path.is_dir()]
    for folder in (root, *inside):
        for read in (_idx.read_folder, _cifar.read_folder):
            if parts := read(folder):
                return parts
    return {}


def _picture_folders(root: Path, options: Options) -> dict[str, Part]:
    train = next((root / name for name in TRAIN_NAMES if (root / name).is_dir()), root)
    test = next((root / name for name in TEST_NAMES if (root / name).is_dir()), None)
    classes = [path.name for path in _folders(train)]
    parts = {}
    for name, folder in (("train", train), ("test", test if train != root else None)):
        if folder is not None and (part := _read(folder, classes, options)):
            parts[name] = part
    return parts


def _read(folder: Path, classes: list[str], options: Options) -> Part | None:
    unknown = [path.name for path in _folders(folder) if path.name not in classes]
    if unknown:
        raise UsageError(
            f"the class {unknown[0]!r} has no pictures to train on",
            where=str(folder),
            next_step=f"the classes are {', '.join(classes)}",
        )
    given = [(path, index) for index, name in enumerate(classes) for path in _of(folder / name)]
    files = given or [(path, -1) for path in _of(folder)]
    if not files:
        return None
    levels = stacked(_opened([path for path, _ in files]), options, where=str(folder))
    return Part(levels, labels([index for _, index in files]) if given else None)


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir())


def _of(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


def _opened(paths: list[Path]) -> Iterator[Image]:
    from PIL import Image

    for path in paths:
        with Image.open(path) as picture:
            yield picture

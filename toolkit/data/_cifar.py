"""CIFAR-10 and CIFAR-100 in their binary version; their pickles are refused."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.core.errors import IntegrityError, UsageError
from toolkit.data._pictures import Part

if TYPE_CHECKING:
    import numpy as np

SHAPE = (3, 32, 32)
PICTURE = 3 * 32 * 32
# Files of each part, and the bytes of labels before each picture; the last one is the class.
LAYOUTS = (
    ("data_batch_*.bin", "test_batch.bin", 1),
    ("train.bin", "test.bin", 2),
)
PICKLES = ("data_batch_1", "test_batch", "batches.meta")


def read_folder(folder: Path) -> dict[str, Part]:
    """Return the parts `train` and `test` of a folder with CIFAR's files; those that are there.

    Raises:
        UsageError: The folder holds the Python version, which is pickles: they run code when read.
        IntegrityError: A file is damaged.
    """
    for train, test, labels in LAYOUTS:
        files = {"train": sorted(folder.glob(train)), "test": sorted(folder.glob(test))}
        if files["train"]:
            return {part: _read(paths, labels) for part, paths in files.items() if paths}
    if any((folder / name).is_file() for name in PICKLES):
        raise UsageError(
            "these files are pickles, which run code when they are read",
            where=str(folder),
            next_step="take the binary version of CIFAR-10: cifar-10-binary.tar.gz",
        )
    return {}


def _read(paths: list[Path], labels: int) -> Part:
    import numpy as np
    import torch

    rows = np.concatenate([_records(path, labels + PICTURE) for path in paths])
    levels = torch.from_numpy(rows[:, labels:].copy()).reshape(-1, *SHAPE)
    return Part(levels, torch.from_numpy(rows[:, labels - 1].astype(np.int64)))


def _records(path: Path, length: int) -> np.ndarray:
    import numpy as np

    content = np.fromfile(path, np.uint8)
    if not content.size or content.size % length:
        raise IntegrityError(
            f"{content.size} bytes are no whole number of records of {length}",
            where=str(path),
            next_step="download it again",
        )
    return content.reshape(-1, length)

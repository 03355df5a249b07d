"""IDX files, the format of MNIST: a header of dimensions, then bytes; plain or compressed."""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from toolkit.core.errors import IntegrityError
from toolkit.data._pictures import Part

if TYPE_CHECKING:
    import numpy as np

UNSIGNED_BYTE = 0x08
MOST_BYTES = 2**32
NAME = re.compile(r"(?P<part>train|t10k|test)[-_.]?(?P<what>images|labels)[-.]idx\d-ubyte(\.gz)?$")


def read_folder(folder: Path) -> dict[str, Part]:
    """Return the parts `train` and `test` of a folder with MNIST's files; those that are there.

    Raises:
        IntegrityError: A file is damaged, or pictures and labels differ in number.
    """
    import torch

    found: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.iterdir()):
        if match := NAME.search(path.name):
            part = "train" if match["part"] == "train" else "test"
            found.setdefault(part, {}).setdefault(match["what"], path)
    parts = {}
    for part, files in found.items():
        if "images" not in files:
            continue
        levels = torch.from_numpy(read(files["images"], axes=3))[:, None]
        label = None
        if "labels" in files:
            label = torch.from_numpy(read(files["labels"], axes=1)).long()
            if len(label) != len(levels):
                raise _damaged(files["labels"], f"{len(label)} labels for {len(levels)} pictures")
        parts[part] = Part(levels, label)
    return parts


def read(path: Path, *, axes: int) -> np.ndarray:
    """Return the bytes of an IDX file as an array.

    Raises:
        IntegrityError: It is no IDX file of bytes with so many axes, or its length is wrong.
    """
    import numpy as np

    try:
        with _opened(path) as file:
            header = file.read(4 + 4 * axes)
            if len(header) < 4 + 4 * axes or header[:4] != bytes([0, 0, UNSIGNED_BYTE, axes]):
                raise _damaged(path, f"it is no IDX file of bytes with {axes} axes")
            shape = struct.unpack(f">{axes}I", header[4:])
            size = math.prod(shape)
            if size > MOST_BYTES:
                raise _damaged(path, f"its header asks for {size} bytes")
            content = file.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(path, str(error)) from error
    if len(content) != size:
        raise _damaged(path, f"its header asks for {size} bytes and it holds another number")
    return np.frombuffer(content, np.uint8).reshape(shape).copy()


def _opened(path: Path) -> IO[bytes]:
    if path.suffix == ".gz":
        return cast("IO[bytes]", gzip.open(path, "rb"))
    return path.open("rb")


def _damaged(path: Path, what: str) -> IntegrityError:
    return IntegrityError(
        f"the file cannot be read: {what}", where=str(path), next_step="download it again"
    )

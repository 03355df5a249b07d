"""`.npz` files in and out, without pickle and without trusting a header's sizes."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path

import numpy as np

from toolkit.core.errors import IntegrityError, UsageError
from toolkit.core.signature import Signature
from toolkit.runtime.feeds import Arrays
from toolkit.runtime.strict import nearest, shown


def read_npz(path: Path, signature: Signature) -> Arrays:
    """Read inputs from an `.npz` file: sizes are checked before memory is taken, no pickle is read.

    Raises:
        UsageError: The file is not there, or holds an array that is not an input.
        IntegrityError: The file is damaged or hostile.
    """
    known = {spec.name: spec for spec in signature.inputs}
    arrays: Arrays = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                if name not in known:
                    raise UsageError(
                        f"{signature.entry!r} has no input {shown(name)!r}",
                        where=str(path),
                        next_step=nearest(name, known),
                    )
                arrays[name] = _read_array(archive, member, path)
    except OSError as error:
        raise UsageError(
            f"cannot read the inputs: {error.strerror}", where=str(path), next_step="check the path"
        ) from error
    except (zipfile.BadZipFile, ValueError, EOFError) as error:
        raise IntegrityError(f"not an .npz file: {shown(error)}", where=str(path)) from error
    return arrays


def _read_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> np.ndarray:
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0
        if version != (1, 0):
            read = np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
        body = math.prod(shape) * dtype.itemsize
        if dtype.hasobject or body > member.file_size:
            raise IntegrityError(
                f"{shown(member.filename)} holds objects, or less data than its header says",
                where=str(path),
                next_step="save plain arrays: numpy.savez",
            )
        data = np.frombuffer(stream.read(body), dtype)
    return data.reshape(shape, order="F" if fortran else "C")


def write_npz(path: Path, arrays: Arrays) -> None:
    """Write arrays to an `.npz` file in one step.

    `numpy.savez` takes names as keywords, so an output called `file` would break it.

    Raises:
        UsageError: The file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        with zipfile.ZipFile(temporary, "w") as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UsageError(
            f"cannot write: {error.strerror}", where=str(path), next_step="choose another file (-o)"
        ) from error

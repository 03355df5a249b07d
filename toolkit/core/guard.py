"""Examine a foreign `.onnx` file in a child process before anything else loads it.

The onnx checker and onnxruntime each accept files that hang, crash or leak (exponential
functions, deep function chains, external data through a hard link), so the rules here run first.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.core import isolate
from toolkit.core._guard_graph import (
    check_functions,
    check_graphs,
    check_names,
    check_versions,
)
from toolkit.core._guard_tensors import check_tensors
from toolkit.core.errors import ExportError, IntegrityError, TimedOut, ToolkitError, UsageError

if TYPE_CHECKING:
    import onnx

MAX_FILE = (2 << 30) - 1
LARGE_TENSOR = 1 << 30
# Custom operators of ONNX Runtime itself; what loads other files (EPContext) is refused by name.
DOMAINS = ("com.microsoft",)
HINTS = (
    (b"version https://git-lfs", "this is a git-lfs pointer: git lfs pull"),
    (b"PK\x03\x04", "this is a zip, perhaps a torch checkpoint or a bundle: give the .onnx file"),
    (b"\x80", "this is a pickle, perhaps a torch checkpoint: export the model first"),
    (b"<", "this is a web page: download the file itself"),
)


def inspect(
    path: Path,
    *,
    domains: Sequence[str] = DOMAINS,
    timeout: float = 60.0,
    memory: int = 4 << 30,
) -> dict[str, Any]:
    """Examine a file in a child process with limits on time, memory and files.

    Arguments:
        path: The `.onnx` file.
        domains: Operator domains to accept besides the standard's and the file's own functions.
        timeout: Seconds the examination may take.
        memory: Bytes of address space it may take.

    Returns:
        `ir_version`, `opset`, `nodes`, `functions` and `warnings`.

    Raises:
        UsageError: There is no regular, readable file of at most 2 GiB.
        IntegrityError: The file is damaged, hostile or too new.
    """
    arguments = {"path": str(path), "domains": list(domains), "seconds": int(timeout) + 1}
    try:
        report: dict[str, Any] = isolate.call(
            "toolkit.core.guard:examine_limited", arguments, timeout=timeout, memory=memory
        )
    except TimedOut as error:
        raise _refusal(f"examining it takes longer than {timeout:g} s", path) from error
    except ExportError as error:
        raise _refusal(f"examining it ends in a crash: {error.what}", path) from error
    except ToolkitError as error:
        kind = UsageError if error.exit_code == UsageError.exit_code else IntegrityError
        raise kind(error.what, where=error.where, next_step=error.next_step) from error
    return report


def examine_limited(path: str, domains: Sequence[str], seconds: int) -> dict[str, Any]:
    """Examine a file under limits on processor time, file sizes and open files."""
    import resource

    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    return examine(Path(path), domains=domains)


def examine(path: Path, *, domains: Sequence[str] = DOMAINS) -> dict[str, Any]:
    """Examine a file in this process; `inspect` is the safe way.

    Raises:
        UsageError: There is no regular, readable file of at most 2 GiB.
        IntegrityError: The file is damaged, hostile or too new.
    """
    data = read_regular(path)
    where = str(path)
    model = _parse(data, where)
    check_names(model, where)
    check_versions(model, where)
    check_functions(model, where)
    nodes = check_graphs(model, set(domains), where)
    warnings = check_tensors(model, path)
    warnings += _check_with_onnx(model, path)
    return {
        "ir_version": model.ir_version,
        "opset": {item.domain or "ai.onnx": item.version for item in model.opset_import},
        "nodes": nodes,
        "functions": len(model.functions),
        "warnings": warnings,
    }


def read_regular(path: Path) -> bytes:
    """Read a regular file without blocking on a pipe or device.

    Raises:
        UsageError: It is not there, not a regular file, not readable, or larger than 2 GiB.
    """
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(handle, "rb") as stream:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise UsageError(
                    "not a regular file", where=str(path), next_step="give an .onnx file"
                )
            if status.st_size > MAX_FILE:
                raise UsageError(
                    "the file is larger than 2 GiB, which no .onnx file can be",
                    where=str(path),
                    next_step="save the weights as external data",
                )
            return stream.read()
    except OSError as error:
        raise UsageError(
            f"cannot read the file: {error.strerror}", where=str(path), next_step="check the path"
        ) from error


def _parse(data: bytes, where: str) -> onnx.ModelProto:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    if not data:
        raise IntegrityError("the file is empty", where=where, next_step="get the file again")
    hint = next((text for head, text in HINTS if data.startswith(head)), "")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        raise IntegrityError(
            "the file is not ONNX, or cut off, or nested too deeply",
            where=where,
            next_step=hint or "get the file again",
        ) from error
    if hint or not model.ir_version or not model.HasField("graph"):
        raise IntegrityError(
            "the file holds no ONNX graph", where=where, next_step=hint or "get the file again"
        )
    return model


def _check_with_onnx(model: onnx.ModelProto, path: Path) -> list[str]:
    """Run the standard's checker and strict shape inference; return warnings about sizes."""
    import onnx

    try:
        onnx.checker.check_model(str(path))
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    except (
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
        ValueError,
        RuntimeError,
    ) as error:
        raise _refusal(f"the ONNX checker says: {ascii(str(error))[1:400]}", path) from error
    return [
        f"a tensor of {size} bytes is made while it runs"
        for size in sorted({_bytes_of(value) for value in inferred.graph.value_info})
        if size > LARGE_TENSOR
    ]


def _bytes_of(value: onnx.ValueInfoProto) -> int:
    size = 4
    for dim in value.type.tensor_type.shape.dim:
        size *= max(dim.dim_value, 1)
    return size


def _refusal(what: str, path: Path) -> IntegrityError:
    return IntegrityError(what, where=str(path), next_step="export the model again")

"""Rules for the tensors of a foreign model, those in external files included."""

from __future__ import annotations

import math
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.core._guard_graph import all_graphs, all_nodes, refuse, shown

if TYPE_CHECKING:
    import onnx

MAX_ELEMENTS = 1 << 40
EXTERNAL_KEYS = frozenset({"location", "offset", "length", "checksum", "basepath"})
_LOCATION = re.compile(r"[^\x00-\x1f\x7f\\:]+")
_NUMBER = re.compile(r"[0-9]{1,15}")


def check_tensors(model: onnx.ModelProto, path: Path) -> list[str]:
    """Check every tensor of a model and return warnings.

    Raises:
        IntegrityError: Sizes and shapes disagree, or external data lies outside the model's folder.
    """
    where = str(path)
    spoiled = 0
    for tensor in _tensors(model):
        spoiled += _check_tensor(tensor, path)
    for sparse in _sparse(model):
        _check_sparse(sparse, where)
    for graph in all_graphs(model):
        for value in (*graph.input, *graph.output, *graph.value_info):
            dims = value.type.tensor_type.shape.dim
            if any(dim.dim_value < 0 for dim in dims):
                raise refuse(f"the value {shown(value.name)} has a negative size", where)
    return [f"{spoiled} tensors hold NaN or Inf"] if spoiled else []


def _attributes(model: onnx.ModelProto) -> Iterator[onnx.AttributeProto]:
    for holder in (model.graph, *model.functions):
        for node in all_nodes(holder.node):
            yield from node.attribute


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    for graph in all_graphs(model):
        yield from graph.initializer
    for sparse in _sparse(model):
        yield sparse.values
        yield sparse.indices
    for attribute in _attributes(model):
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors


def _sparse(model: onnx.ModelProto) -> Iterator[onnx.SparseTensorProto]:
    for graph in all_graphs(model):
        yield from graph.sparse_initializer
    for attribute in _attributes(model):
        if attribute.HasField("sparse_tensor"):
            yield attribute.sparse_tensor
        yield from attribute.sparse_tensors


def _check_tensor(tensor: onnx.TensorProto, path: Path) -> bool:
    """Check one tensor and return whether it holds NaN or Inf."""
    import onnx

    where, name = str(path), shown(tensor.name)
    bits = _bits(tensor.data_type)
    if not bits and tensor.data_type != onnx.TensorProto.STRING:
        raise refuse(f"the tensor {name} has the unknown type {tensor.data_type}", where)
    count = math.prod(tensor.dims)
    if any(size < 0 for size in tensor.dims) or count > MAX_ELEMENTS:
        raise refuse(f"the tensor {name} has the impossible shape {list(tensor.dims)}", where)
    size = -(-count * bits // 8)
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        _check_external(tensor, size, path)
        return False
    if tensor.external_data:
        raise refuse(f"the tensor {name} is both inside and outside the file", where)
    if tensor.HasField("raw_data"):
        if len(tensor.raw_data) != size:
            text = f"the tensor {name} has {len(tensor.raw_data)} bytes, its shape needs {size}"
            raise refuse(text, where)
    elif not _typed_size(tensor, count):
        raise refuse(f"the tensor {name} has fewer or more values than its shape", where)
    return _spoiled(tensor)


def _bits(data_type: int) -> int:
    """Return the bits of one element; 0 for text and unknown types."""
    from onnx import TensorProto

    names = {number: name for name, number in TensorProto.DataType.items()}
    name = names.get(data_type, "")
    special = {"BOOL": 8, "FLOAT": 32, "DOUBLE": 64, "COMPLEX64": 64, "COMPLEX128": 128}
    if name in special:
        return special[name]
    digits = re.match(r"(?:BFLOAT|FLOAT|U?INT)(\d+)", name)
    return int(digits[1]) if digits else 0


def _typed_size(tensor: onnx.TensorProto, count: int) -> bool:
    from onnx import TensorProto

    kind = tensor.data_type
    complexes = {TensorProto.COMPLEX64, TensorProto.COMPLEX128}
    held = max(
        len(tensor.float_data),
        len(tensor.int32_data),
        len(tensor.string_data),
        len(tensor.int64_data),
        len(tensor.double_data),
        len(tensor.uint64_data),
    )
    if kind in complexes:
        return held == 2 * count
    return held in {count, -(-count * _bits(kind) // 8) if _bits(kind) < 8 else count}


def _spoiled(tensor: onnx.TensorProto) -> bool:
    import numpy as np
    from onnx import TensorProto, numpy_helper

    if tensor.data_type not in (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16):
        return False
    return not bool(np.isfinite(numpy_helper.to_array(tensor)).all())


def _check_external(tensor: onnx.TensorProto, size: int, path: Path) -> None:
    where, name = str(path), shown(tensor.name)
    keys = [item.key for item in tensor.external_data]
    if len(set(keys)) != len(keys):
        raise refuse(f"the external data of {name} gives a key twice", where)
    unknown = set(keys) - EXTERNAL_KEYS
    if unknown:
        raise refuse(
            f"the external data of {name} has the unknown key {shown(min(unknown))}", where
        )
    fields = {item.key: item.value for item in tensor.external_data}
    numbers = [fields.get("offset", "0"), fields.get("length", str(size))]
    if not all(_NUMBER.fullmatch(number) for number in numbers):
        raise refuse(f"the external data of {name} has a malformed offset or length", where)
    offset, length = map(int, numbers)
    if length != size:
        text = f"the external data of {name} has {length} bytes, its shape needs {size}"
        raise refuse(text, where)
    held = _external_size(path.parent, fields.get("location", ""), f"{where}: {name}")
    if offset + length > held:
        raise refuse(f"the external data of {name} ends past its file", where)


def _external_size(folder: Path, location: str, where: str) -> int:
    """Return the size of an external file: a regular one inside the model's folder."""
    parts = location.split("/")
    plain = _LOCATION.fullmatch(location) and not {"", ".", ".."} & set(parts)
    if not plain or "_ORT_MEM_ADDR_" in location:
        raise refuse(f"the external path {shown(location)!r} is not allowed", where)
    target = folder
    for part in parts:
        target = target / part
        try:
            status = os.lstat(target)
        except OSError as error:
            raise refuse(f"the external file {shown(location)} is missing", where) from error
        if stat.S_ISLNK(status.st_mode):
            raise refuse(f"the external file {shown(location)} is a symbolic link", where)
    if not stat.S_ISREG(status.st_mode):
        raise refuse(f"the external file {shown(location)} is not a regular file", where)
    if status.st_nlink > 1:
        raise refuse(f"the external file {shown(location)} is a hard link", where)
    return status.st_size


def _check_sparse(sparse: onnx.SparseTensorProto, where: str) -> None:
    from onnx import TensorProto, numpy_helper

    name = shown(sparse.values.name)
    if sparse.indices.data_type != TensorProto.INT64:
        raise refuse(f"the indices of the sparse tensor {name} are not int64", where)
    indices = numpy_helper.to_array(sparse.indices)
    count = math.prod(sparse.dims)
    bounds = list(sparse.dims) if indices.ndim == 2 else [count]
    rows = indices.reshape(len(indices), -1) if indices.size else indices
    inside = indices.size == 0 or (
        rows.shape[1] == len(bounds) and bool(((rows >= 0) & (rows < bounds)).all())
    )
    if not inside or any(size < 0 for size in sparse.dims):
        raise refuse(f"the sparse tensor {name} has indices out of bounds", where)

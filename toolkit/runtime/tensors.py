"""A strict reader of safetensors files, numpy only.

The library accepts duplicate keys; here the header is one canonical story: every byte of the
buffer belongs to exactly one tensor.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from toolkit.runtime.strict import parse_json, refusal, shown

Arrays = dict[str, np.ndarray]
MAX_HEADER = 4 << 20
_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2",
    "I8": "i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip


def parse_tensors(data: bytes, *, where: str) -> Arrays:
    """Read the tensors of a safetensors file.

    Arguments:
        data: The whole file.
        where: Its path, for messages.

    Raises:
        IntegrityError: The header lies: wrong length, duplicate key, overlap, gap, or a size
            that is not its shape's.
    """
    if len(data) < 8:
        raise refusal("the safetensors file is shorter than its header's length", where)
    length = int.from_bytes(data[:8], "little")
    if length > min(len(data) - 8, MAX_HEADER):
        raise refusal("the safetensors header is longer than the file or the cap", where)
    header = parse_json(data[8 : 8 + length], where=where)
    header.pop("__metadata__", None)
    body = memoryview(data)[8 + length :]
    spans = sorted((_span(item, name, where), name) for name, item in header.items())
    end = 0
    arrays: Arrays = {}
    for (start, stop), name in spans:
        if start != end:
            raise refusal(f"tensors overlap or leave a gap before {shown(name)!r}", where)
        end = stop
        if stop > len(body):
            raise refusal(f"the tensor {shown(name)!r} ends past the file", where)
        arrays[name] = _array(body[start:stop], header[name], name, where)
    if end != len(body):
        raise refusal("bytes follow the last tensor", where)
    return arrays


def _span(item: Any, name: str, where: str) -> tuple[int, int]:
    offsets = item.get("data_offsets") if isinstance(item, dict) else None
    if isinstance(offsets, list) and [type(offset) for offset in offsets] == [int, int]:
        start, stop = offsets
        if 0 <= start <= stop:
            return start, stop
    raise refusal(f"the offsets of {shown(name)!r} are malformed", where)


def _array(data: memoryview, item: dict[str, Any], name: str, where: str) -> np.ndarray:
    shape = item.get("shape")
    code = _DTYPES.get(str(item.get("dtype")))
    sizes_good = isinstance(shape, list) and all(type(s) is int and s >= 0 for s in shape)
    if code is None or not sizes_good or set(item) != {"dtype", "shape", "data_offsets"}:
        raise refusal(f"the header of {shown(name)!r} is malformed, or its type is unknown", where)
    dtype = np.dtype(code)
    if math.prod(shape or ()) * dtype.itemsize != len(data):
        raise refusal(f"the size of {shown(name)!r} is not that of its shape", where)
    return np.frombuffer(data, dtype).reshape(shape or ())

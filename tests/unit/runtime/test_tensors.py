"""The safetensors reader: equal to the library on good files, stricter on bad ones."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import save

from toolkit.core.errors import IntegrityError
from toolkit.runtime.tensors import parse_tensors

ARRAYS = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b/c": np.array(7, np.int64),
    "empty": np.zeros((0, 3), np.float64),
    "flags": np.array([True, False]),
}


def packed(header: str | dict, body: bytes = bytes(8)) -> bytes:
    text = header if isinstance(header, str) else json.dumps(header)
    return len(text).to_bytes(8, "little") + text.encode() + body


def item(start: int = 0, stop: int = 8, shape: tuple[int, ...] = (2,), dtype: str = "F32") -> dict:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}


def test_reads_what_the_library_writes() -> None:
    read = parse_tensors(save(ARRAYS, metadata={"by": "test"}), where="f")
    assert set(read) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert read[name].dtype == array.dtype
        assert np.array_equal(read[name], array)
        assert read[name].shape == array.shape


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "shorter"),
        ((2**63).to_bytes(8, "little") + b"{}", "longer than"),
        (packed({"a": item(), "b": item(4, 12)}, bytes(12)), "overlap or leave a gap"),
        (packed({"a": item(8, 16)}, bytes(16)), "overlap or leave a gap"),
        (packed({"a": item()}, bytes(4)), "past the file"),
        (packed({"a": item()}, bytes(9)), "follow the last tensor"),
        (packed({"a": item(shape=(3,))}), "not that of its shape"),
        (packed({"a": item(shape=(2**59, 2**59))}), "not that of its shape"),
        (packed({"a": item(shape=(-2,))}), "malformed"),
        (packed({"a": item(dtype="OBJ")}), "malformed"),
        (packed({"a": {**item(), "more": 1}}), "malformed"),
        (packed({"a": item(8, 0)}), "offsets"),
        (packed({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, True]}}), "offsets"),
        (packed({"a": 3}), "offsets"),
        (packed('{"a": {}, "a": {}}'), "twice"),
        (packed("[]"), "not a JSON object"),
    ],
)
def test_104_105_refuses_lies(data: bytes, reason: str) -> None:
    with pytest.raises(IntegrityError, match=reason):
        parse_tensors(data, where="f")

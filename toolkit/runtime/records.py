"""What a bundle says about itself, read and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from toolkit.core.signature import Signature


@dataclass(frozen=True, slots=True)
class FileRecord:
    """Checksum and size in bytes of one file."""

    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Limit:
    """How far one output of one variant may lie from the oracle.

    Arguments:
        unit: Unit of value and limit.
        limit: Largest error (smallest value for `psnr`).
        source: Where the number comes from.
    """

    unit: str
    limit: float
    source: str


@dataclass(frozen=True, slots=True)
class Variant:
    """One graph of an entry.

    Arguments:
        file: The `.onnx` file.
        data: External data files beside it.
        opset: Version per operator domain.
        ir_version: Version of the ONNX format.
        operators: How often each operator occurs.
        limits: Per output its limit.
    """

    file: str
    data: tuple[str, ...] = ()
    opset: Mapping[str, int] | None = None
    ir_version: int = 0
    operators: Mapping[str, int] | None = None
    limits: Mapping[str, Limit] | None = None


@dataclass(frozen=True, slots=True)
class EntryRecord:
    """One entry: its signature, its golden file, and its variants with the default's name."""

    signature: Signature
    default: str
    golden: str
    variants: Mapping[str, Variant]


@dataclass(frozen=True, slots=True)
class Latency:
    """What the bench stage measured where the bundle was made; medians in milliseconds."""

    entry: str
    variant: str
    batch: int
    threads: int
    p50_ms: float
    noise_band: float | None
    processor: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything a bundle says about itself."""

    name: str
    toolkit: str
    files: Mapping[str, FileRecord]
    entries: Mapping[str, EntryRecord]
    latency: tuple[Latency, ...]
    table: Mapping[str, Any]

"""Describe ONNX files: operators, shapes, parameters, cost, and what each backend makes of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.core import guard, isolate, registry
from toolkit.core.entry import DEFAULT_SIZES
from toolkit.core.errors import ToolkitError
from toolkit.core.folder import RunFolder
from toolkit.core.protocols import Artifact
from toolkit.core.signature import Signature, TensorSpec

if TYPE_CHECKING:
    import onnx

TIME_LIMIT = 300.0
UNKNOWN_SIZE = 8
NOTE = (
    "two per multiply-add of Conv, ConvTranspose, Gemm and MatMul, Scan bodies once per step; "
    "element-wise operators are not counted"
)


def inspect_file(path: Path, sizes: Mapping[str, int]) -> dict[str, Any]:
    """Describe a foreign `.onnx` file, in child processes: examined first, then opened.

    Arguments:
        path: The file.
        sizes: Sizes of dynamic dimensions at which operations are counted.

    Raises:
        UsageError: There is no such file.
        IntegrityError: It is damaged, cut off or hostile.
    """
    examined = guard.inspect(path)
    arguments = {"path": str(path), "sizes": dict(sizes)}
    described: dict[str, Any] = isolate.call(
        "toolkit.stages.inspect:describe", arguments, timeout=TIME_LIMIT
    )
    return {**described, "warnings": examined["warnings"]}


def inspect_run(folder: RunFolder, sizes: Mapping[str, int]) -> list[dict[str, Any]]:
    """Describe every graph of a run, with what the build recorded about each engine.

    Arguments:
        folder: The run.
        sizes: Sizes of dynamic dimensions at which operations are counted.

    Raises:
        IntegrityError: A file is damaged.
        UsageError: The run has exported nothing.
    """
    rows = []
    for entry, record in folder.stage("export")["entries"].items():
        signature = Signature.from_dict(record["signature"])
        typical = {name: found[1] for name, found in signature.ranges.items() if name != "batch"}
        for variant, file in _graphs(folder, entry, record["file"]).items():
            path = folder.path / file
            guard.examine(path)
            described = describe(str(path), {**typical, **sizes})
            engines = _engines(folder, entry, variant)
            rows.append({"entry": entry, "variant": variant, **described, "engines": engines})
    return rows


def describe(path: str, sizes: Mapping[str, int]) -> dict[str, Any]:
    """Describe a file that has been examined."""
    import onnx

    from toolkit.stages._operators import flops_of, operators_of, parameters_of, stated_signature

    file = Path(path)
    model = onnx.load(file, load_external_data=False)
    signature = stated_signature(model)
    dynamic = {dim for spec in signature.inputs for dim in spec.dims if isinstance(dim, str)}
    chosen = {name: sizes.get(name, _default_size(name)) for name in sorted(dynamic)}
    parameters, parameter_bytes = parameters_of(model)
    flops = flops_of(model, chosen)
    operators = operators_of(model.graph.node)
    return {
        "file": path,
        "bytes": file.stat().st_size + _external_bytes(model, file.parent),
        "ir_version": model.ir_version,
        "opset": {item.domain or "ai.onnx": item.version for item in model.opset_import},
        "producer": model.producer_name,
        "nodes": sum(operators.values()),
        "operators": dict(operators.most_common()),
        "inputs": [_shown(spec) for spec in signature.inputs],
        "outputs": [_shown(spec) for spec in signature.outputs],
        "dynamic": sorted(dynamic),
        "parameters": parameters,
        "parameter_bytes": parameter_bytes,
        "flops": {
            "total": sum(flops.counted.values()),
            "per_operator": dict(flops.counted.most_common()),
            "sizes": chosen,
            "not_counted": dict(flops.uncounted),
            "note": NOTE,
        },
        "functions": _functions(model, operators),
        "backends": _backends(file, signature),
    }


def _shown(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "dtype": spec.dtype, "dims": list(spec.dims)}


def _default_size(name: str) -> int:
    """Return the size at which operations are counted: one sample, else the typical size."""
    return 1 if name == "batch" else DEFAULT_SIZES.get(name, (1, UNKNOWN_SIZE, 1))[1]


def _external_bytes(model: onnx.ModelProto, folder: Path) -> int:
    files = {
        item.value
        for tensor in model.graph.initializer
        for item in tensor.external_data
        if item.key == "location"
    }
    return sum((folder / file).stat().st_size for file in files)


def _functions(model: onnx.ModelProto, operators: Counter[str]) -> list[dict[str, Any]]:
    from toolkit.stages._operators import operators_of

    return [
        {
            "name": f"{function.domain}::{function.name}",
            "calls": operators[f"{function.domain}::{function.name}"],
            "operators": dict(operators_of(function.node).most_common()),
        }
        for function in model.functions
    ]


def _backends(path: Path, signature: Signature) -> list[dict[str, str]]:
    """Try to open the graph on every backend that reads ONNX: each names what it refuses."""
    rows = []
    for name in registry.backends.names():
        backend = registry.backends.load(name)
        if "onnx" not in backend.formats:
            continue
        if reason := backend.absent():
            rows.append({"backend": name, "status": "skipped", "reason": reason})
            continue
        try:
            backend.open(Artifact(path, signature, path.stem)).close()
        except ToolkitError as error:
            rows.append({"backend": name, "status": "failed", "reason": error.what})
        else:
            rows.append({"backend": name, "status": "ok", "reason": "takes every node"})
    return rows


def _graphs(folder: RunFolder, entry: str, exported: str) -> dict[str, str]:
    """Return the ONNX files of an entry by variant."""
    made = {name: row["file"] for name, row in folder.variants(entry).items()}
    return {"exported": exported, **made}


def _engines(folder: RunFolder, entry: str, variant: str) -> list[dict[str, Any]]:
    """Return what the engine builds made of a graph; float32 engines are built from the export."""
    if not folder.has_stage("build"):
        return []
    precision = {"exported": "fp32", "fp32": ""}.get(variant, variant)
    return [
        {key: row[key] for key in ("engine", "target", "status", "reason", "refused")}
        for row in folder.stage("build")["engines"]
        if row["entry"] == entry and row["precision"] == precision
    ]

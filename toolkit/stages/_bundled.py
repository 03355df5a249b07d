"""What one entry puts into a bundle: its variants, limits and golden file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.core.case import Case, load_cases, pack_cases
from toolkit.core.errors import UsageError
from toolkit.core.folder import GOLDEN, RunFolder
from toolkit.core.recipe import FULL_PRECISION, Recipe
from toolkit.core.signature import Signature, TensorSpec
from toolkit.runtime.graph import Graph
from toolkit.runtime.limits import UNITS, judge

if TYPE_CHECKING:
    import numpy as np

SAMPLES = 16
MAX_GOLDEN_BYTES = 1 << 20
BACKEND = "onnxruntime"
# Parts of 16 samples move in steps of 1/16, so the budget for many samples cannot hold for them.
FRACTIONS = ("accuracy", "index")


def bundle_entry(
    recipe: Recipe, folder: RunFolder, entry: str, members: dict[str, bytes | Path]
) -> dict[str, Any]:
    """Add one entry's files to `members` and return its part of the manifest.

    Raises:
        UsageError: The entry has no golden case with the oracle's answers.
    """
    exported = folder.stage("export")["entries"][entry]
    signature = Signature.from_dict(exported["signature"])
    case = _golden_case(folder.golden(entry))
    small = shorten(case, signature)
    golden = f"entries/{entry}/{GOLDEN}"
    members[golden] = pack_cases([small])
    variants = {}
    for name, file in kept_variants(folder, entry).items():
        path = folder.path / file
        graph, data = describe_graph(path)
        beside = Path(file).parent
        members[file] = path
        members.update({(beside / item).as_posix(): path.parent / item for item in data})
        variants[name] = {
            "file": file,
            "data": [(beside / item).as_posix() for item in data],
            "limits": _limits(recipe, signature, name, path, case, small),
            **graph,
        }
    return {
        "signature": signature.as_dict(),
        "default": fastest(folder, entry, list(variants)),
        "golden": golden,
        "variants": variants,
    }


def kept_variants(folder: RunFolder, entry: str) -> dict[str, str]:
    """Return the files to ship: full precision always, others where ONNX Runtime kept them."""
    chosen = {
        name: item["file"]
        for name, item in folder.variants(entry).items()
        if (name == "fp32" or item["kept"].get(BACKEND, {}).get("kept"))
    }
    if "fp32" not in chosen:
        chosen["exported"] = folder.stage("export")["entries"][entry]["file"]
    return chosen


def fastest(folder: RunFolder, entry: str, names: Sequence[str]) -> str:
    """Return the shipped variant with the best ratio; full precision where none beats it."""
    made = folder.variants(entry)
    ratios = {
        name: made[name]["kept"].get(BACKEND, {}).get("ratio") or 0.0
        for name in names
        if name not in FULL_PRECISION
    }
    best = max(ratios, key=lambda name: ratios[name], default="")
    if best and ratios[best] > 1:
        return best
    return next(name for name in FULL_PRECISION if name in names)


def _golden_case(path: Path) -> Case:
    cases = [case for case in load_cases(path) if case.oracle]
    order = {("parity", "real"): 0, ("parity", "noise"): 1}
    if not cases:
        raise UsageError(
            "there are no golden outputs", where=str(path), next_step="export again with the model"
        )
    return min(cases, key=lambda case: order.get((case.check, case.name), 2))


def shorten(case: Case, signature: Signature) -> Case:
    """Return the first samples of a case: 16, fewer where they would exceed `MAX_GOLDEN_BYTES`."""
    held = (*case.inputs.values(), *case.oracle.values(), *case.eager.values())
    dynamic = [spec for spec in signature.inputs if "batch" in spec.dims]
    total = case.inputs[dynamic[0].name].shape[dynamic[0].batch_axis] if dynamic else 1
    each = max(1, sum(array.nbytes for array in held) // max(total, 1))
    low, _, _, multiple = (*signature.ranges.get("batch", (1, 1, 1)), 1)[:4]
    wanted = max(low, min(SAMPLES, MAX_GOLDEN_BYTES // each))
    count = min(total, -(-wanted // multiple) * multiple)

    def cut(arrays: Mapping[str, np.ndarray], specs: Iterable[TensorSpec]) -> dict[str, np.ndarray]:
        known = {spec.name: spec for spec in specs}
        return {name: _rows(known[name], array, count) for name, array in arrays.items()}

    return Case(
        case.check,
        case.name,
        cut(case.inputs, signature.inputs),
        cut(case.oracle, signature.outputs),
        cut(case.eager, signature.outputs),
    )


def _rows(spec: TensorSpec, array: np.ndarray, count: int) -> np.ndarray:
    if not spec.dims:
        return array
    size = spec.dims[spec.batch_axis]
    rows: np.ndarray = spec.rows(array, slice(size if isinstance(size, int) else count))
    return rows


def _limits(
    recipe: Recipe, signature: Signature, variant: str, path: Path, case: Case, small: Case
) -> dict[str, dict[str, Any]]:
    """Return per output the limit that the whole case gives, for the few samples to meet."""
    budget = recipe.budget_of(variant)
    answers = Graph(path, signature)(small.inputs)
    limits = {}
    for spec in signature.outputs:
        oracle, eager = case.oracle[spec.name], case.eager[spec.name]
        _, _, limit, unit = judge(
            eager, oracle, eager, unit=spec.unit, budget=budget, k=recipe.verify.k
        )
        samples = oracle.shape[spec.batch_axis] if oracle.ndim else 1
        source = f"{recipe.verify.k:g} times eager's own error, or 16 eps"
        if unit in budget:
            source = f"budget of {limit:g} {unit}"
        elif unit == "index":
            source = "integers are equal"
        here = UNITS[unit](answers[spec.name], small.oracle[spec.name])
        if unit in budget and unit in FRACTIONS and here > limit:
            source += f"; {here:g} on these samples where it was made"
            limit = here
        limits[spec.name] = {
            "unit": unit,
            "limit": limit,
            "source": f"{source}, over {samples} samples",
        }
    return limits


def describe_graph(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Return operators, opset and format version of a graph, and its external data files."""
    import onnx

    from toolkit.stages._operators import operators_of

    model = onnx.load(path, load_external_data=False)
    operators: Counter[str] = Counter()
    files: set[str] = set()
    for holder in (model.graph, *model.functions):
        operators += operators_of(holder.node)
    for tensor in model.graph.initializer:
        files.update(item.value for item in tensor.external_data if item.key == "location")
    opset = {item.domain or "ai.onnx": item.version for item in model.opset_import}
    graph = {"opset": opset, "ir_version": model.ir_version, "operators": dict(operators)}
    return graph, sorted(files)

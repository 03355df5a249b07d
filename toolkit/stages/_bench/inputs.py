"""Inputs of a measurement: golden ones at the asked batch, or drawn from the signature."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.core.case import load_cases
from toolkit.core.errors import UsageError
from toolkit.core.folder import RunFolder
from toolkit.core.signature import Signature, TensorSpec
from toolkit.runtime.feeds import draw_inputs

if TYPE_CHECKING:
    import numpy as np

    Arrays = dict[str, np.ndarray]

GOLDEN = ("parity", "real")
BATCH = "batch"


def inputs_for(signature: Signature, golden: Path, *, batch: int, seed: int = 0) -> Arrays:
    """Return every input at one batch size: real golden samples where there are any.

    Arguments:
        signature: The entry's signature.
        golden: Its `golden.safetensors`; it need not exist.
        batch: Size of the batch; golden samples are cut or repeated.
        seed: Seed of what is drawn.

    Raises:
        UsageError: The graph's batch is fixed at another size.
    """
    known: Arrays = {}
    if golden.is_file():
        cases = {(case.check, case.name): case for case in load_cases(golden)}
        known = cases[GOLDEN].inputs if GOLDEN in cases else {}
    if all(spec.name in known for spec in signature.inputs):
        arrays = {spec.name: _resized(known[spec.name], spec, batch) for spec in signature.inputs}
    else:
        arrays = draw(signature, batch=batch, seed=seed)
    if batch != 1 and not any(BATCH in spec.dims for spec in signature.inputs):
        raise UsageError(
            f"entry {signature.entry!r} has no dynamic batch, so it cannot run {batch} at once",
            where=", ".join(f"{spec.name}{list(spec.dims)}" for spec in signature.inputs),
            next_step="bench.batches = [1], or export it with a dynamic batch",
        )
    return arrays


def save_inputs(folder: RunFolder, entry: str, batch: int, scratch: Path, *, seed: int) -> Path:
    """Write one entry's inputs at one batch size for the workers, and return the file.

    Raises:
        UsageError: The entry's batch is fixed at another size.
    """
    from safetensors.numpy import save_file

    arrays = inputs_for(signature_of(folder, entry), folder.golden(entry), batch=batch, seed=seed)
    path = scratch / f"{entry}-{batch}.safetensors"
    save_file(arrays, path)
    return path


def signature_of(folder: RunFolder, entry: str) -> Signature:
    """Return the signature that export recorded for an entry."""
    return Signature.from_dict(folder.stage("export")["entries"][entry]["signature"])


def draw(signature: Signature, *, batch: int, seed: int = 0) -> Arrays:
    """Draw every input by its kind, law and range; dynamic dimensions but the batch are typical."""
    named = (dim for spec in signature.inputs for dim in spec.dims if isinstance(dim, str))
    sizes = {dim: signature.ranges[dim][1] if dim in signature.ranges else 8 for dim in named}
    return draw_inputs(signature, seed=seed, **{**sizes, BATCH: batch})


def _resized(array: np.ndarray, spec: TensorSpec, batch: int) -> np.ndarray:
    import numpy as np

    if BATCH not in spec.dims:
        return array
    axis = spec.batch_axis
    taken: np.ndarray = np.take(array, np.arange(batch) % array.shape[axis], axis=axis)
    return taken

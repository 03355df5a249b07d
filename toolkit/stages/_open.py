"""Open a variant on a backend, the same way in every stage."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.core import registry
from toolkit.core.protocols import Artifact
from toolkit.core.signature import Signature

if TYPE_CHECKING:
    import numpy as np

    from toolkit.core.protocols import Run

    Arrays = dict[str, np.ndarray]


@contextlib.contextmanager
def opened(
    path: Path,
    signature: Signature,
    *,
    variant: str = "exported",
    backend: str = "onnxruntime",
    device: str = "cpu",
    providers: Sequence[str] = ("cpu",),
) -> Iterator[Run]:
    """Yield a function from feeds to outputs; a fixed batch is fed in pieces of its size."""
    runner = registry.backends.load(backend).open(
        Artifact(path, signature, variant), device=device, providers=providers
    )
    try:
        yield in_pieces(runner, signature)
    finally:
        runner.close()


def in_pieces(run: Run, signature: Signature) -> Run:
    """Return `run`, splitting the batch where the graph fixes it."""
    fixed = {
        spec.name: size
        for spec in signature.inputs
        if spec.dims and isinstance(size := spec.dims[spec.batch_axis], int)
    }
    if len(fixed) != len(signature.inputs) or not fixed:
        return run
    size = min(fixed.values())

    def run_pieces(feeds: Arrays) -> Arrays:
        import numpy as np

        count = min(
            feeds[spec.name].shape[spec.batch_axis] // size * size for spec in signature.inputs
        )
        pieces = [
            run(
                {
                    spec.name: spec.rows(feeds[spec.name], slice(start, start + size))
                    for spec in signature.inputs
                }
            )
            for start in range(0, count, size)
        ]
        return {
            spec.name: np.concatenate([piece[spec.name] for piece in pieces], spec.batch_axis)
            for spec in signature.outputs
        }

    return run_pieces

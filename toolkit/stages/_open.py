"""Open a variant on a backend, the same way in every stage."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.core import registry
from toolkit.core.errors import MissingError
from toolkit.core.protocols import Artifact
from toolkit.core.recipe import Recipe
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
    most: int = 0,
) -> Iterator[Run]:
    """Yield a function from feeds to outputs.

    Arguments:
        path: The graph or engine.
        signature: What it takes and gives.
        variant: Its name.
        backend: What runs it.
        device: `cpu`, `cuda` or `cuda:0`.
        providers: ONNX Runtime providers in short names.
        most: Largest batch that it takes; 0 for any. Larger ones are fed in pieces, and so is a
            fixed batch.
    """
    runner = registry.backends.load(backend).open(
        Artifact(path, signature, variant), device=device, providers=providers
    )
    try:
        yield in_pieces(runner, signature, most=most)
    finally:
        runner.close()


def in_pieces(run: Run, signature: Signature, *, most: int = 0) -> Run:
    """Return `run`, splitting the batch where the graph fixes it or takes at most `most`."""
    batched = signature.batched
    fixed = [size for spec in batched if isinstance(size := spec.dims[spec.batch_axis], int)]
    if fixed and len(fixed) == len(batched):
        return _split(run, signature, min(fixed), whole=True)
    return _split(run, signature, most, whole=False) if most and not fixed else run


def _split(run: Run, signature: Signature, size: int, *, whole: bool) -> Run:
    """Return `run` in pieces of `size`; the last may be smaller unless all must be `whole`."""

    def run_pieces(feeds: Arrays) -> Arrays:
        import numpy as np

        count = min(feeds[spec.name].shape[spec.batch_axis] for spec in signature.batched)
        pieces = [
            run(
                {
                    spec.name: spec.rows(feeds[spec.name], slice(start, start + size))
                    for spec in signature.inputs
                }
            )
            for start in range(0, count // size * size if whole else count, size)
        ]
        return {
            spec.name: np.concatenate([piece[spec.name] for piece in pieces], spec.batch_axis)
            for spec in signature.outputs
        }

    return run_pieces


def require_backend(recipe: Recipe, names: Sequence[str]) -> None:
    """Check that at least one backend can run here on the recipe's device and providers.

    Raises:
        MissingError: None can; every reason is in the message.
    """
    reasons = {
        name: registry.backends.load(name).absent(device=recipe.device, providers=recipe.providers)
        for name in names
    }
    if all(reasons.values()):
        raise MissingError(
            f"nothing here can run on device {recipe.device!r}, providers {recipe.providers}",
            where="; ".join(f"{name}: {reason}" for name, reason in reasons.items()),
            next_step="install what is missing, or --device cpu --providers cpu",
        )

"""A trial: is a rewritten graph right, and is it faster?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.core import registry
from toolkit.core.case import Case, load_cases
from toolkit.core.errors import ToolkitError
from toolkit.core.files import write_bytes
from toolkit.core.outcome import Finding
from toolkit.core.protocols import Subject
from toolkit.core.recipe import Recipe
from toolkit.core.signature import Signature
from toolkit.stages._open import opened
from toolkit.stages._optimize.race import Course, Raced, Timing, race

if TYPE_CHECKING:
    import numpy as np

    Arrays = dict[str, np.ndarray]

CHECK = "parity"
CHECKS = (CHECK, "batch")


@dataclass(frozen=True, slots=True)
class Trial:
    """What one entry's graphs are judged and timed by.

    Arguments:
        signature: The entry's inputs and outputs.
        cases: Its parity cases.
        recipe: Limits, device and providers.
        scratch: A folder for graphs on trial.
        timing: How long a race may last.
    """

    signature: Signature
    cases: Sequence[Case]
    recipe: Recipe
    scratch: Path
    timing: Timing

    def written(self, graph: bytes, name: str) -> Path:
        """Write a graph to the scratch folder."""
        path = self.scratch / f"{name}.onnx"
        write_bytes(path, graph)
        return path

    def judge(self, path: Path, variant: str, budget: Mapping[str, float]) -> Finding:
        """Compare a graph with the oracle, as `verify` will; a graph that does not run fails.

        The finding is parity's, unless batches of some size alone fail: activations may be
        quantised over all samples of a call.
        """
        try:
            with opened(
                path, self.signature, device=self.recipe.device, providers=self.recipe.providers
            ) as run:
                subject = Subject(
                    signature=self.signature,
                    variant=variant,
                    backend="onnxruntime",
                    path=path,
                    run=run,
                    cases=self.cases,
                    sibling=lambda _: None,
                    budget=budget,
                    k=self.recipe.verify.k,
                )
                found: list[Finding] = [
                    registry.checks.load(name).judge(subject) for name in CHECKS
                ]
                return next((item for item in found if item.status == "failed"), found[0])
        except ToolkitError as error:
            entry = self.signature.entry
            return Finding(
                CHECK, entry, variant, "onnxruntime", "failed", value=math.inf, reason=error.what
            )

    def race(self, baseline: Path, contestant: Path, *, favoured: bool = False) -> Raced:
        """Time two graphs in turns; a favoured contestant wins unless it is slower."""
        return race(self._course(), baseline, contestant, favoured=favoured)

    def _course(self) -> Course:
        return Course(
            signature=self.signature,
            feeds=timed_feeds(self.signature, self.cases),
            device=self.recipe.device,
            providers=self.recipe.providers,
            timing=self.timing,
            seed=self.recipe.seed,
        )


def parity_cases(path: Path) -> list[Case]:
    """Return the parity cases of a golden file, real data first; none where there is no file."""
    if not path.is_file():
        return []
    cases = [case for case in load_cases(path) if case.check == CHECK]
    return sorted(cases, key=lambda case: case.name != "real")


def timed_feeds(signature: Signature, cases: Sequence[Case]) -> list[Arrays]:
    """Return rows of the first case at the smallest and the typical batch.

    A fixed batch is taken as the graph has it.
    """
    batches = [spec.dims[spec.batch_axis] for spec in signature.batched]
    fixed = [size for size in batches if isinstance(size, int)]
    sizes = fixed[:1] or signature.ranges.get("batch", (1, 8))[:2]
    return [
        {
            spec.name: spec.rows(cases[0].inputs[spec.name], slice(0, size))
            for spec in signature.inputs
        }
        for size in sorted(set(sizes))
    ]

"""Integrals at equal function evaluations: i-flow, VEGAS, plain Monte Carlo.

`python bench/integrate.py` trains the recipe `iflow` on every integrand of its paper, exports it,
draws from the exported graph, and compares relative uncertainties. Every evaluation counts: those
of the training, which only shape the density, and those of VEGAS's early iterations, which its
estimate uses.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

import toolkit
from toolkit.core import machine
from toolkit.core.files import write_json
from toolkit.core.folder import RunFolder
from toolkit.core.machine import versions
from toolkit.core.recipe import Recipe, load_recipe
from toolkit.nn.integrands import CENTRES, integral, log_integrand
from toolkit.stages.pipeline import run_pipeline

EVALUATIONS = 2**21
DIMENSIONS = (2, 4, 8)
BLOCK, BATCH = 2**16, 2**10
ITERATIONS = 10
OUT = Path(__file__).parent / "results" / "integrate.json"

Array = np.ndarray


@dataclass(frozen=True, slots=True)
class Estimate:
    """One method's estimate of an integral.

    Arguments:
        mean: The estimate.
        uncertainty: Its standard deviation.
        training: Function evaluations that only trained.
        evaluations: All function evaluations.
        blocks: Mean and standard deviation of the mean of every block, or of every iteration.
    """

    mean: float
    uncertainty: float
    training: int
    evaluations: int
    blocks: list[tuple[float, float]]

    @property
    def relative(self) -> float:
        """Uncertainty over estimate."""
        return self.uncertainty / self.mean


def main() -> int:
    """Measure every integrand, print the table and save it with the blocks' estimates."""
    rows = []
    print(f"{'integrand':<14}{'i-flow':>10}{'VEGAS':>10}{'plain':>10}   relative uncertainty")
    for name in CENTRES:
        for features in DIMENSIONS:
            with tempfile.TemporaryDirectory() as scratch:
                found = estimates(name, features, Path(scratch))
            cells = "".join(f"{estimate.relative:>10.1e}" for estimate in found.values())
            print(f"{name:<10}{features:>2}D {cells}", flush=True)
            methods = {
                method: {**asdict(estimate), "relative": estimate.relative}
                for method, estimate in found.items()
            }
            exact = integral(name, features)
            rows.append({"integrand": name, "features": features, "exact": exact, **methods})
    record = {
        "machine": machine.describe(),
        "versions": versions("torch", "onnxruntime", "vegas"),
        "evaluations": EVALUATIONS,
        "rows": rows,
    }
    write_json(OUT, record)
    return 0


def estimates(name: str, features: int, folder: Path) -> dict[str, Estimate]:
    """Return every method's estimate of one integral; the run folder is made in `folder`."""
    return {
        "i-flow": by_flow(name, features, folder),
        "vegas": by_vegas(name, features),
        "plain": by_plain(name, features),
    }


def by_flow(name: str, features: int, folder: Path) -> Estimate:
    """Train and export the recipe, and integrate by its graph."""
    recipe = load_recipe(
        "iflow",
        settings=[
            f"model.integrand={name}",
            f"model.features={features}",
            f"data.features={features}",
            'export.entries=["integrate"]',
        ],
    )
    run = RunFolder(folder)
    run_pipeline(recipe, run, last="export")
    session = toolkit.load(run.path)
    training = trained_on(recipe)
    return averaged(
        lambda points: session.integrate(noise=points.astype(np.float32)),
        features,
        EVALUATIONS - training,
        training=training,
    )


def trained_on(recipe: Recipe) -> int:
    """Return the function evaluations of a recipe's training."""
    batch = recipe.train.batch_size
    return int(recipe.data.arguments["samples"]) // batch * batch * recipe.train.epochs


def by_plain(name: str, features: int) -> Estimate:
    """Average over uniform points."""
    return averaged(integrand(name), features, EVALUATIONS)


def by_vegas(name: str, features: int) -> Estimate:
    """Adapt and average as the package does by default, every iteration in the estimate."""
    import gvar
    import vegas

    gvar.ranseed(0)
    integrator = vegas.Integrator([[0, 1]] * features)
    function = vegas.batchintegrand(integrand(name))
    result = integrator(function, nitn=ITERATIONS, neval=EVALUATIONS // ITERATIONS)
    blocks = [(float(item.mean), float(item.sdev)) for item in result.itn_results]
    return Estimate(float(result.mean), float(result.sdev), 0, int(result.sum_neval), blocks)


def integrand(name: str) -> Callable[[Array], Array]:
    """Return the integrand as a function of float64 points `(batch, features)`."""
    return lambda points: torch.exp(log_integrand(name, torch.from_numpy(points))).numpy()


def averaged(
    function: Callable[[Array], Array], features: int, count: int, *, training: int = 0
) -> Estimate:
    """Return the mean of a function over uniform points, and that of every block of them."""
    generator = np.random.default_rng(0)
    values = np.concatenate(
        [
            np.asarray(function(generator.random((BATCH, features))), dtype=np.float64)
            for _ in range(count // BATCH)
        ]
    )
    blocks = [mean_of(values[start : start + BLOCK]) for start in range(0, len(values), BLOCK)]
    return Estimate(*mean_of(values), training, training + len(values), blocks)


def mean_of(values: Array) -> tuple[float, float]:
    """Return a mean and its standard deviation."""
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


if __name__ == "__main__":
    sys.exit(main())

"""Train the recipe's model, go on after a stop, and save weights and learning curve."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.core import isolate, registry
from toolkit.core.entry import Autoregressive
from toolkit.core.errors import UsageError
from toolkit.core.files import digest, replacing
from toolkit.core.folder import RunFolder
from toolkit.core.machine import versions
from toolkit.core.outcome import Outcome
from toolkit.core.protocols import Data, Progress, silent
from toolkit.core.recipe import Recipe, parse_recipe
from toolkit.core.seed import seeded
from toolkit.stages._model import WEIGHTS, build_model, load_data, save_weights
from toolkit.stages._record import source_hash

if TYPE_CHECKING:
    from torch import nn

    from toolkit.stages._training import Row

AFTER: tuple[str, ...] = ()
SECTIONS = ("model", "data", "seed", "train", "device")
SOURCES = (
    "core",
    "nn",
    "models",
    "data",
    "objectives",
    "backends/_torch.py",
    "capture/preserve.py",
    "stages/train.py",
    "stages/_model.py",
    "stages/_training.py",
    "stages/_game.py",
)
PACKAGES = ("torch", "lightning", "scikit-learn", "pillow", "datasets")
MEASURES = False

METRICS, CURVE, UNFINISHED = "metrics.csv", "metrics.png", ".training"
LONGEST = 14 * 24 * 3600.0


def run(recipe: Recipe, folder: RunFolder, *, progress: Progress = silent) -> Outcome:
    """Train, or keep the initial weights where `train.epochs` is 0.

    A stopped training goes on from its last finished epoch, to the same weights.

    Raises:
        UsageError: Model, data, objective or a setting is wrong.
        CheckFailed: The loss became NaN or infinite.
    """
    if recipe.train.devices == 1 or recipe.train.epochs == 0:
        return Outcome("ok", detail=fit(recipe, folder, progress))
    # Lightning starts its other processes by running this process's command line again: that must
    # be a command that does nothing but train.
    detail = isolate.call(
        "toolkit.stages.train:fit_table",
        {"table": recipe.model_dump(mode="json"), "path": str(folder.path.resolve())},
        timeout=LONGEST,
    )
    return Outcome("ok", detail=detail)


def fit_table(table: dict[str, Any], path: str) -> dict[str, Any]:
    """Train, given JSON-ready arguments."""
    return fit(parse_recipe(table, where=path), RunFolder(Path(path)))


def fit(recipe: Recipe, folder: RunFolder, progress: Progress = silent) -> dict[str, Any]:
    """Train in this process and return the stage's result."""
    model, data = build_model(recipe), load_data(recipe)
    if data is not None:
        if recipe.train.epochs or callable(getattr(model, "initialize", None)):
            _check_shapes(model, data)
        _initialize(model, data, recipe)
    files, metrics = [WEIGHTS], {}
    if recipe.train.epochs:
        if data is None:
            raise UsageError(
                "training needs data",
                where="[data] of the recipe",
                next_step="name a data set, or keep the initial weights with epochs = 0",
            )
        metrics = _train(model, data, recipe, folder.path, progress)
        files += [METRICS, CURVE]
    else:
        save_weights(model, folder.path / WEIGHTS)
    return {
        "files": files,
        "epochs": recipe.train.epochs,
        "metrics": metrics,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }


def _check_shapes(model: nn.Module, data: Data) -> None:
    """Hold the data's samples against what the model's first entry takes, where it says so.

    Raises:
        UsageError: They differ in a fixed size.
    """
    if not callable(entries := getattr(model, "entries", None)) or not (known := entries()):
        return
    first = known[0]
    item = first.input if isinstance(first, Autoregressive) else first.inputs[0]
    given, taken = tuple(data.train["x"].shape[1:]), item.shape[1:]
    fixed = zip(given, taken, item.dims[1:], strict=False)
    if len(given) != len(taken) or any(own != size and dim is None for size, own, dim in fixed):
        raise UsageError(
            f"the data's samples have the shape {given}, the model takes {taken}",
            where="[model] and [data] of the recipe",
            next_step="give the model the data's sizes, or name other data",
        )


def _initialize(model: nn.Module, data: Data, recipe: Recipe) -> None:
    """Let a model set what depends on a first batch, such as ActNorm's shift and scale."""
    import torch

    if not callable(method := getattr(model, "initialize", None)):
        return
    x = data.train["x"]
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(recipe.seed))
    method(x[order[: recipe.train.batch_size]])


def _train(model: nn.Module, data: Data, recipe: Recipe, folder: Path, progress: Progress) -> Row:
    from toolkit.stages import _game, _training

    objective = registry.objectives.load(recipe.train.objective)
    game = bool(getattr(objective, "turns", ()))
    module = (_game.Game if game else _training.Training)(model, objective, data, recipe)
    checkpoint = folder / UNFINISHED / f"{_key(recipe)}.ckpt"
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    model.train()
    threads = _training.threads(recipe.train.threads)
    with _training.quiet(), _training.interruptible(), seeded(recipe.seed), threads:
        record = _training.EpochRecord(folder / METRICS, checkpoint)
        trainer = _training.make_trainer(recipe, record, progress, clip=module.clip)
        trainer.fit(module, ckpt_path=checkpoint if checkpoint.exists() else None)
    model.eval()
    if trainer.is_global_zero:
        save_weights(model.cpu(), folder / WEIGHTS)
        _training.write_history(folder / METRICS, module.history)
        _plot(folder / CURVE, module.history)
        shutil.rmtree(checkpoint.parent)
    return {name: value for name, value in module.history[-1].items() if name != "epoch"}


def _key(recipe: Recipe) -> str:
    """Return what a checkpoint must agree with: another recipe or source starts afresh."""
    sources = [source_hash(part) for part in SOURCES]
    sections = {name: value for name, value in recipe.model_dump().items() if name in SECTIONS}
    return digest(sections, sources, versions(*PACKAGES))[:16]


def _plot(path: Path, history: list[Row]) -> None:
    """Draw losses, and the objective's other values, over the epochs."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    epochs = [row["epoch"] for row in history]
    figures = [name for name in history[0] if name not in ("epoch", "train_loss", "test_loss")]
    figure = Figure(figsize=(4.5 * (1 + len(figures)), 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 1 + len(figures), squeeze=False)[0]
    for name in ("train_loss", "test_loss"):
        axes[0].plot(epochs, [row[name] for row in history], label=name.replace("_", " "))
    axes[0].legend()
    axes[0].set_ylabel("loss")
    for axis, name in zip(axes[1:], figures, strict=True):
        axis.plot(epochs, [row[name] for row in history])
        axis.set_ylabel(f"{name.replace('_', ' ')} (test)")
    for axis in axes:
        axis.set_xlabel("epoch")
        axis.xaxis.get_major_locator().set_params(integer=True)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")

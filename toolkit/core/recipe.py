"""Recipes: one TOML file says model, data, training, entries, variants and budgets."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from toolkit.core import device
from toolkit.core.errors import UsageError
from toolkit.core.registry import PACKAGE_ROOT, nearest

FULL_PRECISION = ("fp32", "exported")
Beta = Annotated[float, Field(ge=0, lt=1)]


class Section(BaseModel):
    """One strict table of a recipe."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Named(BaseModel):
    """A table that names a registered object; its other keys are that object's arguments."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str = ""

    @property
    def arguments(self) -> dict[str, Any]:
        """Every key but `name`."""
        return dict(self.model_extra or {})


class TrainSection(Section):
    """How the model is trained; epochs = 0 keeps the initial weights.

    `threads` are the processor threads of each process: small models are fastest with one, and
    one gives the same weights on every machine of a kind. `betas` are Adam's.
    """

    objective: str = "supervised"
    epochs: int = Field(default=0, ge=0)
    batch_size: int = Field(default=128, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    precision: str = "32-true"
    devices: int = Field(default=1, ge=1)
    threads: int = Field(default=1, ge=1)


class ExportSection(Section):
    """What is exported, and how."""

    # The newest that torch writes; asked for a newer one, it would write another.
    opset: int = Field(default=20, ge=13, le=23)
    entries: list[str] = []
    inputs: list[str] = []
    static: bool = False
    strategies: list[str] = ["dynamo", "record", "torchscript"]
    custom_ops: Literal["inline", "function"] = "inline"
    timeout: float = Field(default=600.0, ge=0)


class OptimizeSection(Section):
    """Variants to make; `budget.<variant>` maps a unit to the error that variant may add."""

    variants: list[str] = ["fp32", "fp16", "int8"]
    budget: dict[str, dict[str, float]] = {}
    passes: list[str] = []


class BuildSection(Section):
    """Engines to build; `shapes.<dimension>` is minimum, typical, maximum."""

    engines: list[str] = ["tensorrt-rtx", "tensorrt"]
    targets: list[str] = ["8.6", "8.9"]
    precisions: list[str] = ["fp32", "fp16"]
    shapes: dict[str, tuple[int, int, int]] = {"batch": (1, 8, 64)}
    timeout: float = 300.0


class VerifySection(Section):
    """Checks to run (all by default) and their limits."""

    checks: list[str] = []
    backends: list[str] = ["onnxruntime"]
    k: float = Field(default=4.0, gt=0)
    samples: int = Field(default=1024, ge=1)
    budget: dict[str, float] = {}
    timeout: float = 600.0


class BenchSection(Section):
    """What is timed against what."""

    backends: list[str] = ["eager", "compile", "onnxruntime"]
    entries: list[str] = []
    compile_entries: list[str] = []
    batches: list[int] = [1]
    scenario: str = "single-stream"
    threads: int = Field(default=1, ge=1)
    rounds: int = Field(default=12, ge=4)
    slot: float = Field(default=0.15, gt=0)


class Recipe(Section):
    """A whole recipe.

    Arguments:
        name: Name of the run; the file's stem.
        seed: Seed of every random number.
        device: `cpu`, `cuda`, `cuda:0` or `auto`.
        providers: ONNX Runtime providers in short names.
        fast: Dotted keys and the values that `--fast` gives them.
    """

    name: str = ""
    seed: int = 0
    device: str = "cpu"
    providers: list[str] = ["cpu"]
    model: Named = Named()
    data: Named = Named()
    train: TrainSection = TrainSection()
    export: ExportSection = ExportSection()
    optimize: OptimizeSection = OptimizeSection()
    build: BuildSection = BuildSection()
    verify: VerifySection = VerifySection()
    bench: BenchSection = BenchSection()
    fast: dict[str, Any] = {}

    def budget_of(self, precision: str) -> dict[str, float]:
        """Return the error per unit that a precision may have; empty for the oracle's limit."""
        if precision in FULL_PRECISION:
            return self.verify.budget
        return self.optimize.budget.get(precision, self.verify.budget)


def recipes_root() -> Path:
    """Return the folder of the shipped recipes: beside the package, or inside it once installed."""
    checkout = PACKAGE_ROOT.parent / "recipes"
    return checkout if checkout.is_dir() else PACKAGE_ROOT / "_recipes"


def recipe_names() -> list[str]:
    """Return the names of the shipped recipes."""
    return sorted(path.stem for path in recipes_root().glob("*.toml"))


def load_recipe(target: str | Path, *, settings: Sequence[str] = (), fast: bool = False) -> Recipe:
    """Read a recipe by name or path, or make one for `package.module:factory`.

    Arguments:
        target: The recipe, or the user's model.
        settings: `key=value` overrides with dotted keys; values are TOML, bare words are text.
        fast: Apply the recipe's own `[fast]` table first.

    Raises:
        UsageError: There is no such recipe, it is not TOML, or a key or value is wrong.
    """
    text = str(target)
    if ":" in text and not Path(text).exists():
        table: dict[str, Any] = {
            "name": text.replace(":", ".").rpartition(".")[2],
            "model": {"name": text},
        }
        where = text
    else:
        path = _recipe_path(text)
        table, where = _read_toml(path), str(path)
        table.setdefault("name", path.stem)
    if fast:
        for key, value in _fast_settings(table, where).items():
            _override(table, key, value)
    for setting in settings:
        key, separator, value = setting.partition("=")
        if not separator:
            raise UsageError(
                f"cannot read --set {setting}", next_step="write it like train.epochs=2"
            )
        _override(table, key.strip(), _toml_value(value.strip()))
    return parse_recipe(table, where=where)


def parse_recipe(table: dict[str, Any], *, where: str) -> Recipe:
    """Check a table against the recipe's schema; its device is settled for this machine.

    Raises:
        UsageError: A key is unknown (the nearest is named) or a value is wrong.
    """
    try:
        recipe = Recipe.model_validate(table)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise UsageError(
                f"unknown key {key!r}", where=where, next_step=_nearest_key(first["loc"])
            ) from error
        raise UsageError(
            f"{key}: {first['msg']} (got {first['input']!r})",
            where=where,
            next_step="correct the value",
        ) from error
    settled = device.resolve(recipe.device, recipe.providers)
    return recipe.model_copy(update={"device": settled})


def _recipe_path(text: str) -> Path:
    for path in (Path(text), recipes_root() / f"{text}.toml"):
        if path.is_file():
            return path
        if (path / "recipe.toml").is_file():
            return path / "recipe.toml"
    raise UsageError(
        f"there is no recipe {text!r}",
        where=str(recipes_root()),
        next_step=f"{nearest(text, recipe_names())}; or give package.module:factory",
    )


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        raise UsageError(
            f"the recipe cannot be read: {error.strerror}",
            where=str(path),
            next_step="mend its permissions",
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(
            f"the recipe is not TOML: {error}", where=str(path), next_step="correct that line"
        ) from error


def _fast_settings(table: dict[str, Any], where: str) -> dict[str, Any]:
    settings = table.get("fast", {})
    if not isinstance(settings, dict):
        raise UsageError(
            "[fast] is not a table", where=where, next_step='write it like "train.epochs" = 1'
        )
    return settings


def _nearest_key(location: tuple[int | str, ...]) -> str:
    fields: dict[str, Any] = Recipe.model_fields
    for part in location[:-1]:
        annotation = fields[str(part)].annotation
        fields = getattr(annotation, "model_fields", {})
    return nearest(str(location[-1]), list(fields))


def _override(table: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise UsageError(
                f"{key!r} does not name a key", next_step="write it like train.epochs=2"
            )
    table[last] = value


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text

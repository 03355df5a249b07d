"""A recipe's model, weights and data."""

from __future__ import annotations

import inspect
import sysconfig
import traceback
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from toolkit.core import places, registry
from toolkit.core.errors import IntegrityError, ToolkitError, UsageError
from toolkit.core.files import replacing
from toolkit.core.folder import RunFolder
from toolkit.core.protocols import Data
from toolkit.core.recipe import Recipe
from toolkit.core.seed import seeded

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

WEIGHTS = "weights.safetensors"


def build_model(recipe: Recipe) -> nn.Module:
    """Make the recipe's model with the initial weights of its seed, in evaluation mode.

    Raises:
        UsageError: The recipe names no model, an argument is wrong, or the target makes none.
    """
    from torch import nn

    from toolkit.capture.preserve import copied, evaluating

    name = recipe.model.name
    if not name:
        raise UsageError(
            "the recipe names no model",
            where="[model]",
            next_step=f"name one of {', '.join(registry.models.names())}, or module:factory",
        )
    target = registry.models.load(name)
    if isinstance(target, nn.Module):
        # The user keeps the module itself: flags, device and weights stay as they were.
        made: Any = copied(target)
    else:
        with seeded(recipe.seed):
            made = call(target, recipe.model.arguments, where=f"[model] name = {name!r}")
    made = _as_module(made)
    if not isinstance(made, nn.Module):
        raise UsageError(
            f"{name} gives a {type(made).__name__}, not a torch.nn.Module",
            where=f"[model] name = {name!r}",
            next_step="name a module, or a function or class that makes one",
        )
    return evaluating(on_processor(made))


def on_processor(model: nn.Module) -> nn.Module:
    """Return the model on the processor, where graphs are captured and the oracle answers.

    The caller's own module stays where it is.

    Raises:
        UsageError: A layer is lazy or quantised, or a tensor is on the meta device: it has a shape
            and no numbers.
    """
    from toolkit.capture.preserve import copied

    _check_layers(model)
    tensors = dict([*model.named_parameters(), *model.named_buffers()])
    empty = [name for name, tensor in tensors.items() if tensor.is_meta]
    if empty:
        raise UsageError(
            f"the model has no weights: {empty[0]} is on the meta device",
            where=type(model).__name__,
            next_step="load the weights before the export",
        )
    if all(tensor.device.type == "cpu" for tensor in tensors.values()):
        return model
    return copied(model).cpu()


def _check_layers(model: nn.Module) -> None:
    """Refuse layers that have no floating weights: not yet, or no longer."""
    import torch
    from torch.nn.parameter import is_lazy

    for path, layer in model.named_modules():
        where = f"module {path}" if path else type(layer).__name__
        held = [*layer.parameters(recurse=False), *layer.buffers(recurse=False)]
        if any(is_lazy(tensor) for tensor in held):
            raise UsageError(
                f"a layer is not initialised: {type(layer).__name__} takes its shape from the "
                "first batch",
                where=where,
                next_step="run the model once on a batch, then export it",
            )
        # torch packs quantised weights into an object of its own.
        if any(type(value) is torch.ScriptObject for value in vars(layer).values()):
            raise UsageError(
                "the model is quantised already: its packed weights cannot be exported",
                where=where,
                next_step="export the float model; toolkit optimize then makes its int8 variants",
            )


def _as_module(made: Any) -> Any:
    """Return a library's flow that is no module, such as a pyro distribution, as one."""
    from torch import nn

    if isinstance(made, nn.Module):
        return made
    found = (adapter for _, adapter in registry.adapters.items() if adapter.detects(made))
    return next((adapter.as_module(made) for adapter in found), made)


def load_model(recipe: Recipe, folder: RunFolder) -> nn.Module:
    """Make the recipe's model and give it the weights of the run folder, in evaluation mode.

    Raises:
        UsageError: There are no weights, or they are another model's.
        IntegrityError: The file is damaged.
    """
    model = build_model(recipe)
    load_weights(model, folder.path / WEIGHTS)
    return model


def load_weights(model: nn.Module, path: Path) -> None:
    """Give a model the weights of a safetensors file.

    Raises:
        UsageError: There is no such file, or names or shapes are not the model's.
        IntegrityError: The file is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_model as load_safetensors

    if not path.is_file():
        raise UsageError(
            "there are no weights yet",
            where=str(path),
            next_step="toolkit train, or --weights FILE",
        )
    try:
        missing, unexpected = load_safetensors(model, path, strict=False)
    except SafetensorError as error:
        raise IntegrityError(
            f"the weights cannot be read: {error}", where=str(path), next_step="train again"
        ) from error
    except RuntimeError as error:
        raise _mismatch(path, str(error)) from error
    if missing or unexpected:
        raise _mismatch(path, _listed("missing", missing) + _listed("unexpected", unexpected))


def save_weights(model: nn.Module, path: Path) -> None:
    """Write every parameter and buffer to a safetensors file in one step."""
    from safetensors.torch import save_model

    with replacing(path) as temporary:
        save_model(model, str(temporary))


def load_data(recipe: Recipe) -> Data | None:
    """Load the recipe's data; `None` where it names none.

    Raises:
        UsageError: There is no such data set or folder, or an argument is wrong.
        MissingError: A package that reads it is not installed.
        IntegrityError: A file of it is damaged.
    """
    name = recipe.data.name
    if not name:
        return None
    target = places.loader(name) or registry.datasets.load(name)
    data = call(target, recipe.data.arguments, where=f"[data] name = {name!r}")
    if not isinstance(data, Data):
        raise UsageError(
            f"{name} gives a {type(data).__name__}, not a toolkit.core.protocols.Data",
            where=f"[data] name = {name!r}",
            next_step="return Data(train={'x': …}, test={'x': …})",
        )
    return data


def call(target: Any, arguments: Mapping[str, Any], *, where: str) -> Any:
    """Call what a recipe names with the recipe's arguments.

    Raises:
        UsageError: It cannot be called, an argument is unknown, missing or wrong, or it raises.
    """
    if not callable(target):
        raise UsageError(
            f"a {type(target).__name__} cannot be called",
            where=where,
            next_step="name a function or a class",
        )
    _check_arguments(target, arguments, where=where)
    try:
        return target(**arguments)
    except ToolkitError:
        raise
    except Exception as error:
        raise UsageError(
            f"{type(error).__name__}: {error}",
            where=", ".join(filter(None, [_own_line(error), where])),
            next_step=f"correct the arguments: {dict(arguments)}"
            if arguments
            else "correct that line, or give it what it needs",
        ) from error


def _own_line(error: Exception) -> str:
    """Return the innermost line that is in no installed library, or nothing."""
    libraries = [sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")]
    own = [
        f"{frame.filename}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((*libraries, str(registry.PACKAGE_ROOT)))
    ]
    return own[-1] if own else ""


def _check_arguments(
    target: Callable[..., Any], arguments: Mapping[str, Any], *, where: str
) -> None:
    try:
        signature = inspect.signature(target)
        signature.bind(**arguments)
    except ValueError:  # Some built-in callables have no signature to check.
        return
    except TypeError as error:
        known = list(signature.parameters)
        unknown = [name for name in arguments if name not in known]
        if unknown:
            raise UsageError(
                f"unknown argument {unknown[0]!r}",
                where=where,
                next_step=registry.nearest(unknown[0], known) if known else "it takes none",
            ) from error
        raise UsageError(
            f"the arguments do not fit: {error}", where=where, next_step=f"it takes {signature}"
        ) from error


def _listed(word: str, names: Any) -> str:
    return f" {word}: {', '.join(sorted(names))}." if names else ""


def _mismatch(path: Path, what: str) -> UsageError:
    return UsageError(
        f"the weights do not fit the model.{' ' + what.strip()}",
        where=str(path),
        next_step="train again, or give the [model] arguments that these weights were trained with",
    )

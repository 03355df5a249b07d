"""Registries: a folder is a registry, and a file's name is its registration."""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from toolkit.core.errors import MissingError, UsageError

PACKAGE_ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Registry:
    """A folder of `toolkit` whose files each define one fixed name.

    Arguments:
        folder: Folder under `toolkit/`.
        attribute: The name that each file defines.
    """

    folder: str
    attribute: str

    def names(self) -> list[str]:
        """Return the sorted names: file stems without a leading underscore, then plug-ins."""
        own = (
            path.stem
            for path in (PACKAGE_ROOT / self.folder).glob("*.py")
            if not path.stem.startswith("_")
        )
        return sorted({*own, *self._plugins()})

    def summary(self, name: str) -> str:
        """Return the first line of a file's docstring, without importing the file."""
        path = self._path(name)
        if not path.exists():
            return f"plug-in {self._plugins().get(name, name)}"
        doc = ast.get_docstring(ast.parse(path.read_text())) or ""
        return doc.partition("\n")[0]

    def load(self, name: str) -> Any:
        """Import one registered object, or any `package.module:attribute`.

        Raises:
            UsageError: Nothing is registered under that name.
        """
        if ":" in name:
            return load_attribute(name)
        path = self._path(name)
        # A name is no path: `../core/errors` is not registered.
        plain = name.replace("-", "_").isidentifier() and not name.startswith("_")
        if plain and path.exists():
            module = importlib.import_module(f"toolkit.{self.folder}.{path.stem}")
            return getattr(module, self.attribute)
        if name in (plugins := self._plugins()):
            return load_attribute(plugins[name])
        raise UsageError(
            f"no {self.attribute} is called {name!r}",
            where=f"toolkit/{self.folder}",
            next_step=f"{nearest(name, self.names())}; or give package.module:attribute",
        )

    def items(self) -> list[tuple[str, Any]]:
        """Import every registered object, in the order of the names."""
        return [(name, self.load(name)) for name in self.names()]

    def _path(self, name: str) -> Path:
        """Return the file of a name; `tensorrt-rtx` is `tensorrt_rtx.py`."""
        return PACKAGE_ROOT / self.folder / f"{name.replace('-', '_')}.py"

    def _plugins(self) -> dict[str, str]:
        return {point.name: point.value for point in entry_points(group=f"toolkit.{self.folder}")}


def load_attribute(target: str) -> Any:
    """Import `package.module:attribute`.

    Raises:
        UsageError: The text has no such form, or module or attribute do not exist.
        MissingError: The module exists, but something that it imports is not installed.
    """
    module_name, _, attribute = target.partition(":")
    if not module_name or not attribute:
        raise UsageError(
            f"cannot read {target!r}", next_step="write it like package.module:attribute"
        )
    try:
        value: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if module_name == missing or module_name.startswith(f"{missing}."):
            raise UsageError(
                f"there is no module {missing!r}",
                where=target,
                next_step="run from the folder that holds it, or install the package",
            ) from error
        raise MissingError(
            f"{module_name} needs the package {missing!r}",
            where=target,
            next_step=f"pip install {missing}",
        ) from error
    for part in attribute.split("."):
        if not hasattr(value, part):
            raise UsageError(
                f"{module_name} has no attribute {attribute!r}",
                where=target,
                next_step=nearest(part, [name for name in dir(value) if not name.startswith("_")]),
            )
        value = getattr(value, part)
    return value


def nearest(name: str, known: list[str]) -> str:
    """Return a hint that names the closest known name, or lists all of them."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else "known: " + ", ".join(known)


models = Registry("models", "model")
datasets = Registry("data", "dataset")
objectives = Registry("objectives", "objective")
adapters = Registry("adapters", "adapter")
lowerings = Registry("lowerings", "lowering")
schedules = Registry("schedules", "schedule")
passes = Registry("passes", "rewrite")
backends = Registry("backends", "backend")
checks = Registry("checks", "check")
devices = Registry("devices", "device")
commands = Registry("cli", "command")

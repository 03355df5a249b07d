"""Optional packages: import them where they are used, or say how to install them."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from toolkit.core.errors import MissingError


def installed(module: str) -> bool:
    """Return whether a module can be imported, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def install_line(extra: str) -> str:
    """Return the line that installs one of the toolkit's extras."""
    return f"pip install 'toolkit[{extra}]'"


def require(module: str, *, extra: str) -> ModuleType:
    """Import an optional module.

    Raises:
        MissingError: The module is not installed; the error holds the line that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingError(
            f"the package {module!r} is not usable here: {error}",
            next_step=install_line(extra),
        ) from error

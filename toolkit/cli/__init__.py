"""The command line, one file per command."""

from toolkit.cli._app import main

__all__ = ["main"]

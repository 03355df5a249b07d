"""The application: one command per file of this folder, each with the common options."""

from __future__ import annotations

import functools
import inspect
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from toolkit.cli._answer import Answer
from toolkit.core.errors import INTERRUPTED, ToolkitError, UsageError
from toolkit.core.registry import commands

Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more on standard error.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Errors only.")]
CacheDir = Annotated[
    str, typer.Option("--cache-dir", help="Folder for compiled code and data sets.", metavar="DIR")
]

_COMMON = {
    "as_json": (Json, False),
    "verbose": (Verbose, False),
    "quiet": (Quiet, False),
    "cache_dir": (CacheDir, ""),
}


def build_app() -> typer.Typer:
    """Return the Typer application with one command per file."""
    app = typer.Typer(
        name="toolkit",
        help="Export trained flows, masked and autoregressive models to the edge, verified and "
        "measured.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback()(_version)
    for name in commands.names():
        app.command(name)(_with_common(commands.load(name)))
    return app


def main() -> None:
    """Run the command line; modules of the current folder can be named, installed ones first."""
    sys.path.append(str(Path.cwd()))
    build_app()()


def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        print(installed("toolkit"))
        raise typer.Exit


def _with_common(function: Callable[..., Answer]) -> Callable[..., None]:
    """Return a command that takes the common options, prints its answer, and exits by its code."""

    @functools.wraps(function)
    def command(**arguments: Any) -> None:
        common = {name: arguments.pop(name) for name in _COMMON}
        _set_up(common)
        try:
            answer = function(**arguments)
        except ToolkitError as error:
            _print_error(error, as_json=common["as_json"])
            raise typer.Exit(error.exit_code) from None
        except OSError as error:
            told = _file_error(error)
            _print_error(told, as_json=common["as_json"])
            raise typer.Exit(told.exit_code) from None
        except KeyboardInterrupt:
            print(
                "interrupted: finished stages are kept; the same command goes on", file=sys.stderr
            )
            raise typer.Exit(INTERRUPTED) from None
        _print(answer, as_json=common["as_json"], quiet=common["quiet"])
        raise typer.Exit(answer.code)

    signature = inspect.signature(function, eval_str=True)
    extra = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for name, (kind, default) in _COMMON.items()
    ]
    parameters = [*signature.parameters.values(), *extra]
    command.__signature__ = signature.replace(parameters=parameters, return_annotation=None)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


def _set_up(common: dict[str, Any]) -> None:
    import logging

    level = logging.INFO if common["verbose"] else logging.WARNING
    logging.basicConfig(
        level=logging.ERROR if common["quiet"] else level,
        format="%(message)s",
        stream=sys.stderr,
    )
    if common["quiet"]:
        os.environ["TOOLKIT_QUIET"] = "1"
    if cache := common["cache_dir"]:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = os.path.join(cache, "inductor")  # noqa: PTH118
        os.environ["HF_HOME"] = os.path.join(cache, "huggingface")  # noqa: PTH118


def _print(answer: Answer, *, as_json: bool, quiet: bool) -> None:
    if as_json:
        print(json.dumps(answer.data, indent=1, sort_keys=True, default=str))
    if text := "" if quiet else answer.text():
        print(text, file=sys.stderr if as_json else sys.stdout)


def _file_error(error: OSError) -> UsageError:
    return UsageError(
        f"cannot read or write: {error.strerror or error}",
        where=str(error.filename or ""),
        next_step="check the path, its permissions and the free space there",
    )


def _print_error(error: ToolkitError, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(error.as_dict(), indent=1, sort_keys=True))
    print(f"error: {error}", file=sys.stderr)

"""Test a bundle on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from toolkit.cli._answer import Answer, table
from toolkit.cli._options import Providers
from toolkit.core.errors import CheckFailed

Bundle = Annotated[Path, typer.Argument(help="A bundle.zip or its folder.", metavar="BUNDLE")]
Timeout = Annotated[float, typer.Option("--timeout", help="Seconds.", metavar="S", min=1)]


def command(
    bundle: Bundle,
    threads: Annotated[
        int, typer.Option("--threads", help="Threads within an operator.", min=1)
    ] = 1,
    providers: Providers = "cpu",
    timeout: Timeout = 60.0,
) -> Answer:
    """Test a bundle on this machine.

    The bundle carries the same test: python run.py selftest.
    """
    from toolkit.cli._options import split
    from toolkit.runtime import selftest

    results = [
        result.as_dict()
        for result in selftest(bundle, threads=threads, providers=split(providers), timeout=timeout)
    ]
    failed = any(result["status"] == "failed" for result in results)
    data = {"status": "failed" if failed else "ok", "results": results}
    return Answer(data, lambda: text(results), CheckFailed.exit_code if failed else 0)


def text(results: list[dict[str, Any]]) -> str:
    """Return the answers of a self-test as a table."""
    names = ["check", "entry", "variant", "output", "status", "value", "limit", "unit", "reason"]
    return table(names, [[result.get(name) for name in names] for result in results])

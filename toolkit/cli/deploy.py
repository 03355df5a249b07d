"""Copy a bundle to a device and test it there."""

from __future__ import annotations

from typing import Annotated

import typer

from toolkit.cli._answer import Answer
from toolkit.cli.selftest import Bundle, Timeout
from toolkit.core.errors import CheckFailed


def command(
    bundle: Bundle,
    device: Annotated[
        str, typer.Option("--device", help="ssh://user@host:port, or local.", metavar="ADDRESS")
    ],
    python: Annotated[
        str, typer.Option("--python", help="Interpreter there.", metavar="PATH")
    ] = "",
    timeout: Timeout = 300.0,
) -> Answer:
    """Copy a bundle to a device and test it there."""
    from toolkit.cli.selftest import text
    from toolkit.core.registry import devices

    # An address such as ssh://board names its device by its scheme.
    name, separator, _ = device.partition("://")
    make = devices.load(name if separator else device)
    place = make(device, python) if python else make(device)
    result = dict(place.selftest(bundle, timeout=timeout))
    code = CheckFailed.exit_code if result["status"] == "failed" else 0
    return Answer(result, lambda: text(result["results"]), code)

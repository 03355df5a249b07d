"""Strict reading of untrusted JSON, names and paths."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterable
from typing import Any

from toolkit.core.errors import IntegrityError

MAX_JSON = 4 << 20
MAX_PATH = 240
_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=@-]*")
_MAX_DIGITS = 18


def refusal(
    what: str, where: str, next_step: str = "get the bundle again from its maker"
) -> IntegrityError:
    """Return the error that refuses a damaged or hostile file."""
    return IntegrityError(what, where=where, next_step=next_step)


def shown(text: object, *, limit: int = 80) -> str:
    """Return untrusted text with every control and non-ASCII character escaped, cut to `limit`."""
    escaped = ascii(str(text))[1:-1]
    return escaped if len(escaped) <= limit else f"{escaped[: limit - 1]}…"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint that names the closest known name, or lists all of them."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {close[0]!r}?" if close else "known: " + ", ".join(names)


def parse_json(data: bytes, *, where: str) -> dict[str, Any]:
    """Read a JSON object; duplicate keys, NaN, huge numbers and deep nesting are refused.

    Raises:
        IntegrityError: The bytes are no such object.
    """
    if len(data) > MAX_JSON:
        raise refusal(f"the JSON is larger than {MAX_JSON} bytes", where)
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_float=_finite,
            parse_int=_short,
        )
    except (ValueError, RecursionError) as error:
        raise refusal(f"not valid JSON: {shown(error)}", where) from error
    if not isinstance(value, dict):
        raise refusal("not a JSON object", where)
    table: dict[str, Any] = value
    return table


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {shown(twice)} stands there twice")
    return table


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not a number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is out of range")
    return value


def _short(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise ValueError("an integer has too many digits")
    return int(text)


def safe_path(name: object, *, where: str) -> str:
    """Return a path inside a bundle: relative, POSIX, plain characters.

    Raises:
        IntegrityError: The path is absolute, climbs, or holds odd characters.
    """
    good = (
        isinstance(name, str)
        and 0 < len(name) <= MAX_PATH
        and all(_SEGMENT.fullmatch(part) for part in name.split("/"))
    )
    if not good:
        raise refusal(f"the path {shown(name)!r} may not stand in a bundle", where)
    return str(name)

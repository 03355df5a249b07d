"""Numbers and names as a page shows them."""

from __future__ import annotations

import math
import unicodedata
from typing import Any

NOTHING = "–"
CONTROL_PICTURES = 0x2400
DELETE, DELETE_PICTURE = 0x7F, "␡"
UNSEEN = "�"
KEPT = "\n\t"
LONGEST_LABEL = 30


def clean(text: object) -> str:
    """Return text whose control characters are seen instead of obeyed.

    Names come from models and files: an escape sequence or a change of writing direction in one
    must not act on who reads it.
    """
    return "".join(_seen(character) for character in str(text))


def _seen(character: str) -> str:
    if character in KEPT:
        return character
    code = ord(character)
    if code < 0x20:
        return chr(CONTROL_PICTURES + code)
    if code == DELETE:
        return DELETE_PICTURE
    return UNSEEN if unicodedata.category(character) in ("Cc", "Cf", "Cs") else character


def short(text: object) -> str:
    """Return text that a chart has room for; tables hold the whole."""
    whole = clean(text)
    return whole if len(whole) <= LONGEST_LABEL else whole[: LONGEST_LABEL - 1] + "…"


def number(value: Any, digits: int = 3) -> str:
    """Return a number with significant digits: `0.0123`, `1,234`, `3.1e-07`."""
    if not _is_number(value):
        return NOTHING
    if isinstance(value, int) or value == 0:
        return f"{int(value):,}".replace("-", "−")
    scientific = f"{value:.{digits - 1}e}"
    if math.isinf(value):
        return scientific.replace("-", "−")
    exponent = int(scientific.partition("e")[2])
    if not -4 < exponent < 9:
        return f"{scientific.partition('e')[0]}e{exponent}".replace("-", "−")
    return f"{value:,.{max(0, digits - 1 - exponent)}f}".replace("-", "−")


def size(value: Any) -> str:
    """Return bytes as `12.3 kB`, `4.56 MB`."""
    if not _is_number(value):
        return NOTHING
    if value < 1000:
        return f"{value:.0f} B"
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 1000 or unit == "GB":
            break
    return f"{number(float(value))} {unit}"


def duration(value: Any) -> str:
    """Return seconds as `4.2 s` or `3 min 05 s`."""
    if not _is_number(value):
        return NOTHING
    if round(value, 1) < 60:
        return f"{value:.1f} s"
    minutes, seconds = divmod(round(value), 60)
    return f"{minutes} min {seconds:02d} s"


def times(value: Any) -> str:
    """Return a ratio as `2.41 ×`."""
    return f"{number(float(value))} ×" if _is_number(value) else NOTHING


def interval(value: Any) -> str:
    """Return the two ends of an interval as `2.31–2.52`."""
    if not isinstance(value, list | tuple) or not all(_is_number(end) for end in value):
        return ""
    return "–".join(number(float(end)) for end in value)


def percent(value: Any) -> str:
    """Return a fraction as `1.2 %`."""
    return f"{number(100.0 * value, 2)} %" if _is_number(value) else NOTHING


def change(value: Any) -> str:
    """Return a difference with its sign: `+3`, `−12`."""
    if not _is_number(value):
        return NOTHING
    return f"+{number(value)}" if value > 0 else number(value)


def plain(name: object) -> str:
    """Return a key as words: `bits_per_dim` is `bits per dim`."""
    return str(name).replace("_", " ")


def counted(count: int, noun: str) -> str:
    """Return a count with its noun: `1 node`, `1,204 nodes`."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number(count)} {noun if count == 1 else plural}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value

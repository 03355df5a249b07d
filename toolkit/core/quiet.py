"""Silence, by message and by logger, what libraries say to their own developers."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Sequence


@contextlib.contextmanager
def quietly(*, messages: Sequence[str], loggers: Sequence[str]) -> Iterator[None]:
    """Ignore warnings whose text matches, and log nothing below errors, inside the block.

    Arguments:
        messages: Regular expressions that match from the start of a warning's text.
        loggers: Names of the loggers.
    """
    found = [logging.getLogger(name) for name in loggers]
    levels = [logger.level for logger in found]
    with warnings.catch_warnings():
        for message in messages:
            warnings.filterwarnings("ignore", message=message)
        for logger in found:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(found, levels, strict=True):
                logger.setLevel(level)

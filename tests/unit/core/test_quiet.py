"""Only what is named is silenced, and only inside the block."""

from __future__ import annotations

import logging
import warnings

import pytest

from toolkit.core.quiet import quietly


def test_silences_what_is_named_and_puts_levels_back() -> None:
    logger = logging.getLogger("noisy.library")
    logger.setLevel(logging.INFO)
    with quietly(messages=["known noise"], loggers=["noisy.library"]):
        warnings.warn("known noise of a library", UserWarning, stacklevel=1)
        assert logger.level == logging.ERROR
    assert logger.level == logging.INFO
    with pytest.warns(UserWarning, match="known noise"):
        warnings.warn("known noise of a library", UserWarning, stacklevel=1)


def test_other_warnings_pass() -> None:
    with quietly(messages=["known noise"], loggers=[]), pytest.warns(UserWarning, match="news"):
        warnings.warn("news", UserWarning, stacklevel=1)

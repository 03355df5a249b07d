"""Registries: names are files, never paths; a typo names the nearest."""

from __future__ import annotations

import pytest

from toolkit.core.errors import MissingError, UsageError
from toolkit.core.registry import Registry, backends, checks, load_attribute


def test_names_are_the_files_without_the_private_ones() -> None:
    assert "parity" in checks.names()
    assert not any(name.startswith("_") for name in checks.names())


def test_a_dash_stands_for_an_underscore() -> None:
    assert backends.load("tensorrt-rtx") is backends.load("tensorrt_rtx")


def test_a_summary_is_the_first_line_of_the_file() -> None:
    assert checks.summary("finite") == "Is every output finite wherever the oracle's is?"


@pytest.mark.parametrize(
    "name", ["parityy", "_judge", "../core/errors", "../checks/parity", "/etc/passwd", ""]
)
def test_what_is_not_registered_is_a_usage_error(name: str) -> None:
    with pytest.raises(UsageError, match="no check is called"):
        checks.load(name)


def test_a_typo_names_the_nearest() -> None:
    with pytest.raises(UsageError) as raised:
        checks.load("parityy")
    assert "did you mean 'parity'" in raised.value.next_step


def test_any_attribute_of_a_module_may_be_named() -> None:
    assert Registry("checks", "check").load("math:pi") == load_attribute("math:pi")


@pytest.mark.parametrize(
    "target", ["math", "math:", ":pi", "no_such_module:x", "math:no_such_name"]
)
def test_a_wrong_attribute_is_a_usage_error(target: str) -> None:
    with pytest.raises(UsageError):
        load_attribute(target)


def test_a_module_that_misses_a_package_says_which(tmp_path, monkeypatch) -> None:
    (tmp_path / "needs_another.py").write_text("import no_such_package_anywhere\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingError, match="no_such_package_anywhere"):
        load_attribute("needs_another:x")

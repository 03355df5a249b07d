"""Every library's spline equals its replacement."""

from __future__ import annotations

import copy

import pytest
import torch

from toolkit.adapters import _splines
from toolkit.core.registry import load_attribute
from toolkit.core.require import installed

LIBRARIES = {
    "nflows": _splines.of_nflows,
    "normflows": _splines.of_normflows,
    "pyro": _splines.of_pyro,
    "zuko": _splines.of_zuko,
}
CASES = [(library, item) for library, replacements in LIBRARIES.items() for item in replacements()]


@pytest.mark.parametrize(("library", "item"), CASES, ids=lambda v: getattr(v, "targets", [v])[0])
def test_a_replacement_gives_the_librarys_values(library, item):
    if not installed(library):
        pytest.skip(f"{library} is not installed")
    for target in item.targets:
        assert callable(load_attribute(target)), target
    original = load_attribute(item.targets[0])
    for name, (args, kwargs) in item.examples().items():
        theirs, ours = original(*copy.deepcopy(args), **kwargs), item.function(*args, **kwargs)
        if theirs is None:
            assert ours is None
            continue
        alone = isinstance(theirs, torch.Tensor)
        pairs = [(theirs, ours)] if alone else zip(theirs, ours, strict=True)
        for place, (a, b) in enumerate(pairs):
            error = ((a - b).abs() / a.abs().clamp(min=1)).max().item()
            assert error <= item.tolerance, (name, place, error)

"""Operators without a translation of their own, and what they are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.onnx._internal.exporter import _decomp
from torch.onnx._internal.exporter._registration import ONNXRegistry

from toolkit.lowerings import table

ASSERTIONS = ("aten::_assert", "aten::sym_constrain")
"""The exporter drops them."""


@cache
def translated() -> frozenset[Any]:
    """Return the operators that the exporter, or a lowering, translates."""
    own = _decomp.get_onnx_implemented_overloads(ONNXRegistry.from_torchlib())
    return frozenset([*own, *table()])


@cache
def decompositions() -> Mapping[Any, Callable[..., Any]]:
    """Return what the exporter would decompose before it translates, and how."""
    made: Mapping[Any, Callable[..., Any]] = _decomp.create_onnx_friendly_decomposition_table(
        set(translated())
    )
    return made


def is_final(program: ExportedProgram) -> bool:
    """Return whether every operator of a functional program has a translation."""
    return all(
        node.target in translated() or node.target._schema.name.startswith(ASSERTIONS)  # noqa: SLF001
        for part in program.graph_module.modules()
        for node in part.graph.nodes
        if isinstance(node.target, torch._ops.OpOverload)  # noqa: SLF001  (no public name)
    )

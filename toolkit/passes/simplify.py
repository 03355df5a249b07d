"""Fold constants, merge equal nodes and drop dead code, as onnxscript's optimizer does."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from toolkit.core.protocols import Change
from toolkit.passes._graph import structure

LARGEST_INPUT = 8192
LARGEST_OUTPUT = 262_144
CONTROL_FLOW = frozenset({"Loop", "Scan", "If", "SequenceMap"})


@dataclass(frozen=True, slots=True)
class Simplify:
    """Onnxscript's optimizer and its rules, then common subexpressions and equal constants.

    Control flow is never evaluated: a loop over constants may be long or endless. Model-local
    functions are not inlined.
    """

    order: int = 10
    portable: bool = True

    def __call__(self, model: ir.Model) -> Change:
        """Rewrite the model in place."""
        from onnx_ir.passes import common

        from toolkit.passes._exact import optimize

        before = structure(model)
        optimize(
            model,
            inline=False,
            input_size_limit=LARGEST_INPUT,
            output_size_limit=LARGEST_OUTPUT,
            should_fold=_should_fold,
        )
        common.DeduplicateInitializersPass()(model)
        common.CommonSubexpressionEliminationPass()(model)
        common.RemoveUnusedNodesPass()(model)
        after = structure(model)
        if before == after:
            return Change(0, "nothing is constant, equal or dead")
        return Change(max(1, len(before) - len(after)))


def _should_fold(node: ir.Node) -> bool | None:
    return False if node.op_type in CONTROL_FLOW else None


rewrite = Simplify()

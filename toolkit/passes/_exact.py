"""Onnxscript's optimizer, held to rules that change no value.

Its rules for `x * 1`, `x / 1`, `x + 0` and `x - 0` accept any number within 1e-5 of one and 1e-8
of zero: `erfinv(x * (1 - 1e-6))` then becomes infinite at one, and `log(x + 1e-9)` at zero.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import onnx_ir as ir
from onnxscript import optimizer, rewriter
from onnxscript.rewriter import RewriteRule
from onnxscript.rewriter.rules.common import _no_op as inexact


def optimize(model: ir.Model, **settings: Any) -> None:
    """Run `onnxscript.optimizer.optimize_ir` in place, with its settings and exact rules."""
    with patch.object(rewriter, "_DEFAULT_REWRITE_RULES", _RULES):
        optimizer.optimize_ir(model, **settings)


def _is(number: float) -> Callable[..., bool]:
    """Return a condition: the constant `c` has no dimensions and is exactly the number."""

    def condition(context: Any, c: ir.Value, **_: Any) -> bool:
        del context
        tensor = ir.convenience.get_const_tensor(c)
        return tensor is not None and tensor.shape.rank() == 0 and tensor.numpy() == number

    return condition


def _identity(op: Any, x: Any, **_: Any) -> Any:
    return op.Identity(x)


def _keyed(rule: RewriteRule) -> RewriteRule:
    """Return the rule, which looks at its own operator only: most of it else is failing to match.

    A rule with several outputs would search the whole graph from every node.
    """
    key = rule._target_pattern.output_nodes[0].op_identifier()  # noqa: SLF001  (no public name)
    if key is None:
        return rule
    keyed, try_rewrite = copy.copy(rule), rule.try_rewrite

    def tried(model: ir.Model, graph: Any, node: ir.Node, **settings: Any) -> Any:
        if node.op_identifier() != key:
            return None
        return try_rewrite(model, graph, node, **settings)

    keyed.try_rewrite = tried
    return keyed


_ONE, _ZERO = _is(1.0), _is(0.0)
_EXACT = (
    RewriteRule(lambda op, x, c: op.Mul(x, c), _identity, _ONE),
    RewriteRule(lambda op, x, c: op.Mul(c, x), _identity, _ONE),
    RewriteRule(lambda op, x, c: op.Div(x, c), _identity, _ONE),
    RewriteRule(lambda op, x, c: op.Add(x, c), _identity, _ZERO),
    RewriteRule(lambda op, x, c: op.Add(c, x), _identity, _ZERO),
    RewriteRule(lambda op, x, c: op.Sub(x, c), _identity, _ZERO),
    inexact.dropout_zero_rule,
    inexact.dropout_inference_rule,
    *(rule for rule in rewriter._DEFAULT_REWRITE_RULES if rule not in inexact.rules.rules),  # noqa: SLF001  (no public name)
)
_RULES = tuple(map(_keyed, _EXACT))

"""Fold per-channel Mul, Add, Sub, Div and Neg by constants into the Conv or Gemm beside them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from toolkit.passes._graph import (
    Array,
    LocalRewrite,
    constant,
    dims,
    drop,
    integer,
    is_op,
    only_user,
    producer,
    replace,
)
from toolkit.passes._linear import Linear, as_linear

AFFINE = ("Add", "Sub", "Mul", "Div", "Neg")


@dataclass(frozen=True, slots=True)
class Affine:
    """`scale · value + shift`, per channel or for all alike.

    Arguments:
        value: What it is applied to on the way up, what it ends in on the way down.
        scale: Factors, `(channels,)` or `(1,)`.
        shift: Summands of the same shape.
        nodes: How many nodes it stands for.
    """

    value: ir.Value
    scale: Array
    shift: Array
    nodes: int = 0

    @property
    def shifts(self) -> bool:
        """Whether anything is added."""
        return bool(np.any(self.shift))


def fold_affine(graph: ir.Graph, node: ir.Node) -> bool:
    """Fold what stands before and after one linear node, rounding its weights once."""
    del graph
    linear = as_linear(node)
    if linear is None:
        return False
    before = _climb(linear)
    whole = _descend(linear.output, linear)
    ends, after = [whole.value], [whole]
    split = only_user(whole.value)
    if split is not None and _splits_channels(split, linear):
        ends = list(split.outputs)
        after = [_descend(value, linear) for value in ends]
    if not before.nodes and not whole.nodes and not any(part.nodes for part in after):
        return False
    _fold(linear, before, whole, list(zip(ends, after, strict=True)))
    return True


def _fold(
    linear: Linear, before: Affine, whole: Affine, parts: list[tuple[ir.Value, Affine]]
) -> None:
    """Put all scales and shifts into one new weight and bias.

    Arguments:
        linear: The linear node.
        before: What acts on its data.
        whole: What acts on its whole result.
        parts: Where the channels split after that: each part, and what acts on it.
    """
    scale, shift = whole.scale, whole.shift
    if parts[0][1] is not whole:
        later = np.concatenate([_spread(part.scale, value, linear) for value, part in parts])
        shift = shift * later + np.concatenate(
            [_spread(part.shift, value, linear) for value, part in parts]
        )
        scale = scale * later
    rest = (1,) * (linear.weight.ndim - 2)
    gained = (linear.weight * before.shift.reshape(1, -1, *rest)).sum(
        axis=tuple(range(1, linear.weight.ndim))
    )
    weight = linear.weight * before.scale.reshape(1, -1, *rest) * scale.reshape(-1, 1, *rest)
    new = linear.rebuilt(weight, scale * (linear.bias + gained) + shift)
    new.replace_input_with(0, before.value)
    stale = [linear.node]
    if whole.nodes:
        stale = _last_nodes([whole])
        replace(whole.value, new.outputs[0])
    else:
        replace(linear.output, new.outputs[0])
    if parts[0][1] is not whole:
        for value, part in parts:
            if part.nodes:
                stale += _last_nodes([part])
                replace(part.value, value)
    for node in stale:
        drop(node)


def _last_nodes(chains: list[Affine]) -> list[ir.Node]:
    makers = (chain.value.producer() for chain in chains)
    return [maker for maker in makers if maker is not None]


def _climb(linear: Linear) -> Affine:
    """Collect the affine nodes that only feed this linear node."""
    found = Affine(linear.data, np.ones(1), np.zeros(1))
    user = linear.node
    while linear.takes_input_scale and only_user(found.value) is user:
        maker = producer(found.value, *AFFINE)
        step = _step(maker, linear) if maker is not None else None
        if maker is None or step is None:
            break
        if step.shifts and not (linear.takes_shift and linear.gives_shift):
            break
        found = Affine(
            step.value,
            found.scale * step.scale,
            found.scale * step.shift + found.shift,
            found.nodes + 1,
        )
        user = maker
    return found


def _descend(value: ir.Value, linear: Linear) -> Affine:
    """Collect the affine nodes that alone read a result."""
    found = Affine(value, np.ones(1), np.zeros(1))
    while (user := only_user(found.value)) is not None and is_op(user, *AFFINE):
        step = _step(user, linear)
        if step is None or step.value is not found.value:
            break
        if step.shifts and not linear.gives_shift:
            break
        found = Affine(
            user.outputs[0],
            found.scale * step.scale,
            found.shift * step.scale + step.shift,
            found.nodes + 1,
        )
    return found


def _step(node: ir.Node, linear: Linear) -> Affine | None:
    """Return one node as an affine map of its computed operand."""
    if is_op(node, "Neg"):
        value = node.inputs[0]
        return None if value is None else Affine(value, -np.ones(1), np.zeros(1), 1)
    left, right = node.inputs
    if left is None or right is None:
        return None
    flipped = constant(right) is None
    value, other = (right, left) if flipped else (left, right)
    array = _per_channel(constant(other), value, node.outputs[0], linear)
    if array is None:
        return None
    return _as_affine(node.op_type, value, array, flipped=flipped)


def _as_affine(operator: str, value: ir.Value, array: Array, *, flipped: bool) -> Affine | None:
    one, zero = np.ones_like(array), np.zeros_like(array)
    if operator == "Add":
        return Affine(value, one, array, 1)
    if operator == "Mul":
        return Affine(value, array, zero, 1)
    if operator == "Sub":
        return Affine(value, -one, array, 1) if flipped else Affine(value, one, -array, 1)
    if flipped or not np.all(array):
        return None
    return Affine(value, 1.0 / array, zero, 1)


def _per_channel(
    array: Array | None, value: ir.Value, result: ir.Value, linear: Linear
) -> Array | None:
    """Return a constant as `(channels,)` or `(1,)` where it varies with the channel alone."""
    shape = dims(value)
    if array is None or shape is None or dims(result) != shape or array.ndim > len(shape):
        return None
    if not np.issubdtype(array.dtype, np.floating):
        return None
    sizes = (1,) * (len(shape) - array.ndim) + array.shape
    axis = linear.axis % len(shape)
    if any(size != 1 for place, size in enumerate(sizes) if place != axis):
        return None
    return array.astype(np.float64).reshape(-1)


def _splits_channels(node: ir.Node | None, linear: Linear) -> bool:
    if node is None or not is_op(node, "Split"):
        return False
    shape = dims(linear.output)
    if shape is None or any(_channels(value, linear) is None for value in node.outputs):
        return False
    return integer(node, "axis", 0) % len(shape) == linear.axis % len(shape)


def _channels(value: ir.Value, linear: Linear) -> int | None:
    shape = dims(value)
    size = shape[linear.axis] if shape is not None else None
    return size if isinstance(size, int) else None


def _spread(array: Array, value: ir.Value, linear: Linear) -> Array:
    """Return one number per channel of a part."""
    return np.broadcast_to(array, (_channels(value, linear) or 1,))


rewrite = LocalRewrite(
    order=30,
    portable=True,
    rule=fold_affine,
    absent="no constant scale or shift stands beside a convolution or matrix product",
)

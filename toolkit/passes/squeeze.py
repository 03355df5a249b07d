"""Turn Reshape, Transpose, Reshape into SpaceToDepth or DepthToSpace."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from toolkit.passes._graph import (
    LocalRewrite,
    constant,
    dims,
    drop,
    integer,
    ints,
    is_op,
    new_constant,
    new_node,
    only_user,
    producer,
    replace,
)

SQUEEZE = [0, 1, 3, 5, 2, 4]
UNSQUEEZE = [0, 1, 4, 2, 5, 3]
Shape = tuple[int | str, ...]


def fuse_squeeze(graph: ir.Graph, last: ir.Node) -> bool:
    """Replace one pixel shuffle or unshuffle that is spelled out."""
    del graph
    found = _spelled_out(last)
    if found is None:
        return False
    data, permutation, inner = found
    before, after = dims(data), dims(last.outputs[0])
    if before is None or after is None or len(before) != 4 or len(after) != 4:
        return False
    if permutation == UNSQUEEZE and inner[2] == inner[3] > 1:
        result = _to_space(last, data, before, after, inner[2])
    elif permutation == SQUEEZE and inner[3] == inner[5] > 1:
        result = _to_depth(last, data, before, after, inner[3])
    else:
        return False
    if result is None:
        return False
    replace(last.outputs[0], result)
    drop(last)
    return True


def _spelled_out(last: ir.Node) -> tuple[ir.Value, list[int], list[int]] | None:
    """Return data, permutation and six-dimensional shape of Reshape, Transpose, Reshape."""
    if not is_op(last, "Reshape"):
        return None
    middle = producer(last.inputs[0], "Transpose")
    first = producer(middle.inputs[0], "Reshape") if middle is not None else None
    if middle is None or first is None or first.inputs[0] is None:
        return None
    alone = only_user(first.outputs[0]) is middle and only_user(middle.outputs[0]) is last
    inner = first.outputs[0].shape
    if not alone or inner is None or len(inner) != 6:
        return None
    sizes = [size if isinstance(size, int) else 0 for size in inner]
    return first.inputs[0], ints(middle, "perm", ()), sizes


def _to_space(
    last: ir.Node, data: ir.Value, before: Shape, after: Shape, factor: int
) -> ir.Value | None:
    if not _scales(after, before, factor):
        return None
    attributes: dict[str, int | str] = {"blocksize": factor, "mode": "CRD"}
    return new_node(last, "DepthToSpace", [data], attributes, shape_of=last.outputs[0]).outputs[0]


def _to_depth(
    last: ir.Node, data: ir.Value, before: Shape, after: Shape, factor: int
) -> ir.Value | None:
    """SpaceToDepth puts the place before the channel; a following convolution undoes that."""
    if not _scales(before, after, factor) or not isinstance(before[1], int):
        return None
    user = only_user(last.outputs[0])
    if before[1] > 1 and not _reorders(user, before[1], factor):
        return None
    result = new_node(
        last, "SpaceToDepth", [data], {"blocksize": factor}, shape_of=last.outputs[0]
    ).outputs[0]
    if before[1] > 1 and user is not None:
        _reorder_weight(user, before[1], factor)
    return result


def _scales(large: Shape, small: Shape, factor: int) -> bool:
    """Return whether two pictures' shapes differ by one squeeze, so that no size is guessed."""
    if not all(isinstance(size, int) for size in (*large[1:], *small[1:])):
        return False
    channels, height, width = (int(size) for size in large[1:])
    return small[1:] == (channels * factor**2, height // factor, width // factor)


def _reorders(user: ir.Node | None, channels: int, factor: int) -> bool:
    """Return whether the only reader is a convolution whose weight can be reordered."""
    if user is None or not is_op(user, "Conv") or integer(user, "group", 1) != 1:
        return False
    weight = constant(user.inputs[1])
    return weight is not None and weight.shape[1] == channels * factor**2


def _reorder_weight(user: ir.Node, channels: int, factor: int) -> None:
    stored = user.inputs[1]
    weight = constant(stored)
    if weight is None or stored is None:
        return
    places = factor**2
    order = np.arange(channels * places).reshape(channels, places).T.reshape(-1)
    reordered = new_constant(user, weight[:, order], f"{stored.name}_reordered")
    user.replace_input_with(1, reordered)


rewrite = LocalRewrite(
    order=65,
    portable=True,
    rule=fuse_squeeze,
    absent="no pixel shuffle is spelled out as Reshape, Transpose, Reshape",
)

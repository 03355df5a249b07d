"""Static int8 quantisation with Q/DQ nodes, by ONNX Runtime's quantiser."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import onnx_ir as ir

from toolkit.core.errors import ExportError
from toolkit.core.require import require
from toolkit.passes._graph import is_op, name_apart
from toolkit.passes._products import (
    PRODUCTS,
    SMALLEST_PRODUCT,
    only_in_loops,
    product_size,
)

if TYPE_CHECKING:
    import numpy as np

    Arrays = dict[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Scheme:
    """What is quantised, and how.

    Arguments:
        name: What the ledger calls it.
        everywhere: Whether all operators that have an integer form are quantised; otherwise only
            large products, with the rectifiers that follow them.
        symmetric: Whether activations are int8 around zero and biases stay float32, which is all
            that TensorRT takes. Otherwise activations are uint8, which CPUs multiply by int8
            weights in one instruction, and biases int32.
    """

    name: str
    everywhere: bool
    symmetric: bool


SCHEMES = (
    Scheme("large products", everywhere=False, symmetric=False),
    Scheme("everywhere", everywhere=True, symmetric=False),
)
"""Which is faster depends on the graph: long chains of integers spare conversions, but ONNX
Runtime's pools and element-wise operators are slower on integers."""

SYMMETRIC_SCHEMES = (Scheme("symmetric large products", everywhere=False, symmetric=True),)


RECTIFIERS = ("Relu", "Clip")
"""A range of unsigned numbers that begins at zero does their work: they leave the graph."""


class _Reader:
    """Feeds the calibration; the quantiser asks for nothing but `get_next`."""

    def __init__(self, feeds: Iterable[Mapping[str, np.ndarray]]) -> None:
        self._feeds: Iterator[Mapping[str, np.ndarray]] = iter(feeds)

    def get_next(self) -> Mapping[str, np.ndarray] | None:
        """Return the next inputs."""
        return next(self._feeds, None)


def to_int8(model: ir.Model, scheme: Scheme, feeds: Iterable[Arrays], scratch: Path) -> ir.Model:
    """Return a copy with int8 weights, one scale per channel, and 8-bit activations.

    Arguments:
        model: A float32 model; it is left as it was.
        scheme: What is quantised.
        feeds: Real inputs that set the ranges of the activations.
        scratch: A folder for the quantiser's files.

    Raises:
        ExportError: There is nothing to quantise, or the quantiser refuses the graph.
    """
    require("onnxruntime", extra="cpu")
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    named = model.clone()
    name_apart(named)
    chosen = _chosen(named, scheme)
    if not chosen:
        raise ExportError(_nothing(model), next_step="leave int8 out of optimize.variants")
    source, prepared, target = (scratch / f"{name}.onnx" for name in ("plain", "prepared", "int8"))
    ir.save(named, source)
    root = logging.getLogger()
    level = root.level
    try:
        # The quantiser logs its advice to the root logger.
        root.setLevel(logging.ERROR)
        quant_pre_process(source, prepared, skip_optimization=True, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            target,
            _Reader(feeds),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8 if scheme.symmetric else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=None if scheme.everywhere else [*PRODUCTS, *RECTIFIERS],
            nodes_to_quantize=None if scheme.everywhere else chosen,
            extra_options={
                "ActivationSymmetric": scheme.symmetric,
                "WeightSymmetric": True,
                "QuantizeBias": not scheme.symmetric,
            },
        )
    except (ValueError, RuntimeError, LookupError, TypeError, AttributeError) as error:
        raise ExportError(
            f"the quantiser refuses the graph: {error}",
            next_step="leave int8 out of optimize.variants",
        ) from error
    finally:
        root.setLevel(level)
    return ir.load(target)


def _chosen(model: ir.Model, scheme: Scheme) -> list[str]:
    """Return the large products and, where they then leave the graph, the rectifiers after them."""
    large = {node for node in model.graph if product_size(node) >= SMALLEST_PRODUCT}
    rectifiers = {
        node
        for node in model.graph
        if not scheme.symmetric
        and is_op(node, *RECTIFIERS)
        and (value := node.inputs[0]) is not None
        and value.producer() in large
    }
    return [str(node.name) for node in model.graph if node in large | rectifiers]


def _nothing(model: ir.Model) -> str:
    if only_in_loops(model):
        return "nothing to quantise: all convolutions and matrix products lie inside a loop"
    return f"nothing to quantise: no product sums up {SMALLEST_PRODUCT} numbers or more"

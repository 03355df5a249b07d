"""What a graph is fed: arrays checked against the signature, and noise drawn by its law."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from toolkit.core.errors import UsageError
from toolkit.core.signature import Signature, TensorSpec, folded
from toolkit.runtime.strict import nearest, shown

Arrays = dict[str, np.ndarray]


def bind(signature: Signature, values: Sequence[Any], named: Mapping[str, Any]) -> Arrays:
    """Return checked feeds from positional and named arguments.

    Arguments:
        signature: The entry's signature.
        values: Arrays in the graph's order.
        named: Arrays by input name.

    Raises:
        UsageError: A name, dtype, shape or range does not fit.
    """
    names = [spec.name for spec in signature.inputs]
    if len(values) > len(names):
        _wrong(signature, f"takes {len(names)} inputs, {len(values)} were given", _usage(signature))
    given = dict(zip(names, values, strict=False))
    for name, value in named.items():
        if name not in names:
            _wrong(signature, f"has no input {shown(name)!r}", nearest(name, names))
        if name in given:
            _wrong(signature, f"got the input {name!r} twice", _usage(signature))
        given[name] = value
    for name in names:
        if name not in given:
            _wrong(signature, f"misses the input {name!r}", _usage(signature))
    feeds = {spec.name: np.asarray(given[spec.name]) for spec in signature.inputs}
    sizes: dict[str, tuple[int, str]] = {}
    for spec in signature.inputs:
        _check(signature, spec, feeds[spec.name], sizes)
    return feeds


def describe(spec: TensorSpec) -> str:
    """Return `name: dtype[dims]`."""
    return f"{spec.name}: {spec.dtype}[{', '.join(str(dim) for dim in spec.dims)}]"


def _usage(signature: Signature) -> str:
    return "give " + "; ".join(describe(spec) for spec in signature.inputs)


def _wrong(signature: Signature, what: str, next_step: str) -> None:
    raise UsageError(f"{signature.entry!r} {what}", next_step=next_step)


def _check(
    signature: Signature, spec: TensorSpec, array: np.ndarray, sizes: dict[str, tuple[int, str]]
) -> None:
    where = f"input {spec.name!r} of {signature.entry!r}"
    if array.dtype != np.dtype(spec.dtype):
        raise UsageError(
            f"the input {spec.name!r} is {array.dtype}, the graph takes {spec.dtype}",
            where=where,
            next_step=f"{spec.name}.astype('{spec.dtype}')",
        )
    if len(array.shape) != len(spec.dims):
        raise UsageError(
            f"the input {spec.name!r} has shape {list(array.shape)}",
            where=where,
            next_step=f"give {describe(spec)}",
        )
    for axis, (size, dim) in enumerate(zip(array.shape, spec.dims, strict=True)):
        _check_axis(signature, spec, f"{where}, axis {axis}", size, dim, sizes)
    check_range(spec, array, where)


def _check_axis(
    signature: Signature,
    spec: TensorSpec,
    where: str,
    size: int,
    dim: int | str,
    sizes: dict[str, tuple[int, str]],
) -> None:
    if isinstance(dim, int):
        if size != dim:
            raise UsageError(
                f"the size is {size}, the graph takes {dim}",
                where=where,
                next_step=f"give {describe(spec)}",
            )
        return
    known, owner = sizes.setdefault(dim, (size, spec.name))
    if known != size:
        raise UsageError(
            f"{dim!r} is {size} here and {known} in {owner!r}",
            where=where,
            next_step="give every input the same size there",
        )
    low, multiple = 1, 1
    if dim in signature.ranges:
        low, _, _, multiple = (*signature.ranges[dim], 1)[:4]
    if size < low or size % multiple:
        raise UsageError(
            f"{dim!r} is {size}; it must be at least {low} and a multiple of {multiple}",
            where=where,
            next_step="pad or split the input",
        )


def check_range(spec: TensorSpec, array: np.ndarray, where: str) -> None:
    """Refuse an array with values outside the domain.

    Raises:
        UsageError: A value is below, above or NaN.
    """
    if (spec.low is None and spec.high is None) or not array.size:
        return
    # NaN compares as outside. Bounds of floats are compared in the array's own precision.
    low, high = array.min(), array.max()
    above = spec.low is None or low >= spec.low
    below = spec.high is None or high <= spec.high
    if not (above and below):
        raise UsageError(
            f"values run from {low} to {high}, the graph takes {spec.low} to {spec.high}",
            where=where,
            next_step="check how the values were made",
        )


def draw_noise(signature: Signature, *, seed: int = 0, **sizes: int) -> Arrays:
    """Draw every noise input of an entry.

    Arguments:
        signature: The entry's signature.
        seed: Seed of the generator.
        sizes: Size of each dynamic dimension, such as `batch=16`.

    Raises:
        UsageError: A dynamic dimension has no size.
    """
    noise = [spec for spec in signature.inputs if spec.kind == "noise"]
    return _draw(signature, noise, seed, sizes)


def draw_inputs(signature: Signature, *, seed: int = 0, **sizes: int) -> Arrays:
    """Draw every input of an entry: by its law or from its range, else normal, in its domain.

    Arguments:
        signature: The entry's signature.
        seed: Seed of the generator.
        sizes: Size of each dynamic dimension, such as `batch=16`.

    Raises:
        UsageError: A dynamic dimension has no size.
    """
    return _draw(signature, signature.inputs, seed, sizes)


def _draw(
    signature: Signature, specs: Sequence[TensorSpec], seed: int, sizes: Mapping[str, int]
) -> Arrays:
    generator = np.random.default_rng(seed)
    drawn: Arrays = {}
    for spec in specs:
        missing = [dim for dim in spec.dims if isinstance(dim, str) and dim not in sizes]
        if missing:
            raise UsageError(
                f"the size of {missing[0]!r} is not given",
                where=f"input {spec.name!r} of {signature.entry!r}",
                next_step=f"say {missing[0]}=16",
            )
        shape = tuple(dim if isinstance(dim, int) else sizes[dim] for dim in spec.dims)
        drawn[spec.name] = _drawn(spec, shape, generator)
    return drawn


def _drawn(spec: TensorSpec, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    dtype = np.dtype(spec.dtype)
    if dtype.kind in "iub":
        low, high = int(spec.low or 0), 1 if spec.high is None else int(spec.high)
        return generator.integers(low, high, shape, dtype=dtype, endpoint=True)
    laws: dict[str, Callable[..., np.ndarray]] = {
        "normal": generator.normal,
        "uniform": generator.uniform,
        "gumbel": generator.gumbel,
    }
    values: np.ndarray = laws[spec.law or "normal"](size=shape).astype(dtype)
    return np.asarray(folded(values, spec.low, spec.high))

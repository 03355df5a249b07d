"""Random numbers inside a call become inputs of the entry: every backend gets the same ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from toolkit.capture.module import EntryModule, bound
from toolkit.capture.preserve import preserved
from toolkit.capture.vary import further, sizes_of, varied
from toolkit.core.entry import Entry, Input, Law
from toolkit.core.errors import ExportError
from toolkit.core.validation import without_validation

aten = torch.ops.aten
LAWS: dict[Any, Law] = {
    aten.rand.default: "uniform",
    aten.rand_like.default: "uniform",
    aten.randn.default: "normal",
    aten.randn_like.default: "normal",
}


def with_noise(model: nn.Module, entry: Entry) -> Entry:
    """Return the entry with one noise input per random operator of its call; itself without any.

    Arguments:
        model: The model in evaluation mode.
        entry: The entry, with examples.

    Raises:
        ExportError: The number of draws, or their shapes, depend on more than the sizes.
    """
    if any(item.value is None for item in entry.inputs):
        return entry
    inputs = [item.value for item in entry.inputs]
    sizes = sizes_of(entry, inputs)
    others = []
    with preserved(model), without_validation():
        draws = _draws(model, entry, inputs)
        if not draws:
            return entry
        for name in sizes:
            size = further(entry, name, sizes[name])[0]
            values = varied(entry, inputs, {**sizes, name: size}, seed=1)
            others.append((name, size, _draws(model, entry, values)))
    if any(len(other) != len(draws) for _, _, other in others):
        raise ExportError(
            "how many random numbers the call draws depends on sizes or values",
            where=f"entry {entry.name!r}",
            next_step="draw a fixed number of tensors, or take them as inputs of kind noise",
        )
    extra = [
        Input(
            f"noise_{position}",
            value,
            dims=_dims(value, [(n, size, o[position][1]) for n, size, o in others], sizes),
            kind="noise",
            law=law,
        )
        for position, (law, value) in enumerate(draws)
    ]
    count = len(entry.inputs)
    reference = entry.reference and _Fed(entry.reference, count)
    return dataclasses.replace(
        entry,
        call=_Fed(entry.call, count),
        inputs=[*entry.inputs, *extra],
        reference=reference or None,
    )


def _dims(
    value: Tensor, others: Sequence[tuple[str, int, Tensor]], sizes: dict[str, int]
) -> tuple[str | None, ...]:
    dims: list[str | None] = [None] * value.dim()
    for name, size, other in others:
        for axis in range(value.dim()):
            moved = other.shape[axis] != value.shape[axis]
            if moved and (other.shape[axis] != size or value.shape[axis] != sizes[name]):
                raise ExportError(
                    "the shape of the random numbers that the call draws is no input dimension",
                    where=f"axis {axis} of {list(value.shape)}",
                    next_step="take them as an input of kind noise",
                )
            if moved:
                dims[axis] = name
    return tuple(dims)


def _draws(model: nn.Module, entry: Entry, inputs: Sequence[Tensor]) -> list[tuple[Law, Tensor]]:
    with torch.no_grad(), _Collect() as collect:
        try:
            EntryModule(model, entry.call)(*(tensor.clone() for tensor in inputs))
        except Exception:  # noqa: BLE001  (a call that fails in eager is reported by the capture)
            return []
    draws: list[tuple[Law, Tensor]] = collect.draws
    return draws


class _Fed:
    """A call whose random operators return the given tensors, in order."""

    def __init__(self, call: Any, count: int) -> None:
        self.call, self.count = call, count

    def __call__(self, model: nn.Module, *tensors: Tensor) -> Any:
        with _Feed(tensors[self.count :]):
            return bound(model, self.call)(*tensors[: self.count])


class _Collect(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Note what random operators draw."""

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.draws: list[tuple[Law, Tensor]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        del types
        value = func(*args, **(kwargs or {}))
        if func in LAWS:
            self.draws.append((LAWS[func], value.detach().clone()))
        return value


class _Feed(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Give tensors in the place of draws."""

    supports_higher_order_operators = True

    def __init__(self, values: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.values = list(values)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        del types
        if func in LAWS and self.values:
            return self.values.pop(0)
        return func(*args, **(kwargs or {}))

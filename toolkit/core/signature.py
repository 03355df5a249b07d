"""Signatures: what an exported graph takes and gives, as the manifest records it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


def folded(values: Any, low: float | None, high: float | None) -> Any:
    """Return an array or a tensor with what lies outside [low, high] mirrored at the bounds.

    Mirroring keeps draws spread out where clipping would pile them up at the bounds.
    """
    if low is None and high is None:
        return values
    if low is None:
        values = high - abs(high - values)
    elif high is None:
        values = low + abs(values - low)
    elif low < high:
        width = high - low
        values = high - abs((values - low) % (2 * width) - width)
    return values.clip(low, high)


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a graph.

    Arguments:
        name: Name in the graph.
        dtype: NumPy's name of the element type.
        dims: Per axis a size, or the name of a dynamic dimension.
        kind: `data`, `noise`, `context`, `token` or `state` for inputs; `output` for outputs.
        law: Distribution of noise; empty for the rest.
        low: Smallest valid value.
        high: Largest valid value.
        unit: Unit in which an output is judged.
        fixed_batch: Axis of the batch where every dimension is fixed; -1 where there is none.
    """

    name: str
    dtype: str
    dims: tuple[int | str, ...]
    kind: str = "data"
    law: str = ""
    low: float | None = None
    high: float | None = None
    unit: str = "absolute"
    fixed_batch: int = 0

    @property
    def shared(self) -> bool:
        """Whether it belongs to all samples, as a scalar does."""
        return not self.dims or self.batch_axis < 0

    @property
    def batch_axis(self) -> int:
        """Axis of the batch: the one named `batch`, else the fixed one."""
        return self.dims.index("batch") if "batch" in self.dims else self.fixed_batch

    def rows(self, array: Any, part: Any) -> Any:
        """Return the part of an array along its batch: a slice, or the numbers of samples.

        What belongs to all samples stays whole.
        """
        if self.shared:
            return array
        return array[(slice(None),) * self.batch_axis + (part,)]


@dataclass(frozen=True, slots=True)
class Signature:
    """Inputs, outputs and dynamic dimensions of one entry.

    Arguments:
        entry: Name of the entry.
        family: Family of the model (`flow`, `classifier`, `autoregressive`, …).
        inputs: In the graph's order.
        outputs: In the graph's order.
        ranges: Per dynamic dimension: minimum, typical, maximum, multiple.
    """

    entry: str
    family: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    ranges: dict[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def batched(self) -> list[TensorSpec]:
        """Inputs that have a batch; the others belong to all samples."""
        return [spec for spec in self.inputs if not spec.shared]

    def samples(self, arrays: Mapping[str, Any]) -> int:
        """Return how many samples arrays by input name hold."""
        return min((arrays[spec.name].shape[spec.batch_axis] for spec in self.batched), default=1)

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Signature:
        """Read what `as_dict` wrote."""

        def specs(items: list[dict[str, Any]]) -> tuple[TensorSpec, ...]:
            return tuple(TensorSpec(**{**item, "dims": tuple(item["dims"])}) for item in items)

        return cls(
            entry=data["entry"],
            family=data["family"],
            inputs=specs(data["inputs"]),
            outputs=specs(data["outputs"]),
            ranges={name: tuple(sizes) for name, sizes in data["ranges"].items()},
        )

"""Does the graph give the oracle's answers at other sizes of its dynamic dimensions?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from toolkit.checks import _draw
from toolkit.checks._judge import compare_case, finding, own_cases, worst_finding
from toolkit.core.case import Case
from toolkit.core.outcome import Finding
from toolkit.core.protocols import Source, Subject

if TYPE_CHECKING:
    from torch import Tensor

    from toolkit.core.entry import Entry, Input

NAME = "sizes"
MOST_SAMPLES = 256
LONGER = 3
FAR = 16


class Sizes:
    """Compare with the oracle where every dynamic dimension is smaller or larger than the example.

    The batch has a check of its own. A length that a tracer followed in Python stays in the graph
    as the example's, while the file still says that it is free; and a call may do something else
    from some length on.
    """

    def prepare(self, source: Source) -> Sequence[Case]:
        """Make a case at each of the `others`, where the model itself takes such inputs."""
        now = sizes_of(source.entry)
        cases = []
        for salt, (name, sizes) in enumerate(others(source.entry, now).items()):
            inputs = _resized(source, sizes, salt)
            try:
                cases.append(source.answer(NAME, name, inputs))
            except Exception:  # noqa: BLE001, S112  (a default range promises what eager refuses)
                continue
        return cases

    def judge(self, subject: Subject) -> Finding | None:
        """Answer with the size and output that come closest to, or furthest over, their limit."""
        named = {name for spec in subject.signature.inputs for name in spec.dims}
        if not any(isinstance(name, str) for name in named - {"batch"}):
            return None
        if subject.path.suffix != ".onnx":
            return finding(NAME, subject, "skipped", reason="an engine's profile fixes its sizes")
        if subject.budget:
            return finding(
                NAME, subject, "skipped", reason="a budget speaks of inputs like the data"
            )
        cases = own_cases(subject, NAME)
        if not cases:
            return finding(NAME, subject, "skipped", reason="the model takes no other size")
        rows = []
        for case in cases:
            try:
                rows += compare_case(subject, case)
            except Exception as error:  # noqa: BLE001  (a runtime may raise anything)
                shapes = ", ".join(str(list(array.shape)) for array in case.inputs.values())
                return finding(
                    NAME, subject, "failed", reason=f"{case.name} ({shapes}) does not run: {error}"
                )
        return worst_finding(NAME, subject, rows)


def sizes_of(entry: Entry) -> dict[str, int]:
    """Return the example's size of every dynamic dimension but the batch."""
    return {
        name: item.shape[axis]
        for item in entry.inputs
        for axis, name in enumerate(item.dims)
        if name not in (None, "batch")
    }


def others(entry: Entry, now: dict[str, int]) -> dict[str, dict[str, int]]:
    """Return sizes below and above the example's that the entry's ranges hold, by name."""
    least, below, above, far = ({}, {}, {}, {})
    # All dimensions together grow so far, not each.
    factor = math.ceil(FAR ** (1 / max(1, len(now))))
    for place, (name, size) in enumerate(now.items()):
        low, _, high, multiple = entry.range_of(name)
        low, high = -(-low // multiple) * multiple, high // multiple * multiple
        # Different steps, so that no two dimensions agree by chance.
        step = (LONGER + 2 * place) * multiple
        least[name] = low
        below[name] = max(low, size - step)
        above[name] = min(high, size + step)
        far[name] = min(high, size * factor + step)
    found: dict[str, dict[str, int]] = {}
    named = {"least": least, "smaller": below, "larger": above, "far larger": far}
    for case, sizes in named.items():
        if sizes != now and sizes not in found.values():
            found[case] = sizes
    return found


def _resized(source: Source, sizes: dict[str, int], salt: int) -> dict[str, Tensor]:
    """Return samples like the examples, at other sizes: the fewer, the larger they are."""
    draws = _draw.generator(source, 40 + salt)
    now = sizes_of(source.entry)
    growth = math.prod(size / max(1, now[name]) for name, size in sizes.items())
    count = max(2, min(source.samples, int(MOST_SAMPLES / max(1.0, growth))))
    return {
        item.name: _draw.like(item, count, draws, shape=_shape(item, sizes, count))
        for item in source.entry.inputs
    }


def _shape(item: Input, sizes: dict[str, int], count: int) -> tuple[int, ...]:
    shape = item.batched(count)
    return tuple(sizes.get(name or "", size) for name, size in zip(item.dims, shape, strict=True))


check = Sizes()

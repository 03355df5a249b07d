"""Cases: the inputs a check asks about, with what the oracle and eager answered at export."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.core.errors import IntegrityError
from toolkit.core.files import write_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np

    Arrays = dict[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Case:
    """One batch of inputs and its reference answers.

    Arguments:
        check: Name of the check that made it.
        name: What the inputs are (`real`, `noise`, `tails`, …).
        inputs: Per graph input an array.
        oracle: Per output the eager model's answer in float64.
        eager: Per output the eager model's answer in float32.
        extra: Whatever else the check compares with (labels, an autograd log-determinant, …).
    """

    check: str
    name: str
    inputs: Arrays
    oracle: Arrays = field(default_factory=dict)
    eager: Arrays = field(default_factory=dict)
    extra: Arrays = field(default_factory=dict)


def pack_cases(cases: Iterable[Case]) -> bytes:
    """Return cases as one safetensors file, keys `check/case/role/name`."""
    import numpy as np
    from safetensors.numpy import save

    tensors = {
        f"{case.check}/{case.name}/{role}/{name}": np.asarray(array, order="C")
        for case in cases
        for role in ("inputs", "oracle", "eager", "extra")
        for name, array in getattr(case, role).items()
    }
    return save(tensors)


def save_cases(path: Path, cases: Iterable[Case]) -> None:
    """Write cases to one safetensors file in one step."""
    write_bytes(path, pack_cases(cases))


def load_cases(path: Path) -> list[Case]:
    """Read what `save_cases` wrote.

    Raises:
        IntegrityError: The file is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise IntegrityError(
            f"the golden file cannot be read: {error}", where=str(path), next_step="export again"
        ) from error
    cases: dict[tuple[str, str], Case] = {}
    for key, array in sorted(tensors.items()):
        check, name, role, tensor = key.split("/", 3)
        case = cases.setdefault((check, name), Case(check, name, {}))
        getattr(case, role)[tensor] = array
    return list(cases.values())

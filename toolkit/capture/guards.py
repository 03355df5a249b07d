"""What Python read out of tensors, and whether the captured program holds on the other side."""

from __future__ import annotations

import ast
import copy
import linecache
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from toolkit.capture.module import as_tuple
from toolkit.capture.oracle import in_double
from toolkit.capture.record import Guard, Recording, reader
from toolkit.capture.vary import further, sizes_of, valid, varied
from toolkit.core.entry import Entry, Input
from toolkit.core.errors import ExportError

CROSSINGS = (0.0, 1e-3, 0.2, 1.0, 1.5, 3.0, 8.0, 30.0, 1e3)
TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Specialised:
    """One read on which the captured program was specialised.

    Arguments:
        place: The Python line and its module.
        seen: The values that Python saw, as text.
        status: `both sides` (the recorded values, or inputs made to cross it, agree with eager),
            `raises` (the other side is an error), or `one side`.
    """

    place: str
    seen: str
    status: str


def specialised(
    module: nn.Module,
    program: nn.Module,
    entry: Entry,
    inputs: Sequence[Tensor],
    recordings: Sequence[Recording],
) -> tuple[Specialised, ...]:
    """Compare the program with eager, at other sizes and on inputs that cross the guards.

    Arguments:
        module: The entry's module.
        program: The captured program; same inputs, outputs as a flat tuple.
        entry: The entry.
        inputs: The recorded inputs.
        recordings: What was recorded.

    Returns:
        How each guard ended.

    Raises:
        ExportError: The program differs from eager, or a branch was only seen on one side and no
            generated input crosses it.
    """
    places = _places(recordings)
    crossed: set[Place] = set()
    with in_double():
        twice = [_double(module), _double(program)]
        for tensors in _candidates(entry, inputs, crossing=bool(places)):
            crossed |= _compare(twice[0], twice[1], tensors, places)
    found = []
    for key, (first, values) in places.items():
        status = _status(key, values, crossed)
        found.append(Specialised(first.place, " and ".join(sorted(values)), status))
    alone = next((item for item in found if item.status == "one side"), None)
    if alone:
        raise ExportError(
            f"a branch was only seen on one side ({alone.seen}), and no generated input crosses it",
            where=alone.place,
            next_step="give an example that takes both sides in different rows, or write the "
            "branch with torch.where",
        )
    return tuple(found)


Place = tuple[str, int]
Places = dict[Place, tuple[Guard, set[str]]]


def _places(recordings: Sequence[Recording]) -> Places:
    """Return every line that read a value, with the values that it saw."""
    places: Places = {}
    for recording in recordings:
        for item in recording.guards:
            _, values = places.setdefault((item.file, item.line), (item, set()))
            values.add(_text(item.value))
    return places


def _text(value: object) -> str:
    return str(value) if isinstance(value, bool) else "a number"


def _status(key: Place, values: set[str], crossed: set[Place]) -> str:
    if key in crossed or len(values & {"True", "False"}) == 2:
        return "both sides"
    if raises(*key):
        return "raises"
    return "one side"


def _candidates(
    entry: Entry, inputs: Sequence[Tensor], *, crossing: bool
) -> Iterator[list[Tensor]]:
    """Yield inputs in float64 at other sizes; to cross guards also small, large and mixed ones."""
    sizes = {name: further(entry, name, size)[1] for name, size in sizes_of(entry, inputs).items()}
    for seed, scale in enumerate(CROSSINGS if crossing else (1.0,)):
        values = varied(entry, inputs, sizes, seed=seed + 20)
        alike = [_scaled(i, value, scale) for i, value in zip(entry.inputs, values, strict=True)]
        mixed = varied(entry, inputs, sizes, seed=seed + 20, scale=scale)
        for tensors in (alike, mixed) if crossing else (alike,):
            yield [value.double() if value.is_floating_point() else value for value in tensors]


def _scaled(item: Input, value: Tensor, scale: float) -> Tensor:
    return valid(item, value * scale) if value.is_floating_point() else value


def _compare(
    module: nn.Module, program: nn.Module, tensors: list[Tensor], places: Places
) -> set[Place]:
    """Compare once; return the guards whose other side eager took and the program agreed on."""
    with _Reads() as reads, torch.no_grad():
        try:
            truth = as_tuple(module(*(tensor.clone() for tensor in tensors)))
        except Exception:  # noqa: BLE001  (eager refuses these inputs: nothing to agree on)
            return set()
    crossed = {key for key, value in reads.seen if key in places and value not in places[key][1]}
    if not all(torch.isfinite(item).all() for item in truth if item.is_floating_point()):
        return set()
    with torch.no_grad():
        answers = as_tuple(program(*(tensor.clone() for tensor in tensors)))
    for mine, theirs in zip(answers, truth, strict=True):
        error = _distance(mine, theirs)
        if not error <= TOLERANCE:
            item = next((places[key][0] for key in places if key in crossed), None)
            raise ExportError(
                f"the captured program is off by {error:.2g} "
                + ("where a branch takes its other side" if item else "at other sizes and values"),
                where=item.place if item else ", ".join(str(list(t.shape)) for t in tensors),
                next_step="write the branch with torch.where"
                if item
                else "compute sizes with tensor operators, or export with --static",
            )
    return crossed


def _distance(mine: Tensor, theirs: Tensor) -> float:
    """Return the largest difference, relative with a floor of one; infinite for other shapes."""
    if mine.shape != theirs.shape:
        return float("inf")
    if not theirs.numel():
        return 0.0
    return float(((mine - theirs).abs() / theirs.abs().clamp(min=1)).max())


def _double(module: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(module).double()
    except Exception:  # noqa: BLE001  (whatever a user's object raises: it then runs as it is)
        return module


class _Reads(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Note which lines read which values while a call runs in eager."""

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: set[tuple[Place, str]] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        del types
        value = func(*args, **(kwargs or {}))
        if isinstance(value, bool | int | float):
            frame = reader()
            if frame is not None:
                self.seen.add(((frame.f_code.co_filename, frame.f_lineno), _text(value)))
        return value


@cache
def raises(file: str, line: int) -> bool:
    """Return whether the statement at a line only decides whether an error is raised."""
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except SyntaxError:
        return False
    found: ast.stmt | None = None
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert | ast.If) and node.lineno <= line <= _head(node):
            found = node
    if isinstance(found, ast.If):
        return isinstance(found.body[-1], ast.Raise)
    return isinstance(found, ast.Assert)


def _head(node: ast.Assert | ast.If) -> int:
    """Return the last line of an assertion or of a condition."""
    last = node.test if isinstance(node, ast.If) else node
    return last.end_lineno or node.lineno

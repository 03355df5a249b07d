"""The strategy for code that tracing cannot follow: record real calls, and export what they did."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from toolkit.capture.dynamo import Form, Translated, translate
from toolkit.capture.guards import Specialised, specialised
from toolkit.capture.loops import TRANSLATIONS, emit_loops
from toolkit.capture.module import EntryModule
from toolkit.capture.record import Recording, guard, record
from toolkit.capture.reroll import reroll
from toolkit.capture.unify import spell, unify
from toolkit.capture.vary import SCALES, allowed, further, sizes_of, varied
from toolkit.core.entry import Entry
from toolkit.core.errors import ExportError

FIRST_SIZE = 6


class Program(nn.Module):
    """A recorded graph as a module that torch.export traces node by node.

    Arguments:
        graph: Its `get_attr` nodes name constants, and the bodies of loops.
        constants: Tensors by name.
        bodies: Holds the bodies by name.
    """

    def __init__(
        self, graph: fx.Graph, constants: Mapping[str, Tensor], bodies: nn.Module | None = None
    ) -> None:
        super().__init__()
        root = bodies or nn.Module()
        for name in {str(node.target) for node in graph.nodes if node.op == "get_attr"}:
            if name in constants:
                root.register_buffer(name, constants[name])
        self.recorded = fx.GraphModule(root, graph)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Run the graph; a tracer's nodes keep the recorded lines and module paths."""
        with fx.traceback.preserve_node_meta():
            result: tuple[Tensor, ...] = fx.Interpreter(self.recorded).run(*tensors)
        return result


def export_recorded(
    module: EntryModule,
    entry: Entry,
    inputs: Sequence[Tensor],
    outputs: Sequence[str],
    form: Form,
) -> Translated:
    """Return an entry's graph; the arguments are those of the dynamo strategy.

    Raises:
        ExportError: The code draws random numbers, bakes values or sizes into the graph, or takes
            branches that cannot be proven.
        Exception: Whatever the exporters raise; the caller reports it as this strategy's reason.
    """
    made = recorded_program(module, entry, inputs, static=form.static)
    graph, folding = translate(
        made.program, entry, made.inputs, outputs, form, translations=TRANSLATIONS
    )
    return Translated(graph, folding, made.guards, made.loops)


@dataclass(frozen=True, slots=True)
class Recorded:
    """A recorded program.

    Arguments:
        program: What every recording did.
        inputs: Inputs of its first recording.
        guards: The reads of values on which it was specialised.
        loops: Iterations of every loop in it.
    """

    program: Program
    inputs: list[Tensor]
    guards: tuple[Specialised, ...]
    loops: tuple[int, ...]


def recorded_program(
    module: EntryModule, entry: Entry, inputs: Sequence[Tensor], *, static: bool
) -> Recorded:
    """Return one program for every size, compared with eager on both sides of its guards.

    Raises:
        ExportError: As for `export_recorded`.
    """
    with torch.random.fork_rng(), torch.no_grad():
        given, recordings, sizes = _recordings(module, entry, inputs, static=static)
        for recording in recordings:
            reroll(recording)
        graph = unified(recordings, sizes, entry)
        constants = recordings[0].constants
        program = Program(copy.deepcopy(graph), constants)
        _check_fills(program, recordings, given)
        guards = specialised(module, program, entry, given, recordings)
        bodies = nn.Module()
        loops = emit_loops(graph, bodies)
        return Recorded(Program(graph, constants, bodies), given, guards, loops)


def _recordings(
    module: EntryModule, entry: Entry, inputs: Sequence[Tensor], *, static: bool
) -> tuple[list[Tensor], list[Recording], list[dict[str, int]]]:
    """Record at a first set of sizes, then with each dimension changed; values differ each time."""
    base = sizes_of(entry, inputs)
    if not static:
        base = {
            name: allowed(entry, name, FIRST_SIZE + 5 * position)
            for position, name in enumerate(base)
        }
    given, first, scale = _mixed(module, entry, inputs, base)
    changed = [base]
    if not static:
        changed = [
            {**base, name: further(entry, name, size)[0]} for name, size in base.items()
        ] or [base]
    recordings = [first]
    for seed, sizes in enumerate(changed, 1):
        values = varied(entry, inputs, sizes, seed=seed, scale=scale)
        recordings.append(record(module, values))
    return given, recordings, [base, *changed]


def _mixed(
    module: EntryModule, entry: Entry, inputs: Sequence[Tensor], sizes: Mapping[str, int]
) -> tuple[list[Tensor], Recording, float]:
    """Record where every mask has lanes on both sides, or as many of them as can be found."""
    best: tuple[int, list[Tensor], Recording, float] | None = None
    for scale in SCALES:
        values = varied(entry, inputs, sizes, seed=0, scale=scale)
        try:
            recording = record(module, values)
        except Exception:
            if best is None:
                raise
            continue
        if best and not all(torch.isfinite(out).all() for out in recording.outputs):
            continue
        alike = sum(not mixed for _, mixed in recording.masks)
        if best is None or alike < best[0]:
            best = (alike, values, recording, scale)
        if alike == 0:
            break
    if best is None:
        raise ExportError("nothing was recorded", where=entry.name)
    return best[1:]


def unified(
    recordings: Sequence[Recording], sizes: Sequence[Mapping[str, int]], entry: Entry
) -> fx.Graph:
    """Return one graph, of dynamic sizes, that does what every recording did."""
    graph = recordings[0].graph
    unify(recordings, sizes)
    places = [node for node in graph.nodes if node.op == "placeholder"]
    spell(
        graph,
        {
            name: (place, axis)
            for item, place in zip(entry.inputs, places, strict=True)
            for axis, name in enumerate(item.dims)
            if name
        },
    )
    for node in list(graph.nodes):
        if node.target is guard:
            graph.erase_node(node)
    graph.eliminate_dead_code()
    return graph


def _check_fills(
    program: Program, recordings: Sequence[Recording], inputs: Sequence[Tensor]
) -> None:
    """Check that the values of unselected lanes do not matter.

    Raises:
        ExportError: They do: the code reduces over, or mixes, what a mask selected.
    """
    first, second = recordings[:2]
    if not first.fills:
        return
    root = program.recorded
    truth = program(*inputs)
    for (name, line), other in zip(first.fills.items(), second.fills, strict=True):
        if not hasattr(root, name):
            continue
        kept = getattr(root, name)
        setattr(root, name, second.constants[other])
        changed = program(*inputs)
        setattr(root, name, kept)
        for mine, theirs in zip(changed, truth, strict=True):
            if not torch.allclose(mine, theirs, rtol=1e-5, atol=1e-6, equal_nan=True):
                raise ExportError(
                    "what a mask selects is reduced or mixed: x[mask] has no fixed size in a graph",
                    where=line,
                    next_step="reduce with torch.where(mask, x, 0) over all elements",
                )

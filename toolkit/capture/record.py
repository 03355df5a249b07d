"""Record what a call does to real tensors: a straight-line functional graph of torch operators.

Python sees true values, so every `if tensor`, `.item()`, `assert` and initialisation flag simply
works; what Python read out of a tensor is kept as a guard. The recorder sits below autograd and
functionalization: gradients, views and mutations are operators like all others.
"""

from __future__ import annotations

import contextlib
import copy
import operator
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.functional_tensor import FunctionalTensor, FunctionalTensorMode
from torch.nn.modules import module as hooks
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from toolkit.capture.decompose import decompositions
from toolkit.core.errors import ExportError
from toolkit.nn.iterate import State, Step, heard_by

aten = torch.ops.aten
SAME = frozenset(
    {
        aten.alias.default,
        aten.alias_copy.default,
        aten.clone.default,
        aten.contiguous.default,
        aten.detach.default,
        aten.detach_copy.default,
        aten.lift.default,
        aten.lift_fresh.default,
        aten.lift_fresh_copy.default,
    }
)
VALUE_SHAPED = frozenset(
    {
        aten._unique2.default,  # noqa: SLF001  (the operator's name)
        aten.bincount.default,
        aten.nonzero.default,
        aten.masked_scatter.default,
        aten.repeat_interleave.Tensor,
        aten.unique_consecutive.default,
        aten.unique_dim.default,
    }
)
BOOLEAN = (torch.bool, torch.uint8)
_COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd  # noqa: SLF001  (no public name)
_TORCH = str(Path(torch.__file__).parent)
_HERE = str(Path(__file__).parent)


def guard(tensor: Tensor, value: object) -> None:
    """Stand in a graph for the place where Python read `value` out of a tensor."""


def carry(initial: Tensor) -> None:
    """Stand in a graph for what one iteration of a declared loop is given."""


def loop_end(count: int, carried: Sequence[Tensor], after: Sequence[Tensor]) -> None:
    """Stand in a graph behind one iteration of a declared loop; its items are the last state."""


@dataclass(frozen=True, slots=True)
class Guard:
    """A value that Python read out of a tensor that depends on the inputs.

    Arguments:
        node: The tensor's node.
        value: What Python saw.
        file: Python file of the reader.
        line: Its line number.
        module: Path of the `nn.Module` whose forward was running.
    """

    node: fx.Node
    value: object
    file: str
    line: int
    module: str

    @property
    def place(self) -> str:
        """The reader's line, with the last two parts of its path, and its module."""
        source = short(self.file, self.line)
        return f"{source} (module {self.module})" if self.module else source


@dataclass(slots=True)
class Recording:
    """One recorded call.

    Arguments:
        graph: Functional operators in the order in which they ran, and `guard` calls.
        constants: Tensors that the graph's `get_attr` nodes name.
        fixed: Nodes that depend on parameters, buffers and literals only.
        fills: Names of the constants that fill unselected lanes of a masked index, where any
            valid value does, with the index's line.
        guards: What Python read.
        masks: Per input-dependent mask that indexed a tensor: its line, and whether it held
            both sides.
        outputs: The call's results.
    """

    graph: fx.Graph
    constants: dict[str, Tensor] = field(default_factory=dict)
    fixed: set[fx.Node] = field(default_factory=set)
    fills: dict[str, str] = field(default_factory=dict)
    guards: list[Guard] = field(default_factory=list)
    masks: list[tuple[str, bool]] = field(default_factory=list)
    outputs: tuple[Tensor, ...] = ()


def record(module: nn.Module, inputs: Sequence[Tensor]) -> Recording:
    """Run `module(*inputs)` once and return what happened; a copy runs, the module stays as it was.

    Arguments:
        module: Any module in evaluation mode, returning a tensor or a structure of tensors.
        inputs: Real tensors.

    Raises:
        ExportError: An operator cannot be recorded: it draws random numbers, or makes a shape
            from values.
    """
    module = own_copy(module)
    recorder = _Recorder(module)
    graph = recorder.recording.graph
    given = [tensor.detach().clone() for tensor in inputs]
    places = [graph.placeholder(f"input_{position}") for position in range(len(given))]
    state = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    plain = {name: tensor.detach() for name, tensor in state.items()}
    with heard_by(recorder.declared), _paths(recorder), recorder, _Functional():
        for tensor, place in zip(given, places, strict=True):
            recorder.track(tensor, place)
        wrapped = tuple(FunctionalTensor.to_functional(tensor) for tensor in given)
        swapped: dict[str, Tensor] = {}
        for name, tensor in plain.items():
            recorder.constant(tensor, name)
            functional = FunctionalTensor.to_functional(tensor)
            if state[name].requires_grad:
                functional.requires_grad_()
            swapped[name] = functional
        result = torch.func.functional_call(
            module, swapped, wrapped, tie_weights=True, strict=False
        )
        outputs = [_unwrapped(leaf) for leaf in pytree.tree_leaves(result)]
        graph.output(tuple(recorder.node_of(output) for output in outputs))
    recorder.recording.outputs = tuple(outputs)
    return recorder.recording


def own_copy(module: nn.Module) -> nn.Module:
    """Return a copy, so that nothing that a library caches between calls stays in the original."""
    try:
        return copy.deepcopy(module)
    except Exception:  # noqa: BLE001  (whatever a user's object raises: it then runs itself)
        return module


def _unwrapped(leaf: Any) -> Any:
    if isinstance(leaf, FunctionalTensor):
        torch._sync(leaf)  # type: ignore[attr-defined,no-untyped-call]  # noqa: SLF001  (no public name)
        return torch._from_functional_tensor(leaf.elem)  # noqa: SLF001  (no public name)
    return leaf


class _Functional(FunctionalTensorMode):  # type: ignore[no-untyped-call]
    """Functionalization over the recorder."""

    def _sync_view_replay_annotations(self, args: Any, kwargs: Any) -> None:
        """Skip what torch does here for its own tracer: the recorder has none."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        # An effect that functionalization has no token for; it only raises on singular matrices.
        if func is aten._linalg_check_errors.default:  # noqa: SLF001  (the operator's name)
            return None
        return super().__torch_dispatch__(func, types, args, kwargs)


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Run every operator and write it down."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        # The slot of torch's own tracer: a plain mode would sit above functionalization.
        self._mode_key = torch._C._TorchDispatchModeKey.PROXY  # noqa: SLF001  (no public name)
        self.recording = Recording(fx.Graph())
        self.paths = {id(part): name for name, part in module.named_modules()}
        self.running: list[str] = []
        self._nodes: dict[int, fx.Node] = {}
        self._alive: list[Tensor] = []
        self._known: dict[Any, Any] = {}

    def track(self, tensor: Tensor, node: fx.Node) -> None:
        """Remember which node made a tensor."""
        self._nodes[id(tensor)] = node
        self._alive.append(tensor)
        node.meta.setdefault("shape", tuple(tensor.shape))
        node.meta.setdefault("dtype", tensor.dtype)

    def constant(self, tensor: Tensor, name: str) -> fx.Node:
        """Store a tensor that does not depend on the inputs."""
        name = name.replace(".", "_")
        while name in self.recording.constants:
            name += "_"
        self.recording.constants[name] = tensor
        node = self.recording.graph.get_attr(name)
        self.recording.fixed.add(node)
        self.track(tensor, node)
        return node

    def node_of(self, value: Any) -> Any:
        """Return a tensor's node; a tensor from outside becomes a constant."""
        if not isinstance(value, Tensor):
            return value
        known = self._nodes.get(id(value))
        return known or self.constant(value, f"literal_{len(self.recording.constants)}")

    def is_fixed(self, value: Tensor) -> bool:
        """Return whether a tensor is independent of the inputs."""
        return self.node_of(value) in self.recording.fixed

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        del types
        kwargs = kwargs or {}
        tensors: list[Tensor] = []
        _mapped((args, kwargs), tensors.append)
        schema = func._schema  # noqa: SLF001  (no public name)
        if _reads_metadata(func, schema):
            return func(*args, **kwargs)
        if not any("Tensor" in str(result.type) for result in schema.returns):
            return self._read(func, args, kwargs, tensors)
        if _is_same(func, args, kwargs):
            out = func(*args, **kwargs)
            self.track(out, self.node_of(args[0]))
            return out
        if func in (aten.index.Tensor, aten.index_put.default, aten.masked_select.default):
            out = self._masked(func, *args, **kwargs)
            if out is not NotImplemented:
                return out
        self._refuse(func, args, tensors)
        if func in decompositions() or func.has_kernel_for_dispatch_key(_COMPOSITE):
            with self:
                return decompositions().get(func, func.decompose)(*args, **kwargs)
        return self.emit(func, *args, **kwargs)

    def emit(self, func: Any, *args: Any, **kwargs: Any) -> Any:
        """Run and write down one functional operator; equal fixed ones are run and written once."""
        given: list[fx.Node] = []

        def node_of(tensor: Tensor) -> fx.Node:
            given.append(self.node_of(tensor))
            return given[-1]

        nodes, keywords = _mapped((args, kwargs), node_of)
        fixed = self.recording.fixed.issuperset(given)
        key = (func, repr((nodes, keywords))) if fixed else None
        if key in self._known:
            return self._known[key]
        out = func(*args, **kwargs)
        node = self._call(func, nodes, keywords)
        if fixed:
            self.recording.fixed.add(node)
            self._known[key] = out
        if isinstance(out, Tensor):
            self.track(out, node)
            return out
        for position, item in enumerate(out):
            if isinstance(item, Tensor):
                self.track(item, self._item(node, position, fixed=fixed))
        return out

    def declared(self, step: Step, count: int, state: State) -> State:
        """Write down one iteration of a loop that says that it is one.

        Raises:
            ExportError: The step changes the state's shapes or element types.
        """
        graph = self.recording.graph
        given = [_unwrapped(tensor) for tensor in state]
        places = [graph.call_function(carry, (self.node_of(tensor),)) for tensor in given]
        made = step(*map(self._fresh, given, places))
        after = [_unwrapped(tensor) for tensor in made]
        kinds = [[(tuple(x.shape), x.dtype) for x in tensors] for tensors in (given, after)]
        if kinds[0] != kinds[1]:
            raise ExportError(
                f"one iteration of a loop makes {kinds[1]} of {kinds[0]}",
                where=self._place(),
                next_step="begin with a state of the shapes and element types that a step gives",
            )
        end = self._call(loop_end, (count, tuple(places), tuple(map(self.node_of, after))), {})
        items = [graph.call_function(operator.getitem, (end, place)) for place in range(len(after))]
        return tuple(map(self._fresh, after, items))

    def _fresh(self, tensor: Tensor, node: fx.Node) -> Tensor:
        """Return a copy that the given node made."""
        with _disable_current_modes():
            copied = tensor.detach().clone()
        self.track(copied, node)
        wrapped: Tensor = FunctionalTensor.to_functional(copied)
        return wrapped

    def _call(self, func: Any, args: Any, kwargs: Any) -> fx.Node:
        node = self.recording.graph.call_function(func, args, kwargs)
        frame = reader()
        if frame is not None:
            code = frame.f_code
            node.meta["stack_trace"] = (
                f'File "{code.co_filename}", line {frame.f_lineno}, in {code.co_name}'
            )
        if self.running:
            path = self.running[-1]
            node.meta["nn_module_stack"] = {path: (path, "")}
        return node

    def _item(self, node: fx.Node, position: int, *, fixed: bool) -> fx.Node:
        item = self._call(operator.getitem, (node, position), {})
        if fixed:
            self.recording.fixed.add(item)
        return item

    def _read(self, func: Any, args: Any, kwargs: Any, tensors: list[Tensor]) -> Any:
        """Let Python read a value; write it down where it depends on the inputs."""
        value = func(*args, **kwargs)
        if func is aten.equal.default and not all(self.is_fixed(item) for item in tensors):
            first, second = args
            if first.shape == second.shape:
                tensors = [self.emit(aten.all.default, self.emit(aten.eq.Tensor, first, second))]
        if tensors and not all(self.is_fixed(tensor) for tensor in tensors):
            node = self.node_of(tensors[0])
            frame = reader()
            self.recording.graph.call_function(guard, (node, value))
            self.recording.guards.append(
                Guard(
                    node,
                    value,
                    frame.f_code.co_filename if frame else "",
                    frame.f_lineno if frame else 0,
                    self.running[-1] if self.running else "",
                )
            )
        return value

    def _refuse(self, func: Any, args: Any, tensors: list[Tensor]) -> None:
        if torch.Tag.nondeterministic_seeded in func.tags:
            if not ("dropout" in func.__name__ and not args[-1]):
                raise ExportError(
                    f"the operator {func} draws random numbers",
                    where=self._place(),
                    next_step="pass the numbers as an input of kind noise",
                )
        elif func in VALUE_SHAPED and not all(self.is_fixed(tensor) for tensor in tensors):
            raise ExportError(
                f"the operator {func} makes a shape that depends on the inputs' values",
                where=self._place(),
                next_step="compute on all elements and choose with torch.where",
            )

    def _place(self) -> str:
        module = self.running[-1] if self.running else ""
        parts = (module and f"module {module}", line_of(reader()))
        return ", ".join(part for part in parts if part)

    def _masked(self, func: Any, x: Tensor, *rest: Any, **kwargs: Any) -> Any:
        """Index by a mask, all lanes kept: `x[mask]` fills the others, a write becomes `where`."""
        indices = [rest[0]] if func is aten.masked_select.default else list(rest[0])
        masks = [
            (axis, index)
            for axis, index in enumerate(indices)
            if index is not None and index.dtype in BOOLEAN
        ]
        if not masks:
            return NotImplemented
        if all(self.is_fixed(mask) for _, mask in masks):
            return self._fixed_mask(func, x, indices, masks, rest[1:], kwargs)
        if len(masks) > 1 or sum(index is not None for index in indices) > 1:
            raise ExportError(
                "a tensor is indexed by a mask and by integers at once",
                where=line_of(reader()),
                next_step="index by one of them, then by the other",
            )
        ((axis, mask),) = masks
        if mask.dtype == torch.uint8:
            mask = self.emit(aten.ne.Scalar, mask, 0)
        if func is aten.masked_select.default:
            shape = list(torch.broadcast_shapes(x.shape, mask.shape))  # type: ignore[no-untyped-call]
            x, mask = (
                self.emit(aten.expand.default, x, shape),
                self.emit(aten.expand.default, mask, shape),
            )
        tail = list(x.shape[axis + mask.dim() :])
        wide = self.emit(aten.reshape.default, mask, [*mask.shape, *[1] * len(tail)])
        if func is aten.index_put.default:
            return self._write(x, mask, wide, tail, *rest[1:])
        return self._gather(x, axis, mask, wide, tail)

    def _fixed_mask(
        self, func: Any, x: Tensor, indices: list[Any], masks: Any, rest: Any, kwargs: Any
    ) -> Any:
        """Index with a mask that no input reaches: by the positions that it selects."""
        if func is aten.masked_select.default or len(masks) != 1:
            return NotImplemented
        ((axis, mask),) = masks
        positions = [self._literal(item) for item in mask.nonzero(as_tuple=True)]
        if not positions or any(index is not None for index in indices[:axis]):
            return NotImplemented
        return self.emit(
            func, x, [*indices[:axis], *positions, *indices[axis + 1 :]], *rest, **kwargs
        )

    def _literal(self, tensor: Tensor) -> Tensor:
        self.node_of(tensor)
        return tensor

    def _write(
        self, x: Tensor, mask: Tensor, wide: Tensor, tail: list[int], value: Tensor, *rest: Any
    ) -> Any:
        if rest and rest[0]:
            raise ExportError(
                "a masked write accumulates", where=line_of(reader()), next_step="use torch.where"
            )
        lanes, lead = mask.numel(), value.dim() - 1 - len(tail)
        if lead >= 0 and value.shape[lead] == lanes and lanes != 1:
            shape = [*value.shape[:lead], *mask.shape, *value.shape[lead + 1 :]]
            value = self.emit(aten.reshape.default, value, shape)
        if value.dtype != x.dtype:
            value = self.emit(aten._to_copy.default, value, dtype=x.dtype)  # noqa: SLF001
        return self.emit(aten.where.self, wide, value, x)

    def _gather(self, x: Tensor, axis: int, mask: Tensor, wide: Tensor, tail: list[int]) -> Tensor:
        """Keep every lane; those not selected hold the value of one that is, so all are valid."""
        lead, lanes = list(x.shape[:axis]), mask.numel()
        chosen = mask.flatten().nonzero()
        line = line_of(reader())
        self.recording.masks.append((line, 0 < len(chosen) < lanes))
        if len(chosen):
            flat = x.reshape([*lead, lanes, *tail])
            fill = flat.select(axis, int(chosen[len(chosen) // 2]))
            fill = fill[(0,) * len(lead)].clone()
            node = self.constant(fill, f"fill_{len(self.recording.fills)}")
            self.recording.fills[str(node.target)] = line
            x = self.emit(aten.where.self, wide, x, fill)
        out: Tensor = self.emit(aten.reshape.default, x, [*lead, lanes, *tail])
        return out


_METADATA = (
    "device", "dim", "is_contiguous", "is_non_overlapping_and_dense", "is_strides_like_format",
    "layout", "numel", "size", "storage_offset", "stride", "sym_is_contiguous", "sym_numel",
    "sym_size", "sym_storage_offset", "sym_stride",
)  # fmt: skip


def _mapped(value: Any, function: Callable[[Tensor], Any]) -> Any:
    """Return arguments with every tensor mapped; torch's own walk takes ten times as long."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, tuple | list):
        return type(value)(_mapped(item, function) for item in value)
    if isinstance(value, dict):
        return {key: _mapped(item, function) for key, item in value.items()}
    return value


def _reads_metadata(func: Any, schema: Any) -> bool:
    return bool(func._opname in _METADATA) or schema.name.startswith("prim")  # noqa: SLF001


def _is_same(func: Any, args: Any, kwargs: Any) -> bool:
    if func in SAME:
        return True
    if func is not aten._to_copy.default:  # noqa: SLF001  (the operator's name)
        return False
    return bool(kwargs.get("dtype", args[0].dtype) == args[0].dtype)


def reader(frame: FrameType | None = None) -> FrameType | None:
    """Return the innermost frame, from the given or the caller's one, that is the user's code."""
    frame = frame or sys._getframe(1)  # noqa: SLF001  (no public name)
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith((_TORCH, _HERE, "<")):
            return frame
        frame = frame.f_back
    return None


def line_of(frame: FrameType | None) -> str:
    """Return a frame's file and line; nothing without a frame."""
    if frame is None:
        return ""
    return short(frame.f_code.co_filename, frame.f_lineno)


def short(file: str, line: int) -> str:
    """Return a place in a file, with the last two parts of its path."""
    return f"{'/'.join(Path(file).parts[-2:])}:{line}"


@contextlib.contextmanager
def _paths(recorder: _Recorder) -> Iterator[None]:
    """Keep the recorder's list of running modules up to date."""

    def enter(module: nn.Module, _: Any) -> None:
        name = recorder.paths.get(id(module), recorder.running[-1] if recorder.running else "")
        recorder.running.append(name.removeprefix("model").removeprefix("."))

    def leave(module: nn.Module, args: Any, result: Any) -> None:
        del module, args, result
        recorder.running.pop()

    handles = [
        hooks.register_module_forward_pre_hook(enter),
        hooks.register_module_forward_hook(leave, always_call=True),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()

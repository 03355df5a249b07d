"""The oracle: the eager model evaluated in float64."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from functools import cache, cached_property
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from toolkit.capture.module import as_tuple, reference_module
from toolkit.capture.preserve import copied
from toolkit.capture.replace import Solvers
from toolkit.core.case import Case
from toolkit.core.entry import Entry
from toolkit.core.errors import ExportError

NEARBY = 2.0**-12
"""How far the neighbours lie that show the roundings inside, as a ratio of every number."""
REMEMBERED = 8
DOUBLE = {
    torch.float16: torch.float64,
    torch.bfloat16: torch.float64,
    torch.float32: torch.float64,
    torch.complex64: torch.complex128,
}


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Count what torch's table knows; its own counter's hooks stop models that differentiate."""

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0.0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        del types
        given = kwargs or {}
        result = func(*args, **given)
        count = flop_registry.get(getattr(func, "overloadpacket", None))
        if count is not None:
            self.total += count(*args, **given, out_val=result)
        return result


class _InDouble(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Turn floating element types that an operator is asked for, or given mixed, into float64."""

    supports_higher_order_operators = True

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        del types
        given = kwargs or {}
        # One that is given lower precision alone, such as a copy's, keeps its element type.
        widen = _wide if _any_wide([*args, *given.values()]) else _wide_dtype
        kept = _aliased(func)
        arguments = [
            value if position in kept else widen(value) for position, value in enumerate(args)
        ]
        keywords = {name: value if name in kept else widen(value) for name, value in given.items()}
        return func(*arguments, **keywords)


@cache
def _aliased(func: Any) -> frozenset[int | str]:
    """Return positions and names of the arguments that an operator views or writes to.

    They are passed as they are: a wide copy would not be the same memory.
    """
    schema = getattr(func, "_schema", None)
    arguments = enumerate(schema.arguments) if schema else ()
    return frozenset(
        key
        for position, argument in arguments
        if argument.alias_info
        for key in (position, argument.name)
    )


def _any_wide(values: Sequence[Any]) -> bool:
    return any(
        value.dtype in DOUBLE.values()
        if isinstance(value, Tensor)
        else type(value) in (list, tuple) and _any_wide(value)
        for value in values
    )


def _wide_dtype(value: Any) -> Any:
    return DOUBLE.get(value, value) if isinstance(value, torch.dtype) else value


def _wide(value: Any) -> Any:
    """Return a tensor or an element type, or those of a list, in float64."""
    if isinstance(value, Tensor):
        return value.to(DOUBLE[value.dtype]) if value.dtype in DOUBLE else value
    if type(value) in (list, tuple):
        return type(value)(_wide(item) for item in value)
    return _wide_dtype(value)


@contextlib.contextmanager
def in_double() -> Iterator[None]:
    """Evaluate in float64 throughout, `.float()` and default element types inside included."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with _InDouble():  # type: ignore[no-untyped-call]
            yield
    finally:
        torch.set_default_dtype(default)


class Oracle:
    """Answer an entry's inputs in float64 and, beside it, in the model's own precision.

    Arguments:
        model: The model in evaluation mode.
        entry: The entry; its plain form is what runs.
        outputs: Names of the outputs.
        neighbours: How many neighbours of every input eager answers beside the input itself; the
            answer that is furthest from float64 counts.
    """

    def __init__(
        self, model: nn.Module, entry: Entry, outputs: Sequence[str], *, neighbours: int = 0
    ) -> None:
        self.entry = entry
        self.neighbours = neighbours
        self.outputs = list(outputs)
        self.model = model
        self.double = doubled(model)
        self._solvers: dict[str, Solvers] = {}
        self._answers: dict[Hashable, tuple[Sequence[Tensor], tuple[Tensor, ...]]] = {}

    def _solving(self, entry: Entry) -> contextlib.AbstractContextManager[None]:
        """Return a context in which an entry's iterative solvers take the steps of its graph."""
        if entry.name not in self._solvers:
            examples = [item.value for item in entry.inputs]
            self._solvers[entry.name] = Solvers(reference_module(self.model, entry), examples)
        return self._solvers[entry.name]()

    def exact(self, entry: Entry, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the float64 outputs of any entry of the model."""
        return self._remembered(self._in_double, entry, tensors)

    def eager(self, entry: Entry, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the outputs of any entry of the model in its own precision."""
        return self._remembered(self._in_eager, entry, tensors)

    def _remembered(
        self,
        call: Callable[[Entry, Sequence[Tensor]], tuple[Tensor, ...]],
        entry: Entry,
        tensors: Sequence[Tensor],
    ) -> tuple[Tensor, ...]:
        """Return an answer, the same as lately: checks ask about the same samples again."""
        key = (call.__name__, entry.name, *map(_identity, tensors))
        if key not in self._answers:
            while len(self._answers) >= REMEMBERED:
                del self._answers[next(iter(self._answers))]
            # Beside its inputs, so that their memory is not given to others.
            self._answers[key] = tensors, call(entry, tensors)
        return self._answers[key][1]

    @torch.no_grad()
    def _in_double(self, entry: Entry, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        module = reference_module(self.double, entry)
        with self._solving(entry), in_double():
            return _detached(module(*(_doubled(tensor) for tensor in tensors)))

    @torch.no_grad()
    def _in_eager(self, entry: Entry, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        module = reference_module(self.model, entry)
        with self._solving(entry):
            return _detached(module(*(tensor.clone() for tensor in tensors)))

    @cached_property
    def operations(self) -> float:
        """Floating-point operations of one sample's matrix products and convolutions, in eager."""
        first = self.entry.inputs[0]
        # Looking for solvers calls the model too.
        self._solving(self.entry)
        with _Operations() as counter:
            self._in_eager(self.entry, [item.value for item in self.entry.inputs])
        rows = first.shape[first.batch_axis] if first.shape else 1
        total: float = counter.total
        return total / max(1, rows)

    def answer(self, check: str, name: str, inputs: Mapping[str, Tensor], **extra: Any) -> Case:
        """Return a case with the inputs and both answers.

        Arguments:
            check: Name of the check that asks.
            name: Name of the case.
            inputs: One tensor per graph input.
            extra: Further arrays that the check compares with.
        """
        tensors = [inputs[item.name].detach() for item in self.entry.inputs]
        oracle = self.exact(self.entry, tensors)
        # Beside an edge another branch answers: that is no rounding.
        at_edges = "edges" in (check, name) or check == "bin_edges"
        eager = self._worst(tensors, oracle, 0 if at_edges else self.neighbours)
        return Case(
            check,
            name,
            inputs=_arrays([item.name for item in self.entry.inputs], tensors),
            oracle=_arrays(self.outputs, oracle),
            eager=_arrays(self.outputs, eager),
            extra={key: torch.as_tensor(value).numpy() for key, value in extra.items()},
        )

    def _worst(
        self, tensors: Sequence[Tensor], oracle: Sequence[Tensor], neighbours: int
    ) -> tuple[Tensor, ...]:
        """Return, per element, the answer that is as far from the oracle's as eager's worst.

        One rounding beside shows what becomes of an input's own error. Where a function saturates
        inside, only a wider step moves the roundings that follow: its answer is held against its
        own exact one.
        """
        worst = self.eager(self.entry, tensors)
        for seed in range(neighbours):
            near = self._beside(tensors, seed, 0.0)
            worst = _further(worst, self.eager(self.entry, near), oracle)
            away = self._beside(tensors, seed, NEARBY)
            answers = zip(
                oracle, self.eager(self.entry, away), self.exact(self.entry, away), strict=True
            )
            worst = _further(worst, [o + (new - exact) for o, new, exact in answers], oracle)
        return worst

    def _beside(self, tensors: Sequence[Tensor], seed: int, ratio: float) -> list[Tensor]:
        """Return inputs of which every number is moved, by a ratio at most, inside its domain."""
        draws = torch.Generator().manual_seed(seed)
        moved = []
        for item, tensor in zip(self.entry.inputs, tensors, strict=True):
            if tensor.is_floating_point():
                steps = torch.randint(-1, 2, tensor.shape, generator=draws).to(tensor)
                tensor = tensor * (1 + max(ratio, torch.finfo(tensor.dtype).eps) * steps)
                low = -torch.inf if item.low is None else item.low
                high = torch.inf if item.high is None else item.high
                tensor = tensor.clamp(low, high)
            moved.append(tensor)
        return moved


def _further(
    worst: Sequence[Tensor], answers: Sequence[Tensor], oracle: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """Return, per element, the answer that is further from the oracle's."""
    return tuple(
        torch.where((new - exact).abs() > (old - exact).abs(), new.to(old), old)
        if old.is_floating_point()
        else old
        for new, old, exact in zip(answers, worst, oracle, strict=True)
    )


def _identity(tensor: Tensor) -> Hashable:
    """Return what tells a tensor from every other that is alive, and from itself as it was."""
    changes = 0 if tensor.is_inference() else tensor._version  # noqa: SLF001
    return tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype, changes


def _detached(result: Any) -> tuple[Tensor, ...]:
    """Return a call's tensors; one that differentiates inside gives them with their history."""
    return tuple(tensor.detach() for tensor in as_tuple(result))


def doubled(model: nn.Module) -> nn.Module:
    """Return a copy in float64: what plain lists and attributes hold is part of the model too.

    Raises:
        ExportError: The model holds something that cannot be copied.
    """
    try:
        copies: dict[int, Any] = {}
        double = copied(model, copies)
    except Exception as error:  # whatever a user's object raises
        raise ExportError(
            f"the model cannot be copied: {type(error).__name__}: {error}",
            where=type(model).__name__,
            next_step="give what cannot be copied, such as a lock or an open file, to the model "
            "after the export",
        ) from error
    for tensor in (*double.parameters(), *double.buffers(), *copies.values()):
        if isinstance(tensor, Tensor):
            tensor.data = _wide(tensor.data)
    return double


def _doubled(tensor: Tensor) -> Tensor:
    wide: Tensor = _wide(tensor)
    return wide.clone()


def _arrays(names: Sequence[str], tensors: Sequence[Tensor]) -> dict[str, NDArray[Any]]:
    """Return tensors as arrays.

    Raises:
        ExportError: One is in bfloat16, which arrays do not have.
    """
    named = dict(zip(names, tensors, strict=True))
    for name, tensor in named.items():
        if tensor.dtype == torch.bfloat16:
            raise ExportError(
                "a graph cannot take or give bfloat16 here: the processor's runtime has no such "
                "arrays to compare it by",
                where=name,
                next_step="export model.float() with examples in float32",
            )
    return {name: tensor.cpu().numpy() for name, tensor in named.items()}

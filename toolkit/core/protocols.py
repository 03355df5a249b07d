"""The typed contracts of the registries, and what passes between the floors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from toolkit.core.case import Case
from toolkit.core.entry import Autoregressive, Entry, Input
from toolkit.core.outcome import Finding
from toolkit.core.signature import Signature

Progress = Callable[[str], None]

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir as ir
    import torch
    from torch import Tensor, nn

    Arrays = dict[str, np.ndarray]
    Run = Callable[[Arrays], Arrays]


def silent(_: str) -> None:
    """Follow a stage's progress by saying nothing."""


@dataclass(frozen=True, slots=True)
class Data:
    """A data set, small enough to hold in memory.

    Arguments:
        train: Named tensors of equal first axis: `x`, and `label` where there is one.
        test: The same for held-out samples.
        levels: Number of grey levels or categories of discrete data; 0 for continuous data.
        symbols: What each token of a sequence is written as; empty where it is no text.
    """

    train: Mapping[str, Tensor]
    test: Mapping[str, Tensor]
    levels: int = 0
    symbols: Sequence[str] = ()


class Model(Protocol):
    """A file of `models/`: a module class that knows its family and its entries."""

    family: ClassVar[str]

    def entries(self) -> Sequence[Entry]:
        """Return every entry with example inputs."""


class Dataset(Protocol):
    """A file of `data/`."""

    def __call__(self, **arguments: Any) -> Data:
        """Load the data, without network."""


class Objective(Protocol):
    """A file of `objectives/`: how one batch becomes a loss."""

    def __call__(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return scalar tensors by name; `loss` is minimised, all are logged."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One player's move in a game of two or more.

    An objective with an attribute `turns: Sequence[Turn]` is such a game: on every batch each
    player, in that order, moves against the others as they then are. Calling the objective gives
    what is recorded; its `loss` is the first player's.

    Arguments:
        player: Dotted name of the part of the model whose parameters move.
        loss: Maps model and batch to the scalar that this player minimises.
        every: The player moves on every how many-th batch of an epoch.
    """

    player: str
    loss: Callable[[nn.Module, Mapping[str, Tensor]], Tensor]
    every: int = 1


@dataclass(frozen=True, slots=True)
class Artifact:
    """One variant of one entry, ready for a backend.

    Arguments:
        path: The `.onnx` file or engine; backends that run the model itself ignore it.
        signature: Its inputs and outputs.
        variant: Name of the variant.
        module: Makes the eager module `(*tensors) -> tensors`; `None` where no model is at hand.
    """

    path: Path
    signature: Signature
    variant: str
    module: Callable[[], nn.Module] | None = None


class Runner(Protocol):
    """An opened artifact."""

    def __call__(self, feeds: Arrays) -> Arrays:
        """Run once and return every output by name."""

    def prepare(self, feeds: Arrays) -> Callable[[], object]:
        """Return the bare call that a timer sees, its inputs already decoded and placed."""

    def close(self) -> None:
        """Release the runtime's memory."""


class Backend(Protocol):
    """A file of `backends/`."""

    formats: tuple[str, ...]

    def absent(self, *, device: str = "cpu", providers: Sequence[str] = ("cpu",)) -> str:
        """Return why it cannot run here, with the line that installs it; empty where it can."""

    def open(
        self,
        artifact: Artifact,
        *,
        threads: int = 1,
        device: str = "cpu",
        providers: Sequence[str] = ("cpu",),
    ) -> Runner:
        """Load an artifact. `formats` says which: `module`, `onnx` or `engine`."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a pass did to a graph.

    Arguments:
        count: How many places it rewrote; 0 means that the model is as it was.
        reason: Where nothing was rewritten, why.
    """

    count: int
    reason: str = ""


class Rewrite(Protocol):
    """A file of `passes/`: one ONNX → ONNX change, in place."""

    order: int
    portable: bool

    def __call__(self, model: ir.Model) -> Change:
        """Rewrite the model in place and say honestly whether anything changed."""


@dataclass(frozen=True, slots=True)
class Source:
    """What a check may use at export, while the model is at hand.

    Arguments:
        entry: The entry.
        signature: Its signature.
        model: The model in evaluation mode.
        data: The recipe's data; `None` for a user's model.
        samples: How many samples the main case holds.
        seed: Seed of every draw.
        answer: Inputs to a case with the oracle's and eager's outputs.
        entries: Every entry that is exported from the model, this one among them.
        exact: Any entry and its tensors to its float64 outputs.
        eager: Any entry and its tensors to its outputs in the model's own precision.
    """

    entry: Entry
    signature: Signature
    model: nn.Module
    data: Data | None
    samples: int
    seed: int
    answer: Callable[..., Case]
    entries: Sequence[Entry]
    exact: Callable[[Entry, Sequence[Tensor]], tuple[Tensor, ...]]
    eager: Callable[[Entry, Sequence[Tensor]], tuple[Tensor, ...]]


@dataclass(frozen=True, slots=True)
class Subject:
    """What a check judges: one variant on one backend, from files alone.

    Arguments:
        signature: The entry's signature.
        variant: Name of the variant.
        backend: Name of the backend.
        path: The file.
        run: Runs the variant.
        cases: Every case of the entry; a check picks its own by `case.check`.
        sibling: Runs another entry of the same variant by name; `None` where there is none.
        budget: Error per unit that the variant may add; empty means the oracle's own limit.
        k: Factor on eager's own error.
    """

    signature: Signature
    variant: str
    backend: str
    path: Path
    run: Run
    cases: Sequence[Case]
    sibling: Callable[[str], Run | None]
    budget: Mapping[str, float] = field(default_factory=dict)
    k: float = 4.0


class Check(Protocol):
    """A file of `checks/`: one question."""

    def prepare(self, source: Source) -> Sequence[Case]:
        """Make the cases at export; none where the question does not apply."""

    def judge(self, subject: Subject) -> Finding | None:
        """Answer for one variant on one backend; `None` where the question does not apply."""


class Device(Protocol):
    """A file of `devices/`: where a bundle runs."""

    def selftest(self, bundle: Path, *, timeout: float) -> Mapping[str, Any]:
        """Copy the bundle there, run its self-test and return the result."""


class Schedule(Protocol):
    """A file of `schedules/`: one layout of an autoregressive sampler."""

    def __call__(self, model: nn.Module, sampler: Autoregressive) -> Scheduled:
        """Return the layout of a model's sampler.

        Raises:
            ExportError: The model is outside the class that the layout takes.
        """


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A sampler laid out by a schedule.

    Arguments:
        generate: Module `(noise, *context) -> samples` that evaluates the model incrementally.
        step: Module of one position, states in and out; `None` where the layout has none.
        inputs: Inputs of `step`.
        outputs: Names of the outputs of `step`.
        lengths: Least and greatest number of positions; `None` for a fixed number.
    """

    generate: nn.Module
    step: nn.Module | None = None
    inputs: Sequence[Input] = ()
    outputs: Sequence[str] = ()
    lengths: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Example:
    """One call that a lowering must get right.

    Arguments:
        call: Applies the operator to the inputs; returns one tensor or several.
        inputs: Arguments of the call in float64 (or integers); the first axis of each is the batch.
        shared: Positions of the inputs that have no batch axis.
    """

    call: Callable[..., Tensor | tuple[Tensor, ...]]
    inputs: tuple[Tensor, ...]
    shared: tuple[int, ...] = ()


class Lowering(Protocol):
    """A file of `lowerings/`: torch operators to ONNX operators.

    A translation is a plain traced function of `onnxscript.opset18` operators, the version of
    torch's own translations; it may read shapes and types. It never returns one of its inputs
    itself, which the exporter would rename and retype: `Identity` of it.
    """

    def __call__(self) -> Mapping[torch._ops.OpOverload, Callable[..., Any]]:
        """Return the table of operator overloads and their translations."""

    def examples(self) -> Mapping[str, Example]:
        """Return, by name, random and edge calls of every overload, for the contract test."""


@dataclass(frozen=True, slots=True)
class Replacement:
    """A library's function and the exportable equal one that stands in while a model is captured.

    Arguments:
        targets: Every `package.module:attribute` (or `package.module:Class.method`) under which
            the library looks the function up.
        function: Takes the same arguments and returns the same values.
        examples: By name, makers of `(args, kwargs)` in float64, for the contract test.
        measure: Called in eager with the same arguments, before the capture, where `function`
            must choose something from real values (the number of steps of an ODE solver).
        tolerance: Largest difference from the original, relative with a floor of one.
    """

    targets: tuple[str, ...]
    function: Callable[..., Any]
    examples: Callable[[], Mapping[str, tuple[tuple[Any, ...], Mapping[str, Any]]]]
    measure: Callable[..., Any] | None = None
    tolerance: float = 1e-9


class Adapter(Protocol):
    """A file of `adapters/`: how a third-party library's models become entries.

    `library` is the module that a user imports; it is imported only for models that come from it.
    """

    library: str

    def detects(self, model: object) -> bool:
        """Return whether the object is of this library."""

    def entries(self, model: Any) -> Sequence[Entry]:
        """Return the entries of the library's model."""

    def as_module(self, model: Any) -> nn.Module:
        """Return a detected model as a torch module: itself, or a module around it."""

    def replacements(self) -> Sequence[Replacement]:
        """Return the library's functions that are replaced while a model of it is captured."""

    def examples(self) -> Mapping[str, Callable[[], nn.Module]]:
        """Return makers of small models by name, for the contract test."""

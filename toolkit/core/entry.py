"""Entries: the named graphs of a model that get exported, with typed and named inputs."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from toolkit.core.errors import UsageError

Kind = Literal["data", "noise", "context", "token", "state"]
Law = Literal["normal", "uniform", "gumbel"]
Head = Literal["", "gaussian", "logistic_mixture"]
Order = Literal["raster", "time"]
Predicts = Literal["this", "next"]
Call = str | Callable[..., Any]

_SPEC = re.compile(
    r"^(?P<name>[A-Za-z_]\w*):(?P<dtype>\w+)\[(?P<dims>[^\]]*)\]"
    r"(?:\s+in\s+\[(?P<low>[^,\]]+),(?P<high>[^,\]]+)\])?$"
)
DEFAULT_SIZES = {"batch": (1, 8, 1024), "time": (1, 32, 1024)}


@dataclass(frozen=True, slots=True)
class Input:
    """One typed input of an entry.

    Arguments:
        name: Name of the graph input.
        value: Example tensor of shape `dims`, kept on the processor; `None` where only shape and
            dtype are known.
        dims: One item per axis: a name makes it dynamic, `None` fixes it at the example's size.
        kind: What the input is; `noise` is drawn by the caller.
        law: Distribution of noise.
        low: Smallest valid value; every draw of a check stays inside.
        high: Largest valid value.
        dtype: Filled from `value`; needed where there is none.
        shape: Filled from `value`; needed where there is none.
        shared: Whether it belongs to all samples. Filled in: a scalar does, and in an entry what
            has no axis named `batch` beside an input that has one.
    """

    name: str
    value: Any = None
    dims: tuple[str | None, ...] = ()
    kind: Kind = "data"
    law: Law = "normal"
    low: float | None = None
    high: float | None = None
    dtype: str = ""
    shape: tuple[int, ...] = ()
    shared: bool = False

    def __post_init__(self) -> None:
        if self.value is not None:
            self._check_value()
            if self.value.is_cuda:
                object.__setattr__(self, "value", self.value.cpu())
            object.__setattr__(self, "dtype", str(self.value.dtype).removeprefix("torch."))
            object.__setattr__(self, "shape", tuple(int(size) for size in self.value.shape))
        if not self.dims:
            object.__setattr__(self, "dims", (None,) * len(self.shape))
        if len(self.dims) != len(self.shape):
            raise UsageError(
                f"input {self.name!r} names {len(self.dims)} dimensions but has {len(self.shape)}",
                where=f"shape {list(self.shape)}, dims {list(self.dims)}",
                next_step="give one name or None per axis",
            )
        if not self.dims:
            object.__setattr__(self, "shared", True)
        self._check_domain()

    def _check_value(self) -> None:
        import torch

        if not isinstance(self.value, torch.Tensor):
            raise UsageError(
                f"the example of the input {self.name!r} is no tensor",
                where=f"value is of type {type(self.value).__name__}",
                next_step="give a torch tensor: torch.as_tensor(value)",
            )

    def _check_domain(self) -> None:
        bounds = [bound for bound in (self.low, self.high) if bound is not None]
        real = self.dtype.startswith(("float", "bfloat"))
        fits = all(math.isfinite(b) and (real or b == int(b)) for b in bounds)
        if not fits or bounds != sorted(bounds):
            raise UsageError(
                f"input {self.name!r} cannot run from {self.low} to {self.high}",
                where=f"element type {self.dtype or 'unknown'}",
                next_step="give finite bounds, the smaller first; whole ones for integers; "
                "none where it is unbounded",
            )

    @property
    def batch_axis(self) -> int:
        """Axis of the batch: the one named `batch`, else the first."""
        return self.dims.index("batch") if "batch" in self.dims else 0

    def batched(self, count: int) -> tuple[int, ...]:
        """Return the example's shape with another batch size, if it has one."""
        if self.shared:
            return self.shape
        axis = self.batch_axis
        return (*self.shape[:axis], count, *self.shape[axis + 1 :])

    @classmethod
    def parse(cls, spec: str) -> Input:
        """Read `name:dtype[batch,8]`; a word is a dynamic dimension, a number a fixed one.

        A domain may follow: `x:float32[batch,8] in [0,1]`; an infinite bound is none.

        Raises:
            UsageError: The text is not of that form.
        """
        match = _SPEC.match(spec.strip())
        if match is None:
            raise UsageError(
                f"cannot read the input {spec!r}", next_step="write it like 'x:float32[batch,8]'"
            )
        words = [word.strip() for word in match["dims"].split(",") if word.strip()]
        for word in words:
            if not (word.isidentifier() or word.isdecimal()):
                raise UsageError(
                    f"{word!r} is neither a dimension's name nor a size",
                    where=spec,
                    next_step="write it like 'x:float32[batch,8]'",
                )
        dims = tuple(None if word.isdecimal() else word for word in words)
        shape = tuple(
            int(word) if word.isdecimal() else DEFAULT_SIZES.get(word, (1, 8, 64))[1]
            for word in words
        )
        low, high = (_bound(match[side], spec) for side in ("low", "high"))
        return cls(match["name"], dims=dims, dtype=match["dtype"], shape=shape, low=low, high=high)


def _bound(text: str | None, spec: str) -> float | None:
    """Return a bound of a domain: an integer where it is written as one; nothing if infinite."""
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError as error:
        raise UsageError(
            f"cannot read the bound {text.strip()!r}",
            where=spec,
            next_step="write it like 'x:float32[batch,8] in [0,1]'",
        ) from error
    if math.isinf(value):
        return None
    return int(value) if text.strip().lstrip("+-").isdigit() else value


@dataclass(frozen=True, slots=True)
class Entry:
    """One named graph of a model.

    Arguments:
        name: Name of the entry and of its folder.
        call: A method's name, or a callable `(model, *tensors)` that returns a tensor or a tuple.
        inputs: The inputs, in the call's order.
        outputs: Names of the outputs, in the call's order; a dict result names its own.
        reference: The plain form of `call`, where `call` is a faster equal one; the oracle runs it.
        units: Unit of each output's error (`nats`, `accuracy`, `psnr`, `index`, else `absolute`).
        ranges: Per dynamic dimension: minimum, typical, maximum and, optionally, a multiple.
        family: Family of a model that has no attribute `family` itself (`flow`).
    """

    name: str
    call: Call = "forward"
    inputs: Sequence[Input] = ()
    outputs: Sequence[str] = ()
    reference: Call | None = None
    units: Mapping[str, str] = field(default_factory=dict)
    ranges: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    family: str = ""

    def __post_init__(self) -> None:
        named = any("batch" in item.dims for item in self.inputs)
        marked = (replace(i, shared=named and "batch" not in i.dims) for i in self.inputs)
        object.__setattr__(self, "inputs", tuple(marked))

    def range_of(self, dim: str) -> tuple[int, int, int, int]:
        """Return minimum, typical, maximum and multiple of a dynamic dimension."""
        given = tuple(self.ranges.get(dim) or DEFAULT_SIZES.get(dim, (1, 8, 1024)))
        low, typical, high, multiple = (*given, 1)[:4]
        return low, typical, high, multiple


@dataclass(frozen=True, slots=True)
class Autoregressive:
    """How a parallel causal network becomes a sampler.

    Three entries come of it: `<name>.generate` (noise in, categories out, one graph),
    `<name>.step` (one position, states in and out; for `order="time"`) and `<name>.logits`
    (the parallel network). What is sampled has the input's layout where each position is one
    number, so that `embed` of it is the network's input.

    With `head`, real numbers are sampled and not categories, and the network gives their law's
    parameters along `levels_axis`. Samples have the input's layout. For D numbers a position:

    - `gaussian`: D means, then D logarithms of standard deviations; noise is standard normal,
      `(positions, batch, D)`.
    - `logistic_mixture` of K components, continuous (round or clip in `embed`): K logits, then
      K x D means, then K x D logarithms of scales; noise is standard Gumbel,
      `(positions, batch, K + 2 D)`: for the choice of the component, and in pairs whose
      differences are logistic.

    Arguments:
        name: Name of the entries.
        call: `x -> logits`, causal along `order`.
        input: The network's input, with its example; along `order="time"` the example has the
            greatest length, and the axis is called `time` in its `dims`.
        order: `raster` (rows of a picture) or `time`.
        levels: Number of categories; with `head`, filled in: the number of parameters.
        levels_axis: Axis of the logits that holds the categories, or the parameters.
        embed: Sampled category to the value that is fed back; `None` feeds the category itself.
            With `head`, sampled numbers in the layout of a position, to as many.
        predicts: `this`: logits at i are for x_i; `next`: for x_{i+1}.
        start: Category, or number, before the first position, where the logits are for the next
            one.
        channel_order: Order in which the colours of a pixel depend on each other; each colour is
            then a position, and the logits have the input's layout beside `levels_axis`.
        context: Conditioning inputs.
        prefix: Whether a given beginning is an input: `prefix`, int64 `(positions, batch)`, with
            the given categories, and -1 where one is drawn. With `head`, numbers
            `(positions, batch, D)`, and NaN where they are drawn.
        controls: Whether `temperature`, `top_k` and `top_p`, `(batch,)` each, are inputs; with
            `head`, `temperature` alone, a factor of the scales.
        head: Law of continuous outputs, instead of `levels`.
        components: Components of a mixture.

    References:
        PixelCNN++: Improving the PixelCNN with Discretized Logistic Mixture Likelihood and Other
        Modifications, 2017, arXiv 1701.05517.
    """

    name: str
    call: Call
    input: Input
    order: Order = "time"
    levels: int = 256
    levels_axis: int = 1
    embed: Callable[[Any], Any] | None = None
    predicts: Predicts = "this"
    start: float = 0
    channel_order: tuple[int, ...] | None = None
    context: Sequence[Input] = ()
    prefix: bool = False
    controls: bool = False
    head: Head = ""
    components: int = 10

    def __post_init__(self) -> None:
        for option, words in (("order", get_args(Order)), ("predicts", get_args(Predicts))):
            if (word := getattr(self, option)) not in words:
                raise UsageError(
                    f"{option} cannot be {word!r}",
                    where=f"Autoregressive({self.name!r}, …)",
                    next_step=" or ".join(words),
                )
        if self.head:
            object.__setattr__(self, "levels", _parameters(self))
        if self.channel_order is not None:
            _check_colours(self, self.channel_order)

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the entries that come of it."""
        return tuple(f"{self.name}.{part}" for part in ("generate", "step", "logits"))

    @property
    def position_axes(self) -> tuple[int, ...]:
        """Axes of the input that hold positions, in raster order.

        Raises:
            UsageError: Which axis is time cannot be told.
        """
        rank = len(self.input.shape)
        if self.order == "raster":
            return (rank - 2, rank - 1)
        if "time" in self.input.dims:
            return (self.input.dims.index("time"),)
        if rank == 2:
            return (1,)
        raise UsageError(
            f"no axis of the input {self.input.name!r} is called time",
            where=f"Autoregressive({self.name!r}, …), dims {list(self.input.dims)}",
            next_step="name it: dims=('batch', None, 'time')",
        )

    @property
    def numbers(self) -> int:
        """How many numbers of the input one position holds."""
        axes = {*self.position_axes, self.input.batch_axis}
        return math.prod(size for axis, size in enumerate(self.input.shape) if axis not in axes)

    @property
    def noises(self) -> int:
        """How much noise one position takes."""
        if not self.head:
            return self.levels
        return self.numbers + (self.components + self.numbers) * (self.head != "gaussian")

    @property
    def law(self) -> Law:
        """Distribution of the noise."""
        return "normal" if self.head == "gaussian" else "gumbel"

    @property
    def like_input(self) -> bool:
        """Whether samples have the input's layout; else they are `(batch, positions…)`."""
        return bool(self.head or self.channel_order) or self.numbers == 1

    @property
    def colours(self) -> int:
        """How many categories one pixel holds."""
        return len(self.channel_order or (0,))


def _check_colours(sampler: Autoregressive, order: Sequence[int]) -> None:
    """Check that every colour of a picture is named once.

    Raises:
        UsageError: It is not.
    """
    if sampler.order != "raster" or sorted(order) != list(range(sampler.numbers)):
        raise UsageError(
            f"channel_order {list(order)} does not name every colour once",
            where=f"Autoregressive({sampler.name!r}, …), order {sampler.order!r}, "
            f"{sampler.numbers} numbers a position",
            next_step="give (0, 1, 2) for pictures (batch, 3, height, width), order 'raster'",
        )


def _parameters(sampler: Autoregressive) -> int:
    """Return how many parameters a continuous law has at one position.

    Raises:
        UsageError: There is no such law.
    """
    if sampler.head == "gaussian":
        return 2 * sampler.numbers
    if sampler.head == "logistic_mixture":
        return sampler.components * (1 + 2 * sampler.numbers)
    raise UsageError(
        f"no law is called {sampler.head!r}",
        where=f"Autoregressive({sampler.name!r}, …)",
        next_step="gaussian, logistic_mixture, or levels for categories",
    )

"""The splines of nflows, normflows, zuko and pyro, replaced by the branch-free operators.

Inside the interval, at its ends and outside they give the library's values; where a library raises
for inputs outside of the domain, a replacement takes them to the nearest end instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from toolkit.core.errors import UsageError
from toolkit.core.protocols import Replacement
from toolkit.nn.operators import OPERATORS

Pair = tuple[Tensor, Tensor]
Call = tuple[tuple[Any, ...], Mapping[str, Any]]

LEAST = 1e-3
RATIONAL_QUADRATIC = OPERATORS["RationalQuadraticSpline"]
RATIONAL_LINEAR = OPERATORS["RationalLinearSpline"]
PIECEWISE_LINEAR = OPERATORS["PiecewiseLinearSpline"]
PIECEWISE_QUADRATIC = OPERATORS["PiecewiseQuadraticSpline"]
PIECEWISE_CUBIC = OPERATORS["PiecewiseCubicSpline"]


def of_nflows() -> Sequence[Replacement]:
    """Return the replacements of nflows' splines of every kind."""
    home, user = "nflows.transforms.splines", "nflows.transforms.autoregressive"

    def targets(file: str, name: str) -> tuple[str, ...]:
        places = [home, f"{home}.{file}"]
        if name in _IMPORTED_BY_AUTOREGRESSIVE:
            places.append(user)
        return tuple(f"{place}:{name}" for place in places)

    kinds: list[tuple[str, Callable[..., Pair], Callable[..., Pair], tuple[int, ...]]] = [
        ("linear", _linear, _unconstrained_linear, (0,)),
        ("quadratic", _quadratic, _unconstrained_quadratic, (0, 1)),
        ("rational_quadratic", _rational_quadratic, _unconstrained_rational_quadratic, (0, 0, 1)),
    ]
    found = []
    for file, bounded, unbounded, extra in kinds:
        inside = tuple(BINS + count for count in extra)
        padded = tuple(BINS if count == 0 else BINS - 1 for count in extra)
        found += [
            Replacement(targets(file, f"{file}_spline"), bounded, _calls(inside, 0.0, 1.0)),
            Replacement(
                targets(file, f"unconstrained_{file}_spline"), unbounded, _calls(padded, -1.0, 1.0)
            ),
        ]
    return [
        *found,
        Replacement(targets("cubic", "cubic_spline"), _cubic, _cubic_calls(0.0)),
        Replacement(
            targets("cubic", "unconstrained_cubic_spline"), _unconstrained_cubic, _cubic_calls(-1.0)
        ),
    ]


def of_normflows() -> Sequence[Replacement]:
    """Return the replacements of normflows' rational-quadratic splines."""
    home = "normflows.utils.splines"
    circular = {"tails": "circular", "tail_bound": 2.0}
    by_feature = {"tails": ["linear", "circular"], "tail_bound": torch.tensor([2.0, math.pi])}

    def unconstrained() -> Mapping[str, Call]:
        return {
            **_calls((BINS, BINS, BINS - 1), -1.0, 1.0)(),
            **_named("circular", _calls((BINS, BINS, BINS), -2.0, 2.0, **circular)()),
            **_named("mixed", _calls((BINS, BINS, BINS + 1), -2.0, 2.0, **by_feature)()),
        }

    return [
        Replacement(
            (f"{home}:rational_quadratic_spline",),
            _rational_quadratic,
            _calls((BINS, BINS, BINS + 1), 0.0, 1.0),
        ),
        Replacement(
            (f"{home}:unconstrained_rational_quadratic_spline",),
            _unconstrained_rational_quadratic,
            unconstrained,
        ),
    ]


def of_pyro() -> Sequence[Replacement]:
    """Return the replacement of pyro's rational splines of both orders.

    pyro looks a value up 1e-6 beyond each knot; within that distance of a knot the results differ
    by as little.
    """

    def examples() -> Mapping[str, Call]:
        def made(order: str) -> dict[str, Call]:
            calls = _calls((BINS, BINS, BINS - 1, BINS), -3.0, 3.0)()
            return {
                f"{order}, {name}": ((x, w.softmax(-1), h.softmax(-1), F.softplus(d)), rest)
                if order == "quadratic"
                else ((x, w.softmax(-1), h.softmax(-1), F.softplus(d), m.sigmoid()), rest)
                for name, ((x, w, h, d, m), rest) in calls.items()
            }

        return {**made("linear"), **made("quadratic")}

    target = "pyro.distributions.transforms.spline:_monotonic_rational_spline"
    return [Replacement((target,), _pyro, examples)]


def of_zuko() -> Sequence[Replacement]:
    """Return the replacements of zuko's spline, which keeps its raw parameters instead of knots."""
    home = "zuko.transforms:MonotonicRQSTransform"

    def built() -> dict[str, tuple[Any, Tensor]]:
        from zuko.transforms import MonotonicRQSTransform

        found = {}
        for bound in (5.0, math.pi):
            for name, ((x, *raw), rest) in _calls((BINS, BINS, BINS - 1), -bound, bound)().items():
                made = MonotonicRQSTransform(*raw)
                _zuko_init(made, raw[0], raw[1], raw[2], bound)
                found[f"{name}, {bound:.3}, {bool(rest)}"] = made, x
        return found

    def calls() -> Mapping[str, Call]:
        return {name: ((made, x), {}) for name, (made, x) in built().items()}

    def starts() -> Mapping[str, Call]:
        from zuko.transforms import MonotonicRQSTransform

        (_, *raw), _ = _calls((BINS, BINS, BINS - 1), -1.0, 1.0)()["forward"]
        return {"raw": ((MonotonicRQSTransform(*raw), *raw), {})}

    return [
        Replacement((f"{home}.__init__",), _zuko_init, starts),
        Replacement((f"{home}._call",), _zuko_call, calls),
        Replacement((f"{home}._inverse",), _zuko_inverse, calls),
        Replacement((f"{home}.call_and_ladj",), _zuko_call_and_ladj, calls),
    ]


BINS = 8
_IMPORTED_BY_AUTOREGRESSIVE = {
    "linear_spline",
    "quadratic_spline",
    "unconstrained_quadratic_spline",
    "cubic_spline",
    "rational_quadratic_spline",
    "unconstrained_rational_quadratic_spline",
}


def _calls(
    sizes: Sequence[int], low: float, high: float, **arguments: Any
) -> Callable[[], Mapping[str, Call]]:
    """Return a maker of calls: values between the ends, at them, at both zeros; any beyond."""

    def make() -> Mapping[str, Call]:
        draws = torch.Generator().manual_seed(0)
        tables = [torch.randn(40, 2, size, generator=draws, dtype=torch.float64) for size in sizes]
        share = torch.rand(40, 2, generator=draws, dtype=torch.float64)
        within = low + (high - low) * share
        edges = within.clone()
        edges[0] = torch.tensor([low, high])
        edges[1] = torch.tensor([0.0, -0.0])
        # Of equal bins, every edge.
        edges[2:11, 0] = torch.linspace(low, high, BINS + 1, dtype=torch.float64)
        inputs = {"": within, "edges": edges}
        if low < 0:
            inputs["beyond"] = 3 * within
        return {
            f"{name} {'inverse' if inverse else 'forward'}".strip(): (
                (x, *tables),
                {**arguments, "inverse": inverse},
            )
            for name, x in inputs.items()
            for inverse in (False, True)
        }

    return make


def _cubic_calls(low: float) -> Callable[[], Mapping[str, Call]]:
    """Return a maker of calls that also meet bins of almost no cubic term, which nflows drops."""

    def make() -> Mapping[str, Call]:
        found = _calls((BINS, BINS, 1, 1), low, 1.0)()
        (x, widths, heights, _, last), _ = found["forward"]
        rise = (LEAST + (1 - BINS * LEAST) * heights.softmax(-1)) * BINS
        knot = torch.minimum(2 * rise[..., :2].amin(-1), rise[..., :2].mean(-1)) / rise[..., 0]
        # The least derivatives' sum that is not twice the slope: a coefficient of about 4e-4.
        first = torch.logit((2 - knot) / 3 + 2e-6).unsqueeze(-1)
        within = low + (x - low) * rise.amin() / BINS
        tables = torch.zeros_like(widths), heights, first, last
        return {
            **found,
            "nearly quadratic": ((within, *tables), {"inverse": False}),
            "nearly quadratic inverse": ((within, *tables), {"inverse": True}),
        }

    return make


def _named(prefix: str, calls: Mapping[str, Call]) -> dict[str, Call]:
    return {f"{prefix}, {name}": call for name, call in calls.items()}


def _rational_quadratic(
    inputs: Tensor,
    unnormalized_widths: Tensor,
    unnormalized_heights: Tensor,
    unnormalized_derivatives: Tensor,
    inverse: bool = False,  # noqa: FBT001, FBT002  (the library's own signature)
    left: float = 0.0,
    right: float = 1.0,
    bottom: float = 0.0,
    top: float = 1.0,
    min_bin_width: float = LEAST,
    min_bin_height: float = LEAST,
    min_derivative: float = LEAST,
) -> Pair:
    pair: Pair = RATIONAL_QUADRATIC(
        inputs,
        unnormalized_widths,
        unnormalized_heights,
        unnormalized_derivatives,
        inverse=inverse,
        left=left,
        right=right,
        bottom=bottom,
        top=top,
        min_bin_width=min_bin_width,
        min_bin_height=min_bin_height,
        min_derivative=min_derivative,
        tails="none",
    )
    return pair


def _unconstrained_rational_quadratic(
    inputs: Tensor,
    unnormalized_widths: Tensor,
    unnormalized_heights: Tensor,
    unnormalized_derivatives: Tensor,
    inverse: bool = False,  # noqa: FBT001, FBT002  (the library's own signature)
    tails: str | Sequence[str] = "linear",
    tail_bound: float | Tensor = 1.0,
    min_bin_width: float = LEAST,
    min_bin_height: float = LEAST,
    min_derivative: float = LEAST,
) -> Pair:
    derivatives = unnormalized_derivatives
    if not isinstance(tails, str):
        derivatives = _mixed_ends(derivatives, tails, min_derivative)
    bound = 1.0 if isinstance(tail_bound, Tensor) else float(tail_bound)
    x = inputs / tail_bound if isinstance(tail_bound, Tensor) else inputs
    y, log_det = RATIONAL_QUADRATIC(
        x,
        unnormalized_widths,
        unnormalized_heights,
        derivatives,
        inverse=inverse,
        left=-bound,
        right=bound,
        bottom=-bound,
        top=bound,
        min_bin_width=min_bin_width,
        min_bin_height=min_bin_height,
        min_derivative=min_derivative,
        tails=tails if isinstance(tails, str) else "linear",
    )
    if isinstance(tail_bound, Tensor):
        y = torch.where(x.abs() <= 1, y * tail_bound, inputs)
    if not isinstance(tails, str):
        # Beyond the bound normflows leaves zeros here.
        y = torch.where(x.abs() <= bound, y, 0.0)
    return y, log_det


def _mixed_ends(derivatives: Tensor, tails: Sequence[str], least: float) -> Tensor:
    """Return derivatives at all knots, the ends by each feature's own kind of tail."""
    where = derivatives.device
    linear = torch.tensor([kind == "linear" for kind in tails], device=where)
    circular = torch.tensor([kind == "circular" for kind in tails], device=where)
    one = math.log(math.expm1(1 - least))
    first, last = derivatives[..., 0], derivatives[..., -1]
    ends = torch.where(linear, one, first), torch.where(linear, one, last)
    last = torch.where(circular, first, ends[1])
    return torch.cat([ends[0].unsqueeze(-1), derivatives[..., 1:-1], last.unsqueeze(-1)], dim=-1)


def _linear(
    inputs: Tensor,
    unnormalized_pdf: Tensor,
    inverse: bool = False,  # noqa: FBT001, FBT002  (the library's own signature)
    left: float = 0.0,
    right: float = 1.0,
    bottom: float = 0.0,
    top: float = 1.0,
) -> Pair:
    y, log_det = PIECEWISE_LINEAR(
        inputs,
        unnormalized_pdf,
        inverse=inverse,
        left=left,
        right=right,
        bottom=bottom,
        top=top,
        last_excess=NFLOWS_EXCESS,
    )
    return y, _without_box(log_det, (right - left) / (top - bottom), inverse=inverse)


NFLOWS_EXCESS = 1e-6


def _unconstrained_linear(
    inputs: Tensor,
    unnormalized_pdf: Tensor,
    inverse: bool = False,  # noqa: FBT001, FBT002  (the library's own signature)
    tail_bound: float = 1.0,
    tails: str = "linear",
) -> Pair:
    bound = float(tail_bound)
    pair: Pair = PIECEWISE_LINEAR(
        inputs,
        unnormalized_pdf,
        inverse=inverse,
        left=-bound,
        right=bound,
        bottom=-bound,
        top=bound,
        tails=_only_linear(tails),
        last_excess=NFLOWS_EXCESS,
    )
    return pair


def _quadratic(
    inputs: Tensor,
    unnormalized_widths: Tensor,
    unnormalized_heights: Tensor,
    inverse: bool = False,  # noqa: FBT001, FBT002  (the library's own signature)
    left: float = 0.0,
    right: float = 1.0,
    bottom: float = 0.0,
    top: float = 1.0,
    min_bin_width: float = LEAST,
    min_bin_height: float = LEAST,
) -> Pair:
    y, log_det = PIECEWISE_QUADRATIC(
        inputs,
        unnormalized_widths,
        unnormalized_heights,
        inverse=inverse,
        left=left,
        right=right,
        bottom=bottom,
        top=top,
        min_bin_width=min_bin_width,
        min_density=min_bin_height,
    )
    return y, _without_box(log_det, (right - left) / (top - bottom), inverse=inverse)


def _unconstrained_quadratic(
    inputs: Tensor,
    unnormalized_widths: Tensor,
    unnormalized_heights: Tensor,
    inverse: bool = False,  # noqa: FBT001, FBT002  (the library's own signature)
    tail_bound: float = 1.0,
    tails: str = "linear",
    min_bin_width: float = LEAST,
    min_bin_height: float = LEAST,
) -> Pair:
    bound = float(tail_bound)
    pair: Pair = PIECEWISE_QUADRATIC(
        inputs,
        unnormalized_widths,
        unnormalized_heights,
        inverse=inverse,
        left=-bound,
        right=bound,
        bottom=-bound,
        top=bound,
        min_bin_width=min_bin_width,
        min_density=min_bin_height,
        tails=_only_linear(tails),
    )
    return pair


def _cubic(
    inputs: Tensor,
    unnormalized_widths: Tensor,
    unnormalized_heights: Tensor,
    unnorm_derivatives_left: Tensor,
    unnorm_derivatives_right: Tensor,
    inverse: bool = False,  # noqa: FBT001, FBT002  (the library's own signature)
    left: float = 0.0,
    right: float = 1.0,
    bottom: float = 0.0,
    top: float = 1.0,
    min_bin_width: float = LEAST,
    min_bin_height: float = LEAST,
    eps: float = 1e-5,  # noqa: ARG001  (the library's own signature)
    quadratic_threshold: float = LEAST,
) -> Pair:
    y, log_det = PIECEWISE_CUBIC(
        inputs,
        unnormalized_widths,
        unnormalized_heights,
        torch.cat([unnorm_derivatives_left, unnorm_derivatives_right], dim=-1),
        inverse=inverse,
        left=left,
        right=right,
        bottom=bottom,
        top=top,
        min_bin_width=min_bin_width,
        min_bin_height=min_bin_height,
        least_cubic=quadratic_threshold,
    )
    return y, _without_box(log_det, (right - left) / (top - bottom), inverse=inverse)


def _unconstrained_cubic(
    inputs: Tensor,
    unnormalized_widths: Tensor,
    unnormalized_heights: Tensor,
    unnorm_derivatives_left: Tensor,
    unnorm_derivatives_right: Tensor,
    inverse: bool = False,  # noqa: FBT001, FBT002  (the library's own signature)
    tail_bound: float = 1.0,
    tails: str = "linear",
    min_bin_width: float = LEAST,
    min_bin_height: float = LEAST,
    eps: float = 1e-5,  # noqa: ARG001  (the library's own signature)
    quadratic_threshold: float = LEAST,
) -> Pair:
    bound = float(tail_bound)
    pair: Pair = PIECEWISE_CUBIC(
        inputs,
        unnormalized_widths,
        unnormalized_heights,
        torch.cat([unnorm_derivatives_left, unnorm_derivatives_right], dim=-1),
        inverse=inverse,
        left=-bound,
        right=bound,
        bottom=-bound,
        top=bound,
        min_bin_width=min_bin_width,
        min_bin_height=min_bin_height,
        least_cubic=quadratic_threshold,
        tails=_only_linear(tails),
    )
    return pair


def _only_linear(tails: str) -> str:
    if tails != "linear":
        raise UsageError(f"nflows has no {tails} tails", next_step="use linear ones")
    return tails


def _without_box(log_det: Tensor, ratio: float, *, inverse: bool) -> Tensor:
    """Return nflows' log-determinant, which leaves out the box' height over its width."""
    if ratio == 1:
        return log_det
    return log_det + (-math.log(ratio) if inverse else math.log(ratio))


def _pyro(
    inputs: Tensor,
    widths: Tensor,
    heights: Tensor,
    derivatives: Tensor,
    lambdas: Tensor | None = None,
    inverse: bool = False,  # noqa: FBT001, FBT002  (the library's own signature)
    bound: float = 3.0,
    min_bin_width: float = LEAST,
    min_bin_height: float = LEAST,
    min_derivative: float = LEAST,
    min_lambda: float = 0.025,
    eps: float = 1e-6,  # noqa: ARG001  (the library's own signature)
) -> Pair:
    # pyro's end derivative is 1 less the least one, and nothing is added to it.
    padded = F.pad(derivatives, (1, 1), value=1 - 2 * min_derivative)
    arguments = {
        "inverse": inverse,
        "left": -float(bound),
        "right": float(bound),
        "bottom": -float(bound),
        "top": float(bound),
        "min_bin_width": min_bin_width,
        "min_bin_height": min_bin_height,
        "min_derivative": min_derivative,
        "parameters": "given",
    }
    pair: Pair
    if lambdas is None:
        pair = RATIONAL_QUADRATIC(inputs, widths, heights, padded, **arguments)
    else:
        places = (1 - 2 * min_lambda) * lambdas + min_lambda
        pair = RATIONAL_LINEAR(inputs, widths, heights, padded, places, **arguments)
    return pair


def _zuko_init(
    self: Any,
    widths: Tensor,
    heights: Tensor,
    derivatives: Tensor,
    bound: float = 5.0,
    slope: float = LEAST,
    **kwargs: Any,
) -> None:
    torch.distributions.Transform.__init__(self, **kwargs)
    limit = math.log(slope)
    w = widths / (1 + abs(2 * widths / limit))
    h = heights / (1 + abs(2 * heights / limit))
    d = derivatives / (1 + abs(derivatives / limit))
    self.raw = w, h, d
    self.bound = float(bound)
    # What the library's own methods read; a capture that does not use it drops it.
    w, h = (F.pad(F.softmax(raw, dim=-1), (1, 0), value=0) for raw in (w, h))
    self.horizontal = bound * (2 * torch.cumsum(w, dim=-1) - 1)
    self.vertical = bound * (2 * torch.cumsum(h, dim=-1) - 1)
    self.derivatives = torch.exp(F.pad(d, (1, 1), value=0))


def _zuko(self: Any, x: Tensor, *, inverse: bool) -> Pair:
    pair: Pair = RATIONAL_QUADRATIC(
        x,
        *self.raw,
        inverse=inverse,
        left=-self.bound,
        right=self.bound,
        bottom=-self.bound,
        top=self.bound,
        min_bin_width=0.0,
        min_bin_height=0.0,
        min_derivative=0.0,
        parameters="exp",
    )
    return pair


def _zuko_call(self: Any, x: Tensor) -> Tensor:
    return _zuko(self, x, inverse=False)[0]


def _zuko_inverse(self: Any, y: Tensor) -> Tensor:
    return _zuko(self, y, inverse=True)[0]


def _zuko_call_and_ladj(self: Any, x: Tensor) -> Pair:
    return _zuko(self, x, inverse=False)

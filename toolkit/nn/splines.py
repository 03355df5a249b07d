"""Monotonic splines without branches.

Every root and quotient is of positive numbers, so neither the edges of a bin nor equal derivatives
give NaN; outside of the interval the spline is evaluated at its end and not selected.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from toolkit.core.errors import UsageError
from toolkit.nn import _bins, _cubic

TAILS = ("none", "linear", "circular")
PARAMETERS = ("softplus", "exp", "given")
_LEAST_RAW_DENSITY = 1e-3


def rational_quadratic(
    x: Tensor,
    widths: Tensor,
    heights: Tensor,
    derivatives: Tensor,
    *,
    inverse: bool = False,
    left: float = -1.0,
    right: float = 1.0,
    bottom: float = -1.0,
    top: float = 1.0,
    min_bin_width: float = 1e-3,
    min_bin_height: float = 1e-3,
    min_derivative: float = 1e-3,
    tails: str = "linear",
    parameters: str = "softplus",
) -> tuple[Tensor, Tensor]:
    """Transform by a monotonic rational-quadratic spline, or by its inverse.

    With `θ` the place in a bin, `s` its slope, `P = s·θ + d0·(1 − θ)` and
    `Q = s·(1 − θ) + d1·θ`, the spline climbs the share `θ·P / (θ·P + (1 − θ)·Q)` of the bin and has
    the derivative `s²·(θ·Q + (1 − θ)·P) / (θ·P + (1 − θ)·Q)²`: sums of positive numbers.

    Arguments:
        x: Values, `(…)`.
        widths: Raw bin widths, `(…, bins)`, their leading axes broadcast over those of `x`.
        heights: Raw bin heights, of the same shape.
        derivatives: Raw derivatives at the knots, `(…, bins + 1)`; `bins − 1` for linear tails,
            whose ends are 1; `bins` for circular ones, whose ends are equal.
        inverse: Whether to invert.
        left: Left end of the interval of `x`.
        right: Its right end.
        bottom: Lower end of the interval of the transformed values.
        top: Its upper end.
        min_bin_width: Smallest width as a share of the interval.
        min_bin_height: Smallest height as a share.
        min_derivative: Added to every derivative.
        tails: `none`: values outside are taken to the nearest end; `linear` and `circular`: they
            stay as they are, with a log-determinant of 0.
        parameters: How raw numbers become positive: `softplus` (softmax of widths and heights),
            `exp` (the same with the exponential of derivatives), `given` (they are already).

    Returns:
        The values and the log-determinant of every element, both of the broadcast shape.

    Raises:
        UsageError: Tails, parameters or a shape are not of those above.

    References:
        Neural Spline Flows, arXiv 1906.04032.
    """
    _check(tails, parameters)
    bins = widths.shape[-1]
    padded = _end_derivatives(derivatives, bins, tails, _raw_one(parameters, min_derivative))
    values, table, slopes = _bins.bins_first(x, torch.cat([widths, heights], dim=-1), padded)
    table = table.reshape(2, bins, *table.shape[1:])
    knots = _bins.knots_of(
        table if parameters == "given" else _bins.exponential(table, dim=1),
        start=(left, bottom),
        length=(right - left, top - bottom),
        least=(min_bin_width, min_bin_height),
    )
    inside = _bins.clamp(values, bottom, top) if inverse else _bins.clamp(values, left, right)
    reached = inside >= (knots[1, :-1] if inverse else knots[0, :-1])
    chosen = _bins.choose_ends(torch.cat([knots, slopes.unsqueeze(0)]), reached.to(x.dtype))
    x0, x1, y0, y1 = chosen[:4].chunk(4)
    d0, d1 = (_positive(chosen[4:], parameters) + _bins.constant(min_derivative, x)).chunk(2)
    width, height = x1 - x0, y1 - y0
    slope = height / width
    if inverse:
        theta, rest = _invert_bin(inside - y0, y1 - inside, slope, d0, d1)
    else:
        theta, rest = (inside - x0) / width, (x1 - inside) / width
    share, derivative = _rational_quadratic(theta, rest, slope, d0, d1)
    result = x0 + width * theta if inverse else y0 + height * share
    log_det = torch.log(derivative)
    if inverse:
        log_det = -log_det
    return _bins.with_tails(x, values, inside, result, log_det, tails)


def piecewise_linear(
    x: Tensor,
    densities: Tensor,
    *,
    inverse: bool = False,
    left: float = 0.0,
    right: float = 1.0,
    bottom: float = 0.0,
    top: float = 1.0,
    tails: str = "none",
    last_excess: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Transform by a piecewise-linear distribution function of equal bins, or by its inverse.

    Arguments:
        x: Values, `(…)`.
        densities: Logarithms of the bins' unnormalised shares, `(…, bins)`, their leading axes
            broadcast over those of `x`.
        inverse: Whether to invert.
        left: Left end of the interval of `x`.
        right: Its right end.
        bottom: Lower end of the interval of the transformed values.
        top: Its upper end.
        tails: `none`: values outside are taken to the nearest end; `linear`: they stay as they
            are, with a log-determinant of 0.
        last_excess: Added to the last bin's share by the inverse.

    Returns:
        The values and the log-determinant of every element, both of the broadcast shape.

    Raises:
        UsageError: Tails are not of those above.

    References:
        Neural Importance Sampling, arXiv 1808.03856.
    """
    _check(tails, "softplus")
    bins = densities.shape[-1]
    values, table = _bins.bins_first(x, densities)
    shares = _bins.exponential(table, dim=0)
    shares = shares / shares.sum(0, keepdim=True)
    below = _bins.product(_bins.summing(bins, x, strict=True), shares, 0)
    steps = _bins.column(range(bins), x, below.dim())
    inside = _bins.clamp(values, bottom, top) if inverse else _bins.clamp(values, left, right)
    start_x, start_y, width, height, stretch = _box(x, left, right, bottom, top)
    if inverse:
        place = (inside - start_y) / height
        reached = (place >= below).to(x.dtype)
    else:
        place = (inside - start_x) / width * bins
        reached = (place >= steps).to(x.dtype)
    mask = _bins.product(_bins.differences(bins, x), reached, 0)
    share = (mask * shares).sum(0, keepdim=True)
    start = (mask * below).sum(0, keepdim=True)
    number = (mask * steps).sum(0, keepdim=True)
    if inverse:
        share = share + mask[-1:] * _bins.constant(last_excess, x)
        result = ((number + (place - start) / share) / bins).clamp(0, 1)
        result = result * width + start_x
        log_det = -torch.log(share * bins * stretch)
    else:
        result = (start + (place - number) * share).clamp(0, 1)
        result = result * height + start_y
        log_det = torch.log(share * bins * stretch)
    return _bins.with_tails(x, values, inside, result, log_det, tails)


def rational_linear(
    x: Tensor,
    widths: Tensor,
    heights: Tensor,
    derivatives: Tensor,
    places: Tensor,
    *,
    inverse: bool = False,
    left: float = -1.0,
    right: float = 1.0,
    bottom: float = -1.0,
    top: float = 1.0,
    min_bin_width: float = 1e-3,
    min_bin_height: float = 1e-3,
    min_derivative: float = 1e-3,
    tails: str = "linear",
    parameters: str = "given",
) -> tuple[Tensor, Tensor]:
    """Transform by a monotonic rational-linear spline, or by its inverse.

    Each bin has two pieces, which meet at the share `places` of its width. A piece from `(p, q)`
    with end weights `(u, v)` climbs the share `v·t / (u·(1 − t) + v·t)` of its height.

    Arguments:
        x: Values, `(…)`.
        widths: Raw bin widths, `(…, bins)`, their leading axes broadcast over those of `x`.
        heights: Raw bin heights, of the same shape.
        derivatives: Raw derivatives at the knots, as for `rational_quadratic`.
        places: Where the pieces of each bin meet, between 0 and 1, `(…, bins)`.
        inverse: Whether to invert.
        left: Left end of the interval of `x`.
        right: Its right end.
        bottom: Lower end of the interval of the transformed values.
        top: Its upper end.
        min_bin_width: Smallest width as a share of the interval.
        min_bin_height: Smallest height as a share.
        min_derivative: Added to every derivative.
        tails: As for `rational_quadratic`.
        parameters: As for `rational_quadratic`.

    Returns:
        The values and the log-determinant of every element, both of the broadcast shape.

    Raises:
        UsageError: Tails, parameters or a shape are not of those known.

    References:
        Invertible Generative Modeling using Linear Rational Splines, arXiv 2001.05168.
    """
    _check(tails, parameters)
    bins = widths.shape[-1]
    padded = _end_derivatives(derivatives, bins, tails, _raw_one(parameters, min_derivative))
    values, table, slopes, middles = _bins.bins_first(
        x, torch.cat([widths, heights], dim=-1), padded, F.pad(places, (0, 1))
    )
    table = table.reshape(2, bins, *table.shape[1:])
    knots = _bins.knots_of(
        table if parameters == "given" else _bins.exponential(table, dim=1),
        start=(left, bottom),
        length=(right - left, top - bottom),
        least=(min_bin_width, min_bin_height),
    )
    inside = _bins.clamp(values, bottom, top) if inverse else _bins.clamp(values, left, right)
    reached = inside >= (knots[1, :-1] if inverse else knots[0, :-1])
    rows = torch.cat([knots, slopes.unsqueeze(0), middles.unsqueeze(0)])
    chosen = _bins.choose_ends(rows, reached.to(x.dtype))
    x0, x1, y0, y1 = chosen[:4].chunk(4)
    d0, d1 = (_positive(chosen[4:6], parameters) + _bins.constant(min_derivative, x)).chunk(2)
    place, width, height = chosen[6:7], x1 - x0, y1 - y0
    last = torch.sqrt(d0 / d1)
    middle = (place * d0 + (1 - place) * last * d1) * width / height
    lower = height * place * last / ((1 - place) + place * last)
    here = inside - (y0 if inverse else x0)
    upper_piece = here > (lower if inverse else place * width)
    one = torch.ones_like(middle)
    w0, w1 = torch.where(upper_piece, middle, one), torch.where(upper_piece, last, middle)
    rise, span = (
        torch.where(upper_piece, height - lower, lower),
        torch.where(upper_piece, 1 - place, place) * width,
    )
    foot, start = torch.where(upper_piece, lower, 0.0), torch.where(upper_piece, place * width, 0.0)
    if inverse:
        before, after = (here - foot) * w0, (rise - (here - foot)) * w1
        place_in = before / (before + after)
    else:
        place_in = (here - start) / span
    rest = 1 - place_in
    total = w0 * rest + w1 * place_in
    log_det = torch.log(w0 * w1 * rise / span / (total * total))
    if inverse:
        return _bins.with_tails(x, values, inside, x0 + start + span * place_in, -log_det, tails)
    result = y0 + foot + rise * (w1 * place_in / total)
    return _bins.with_tails(x, values, inside, result, log_det, tails)


def piecewise_quadratic(
    x: Tensor,
    widths: Tensor,
    densities: Tensor,
    *,
    inverse: bool = False,
    left: float = 0.0,
    right: float = 1.0,
    bottom: float = 0.0,
    top: float = 1.0,
    min_bin_width: float = 1e-3,
    min_density: float = 1e-3,
    tails: str = "none",
) -> tuple[Tensor, Tensor]:
    """Transform by the distribution function of a piecewise-linear density, or by its inverse.

    Arguments:
        x: Values, `(…)`.
        widths: Raw bin widths, `(…, bins)`, their leading axes broadcast over those of `x`.
        densities: Raw densities at the knots, `(…, bins + 1)`; with `bins − 1` of them the density
            is about 1 at both ends.
        inverse: Whether to invert.
        left: Left end of the interval of `x`.
        right: Its right end.
        bottom: Lower end of the interval of the transformed values.
        top: Its upper end.
        min_bin_width: Smallest width as a share of the interval.
        min_density: Smallest density, that of the uniform distribution being 1.
        tails: `none`: values outside are taken to the nearest end; `linear`: they stay as they
            are, with a log-determinant of 0.

    Returns:
        The values and the log-determinant of every element, both of the broadcast shape.

    Raises:
        UsageError: Tails are not of those above.

    References:
        Neural Importance Sampling, arXiv 1808.03856.
    """
    _check(tails, "softplus")
    bins = widths.shape[-1]
    values, table, raw = _bins.bins_first(x, widths, densities)
    shares = _bins.exponential(table, dim=0)
    free = _bins.constant(1 - bins * min_bin_width, x)
    shares = _bins.constant(min_bin_width, x) + free * (shares / shares.sum(0, keepdim=True))
    bare = _positive(raw, "softplus") + _bins.constant(_LEAST_RAW_DENSITY, x)
    if bare.shape[0] == bins - 1:
        bare = _with_ends(bare, shares)
    area = (_means(bare) * shares).sum(0, keepdim=True)
    density = _bins.constant(min_density, x) + _bins.constant(1 - min_density, x) * (bare / area)
    lengths = torch.stack([shares, _means(density) * shares])
    knots = _bins.product(_bins.summing(bins, x), lengths, 1)
    inside = _bins.clamp(values, bottom, top) if inverse else _bins.clamp(values, left, right)
    start_x, start_y, span_x, span_y, stretch = _box(x, left, right, bottom, top)
    place = (inside - start_y) / span_y if inverse else (inside - start_x) / span_x
    reached = place >= (knots[1, :-1] if inverse else knots[0, :-1])
    chosen = _bins.choose_ends(torch.cat([knots, density.unsqueeze(0)]), reached.to(x.dtype))
    x0, x1, y0, _, d0, d1 = chosen.chunk(6)
    width = x1 - x0
    if inverse:
        # theta·(d0 + (d1 − d0)·theta / 2) = climbed
        climbed = (place - y0) / width
        root = torch.sqrt((d0 * d0 + 2 * (d1 - d0) * climbed).clamp(min=0))
        theta = 2 * climbed / (d0 + root)
        result = (x0 + width * theta).clamp(0, 1) * span_x + start_x
    else:
        theta = (place - x0) / width
        climbed = theta * (d0 + 0.5 * (d1 - d0) * theta)
        result = (y0 + width * climbed).clamp(0, 1) * span_y + start_y
    derivative = (d0 * (1 - theta) + d1 * theta) * stretch
    log_det = -torch.log(derivative) if inverse else torch.log(derivative)
    return _bins.with_tails(x, values, inside, result, log_det, tails)


def piecewise_cubic(
    x: Tensor,
    widths: Tensor,
    heights: Tensor,
    ends: Tensor,
    *,
    inverse: bool = False,
    left: float = 0.0,
    right: float = 1.0,
    bottom: float = 0.0,
    top: float = 1.0,
    min_bin_width: float = 1e-3,
    min_bin_height: float = 1e-3,
    least_cubic: float = 0.0,
    tails: str = "none",
) -> tuple[Tensor, Tensor]:
    """Transform by a monotonic cubic spline, or by its inverse.

    The derivative at an inner knot is that of Steffen, no more than twice the slope of either bin;
    those at the ends are up to three times their bin's slope.

    Arguments:
        x: Values, `(…)`.
        widths: Raw bin widths, `(…, bins)`, their leading axes broadcast over those of `x`.
        heights: Raw bin heights, of the same shape.
        ends: Raw derivatives at both ends, `(…, 2)`.
        inverse: Whether to invert.
        left: Left end of the interval of `x`.
        right: Its right end.
        bottom: Lower end of the interval of the transformed values.
        top: Its upper end.
        min_bin_width: Smallest width as a share of the interval.
        min_bin_height: Smallest height as a share.
        least_cubic: The inverse solves a bin as a quadratic where its cubic coefficient, of the
            spline of the unit square, is smaller.
        tails: `none`: values outside are taken to the nearest end; `linear`: they stay as they
            are, with a log-determinant of 0.

    Returns:
        The values and the log-determinant of every element, both of the broadcast shape.

    Raises:
        UsageError: Tails are not of those above.

    References:
        Cubic-Spline Flows, arXiv 1906.02145.
        Steffen, A simple method for monotonic interpolation in one dimension, 1990.
    """
    _check(tails, "softplus")
    bins = widths.shape[-1]
    values, table, raw = _bins.bins_first(x, torch.cat([widths, heights], dim=-1), ends)
    table = table.reshape(2, bins, *table.shape[1:])
    lengths = _shares(table, (min_bin_width, min_bin_height))
    starts = _bins.product(_bins.summing(bins, x, strict=True), lengths, 1)
    slopes = lengths[1] / lengths[0]
    inner = _steffen(lengths[0], slopes)
    outer = 3 * torch.sigmoid(raw) * torch.stack([slopes[0], slopes[-1]])
    knots = torch.cat([outer[:1], inner, outer[1:]])
    inside = _bins.clamp(values, bottom, top) if inverse else _bins.clamp(values, left, right)
    start_x, start_y, span_x, span_y, stretch = _box(x, left, right, bottom, top)
    place = (inside - start_y) / span_y if inverse else (inside - start_x) / span_x
    reached = (place >= starts[1 if inverse else 0]).to(x.dtype)
    mask = _bins.product(_bins.differences(bins, x), reached, 0)
    stops = torch.cat([starts[:, 1:], torch.ones_like(starts[:, :1])], dim=1)
    rows = torch.cat([starts, stops, lengths, torch.stack([knots[:-1], knots[1:]])])
    chosen = (mask * rows).sum(1, keepdim=True).flatten(0, 1)
    x0, y0, x1, y1, width, height, d0, d1 = chosen.chunk(8)
    slope = height / width
    # Of the bin as the unit square.
    first, last = d0 / slope, d1 / slope
    cubic, square = first + last - 2, 3 - 2 * first - last
    if inverse:
        small = (cubic * slope).abs() < _bins.constant(least_cubic, x) * width * width
        solved = torch.where(small, 0.0, cubic)
        theta = _cubic.root(solved, square, first, _share_of(place, y0, y1, height))
        theta = torch.where(small, theta, theta.clamp(0, 1))
        result = (x0 + width * theta) * span_x + start_x
    else:
        theta = _share_of(place, x0, x1, width)
        climbed = theta * (first + theta * (square + cubic * theta))
        result = (y0 + height * climbed) * span_y + start_y
    rest = 1 - theta
    risen = first * rest * rest + 2 * (3 - first - last) * theta * rest + last * theta * theta
    log_det = torch.log(_cubic.above_zero(risen * slope) * stretch)
    return _bins.with_tails(x, values, inside, result, -log_det if inverse else log_det, tails)


def _share_of(place: Tensor, start: Tensor, stop: Tensor, length: Tensor) -> Tensor:
    """Return which share of its bin lies before a place, from the nearer end."""
    before, after = (place - start) / length, (stop - place) / length
    return torch.where(before < after, before, 1 - after).clamp(0, 1)


def _shares(table: Tensor, least: tuple[float, float]) -> Tensor:
    """Return bin lengths, `(2, bins, …)`, that add to 1 and are at least so much."""
    bins, ones = table.shape[1], (1,) * (table.dim() - 1)
    raw = _bins.exponential(table, dim=1)
    free = _bins.constant([1 - bins * one for one in least], table).reshape(2, *ones)
    return _bins.constant(list(least), table).reshape(2, *ones) + raw * (
        free / raw.sum(1, keepdim=True)
    )


def _steffen(widths: Tensor, slopes: Tensor) -> Tensor:
    """Return the derivatives at the inner knots, `(bins − 1, …)`."""
    before, after = widths[:-1], widths[1:]
    parabola = (after * slopes[:-1] + before * slopes[1:]) / (before + after)
    return torch.minimum(2 * torch.minimum(slopes[:-1], slopes[1:]), parabola)


def _means(knots: Tensor) -> Tensor:
    return 0.5 * (knots[:-1] + knots[1:])


def _with_ends(densities: Tensor, widths: Tensor) -> Tensor:
    """Return densities with both ends, which are near 1 once the area is divided by.

    A quarter of the outer bins is what the authors' code takes; half of them would give exactly 1.
    """
    outer = 0.25 * (widths[:1] + widths[-1:])
    inner = 0.25 * (widths[:1] * densities[:1] + widths[-1:] * densities[-1:])
    end = (inner + (_means(densities) * widths[1:-1]).sum(0, keepdim=True)) / (1 - outer)
    return torch.cat([end, densities, end])


def _box(x: Tensor, left: float, right: float, bottom: float, top: float) -> list[Tensor]:
    """Return both starts, both lengths and the height over the width."""
    numbers = (left, bottom, right - left, top - bottom, (top - bottom) / (right - left))
    return [_bins.constant(number, x) for number in numbers]


def _check(tails: str, parameters: str) -> None:
    if tails not in TAILS:
        raise UsageError(f"no tails are called {tails!r}", next_step="known: " + ", ".join(TAILS))
    if parameters not in PARAMETERS:
        raise UsageError(
            f"spline parameters cannot be {parameters!r}",
            next_step="known: " + ", ".join(PARAMETERS),
        )


def _raw_one(parameters: str, least: float) -> float:
    """Return the raw derivative that becomes 1."""
    if parameters == "softplus":
        return math.log(math.expm1(1 - least))
    return math.log1p(-least) if parameters == "exp" else 1 - least


def _end_derivatives(derivatives: Tensor, bins: int, tails: str, one: float) -> Tensor:
    """Return the derivatives of all `bins + 1` knots."""
    missing = bins + 1 - derivatives.shape[-1]
    if missing == 0:
        return derivatives
    if missing == 1 and tails == "circular":
        return torch.cat([derivatives, derivatives[..., :1]], dim=-1)
    if missing == 2 and tails == "linear":
        ends = _bins.constant([one, *[0.0] * (bins - 1), one], derivatives)
        return F.pad(derivatives, (1, 1)) + ends
    raise UsageError(
        f"{derivatives.shape[-1]} derivatives do not fit {bins} bins with {tails} tails",
        next_step="give bins + 1; or bins - 1 for linear tails, bins for circular ones",
    )


def _positive(raw: Tensor, parameters: str) -> Tensor:
    if parameters == "given":
        return raw
    if parameters == "exp":
        return torch.exp(raw)
    # ONNX has no log1p: what 1 + e rounds away is put back.
    small = torch.exp(-raw.abs())
    total = 1 + small
    # At zero the gradient of a maximum is a half, as that of softplus; that of a ReLU is none, and
    # a network that starts at zero would stay there.
    above = torch.maximum(raw, _bins.constant(0.0, raw))
    return above + torch.log(total) + (small - (total - 1)) / total


def _invert_bin(
    below: Tensor, above: Tensor, slope: Tensor, d0: Tensor, d1: Tensor
) -> tuple[Tensor, Tensor]:
    """Return `θ` and `1 − θ` of values `below` over a bin's lower end, `above` under its upper.

    The odds `t = θ / (1 − θ)` solve `above·s·t² + (above·d0 − below·d1)·t − below·s = 0`, whose
    discriminant is a sum of squares.
    """
    below, above = below.clamp(min=0), above.clamp(min=0)
    linear = above * d0 - below * d1
    root = linear.abs() + torch.sqrt(linear * linear + 4 * slope * slope * below * above)
    rises = linear >= 0
    odds = torch.where(rises, 2 * slope * below, root)
    against = torch.where(rises, root, 2 * slope * above)
    total = odds + against
    return odds / total, against / total


def _rational_quadratic(
    theta: Tensor, rest: Tensor, slope: Tensor, d0: Tensor, d1: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the share of the bin's height and the derivative at `θ`, with `rest = 1 − θ`."""
    first = slope * theta + d0 * rest
    last = slope * rest + d1 * theta
    risen = theta * first
    total = risen + rest * last
    ratio = slope / total
    return risen / total, ratio * ratio * (theta * last + rest * first)

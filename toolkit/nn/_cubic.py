"""The place at which a rising cubic takes a value, without branches."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from toolkit.nn import _bins

_THIRD_OF_A_TURN = 2 * math.pi / 3
_ARC_COSINE = (
    1.5707963050,
    -0.2145988016,
    0.0889789874,
    -0.0501743046,
    0.0308918810,
    -0.0170881256,
    0.0066700901,
    -0.0012624911,
)
# Above it, `(w − b) / 3a` loses no digit; below it, the quadratic's other root is never meant.
_LARGE_CUBIC_TERM = 1.0


def root(a: Tensor, b: Tensor, c: Tensor, p: Tensor) -> Tensor:
    """Return the `θ` of [0, 1] with `a·θ³ + b·θ² + c·θ = p`, of a cubic that falls nowhere there.

    The closed form is right to the root of the precision, whatever term is zero; one step of
    Newton's method then gives all digits that the coefficients determine, and the gradient.

    Arguments:
        a: Cubic term, of any shape.
        b: Quadratic term.
        c: Linear term, at least 0.
        p: The value, between 0 and `a + b + c`.

    References:
        Blinn, How to solve a cubic equation, IEEE Computer Graphics and Applications 26–27.
    """
    start = _start(a, b, c, p).detach()
    # Where the cubic is flatter, a whole step would be all rounding.
    flat = _bins.constant(math.sqrt(torch.finfo(p.dtype).eps), p)
    slope = (c + start * (2 * b + 3 * a * start)).clamp(min=flat)
    rest = 1 - start
    # Products of positive numbers: nothing cancels.
    value = start * rest * (c * rest + (2 * c + b) * start) + (a + b + c) * start * start * start
    return start - (value - p) / slope


def _start(a: Tensor, b: Tensor, c: Tensor, p: Tensor) -> Tensor:
    """Return the closed form's root, from the end at which the cubic is less steep."""
    turned = b + 1.5 * a < 0
    both = a + b
    quadratic = torch.where(turned, -(both + 2 * a), b)
    linear = torch.where(turned, both + both + (a + c), c)
    value = torch.where(turned, both + c - p, p)
    w = _depressed(a, quadratic, linear, value)
    # θ²·(a·θ + b) + c·θ = p with a·θ + b = (w + 2·b) / 3 is a quadratic, which a may leave empty.
    square = linear * linear + 4 / 3 * value * (w + 2 * quadratic)
    place = 2 * value / above_zero(linear + torch.sqrt(square.clamp(min=0)))
    large = a > _LARGE_CUBIC_TERM
    place = torch.where(large, (w - quadratic) / (3 * torch.where(large, a, 1.0)), place)
    place = place.clamp(0, 1)
    return torch.where(turned, 1 - place, place)


def _depressed(a: Tensor, b: Tensor, c: Tensor, p: Tensor) -> Tensor:
    """Return `w = 3·a·θ + b`, which solves `w³ + 3·d·w + 2·r = 0`.

    With `b ≥ −1.5·a` it is the only root, the largest of three, or for negative `a` the middle one.
    """
    d = 3 * a * c - b * b
    r = b * (b * b - 4.5 * a * c) - 13.5 * a * a * p
    radius = torch.sqrt((-d).clamp(min=0))
    cosine = -r / above_zero(radius * radius * radius)
    angle = _arc_cosine(cosine.clamp(-1, 1)) / 3
    three = (
        2
        * radius
        * torch.cos(torch.where(a < 0, angle - _bins.constant(_THIRD_OF_A_TURN, a), angle))
    )
    cube = r.abs() + torch.sqrt((r * r + d * d * d).clamp(min=0))
    u = torch.maximum(torch.exp(torch.log(above_zero(cube)) / 3), torch.sqrt(d.clamp(min=0)))
    one = torch.where(r > 0, d / u - u, u - d / u)
    return torch.where((d >= 0) | ((a >= 0) & (cosine > 1)), one, three)


def _arc_cosine(x: Tensor) -> Tensor:
    """Return the angle to 2e-8: ONNX Runtime has no `Acos` of 64 bits.

    References:
        Abramowitz and Stegun, Handbook of Mathematical Functions, 4.4.46.
    """
    size, total = x.abs(), torch.zeros_like(x)
    for factor in reversed(_ARC_COSINE):
        total = total * size + factor
    angle = torch.sqrt(1 - size) * total
    return torch.where(x < 0, math.pi - angle, angle)


def above_zero(values: Tensor) -> Tensor:
    """Return the values, those below it taken to the smallest normal number."""
    return values.clamp(min=_bins.constant(torch.finfo(values.dtype).tiny, values))

"""Modified Bessel functions of the first kind, orders zero and one, and their scaled forms.

Up to 8 they are even polynomials (times x for order one), beyond it `exp(x) / sqrt(x)` times a
polynomial or quotient in `8 / x`; both minimax, computed with 60 digits. At infinity the plain
ones are NaN, as in torch.

References:
    Cephes Mathematical Library, Moshier, files i0.c and i1.c, for the ranges (no arXiv number).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from onnxscript import opset18 as op

from toolkit.core.protocols import Example
from toolkit.lowerings._maths import (
    Quotient,
    is_double,
    numbers_like,
    polynomial,
    quotient,
    widened,
)

# Of x² / 4: I0(x), and 2 I1(x) / x.
SMALL_SINGLE = (
    (
        1.4988602802872778e-11,
        3.8079313737956044e-10,
        4.316949948782415e-08,
        1.893609178428677e-06,
        6.963884299046195e-05,
        0.0017354948970565009,
        0.027778831730088452,
        0.2499991512090676,
        1.0000002430792563,
        0.999999989632989,
    ),
    (
        1.4424833192098313e-12,
        4.590949028167792e-11,
        5.301821245915057e-09,
        2.7182836457321347e-07,
        1.1596016687639504e-05,
        0.000347147038540976,
        0.0069445857236250345,
        0.08333320558599139,
        0.5000000422169757,
        0.9999999976766518,
    ),
)
SMALL_DOUBLE = (
    (
        9.197664793147108e-25,
        1.1273251827165542e-22,
        2.639712861361201e-20,
        4.345601457620053e-18,
        6.277943493996045e-16,
        7.593865214244909e-14,
        7.59407288514057e-12,
        6.151186546922205e-10,
        3.9367599191392924e-08,
        1.929012344874214e-06,
        6.944444444589687e-05,
        0.0017361111111094437,
        0.027777777777778893,
        0.2499999999999996,
        1.0,
        1.0,
    ),
    (
        1.3904072901274595e-23,
        1.568047481243011e-21,
        3.4358702463169623e-19,
        5.2137074829983075e-17,
        6.905891464460396e-15,
        7.593849922437484e-13,
        6.834666595678495e-11,
        4.920949196656421e-09,
        2.7557319442820964e-07,
        1.1574074069234966e-05,
        0.00034722222222904436,
        0.006944444444438808,
        0.0833333333333357,
        0.4999999999999996,
        1.0,
    ),
)
# Of 8 / x - 1/2: exp(-x) sqrt(x) times I0(x), and times I1(x).
LARGE_SINGLE: tuple[Quotient, Quotient] = (
    (
        (
            1.1737696631699783e-05,
            2.6210242849414103e-05,
            8.885529737766893e-05,
            0.00054462814141321,
            0.006721114092639122,
            0.40217651268759685,
        ),
        (1.0,),
    ),
    (
        (
            -1.3684741503551502e-05,
            -3.213477328660849e-05,
            -0.00011996496544596572,
            -0.0008766778476138453,
            -0.019499167002396,
            0.38939845539759704,
        ),
        (1.0,),
    ),
)
LARGE_DOUBLE: tuple[Quotient, Quotient] = (
    (
        (
            -0.0012627886458381002,
            0.16615788022078465,
            -2.376864488221026,
            9.826353880242582,
            -18.295514577047104,
            20.300647850773547,
            -14.125820432166657,
            6.769325800724943,
            -1.9594351778648487,
            0.40217650944500805,
        ),
        (
            -0.006558508275518464,
            0.49187767103619817,
            -6.2770556304252585,
            25.1444859005742,
            -46.29986371233902,
            51.04666602171737,
            -35.39966488530097,
            16.912074273238503,
            -4.888789463475686,
            1.0,
        ),
    ),
    (
        (
            -0.006637992015358343,
            0.266017112112095,
            -2.756029035830806,
            10.344271768499448,
            -18.606513370599814,
            20.25131135225446,
            -13.953224400396763,
            6.631195035189758,
            -1.9131680649957472,
            0.3893984590258724,
        ),
        (
            -0.0037728443679238693,
            0.4294163333389829,
            -5.9447164718647825,
            24.398008608502987,
            -45.3383995412413,
            50.29027055078416,
            -35.002746791984244,
            16.788064325632227,
            -4.863062158351932,
            1.0,
        ),
    ),
)
SMALL_END = 8.0


@widened
def i0(self: Any) -> Any:
    """Translate `i0(Tensor self) -> Tensor`."""
    return _bessel(self, order=0, scaled=False)


@widened
def i0e(self: Any) -> Any:
    """Translate `special_i0e(Tensor self) -> Tensor`: `exp(-|x|) I0(x)`."""
    return _bessel(self, order=0, scaled=True)


@widened
def i1(self: Any) -> Any:
    """Translate `special_i1(Tensor self) -> Tensor`."""
    return _bessel(self, order=1, scaled=False)


@widened
def i1e(self: Any) -> Any:
    """Translate `special_i1e(Tensor self) -> Tensor`: `exp(-|x|) I1(x)`."""
    return _bessel(self, order=1, scaled=True)


def _bessel(x: Any, *, order: int, scaled: bool) -> Any:
    number, size = numbers_like(x), op.Abs(x)
    small_fit = (SMALL_DOUBLE if is_double(x) else SMALL_SINGLE)[order]
    large_fit = (LARGE_DOUBLE if is_double(x) else LARGE_SINGLE)[order]
    half = op.Mul(x, number(0.5))
    small = polynomial(small_fit, op.Mul(half, half), number)
    share = op.Sub(op.Div(number(SMALL_END), size), number(0.5))
    large = op.Div(quotient(large_fit, share, number), op.Sqrt(size))
    if order:
        small, large = op.Mul(half, small), op.Mul(op.Sign(x), large)
    if scaled:
        small = op.Mul(op.Exp(op.Neg(size)), small)
    else:
        large = op.Mul(op.Exp(size), large)
    return op.Where(op.LessOrEqual(size, number(SMALL_END)), small, large)


class Bessel:
    """I0 and I1, plain and scaled."""

    def __call__(self) -> Mapping[torch._ops.OpOverload, Callable[..., Any]]:
        """Return the table; in a decomposed program the operators are those of `prims`."""
        aten, prims = torch.ops.aten, torch.ops.prims
        return {
            aten.i0.default: i0,
            prims.bessel_i0.default: i0,
            aten.special_i0e.default: i0e,
            prims.bessel_i0e.default: i0e,
            aten.special_i1.default: i1,
            prims.bessel_i1.default: i1,
            aten.special_i1e.default: i1e,
            prims.bessel_i1e.default: i1e,
        }

    def examples(self) -> Mapping[str, Example]:
        """Return both ranges, small and large numbers, the edges, and the decomposed forms."""
        grid = torch.linspace(-12, 12, 401, dtype=torch.float64)
        far = torch.logspace(0.9, 6, 100, dtype=torch.float64)
        small = torch.logspace(-6, 0, 60, dtype=torch.float64)
        ends = [0.0, -0.0, 8.0, -8.0, 80.0, -80.0, 1e4, math.inf, -math.inf, math.nan]
        edges = torch.tensor(ends, dtype=torch.float64)
        functions = {
            "i0": torch.special.i0,
            "i0e": torch.special.i0e,
            "i1": torch.special.i1,
            "i1e": torch.special.i1e,
        }
        examples = {}
        for name, function in functions.items():
            prim = getattr(torch.ops.prims, f"bessel_{name}").default
            examples[name] = Example(lambda x, f=function: f(x) * torch.exp(-x.abs()), (grid,))
            examples[f"{name}, edges"] = Example(function, (edges,))
            examples[f"{name}, decomposed"] = Example(prim, (small,))
        for name in ("i0e", "i1e"):
            examples[f"{name}, far"] = Example(lambda x, f=functions[name]: f(x) * x.sqrt(), (far,))
        return examples


lowering = Bessel()

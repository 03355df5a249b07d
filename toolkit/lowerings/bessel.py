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

# Of (x / 8)²: I0(x), and 2 I1(x) / x.
SMALL_SINGLE = (
    (
        1.0300089416171603,
        1.6354940715864472,
        11.588224280305843,
        31.769490206080455,
        73.02161942756663,
        113.73739357349484,
        113.7820947664423,
        63.999782709521305,
        16.0000038892681,
        0.999999989632989,
    ),
    (
        0.09912669889650806,
        0.1971797593358365,
        1.4231968037776965,
        4.56052318737155,
        12.159304794258281,
        22.750628317821402,
        28.44502312396814,
        21.333300630013795,
        8.000000675471611,
        0.9999999976766518,
    ),
)
SMALL_DOUBLE = (
    (
        1.0604185532184588e-06,
        8.12323403649224e-06,
        0.00011888209858791411,
        0.0012231780690773971,
        0.011044274992270944,
        0.08349543102825963,
        0.5218607149619058,
        2.641914505062604,
        10.567659440566791,
        32.363456776621184,
        72.81777777930076,
        113.7777777776685,
        113.77777777778235,
        63.9999999999999,
        16.0,
        1.0,
    ),
    (
        1.0018940405937996e-06,
        7.061858052225269e-06,
        9.671114975629028e-05,
        0.000917205120220701,
        0.007593107965333234,
        0.05218453930816181,
        0.2935466950750279,
        1.3209572415573,
        4.62335100673207,
        12.136296291222124,
        22.75555555600265,
        28.444444444421357,
        21.33333333333394,
        7.999999999999994,
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
    part = op.Div(x, number(SMALL_END))
    small = polynomial(small_fit, op.Mul(part, part), number)
    share = op.Sub(op.Div(number(SMALL_END), size), number(0.5))
    large = op.Div(quotient(large_fit, share, number), op.Sqrt(size))
    if order:
        small, large = op.Mul(op.Mul(x, number(0.5)), small), op.Mul(op.Sign(x), large)
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

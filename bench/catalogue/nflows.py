"""nflows' flows, as its documentation and its papers build them, at its default settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from nflows import distributions, flows, transforms
from nflows.nn.nets import ConvResidualNet, ResidualNet
from nflows.transforms.nonlinearities import CauchyCDF
from torch import nn

HIDDEN = 64
CONTEXT = 3
LAYERS = 3
MOVED = 0.02
TAILS = {"tails": "linear", "tail_bound": 3.0}

Maker = Callable[[int], nn.Module]


def flow(
    make: Callable[..., nn.Module], /, *sizes: int, moved: float = MOVED, **settings: Any
) -> nn.Module:
    """Return a flow with every weight moved a little, and what training fills in filled in."""
    torch.manual_seed(0)
    made = make(*sizes, **settings)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += moved * torch.randn_like(parameter)
        for layer in made.modules():
            if isinstance(layer, transforms.ActNorm):
                layer.initialized.fill_(value=True)
            if isinstance(layer, transforms.BatchNorm):
                layer.running_mean.normal_(0.0, 0.1)
                layer.running_var.uniform_(0.8, 1.2)
    return made.eval()


def composite(layers: Sequence[nn.Module], shape: int | Sequence[int]) -> nn.Module:
    """Return the layers over standard noise."""
    base = distributions.StandardNormal([shape] if isinstance(shape, int) else shape)
    return flows.Flow(transforms.CompositeTransform(layers), base)


def stacked(features: int, make: Maker, count: int = LAYERS) -> nn.Module:
    """Return layers of a kind, each after a permutation."""
    layers: list[nn.Module] = []
    for _ in range(count):
        layers += [transforms.RandomPermutation(features), make(features)]
    return composite(layers, features)


def squashed(features: int, make: Maker) -> nn.Module:
    """Return layers that act on the unit cube, each between a sigmoid and its inverse."""
    return stacked(
        features, lambda d: transforms.CompositeCDFTransform(transforms.Sigmoid(), make(d))
    )


def _network(context: int | None = None) -> Callable[[int, int], nn.Module]:
    return lambda read, given: ResidualNet(read, given, HIDDEN, context_features=context)


def coupling(
    kind: Callable[..., nn.Module], *, context: int | None = None, **settings: Any
) -> Maker:
    """Return a maker of couplings of every other feature."""
    return lambda d: kind(torch.arange(d) % 2, _network(context), **settings)


def autoregressive(kind: Callable[..., nn.Module], **settings: Any) -> Maker:
    """Return a maker of masked autoregressive layers."""
    return lambda d: kind(features=d, hidden_features=HIDDEN, **settings)


def conditional_base(features: int) -> nn.Module:
    """Return a flow whose context is embedded and moves the base."""
    base = distributions.ConditionalDiagonalNormal([features], nn.Linear(8, 2 * features))
    make = coupling(transforms.AffineCouplingTransform, context=8)
    return flows.Flow(make(features), base, nn.Sequential(nn.Linear(CONTEXT, 8), nn.ReLU()))


def mixture_base(features: int) -> nn.Module:
    """Return a masked autoregressive layer over a mixture of Gaussians that is one too."""
    base = distributions.MADEMoG(features, HIDDEN, None, num_mixture_components=4)
    return flows.Flow(
        autoregressive(transforms.MaskedAffineAutoregressiveTransform)(features), base
    )


def linear(features: int) -> nn.Module:
    """Return every linear layer that has an inverse."""
    layers = [
        transforms.LULinear(features),
        transforms.QRLinear(features, num_householder=4),
        transforms.SVDLinear(features, num_householder=4),
        transforms.HouseholderSequence(features, num_transforms=4),
        transforms.ActNorm(features),
    ]
    return composite(layers, features)


def distribution_functions(features: int) -> nn.Module:
    """Return every distribution function of the unit interval, between a sigmoid and its inverse.

    A cubic one of the library's own random weights is 1e-2 off in float32: here it is smoother.
    """
    layers = [
        transforms.PiecewiseLinearCDF([features]),
        transforms.PiecewiseQuadraticCDF([features]),
        transforms.PiecewiseCubicCDF([features]),
        transforms.PiecewiseRationalQuadraticCDF([features]),
    ]
    with torch.no_grad():
        for parameter in layers[2].parameters():
            parameter *= 0.3
    inner = transforms.CompositeTransform(layers)
    return composite([transforms.CompositeCDFTransform(transforms.Sigmoid(), inner)], features)


def elementwise(features: int) -> nn.Module:
    """Return linear layers with nonlinearities between them."""
    layers = [
        transforms.LULinear(features),
        transforms.LeakyReLU(),
        transforms.PointwiseAffineTransform(0.1, 0.5),
        transforms.LULinear(features),
        transforms.LogTanh(),
        transforms.BatchNorm(features),
    ]
    return composite(layers, features)


def cauchy(features: int) -> nn.Module:
    """Return a spline between the distribution function of a Cauchy law and its inverse."""
    spline = transforms.PiecewiseRationalQuadraticCDF([features])
    return composite([transforms.CompositeCDFTransform(CauchyCDF(), spline)], features)


def logit(features: int) -> nn.Module:
    """Return a flow of data in the unit cube."""
    make = coupling(transforms.AffineCouplingTransform)
    return composite([transforms.Logit(), make(features), make(features)], features)


def _step(channels: int, kind: Callable[..., nn.Module], **settings: Any) -> list[nn.Module]:
    """Return Glow's step: normalise, mix the channels, transform one half by the other."""
    return [
        transforms.ActNorm(channels),
        transforms.OneByOneConvolution(channels),
        kind(
            torch.arange(channels) % 2,
            lambda read, given: ConvResidualNet(read, given, hidden_channels=32),
            **settings,
        ),
    ]


def glow(channels: int, side: int, levels: int, kind: Any, **settings: Any) -> nn.Module:
    """Return a multiscale flow of pictures."""
    shape: tuple[int, ...] = (channels, side, side)
    whole = transforms.MultiscaleCompositeTransform(num_transforms=levels)
    for _ in range(levels):
        wide, small = 4 * shape[0], shape[1] // 2
        steps = [transforms.SqueezeTransform()]
        for _ in range(2):
            steps += _step(wide, kind, **settings)
        level = transforms.CompositeTransform(steps)
        shape = whole.add_transform(level, (wide, small, small))
    return flows.Flow(whole, distributions.StandardNormal([channels * side * side]))


def one_scale(channels: int, side: int) -> nn.Module:
    """Return Glow's steps without splitting."""
    layers = [
        transforms.SqueezeTransform(),
        *_step(4 * channels, transforms.AffineCouplingTransform),
    ]
    return composite(layers, (4 * channels, side // 2, side // 2))


T = transforms
RQ_COUPLING = coupling(T.PiecewiseRationalQuadraticCouplingTransform, **TAILS)
RQ_AUTOREGRESSIVE = autoregressive(
    T.MaskedPiecewiseRationalQuadraticAutoregressiveTransform, num_bins=10, **TAILS
)

# Near equal heights the library's inverse divides by almost nothing: it is 1e-2 off in float32.
UNEVEN: dict[str, Maker] = {
    "quadratic coupling": coupling(T.PiecewiseQuadraticCouplingTransform, **TAILS),
    "quadratic autoregressive": autoregressive(
        T.MaskedPiecewiseQuadraticAutoregressiveTransform, **TAILS
    ),
}

STACKED: dict[str, Maker] = {
    "linear coupling": coupling(T.PiecewiseLinearCouplingTransform, **TAILS),
    "cubic coupling": coupling(T.PiecewiseCubicCouplingTransform, **TAILS),
    "RQ coupling unconditional": coupling(
        T.PiecewiseRationalQuadraticCouplingTransform, apply_unconditional_transform=True, **TAILS
    ),
    "RQ coupling context": coupling(
        T.PiecewiseRationalQuadraticCouplingTransform, context=CONTEXT, **TAILS
    ),
    "MAF context": autoregressive(T.MaskedAffineAutoregressiveTransform, context_features=CONTEXT),
    "naive linear": T.NaiveLinear,
}

SQUASHED: dict[str, Maker] = {
    "linear autoregressive": autoregressive(
        T.MaskedPiecewiseLinearAutoregressiveTransform, num_bins=10
    ),
    "cubic autoregressive": autoregressive(
        T.MaskedPiecewiseCubicAutoregressiveTransform, num_bins=10
    ),
}

FLOWS: dict[str, Callable[[], nn.Module]] = {
    **{
        f"RealNVP d{d}": lambda d=d: flow(flows.SimpleRealNVP, d, HIDDEN, LAYERS, 2)
        for d in (8, 32, 64)
    },
    **{
        f"MAF d{d}": lambda d=d: flow(flows.MaskedAutoregressiveFlow, d, HIDDEN, LAYERS, 2)
        for d in (8, 32, 64)
    },
    **{f"RQ coupling d{d}": lambda d=d: flow(stacked, d, make=RQ_COUPLING) for d in (8, 32, 64)},
    **{
        f"RQ autoregressive d{d}": lambda d=d: flow(stacked, d, make=RQ_AUTOREGRESSIVE)
        for d in (8, 32, 64)
    },
    "RealNVP additive d8": lambda: flow(
        flows.SimpleRealNVP, 8, HIDDEN, LAYERS, 2, use_volume_preserving=True
    ),
    "RealNVP batch norm d8": lambda: flow(
        flows.SimpleRealNVP, 8, HIDDEN, LAYERS, 2, batch_norm_between_layers=True
    ),
    **{
        f"{name} d8": lambda make=make: flow(stacked, 8, make=make)
        for name, make in STACKED.items()
    },
    **{
        f"{name} d8": lambda make=make: flow(stacked, 8, make=make, moved=0.2)
        for name, make in UNEVEN.items()
    },
    "LU d64": lambda: flow(stacked, 64, make=T.LULinear),
    **{
        f"{name} d8": lambda make=make: flow(squashed, 8, make=make)
        for name, make in SQUASHED.items()
    },
    **{
        f"{make.__name__.replace('_', ' ')} d8": lambda make=make: flow(make, 8)
        for make in (
            conditional_base,
            mixture_base,
            linear,
            distribution_functions,
            elementwise,
            cauchy,
            logit,
        )
    },
    "Glow 3x8x8": lambda: flow(one_scale, 3, 8),
    "Glow multiscale 3x16x16": lambda: flow(glow, 3, 16, 2, kind=T.AffineCouplingTransform),
    "Glow multiscale RQ 1x8x8": lambda: flow(
        glow, 1, 8, 2, kind=T.PiecewiseRationalQuadraticCouplingTransform, **TAILS
    ),
}

"""pyro's flows, as its documentation builds them, at its default settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import pyro.distributions.transforms as T
import torch
from torch import nn

from toolkit.adapters.pyro import PyroFlow

CONTEXT = 3
LAYERS = 2


def _moved(flow: nn.Module, amount: float = 0.02) -> nn.Module:
    """Move every weight a little, so that no layer is the identity.

    Splines that are conditioned on nothing begin at random and steep: those are flattened.
    """
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for layer in flow.modules():
            if isinstance(layer, T.Spline):
                for parameter in layer.parameters(recurse=False):
                    parameter *= 0.3
        for parameter in flow.parameters():
            parameter += amount * torch.randn(parameter.shape, generator=generator)
    return flow.eval()


def one(make: Callable[..., Any], features: int, amount: float = 0.02, **given: Any) -> nn.Module:
    """Return one transform, a flow over a standard normal by itself."""
    torch.manual_seed(0)
    return _moved(make(features, **given), amount)


def several(make: Callable[..., Any], features: int, **arguments: Any) -> nn.Module:
    """Return transforms with permutations between them."""
    torch.manual_seed(0)
    parts = []
    for _ in range(LAYERS):
        parts += [make(features, **arguments), T.permute(features)]
    return _moved(T.ComposeTransformModule(parts))


def conditional(make: Callable[..., Any], features: int, **arguments: Any) -> nn.Module:
    """Return transforms that read a context."""
    torch.manual_seed(0)
    parts = [make(features, CONTEXT, **arguments) for _ in range(LAYERS)]
    return _moved(dist.conditional.ConditionalComposeTransformModule(parts))


def backwards(make: Callable[..., Any], features: int) -> nn.Module:
    """Return a transform that has one direction only, turned so that it gives the density."""
    torch.manual_seed(0)
    base = dist.Normal(torch.zeros(features), torch.ones(features)).to_event(1)
    parts = [make(features).inv for _ in range(LAYERS)]
    return _moved(PyroFlow(dist.TransformedDistribution(base, parts)))


def picture(channels: int, side: int) -> nn.Module:
    """Return convolutional permutations and channel couplings of pictures."""
    torch.manual_seed(0)
    shape = (channels, side, side)
    base = dist.Normal(torch.zeros(shape), torch.ones(shape)).to_event(3)
    parts = []
    for _ in range(LAYERS):
        parts += [
            T.generalized_channel_permute(channels=channels),
            T.affine_coupling(shape, dim=-3, hidden_dims=[64]),
        ]
    return _moved(PyroFlow(dist.TransformedDistribution(base, parts)))


def elementwise(features: int) -> nn.Module:
    """Return transforms of single features."""
    torch.manual_seed(0)
    parts = [T.spline(features, order="quadratic"), T.leaky_relu(), T.batchnorm(features)]
    return _moved(T.ComposeTransformModule(parts))


FLOWS: dict[str, Callable[[], nn.Module]] = {
    **{f"SplineCoupling d{d}": lambda d=d: several(T.spline_coupling, d) for d in (8, 32, 64)},
    **{
        f"AffineAutoregressive d{d}": lambda d=d: several(T.affine_autoregressive, d)
        for d in (8, 32, 64)
    },
    **{f"AffineCoupling d{d}": lambda d=d: several(T.affine_coupling, d) for d in (8, 32, 64)},
    "AffineAutoregressive stable d8": lambda: one(T.affine_autoregressive, 8, stable=True),
    "Spline d8": lambda: one(T.spline, 8),
    "Spline quadratic d8": lambda: one(T.spline, 8, order="quadratic"),
    "SplineAutoregressive d8": lambda: several(T.spline_autoregressive, 8),
    "NeuralAutoregressive d8": lambda: one(T.neural_autoregressive, 8),
    "BlockAutoregressive d8": lambda: one(T.block_autoregressive, 8),
    "BlockAutoregressive gated d8": lambda: one(T.block_autoregressive, 8, residual="gated"),
    "Polynomial d8": lambda: one(T.polynomial, 8),
    "Planar d8": lambda: one(T.planar, 8, 0.3),
    "Radial d8": lambda: one(T.radial, 8, 0.3),
    "Sylvester d8": lambda: one(T.sylvester, 8, 0.3),
    "Planar density d8": lambda: backwards(T.planar, 8),
    "Radial density d8": lambda: backwards(T.radial, 8),
    "Householder d8": lambda: one(T.householder, 8),
    "MatrixExponential d8": lambda: one(T.matrix_exponential, 8),
    "BatchNorm d8": lambda: one(T.batchnorm, 8, 0.1),
    "Elementwise d8": lambda: elementwise(8),
    "Conditional AffineAutoregressive d8": lambda: conditional(
        T.conditional_affine_autoregressive, 8
    ),
    "Conditional AffineCoupling d8": lambda: conditional(T.conditional_affine_coupling, 8),
    "Conditional Spline d8": lambda: conditional(T.conditional_spline, 8),
    "Conditional SplineAutoregressive d8": lambda: conditional(
        T.conditional_spline_autoregressive, 8
    ),
    "Conditional NeuralAutoregressive d8": lambda: conditional(
        T.conditional_neural_autoregressive, 8
    ),
    "Conditional Householder d8": lambda: conditional(
        T.conditional_householder, 8, count_transforms=2
    ),
    "Conditional MatrixExponential d8": lambda: conditional(T.conditional_matrix_exponential, 8),
    "Conditional Planar d8": lambda: conditional(T.conditional_planar, 8),
    "Conditional Radial d8": lambda: conditional(T.conditional_radial, 8),
    "Pictures 3x8x8": lambda: picture(3, 8),
}

"""normflows' flows, as its documentation builds them, at its default settings."""

from __future__ import annotations

import math
from collections.abc import Callable

import normflows as nf
import torch
from torch import nn

HIDDEN = 64
CONTEXT = 3
CLASSES = 5


def _made(base: nn.Module, layers: list[nn.Module], kind: type[nn.Module]) -> nn.Module:
    """Move every weight a little, so that no layer is the identity, and mark statistics as set."""
    flow = kind(base, layers)
    return _moved(flow)


def _moved(flow: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
        for module in flow.modules():
            if hasattr(module, "data_dep_init_done"):
                module.data_dep_init_done.fill_(1.0)
        nf.utils.update_lipschitz(flow, 50)
    return flow.eval()


def _flow(features: int, layer: Callable[[int], list[nn.Module]], count: int = 3) -> nn.Module:
    """Return `count` times what `layer` makes of its index, over a standard normal."""
    torch.manual_seed(0)
    layers = [part for index in range(count) for part in layer(index)]
    base = nf.distributions.base.DiagGaussian(features)
    return _made(base, layers, nf.NormalizingFlow)


def coupled_spline(features: int) -> nn.Module:
    """Return neural spline couplings with LU-parametrised permutations (arXiv:1906.04032)."""
    return _flow(
        features,
        lambda _: [
            nf.flows.CoupledRationalQuadraticSpline(features, 2, HIDDEN),
            nf.flows.LULinearPermute(features),
        ],
    )


def autoregressive_spline(features: int) -> nn.Module:
    """Return autoregressive neural splines with permutations (arXiv:1906.04032)."""
    return _flow(
        features,
        lambda _: [
            nf.flows.AutoregressiveRationalQuadraticSpline(features, 2, HIDDEN),
            nf.flows.LULinearPermute(features),
        ],
    )


def maf(features: int) -> nn.Module:
    """Return masked affine autoregressive layers (arXiv:1705.07057)."""
    return _flow(
        features,
        lambda _: [
            nf.flows.MaskedAffineAutoregressive(features, HIDDEN),
            nf.flows.Permute(features, mode="swap"),
        ],
    )


def affine_coupling(features: int) -> nn.Module:
    """Return affine coupling blocks with activation normalisation (arXiv:1605.08803)."""
    half = features // 2
    return _flow(
        features,
        lambda _: [
            nf.flows.AffineCouplingBlock(nf.nets.MLP([half, HIDDEN, HIDDEN, features])),
            nf.flows.Permute(features, mode="shuffle"),
            nf.flows.ActNorm(features),
        ],
    )


def masked_affine(features: int) -> nn.Module:
    """Return masked affine layers, the library's RealNVP (arXiv:1605.08803)."""

    def layer(index: int) -> list[nn.Module]:
        mask = torch.tensor([(i + index) % 2 for i in range(features)], dtype=torch.float32)
        nets = [nf.nets.MLP([features, HIDDEN, features]) for _ in range(2)]
        return [nf.flows.MaskedAffineFlow(mask, *nets), nf.flows.ActNorm(features)]

    return _flow(features, layer)


def circular(features: int, *, autoregressive: bool) -> nn.Module:
    """Return splines with circular coordinates over a partly uniform base (arXiv:2002.02428)."""
    torch.manual_seed(0)
    kind = (
        nf.flows.CircularAutoregressiveRationalQuadraticSpline
        if autoregressive
        else nf.flows.CircularCoupledRationalQuadraticSpline
    )
    angles = list(range(0, features, 2))
    bound = math.pi
    layers = [kind(features, 2, HIDDEN, angles, tail_bound=bound) for _ in range(2)]
    scale = torch.tensor([2 * bound if i in angles else 0.5 for i in range(features)])
    base = nf.distributions.base.UniformGaussian(features, angles, scale)
    return _made(base, layers, nf.NormalizingFlow)


def residual(features: int, *, exact: bool) -> nn.Module:
    """Return invertible residual blocks (arXiv:1906.02735), exact or Hutchinson traces."""

    def layer(_: int) -> list[nn.Module]:
        net = nf.nets.LipschitzMLP([features, HIDDEN, features], init_zeros=False)
        block = nf.flows.Residual(net, exact_trace=exact, reduce_memory=not exact)
        return [block, nf.flows.ActNorm(features)]

    return _flow(features, layer, 2)


def linear(features: int) -> nn.Module:
    """Return invertible linear layers, with and without an LU parametrisation."""
    return _flow(
        features,
        lambda index: [
            nf.flows.InvertibleAffine(features, use_lu=index % 2 == 0),
            nf.flows.AffineConstFlow(features),
        ],
    )


def mixture(features: int) -> nn.Module:
    """Return affine couplings over a Gaussian mixture."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(2)
    place = torch.randn(4, features, generator=generator).tolist()
    base = nf.distributions.base.GaussianMixture(4, features, loc=place).float()
    net = nf.nets.MLP([features // 2, HIDDEN, features])
    return _made(base, [nf.flows.AffineCouplingBlock(net)], nf.NormalizingFlow)


def conditional(features: int, *, autoregressive: bool) -> nn.Module:
    """Return conditional splines or affine layers over a conditional Gaussian."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(2):
        if autoregressive:
            layers.append(
                nf.flows.MaskedAffineAutoregressive(features, HIDDEN, context_features=CONTEXT)
            )
        else:
            layers.append(
                nf.flows.CoupledRationalQuadraticSpline(
                    features, 2, HIDDEN, num_context_channels=CONTEXT
                )
            )
        layers.append(nf.flows.LULinearPermute(features))
    base = nf.distributions.base.ConditionalDiagGaussian(features, nn.Linear(CONTEXT, 2 * features))
    return _made(base, layers, nf.ConditionalNormalizingFlow)


def class_conditional(features: int) -> nn.Module:
    """Return affine couplings over one Gaussian per class."""
    torch.manual_seed(0)
    net = nf.nets.MLP([features // 2, HIDDEN, features])
    base = nf.distributions.base.ClassCondDiagGaussian(features, CLASSES)
    return _made(base, [nf.flows.AffineCouplingBlock(net)], nf.ClassCondFlow)


def one_way(features: int, kind: type[nn.Module]) -> nn.Module:
    """Return planar or radial layers (arXiv:1505.05770), which only sample."""
    return _flow(features, lambda _: [kind((features,))], 4)


def planar_both_ways(features: int) -> nn.Module:
    """Return planar layers whose activation has an inverse (arXiv:1505.05770)."""
    return _flow(features, lambda _: [nf.flows.Planar((features,), act="leaky_relu")], 4)


def glow(*, classes: int = 0) -> nn.Module:
    """Return a two-level Glow for pictures of 3 × 8 × 8 (arXiv:1807.03039)."""
    torch.manual_seed(0)
    levels, blocks, channels, size = 2, 2, 3, 8
    bases, flows, merges = [], [], []
    for level in range(levels):
        width = channels * 2 ** (levels + 1 - level)
        flows.append(
            [nf.flows.GlowBlock(width, 32, split_mode="channel") for _ in range(blocks)]
            + [nf.flows.Squeeze()]
        )
        depth = channels * 2 ** (levels - level) if level else channels * 2 ** (levels + 1)
        side = size // 2 ** (levels - level) if level else size // 2**levels
        shape = (depth, side, side)
        if level:
            merges.append(nf.flows.Merge())
        bases.append(
            nf.distributions.base.ClassCondDiagGaussian(shape, classes)
            if classes
            else nf.distributions.base.GlowBase(shape)
        )
    transform = nf.transforms.Logit()
    return _moved(nf.MultiscaleFlow(bases, flows, merges, transform, class_cond=bool(classes)))


FLOWS: dict[str, Callable[[], nn.Module]] = {
    **{f"CoupledRQS d{d}": lambda d=d: coupled_spline(d) for d in (8, 32, 64)},
    **{f"AutoregressiveRQS d{d}": lambda d=d: autoregressive_spline(d) for d in (8, 32, 64)},
    **{f"MAF d{d}": lambda d=d: maf(d) for d in (8, 32, 64)},
    **{f"AffineCouplingBlock d{d}": lambda d=d: affine_coupling(d) for d in (8, 32, 64)},
    "MaskedAffineFlow d8": lambda: masked_affine(8),
    "CircularCoupledRQS d8": lambda: circular(8, autoregressive=False),
    "CircularAutoregressiveRQS d8": lambda: circular(8, autoregressive=True),
    "Residual d2": lambda: residual(2, exact=False),
    "Residual exact trace d8": lambda: residual(8, exact=True),
    "Residual Hutchinson d8": lambda: residual(8, exact=False),
    "InvertibleAffine d8": lambda: linear(8),
    "GaussianMixture base d8": lambda: mixture(8),
    "Conditional CoupledRQS d8": lambda: conditional(8, autoregressive=False),
    "Conditional MAF d8": lambda: conditional(8, autoregressive=True),
    "ClassCondFlow d8": lambda: class_conditional(8),
    "Planar d8": lambda: one_way(8, nf.flows.Planar),
    "Planar leaky d8": lambda: planar_both_ways(8),
    "Radial d8": lambda: one_way(8, nf.flows.Radial),
    "Glow 3x8x8": glow,
    "Glow class-conditional 3x8x8": lambda: glow(classes=CLASSES),
}

"""zuko's flows, as its documentation builds them, at its default settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from zuko import distributions, flows, transforms

CONTEXT = 3
MOVED = 0.02


def flow(kind: Callable[..., nn.Module], *sizes: int, **settings: Any) -> nn.Module:
    """Return a flow with every weight moved a little from where it begins."""
    torch.manual_seed(0)
    made = kind(*sizes, **settings)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += MOVED * torch.randn_like(parameter)
    return made.eval()


def composed(features: int) -> nn.Module:
    """Return a composition of the user's own: layers of different kinds, a base in its place."""
    weight = torch.eye(features) + 0.1 * torch.randn(features, features)
    layers = [
        flows.MaskedAutoregressiveTransform(features, passes=2),
        flows.UnconditionalTransform(
            transforms.RotationTransform, A=0.1 * torch.randn(features, features)
        ),
        flows.GeneralCouplingTransform(
            features, univariate=transforms.MonotonicRQSTransform, shapes=[(8,), (8,), (7,)]
        ),
        flows.UnconditionalTransform(transforms.LULinearTransform, LU=weight),
        flows.UnconditionalTransform(
            transforms.PermutationTransform, order=torch.randperm(features), buffer=True
        ),
    ]
    place = torch.randn(features), torch.rand(features) + 0.5
    base = flows.UnconditionalDistribution(distributions.DiagNormal, *place, buffer=True)
    return flows.Flow(layers, base)


def gaussianization(features: int) -> nn.Module:
    """Return a flow that begins nearer the identity than the library's.

    The library begins at random scales that saturate float32: eager itself is 3e-3 off.
    """
    made = flows.GF(features)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter *= 0.3
    return made


def mixture_base(features: int) -> nn.Module:
    """Return an autoregressive flow whose base is a mixture that reads the context."""
    made = flows.MAF(features, CONTEXT)
    made.base = flows.GMM(features, CONTEXT)
    return made


FLOWS: dict[str, Callable[[], nn.Module]] = {
    **{f"NICE d{d}": lambda d=d: flow(flows.NICE, d) for d in (8, 32, 64)},
    **{f"MAF d{d}": lambda d=d: flow(flows.MAF, d) for d in (8, 32, 64)},
    **{f"NSF d{d}": lambda d=d: flow(flows.NSF, d) for d in (8, 32, 64)},
    **{f"NSF coupling d{d}": lambda d=d: flow(flows.NSF, d, passes=2) for d in (8, 64)},
    "MAF context d8": lambda: flow(flows.MAF, 8, CONTEXT),
    "NSF context d8": lambda: flow(flows.NSF, 8, CONTEXT),
    "NCSF d8": lambda: flow(flows.NCSF, 8),
    "SOSPF d8": lambda: flow(flows.SOSPF, 8),
    "BPF d8": lambda: flow(flows.BPF, 8),
    "NAF d8": lambda: flow(flows.NAF, 8),
    "UNAF d8": lambda: flow(flows.UNAF, 8),
    "CNF d8": lambda: flow(flows.CNF, 8),
    "GF d8": lambda: flow(gaussianization, 8),
    "GMM d8": lambda: flow(flows.GMM, 8),
    "GMM context d8": lambda: flow(flows.GMM, 8, CONTEXT),
    "mixture base d8": lambda: flow(mixture_base, 8),
    "composed d8": lambda: flow(composed, 8),
}

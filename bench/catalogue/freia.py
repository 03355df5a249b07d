"""FrEIA's invertible networks, as its documentation builds them, at its default settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import FrEIA.framework as ff
import FrEIA.modules as fm
import numpy as np
import torch
from torch import nn

HIDDEN = 64
CONTEXT = 3
BLOCKS = 3


def _dense(read: int, given: int) -> nn.Module:
    return nn.Sequential(nn.Linear(read, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, given))


def _convolutional(read: int, given: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(read, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, given, 3, padding=1)
    )


def _moved(flow: nn.Module) -> nn.Module:
    """Move every learned weight a little, and keep to the layers' constraints."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in flow.parameters():
            if parameter.requires_grad:
                parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    for layer in flow.modules():
        if isinstance(layer, fm.ActNorm):
            layer.init_on_next_batch = False
        if isinstance(layer, fm.IResNetLayer):
            layer.lipschitz_correction()
        if isinstance(layer, fm.OrthogonalTransform):
            with torch.no_grad():
                fm.orthogonal.orth_correction(layer.weights)
    return flow.eval()


def _seed() -> None:
    """Seed both generators: the permutations are numpy's."""
    torch.manual_seed(0)
    np.random.seed(0)


def sequence(shape: int | tuple[int, ...], *layers: Any) -> nn.Module:
    """Return `BLOCKS` times the layers: each a class, or a class and its arguments."""
    _seed()
    flow = ff.SequenceINN(*((shape,) if isinstance(shape, int) else shape))
    for _ in range(BLOCKS):
        for layer in layers:
            kind, arguments = layer if isinstance(layer, tuple) else (layer, {})
            flow.append(kind, **arguments)
    return _moved(flow)


def coupling(features: int, kind: Any, **arguments: Any) -> nn.Module:
    """Return coupling blocks with random permutations."""
    return sequence(features, (kind, {"subnet_constructor": _dense, **arguments}), fm.PermuteRandom)


def conditional(features: int, kind: Any) -> nn.Module:
    """Return coupling blocks that read a condition."""
    given = {"cond": 0, "cond_shape": (CONTEXT,), "subnet_constructor": _dense}
    return sequence(features, (kind, given))


def graph(features: int) -> nn.Module:
    """Return a graph with two inputs, two outputs and a condition."""
    _seed()
    half = features // 2
    first, second = ff.InputNode(half, name="first"), ff.InputNode(half, name="second")
    given = ff.ConditionNode(CONTEXT)
    subnet = {"subnet_constructor": _dense}
    nodes = [first, second, given, ff.Node([first.out0, second.out0], fm.Concat, {})]
    for _ in range(BLOCKS):
        nodes.append(ff.Node(nodes[-1], fm.GLOWCouplingBlock, subnet, conditions=given))
        nodes.append(ff.Node(nodes[-1], fm.PermuteRandom, {}))
    nodes.append(split := ff.Node(nodes[-1], fm.Split, {}))
    nodes += [ff.OutputNode(split.out0), ff.OutputNode(split.out1)]
    return _moved(ff.GraphINN(nodes))


def pictures(channels: int, side: int) -> nn.Module:
    """Return convolutional couplings around a wavelet downsampling, then dense ones."""
    _seed()
    flow = ff.SequenceINN(channels, side, side)
    flow.append(fm.IRevNetDownsampling)
    flow.append(fm.GLOWCouplingBlock, subnet_constructor=_convolutional)
    flow.append(fm.HaarDownsampling)
    flow.append(fm.AllInOneBlock, subnet_constructor=_convolutional, permute_soft=True)
    matrix = torch.linalg.qr(torch.randn(16 * channels, 16 * channels))[0]
    flow.append(fm.Fixed1x1Conv, M=1.2 * matrix)
    flow.append(fm.ActNorm)
    flow.append(fm.Flatten)
    flow.append(fm.RNVPCouplingBlock, subnet_constructor=_dense)
    return _moved(flow)


def linear(features: int) -> nn.Module:
    """Return the layers that are linear, or act element by element."""
    _seed()
    matrix = 0.1 * torch.randn(features, features) + torch.eye(features)
    return sequence(
        features,
        fm.OrthogonalTransform,
        (fm.HouseholderPerm, {"n_reflections": 4}),
        (fm.FixedLinearTransform, {"M": matrix, "b": torch.randn(features)}),
        fm.ActNorm,
        fm.InvAutoAct,
        fm.InvAutoActTwoSided,
    )


def sigmoid(features: int) -> nn.Module:
    """Return a coupling onto the unit cube."""
    _seed()
    flow = ff.SequenceINN(features)
    flow.append(fm.RNVPCouplingBlock, subnet_constructor=_dense)
    flow.append(fm.InvertibleSigmoid)
    return _moved(flow)


FLOWS: dict[str, Callable[[], nn.Module]] = {
    **{f"GLOWCoupling d{d}": lambda d=d: coupling(d, fm.GLOWCouplingBlock) for d in (8, 32, 64)},
    **{f"RNVPCoupling d{d}": lambda d=d: coupling(d, fm.RNVPCouplingBlock) for d in (8, 32, 64)},
    **{f"AllInOneBlock d{d}": lambda d=d: coupling(d, fm.AllInOneBlock) for d in (8, 32, 64)},
    "AllInOneBlock soft, reflections, reversed d8": lambda: coupling(
        8,
        fm.AllInOneBlock,
        permute_soft=True,
        learned_householder_permutation=3,
        reverse_permutation=True,
    ),
    "AllInOneBlock GIN d8": lambda: coupling(8, fm.AllInOneBlock, gin_block=True),
    "NICECoupling d8": lambda: coupling(8, fm.NICECouplingBlock),
    "GINCoupling d8": lambda: coupling(8, fm.GINCouplingBlock),
    "AffineCouplingOneSided d8": lambda: coupling(8, fm.AffineCouplingOneSided),
    "Conditional GLOWCoupling d8": lambda: conditional(8, fm.GLOWCouplingBlock),
    "ConditionalAffineTransform d8": lambda: conditional(8, fm.ConditionalAffineTransform),
    "GraphINN two inputs, conditional d8": lambda: graph(8),
    "IResNetLayer d8": lambda: sequence(8, fm.IResNetLayer),
    "OrthogonalTransform d8": lambda: sequence(8, fm.OrthogonalTransform),
    "Linear and elementwise d8": lambda: linear(8),
    "LearnedElementwiseScaling d8": lambda: sequence(8, fm.LearnedElementwiseScaling),
    "InvertibleSigmoid d8": lambda: sigmoid(8),
    "Pictures Haar 1x8x8": lambda: pictures(1, 8),
    "Pictures Haar 3x16x16": lambda: pictures(3, 16),
}

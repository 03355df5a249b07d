"""The models: networks, plain samplers, samplers with a cache, targets, products of a step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from _samplers import eager
from _samplers.networks import GPT, LEVELS, LSTM, MAF, NADE, PixelCNN, WaveNet
from toolkit.core.entry import Autoregressive, Entry, Input
from toolkit.core.recipe import load_recipe
from toolkit.models import (
    gated_pixelcnn,
    lstm,
    maf,
    nade,
    pixelcnn,
    transformer,
    wavenet,
)
from toolkit.stages._entries import declared_entries

WIDTH = 28
EXAMPLES = 2
DIGITS = load_recipe("pixelcnn").model.arguments

Declared = Autoregressive | Entry
Naive = Callable[[nn.Module, Tensor, Tensor, Sequence[int]], Tensor]


@dataclass(frozen=True, slots=True)
class Product:
    """A product of a step: `count` times `(rows, inner) x (inner, outer)`.

    `rows` and `stacked` are per item of the batch. A product of `stacked` matrices is of an item's
    own values, keys above all; any other shares its right side, a weight, among the batch.
    """

    inner: int
    outer: int
    rows: int = 1
    count: int = 1
    stacked: int = 0


@dataclass(frozen=True, slots=True)
class Target:
    """What hand-built graphs reached on a machine of this kind, at batch 1 and 16.

    Arguments:
        naive: Times faster than whole forwards per position.
        cached: Times faster than eager with a cache.
        floor: Share of the floor, at batch 1.
        stepping: Times faster than another eager form, where there is one.
        step: Times faster than eager with a cache, by the step graph.
    """

    naive: tuple[float, float]
    cached: tuple[float, float]
    floor: float
    stepping: tuple[float, float] = (0, 0)
    step: tuple[float, float] = (0, 0)


@dataclass(frozen=True, slots=True)
class Subject:
    """One model.

    Arguments:
        title: For tables.
        sizes: Lengths, heights or features, smallest first; the last is the one that is raced.
        network: Makes the network of a size.
        declared: What the network is exported as.
        naive: Evaluates the whole network at given positions.
        cached: Makes the eager sampler with a cache.
        target: What hand-built graphs reached.
        products: Products of a step of the hand-made layout.
        nodes: Nodes of that step at batch 1 and 16, its products among them.
        steps: Steps of that layout, by size.
        noise: Shape of the noise, by size and batch.
        stepping: Makes another eager sampler, where there is one.
        twin: The same model of the toolkit, by size.
        sharpen: Multiplies the weights of these layers: untrained logits are nearly flat, then
            the noise alone decides, and nothing is tested.
    """

    title: str
    sizes: tuple[int, ...]
    network: Callable[[int], nn.Module]
    declared: Callable[[nn.Module, int], Declared]
    naive: Naive
    noise: Callable[[int, int], tuple[int, ...]]
    cached: Callable[[nn.Module], eager.Sampler] | None = None
    target: Target | None = None
    products: Sequence[Product] = ()
    nodes: tuple[int, int] = (0, 0)
    steps: Callable[[int], int] = int
    stepping: Callable[[nn.Module], eager.Sampler] | None = None
    twin: Callable[[int], nn.Module] | None = None
    sharpen: Mapping[str, float] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """The size that is raced."""
        return self.sizes[-1]

    @property
    def law(self) -> str:
        """Law of the noise."""
        return "normal" if self.title == "MAF inverse" else "gumbel"


def sampler_of(model: nn.Module) -> Declared:
    """Return what a model of the toolkit declares as its sampler."""
    found = {entry.name: entry for entry in declared_entries(model)}
    return next(found[name] for name in ("inverse", "sample", "generate") if name in found)


def _pixels(_: nn.Module, height: int) -> Autoregressive:
    x = Input("x", torch.zeros(EXAMPLES, 1, height, WIDTH), dims=("batch", None, None, None))
    return Autoregressive("sample", "forward", x, "raster", LEVELS, 1, eager.pixel)


def _tokens(
    _: nn.Module, length: int, *, levels: int = LEVELS, axis: int = 2, start: int = 0
) -> Autoregressive:
    example = torch.randint(levels, (EXAMPLES, length), generator=torch.Generator().manual_seed(0))
    x = Input("x", example, dims=("batch", "time"), kind="token", low=0, high=levels - 1)
    return Autoregressive(
        "sample", "forward", x, "time", levels, axis, predicts="next", start=start
    )


def _bits(_: nn.Module, features: int) -> Autoregressive:
    x = Input("x", torch.zeros(EXAMPLES, features), dims=("batch", None))
    return Autoregressive("sample", "forward", x, "time", 2, 2, lambda bit: bit.float())


def _inverse(_: nn.Module, features: int) -> Entry:
    z = Input("z", torch.randn(EXAMPLES, features), dims=("batch", None), kind="noise")
    return Entry("inverse", "inverse", [z], ["x"])


def _wave_steps(height: int) -> int:
    return WIDTH + 4 * (height - 1)


def _picture_products(outer: int) -> tuple[Product, ...]:
    return (
        Product(24, 64, 7),
        Product(256, outer, 7, count=7),
        Product(64, outer, 7, count=7),
        Product(64, 64, 7),
        Product(64, LEVELS, 7),
    )


def _picture(*, gated: bool, twin: Callable[[int], nn.Module], target: Target) -> Subject:
    return Subject(
        title="gated PixelCNN" if gated else "PixelCNN",
        sizes=(7, 14, 21, WIDTH),
        network=lambda _: PixelCNN(gated=gated),
        declared=_pixels,
        naive=eager.naive_pixels,
        noise=lambda height, batch: (height * WIDTH, batch, LEVELS),
        cached=eager.cached_pixels,
        target=target,
        products=_picture_products(128 if gated else 64),
        nodes=(72, 72) if gated else (51, 51),
        steps=_wave_steps,
        twin=twin,
        sharpen={"logits": 4},
    )


def _naive_digits(
    model: nn.Module, noise: Tensor, drawn: Tensor, positions: Sequence[int]
) -> Tensor:
    embed = partial(_level_value, model)
    return eager.naive_pixels(model, noise, drawn, positions, embed)


def _level_value(model: pixelcnn.PixelCNN, level: Tensor) -> Tensor:
    return model.embed(level.to(torch.get_default_dtype()))


def _shared_size(length: int) -> dict[str, int]:
    return {"levels": LEVELS, "length": length}


SUBJECTS = {
    "pixelcnn": _picture(
        gated=False,
        twin=lambda height: pixelcnn.PixelCNN(
            levels=LEVELS, height=height, width=WIDTH, channels=64, layers=7
        ),
        target=Target((450, 800), (9, 3), 0.75),
    ),
    "gated": _picture(
        gated=True,
        twin=lambda height: gated_pixelcnn.GatedPixelCNN(
            levels=LEVELS, height=height, width=WIDTH, channels=64, layers=7
        ),
        target=Target((400, 900), (7, 3), 0.75),
    ),
    "wavenet": Subject(
        title="WaveNet",
        sizes=(250, 500, 750, 1000),
        network=lambda _: WaveNet(),
        declared=partial(_tokens, axis=1, start=eager.START),
        naive=eager.naive_whole,
        noise=lambda length, batch: (length, batch, LEVELS),
        cached=eager.cached_wavenet,
        target=Target((170, 900), (4, 2.4), 0.75, step=(0, 2.8)),
        products=(
            Product(64, 128, count=20),
            Product(64, 128, count=20),
            Product(64, 64, count=19),
            Product(1280, 64),
            Product(64, 64),
            Product(64, LEVELS),
        ),
        nodes=(139, 139),
        twin=lambda length: wavenet.WaveNet(
            **_shared_size(length), channels=64, skip_channels=64, layers=10, cycles=2
        ),
        sharpen={"logits": 4},
    ),
    "gpt": Subject(
        title="GPT",
        sizes=(64, 128, 192, 256),
        network=lambda _: GPT(),
        declared=_tokens,
        naive=eager.naive_prefix,
        noise=lambda length, batch: (length, batch, LEVELS),
        cached=eager.cached_gpt,
        target=Target((40, 70), (5, 2.5), 0.7),
        products=(
            Product(128, 384, count=4),
            Product(32, 128, stacked=4, count=4),
            Product(128, 32, stacked=4, count=4),
            Product(128, 128, count=4),
            Product(128, 512, count=4),
            Product(512, 128, count=4),
            Product(128, LEVELS),
        ),
        nodes=(70, 109),
        twin=lambda length: transformer.Transformer(
            **_shared_size(length), longest=256, features=128, heads=4, layers=4
        ),
        sharpen={"head": 4},
    ),
    "lstm": Subject(
        title="LSTM",
        sizes=(64, 128, 192, 256),
        network=lambda _: LSTM(),
        declared=partial(_tokens, levels=128),
        naive=eager.naive_prefix,
        noise=lambda length, batch: (length, batch, 128),
        cached=eager.cached_lstm,
        stepping=eager.stepped_lstm,
        target=Target((80, 130), (1.5, 2.9), 0.8, stepping=(9, 4)),
        products=(Product(256, 1024), Product(512, 1024), Product(256, 128)),
        nodes=(26, 26),
        twin=lambda length: lstm.LSTM(
            tokens=128, length=length, embedding=256, hidden=256, layers=2
        ),
        sharpen={"head": 12, "cells": 2},
    ),
    "nade": Subject(
        title="NADE",
        sizes=(196, 392, 588, 784),
        network=NADE,
        declared=_bits,
        naive=eager.naive_vector,
        noise=lambda features, batch: (features, batch, 2),
        cached=eager.cached_nade,
        target=Target((350, 5000), (5, 2.5), 0.9),
        products=(Product(500, 1), Product(1, 500)),
        nodes=(8, 8),
        twin=lambda features: nade.NADE(features=features, hidden=500),
    ),
    "maf": Subject(
        title="MAF inverse",
        sizes=(16, 32, 48, 64),
        network=MAF,
        declared=_inverse,
        naive=eager.naive_flow,
        noise=lambda features, batch: (batch, features),
        cached=eager.cached_maf,
        target=Target((5.5, 20), (2.8, 2.2), 0.73),
        products=(Product(1, 576), Product(9, 576), Product(9, 128)),
        nodes=(13, 13),
        steps=lambda features: 5 * features,
        twin=lambda features: maf.MAF(features=features, depth=5, hidden=512, layers=2),
    ),
    "digits": Subject(
        title="PixelCNN of the recipe, digits 8×8",
        sizes=(8,),
        network=lambda _: pixelcnn.PixelCNN(**DIGITS),
        declared=lambda model, _: sampler_of(model),
        naive=_naive_digits,
        noise=lambda height, batch: (height * 8, batch, DIGITS["levels"]),
        sharpen={"stack.6.conv": 4},
    ),
}

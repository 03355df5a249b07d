"""Every schedule draws what the plain loop draws, index for index, in eager and as one graph.

The networks are written as people write them, and know nothing of the toolkit. A schedule that
does not take one says why; every network is taken by one schedule at least.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import onnxruntime
import pytest
import torch
from torch import nn
from torch.export import Dim
from torch.nn import functional as F

from toolkit.capture.causal.program import double_by_default
from toolkit.core.entry import Autoregressive, Input
from toolkit.core.errors import ExportError
from toolkit.core.registry import schedules
from toolkit.models.gated_pixelcnn import GatedPixelCNN as PixelCNNOfColours
from toolkit.models.pixelcnn import PixelCNN
from toolkit.models.pixelrnn import PixelRNN

NAMES = schedules.names()
LEVELS = 7


class WaveNet(nn.Module):
    """Dilated convolutions, padded on the left; position t speaks of sample t."""

    def __init__(self, channels=6, dilations=(1, 2, 4, 1, 2)):
        super().__init__()
        self.dilations = dilations
        self.first = nn.Conv1d(1, channels, 1)
        self.layers = nn.ModuleList(
            nn.Conv1d(channels, 2 * channels, 2, dilation=d) for d in dilations
        )
        self.residual = nn.ModuleList(nn.Conv1d(channels, channels, 1) for _ in dilations)
        self.last = nn.Conv1d(channels, LEVELS, 1)

    def forward(self, x):
        h = self.first(F.pad(x, (1, 0))[:, :, :-1])
        total = 0
        for dilation, layer, residual in zip(
            self.dilations, self.layers, self.residual, strict=True
        ):
            a, b = layer(F.pad(h, (dilation, 0))).chunk(2, dim=1)
            gated = torch.tanh(a) * torch.sigmoid(b)
            total, h = total + gated, h + residual(gated)
        return 6 * self.last(F.relu(total))


class GPT(nn.Module):
    """A transformer with a learned table of positions; position t speaks of token t + 1."""

    def __init__(self, width=8, heads=2, layers=2, longest=12):
        super().__init__()
        self.heads = heads
        self.token, self.place = nn.Embedding(LEVELS, width), nn.Embedding(longest, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2 * layers))
        self.qkv = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(layers))
        self.mix = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.mlp = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
            for _ in range(layers)
        )
        self.head = nn.Linear(width, LEVELS)

    def forward(self, tokens):
        batch, length = tokens.shape
        x = self.token(tokens) + self.place(torch.arange(length))
        for i, (qkv, mix, mlp) in enumerate(zip(self.qkv, self.mix, self.mlp, strict=True)):
            parts = qkv(self.norms[2 * i](x)).split(x.shape[-1], dim=2)
            q, k, v = (part.view(batch, length, self.heads, -1).transpose(1, 2) for part in parts)
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + mix(y.transpose(1, 2).reshape(batch, length, -1))
            x = x + mlp(self.norms[2 * i + 1](x))
        return 4 * self.head(x)


class Recurrent(nn.Module):
    """A recurrent language model."""

    def __init__(self, cell=nn.LSTM, width=8):
        super().__init__()
        self.token = nn.Embedding(LEVELS, width)
        self.cells = cell(width, width, 2, batch_first=True)
        self.head = nn.Linear(width, LEVELS)

    def forward(self, tokens):
        return 8 * self.head(self.cells(self.token(tokens))[0])


class InPlaceConv2d(nn.Conv2d):
    """A masked convolution as most tutorials write it: the weight is masked in place."""

    def __init__(self, kind, *args, **kwargs):
        super().__init__(*args, **kwargs)
        mask = torch.ones_like(self.weight)
        _, _, rows, columns = mask.shape
        mask[:, :, rows // 2, columns // 2 + (kind == "B") :] = 0
        mask[:, :, rows // 2 + 1 :] = 0
        self.register_buffer("mask", mask)

    def forward(self, x):
        self.weight.data *= self.mask
        return super().forward(x)


class InPlacePixelCNN(nn.Module):
    """Masked convolutions with batch norm and residuals."""

    def __init__(self, channels=6, layers=2):
        super().__init__()
        self.first = InPlaceConv2d("A", 1, channels, 5, padding=2)
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(channels),
                nn.ReLU(),
                InPlaceConv2d("B", channels, channels, 3, padding=1),
            )
            for _ in range(layers)
        )
        self.head = nn.Conv2d(channels, LEVELS, 1)

    def forward(self, x):
        h = self.first(x)
        for layer in self.layers:
            h = h + layer(h)
        return 4 * self.head(F.relu(h))


class GatedPixelCNN(nn.Module):
    """A vertical stack, which sees all rows above, feeds a horizontal one."""

    def __init__(self, channels=4, layers=2):
        super().__init__()
        sizes = [(1 if i == 0 else channels, 3, i == 0) for i in range(layers)]
        self.vertical = nn.ModuleList(
            nn.Conv2d(n, 2 * channels, (k // 2 + 1, k), padding=(k // 2, k // 2))
            for n, k, _ in sizes
        )
        self.horizontal = nn.ModuleList(
            nn.Conv2d(n, 2 * channels, (1, k // 2 + (not first)), padding=(0, k // 2))
            for n, k, first in sizes
        )
        self.down = nn.ModuleList(nn.Conv2d(2 * channels, 2 * channels, 1) for _ in sizes)
        self.mix = nn.ModuleList(nn.Conv2d(channels, channels, 1) for _ in sizes)
        self.head = nn.Conv2d(channels, LEVELS, 1)

    @staticmethod
    def gate(x):
        a, b = x.chunk(2, 1)
        return torch.tanh(a) * torch.sigmoid(b)

    def forward(self, x):
        v = h = x
        rows, columns = x.shape[-2:]
        layers = zip(self.vertical, self.horizontal, self.down, self.mix, strict=True)
        for i, (vertical, horizontal, down, mix) in enumerate(layers):
            above = vertical(v)[:, :, :rows]
            shifted = F.pad(above, (0, 0, 1, 0))[:, :, :-1]
            out = mix(self.gate(horizontal(h)[:, :, :, :columns] + down(shifted)))
            v, h = self.gate(above), out if i == 0 else h + out
        return 8 * self.head(F.relu(h))


class MaskedMLP(nn.Module):
    """Masked linear layers in any order of units, with a residual; position t speaks of bit t."""

    def __init__(self, features=9, hidden=24, levels=LEVELS, layers=2):
        super().__init__()
        order = torch.arange(features)
        degrees = [order, *[torch.randint(features - 1, (hidden,))] * layers]
        self.levels = levels
        self.layers = nn.ModuleList(
            nn.Linear(len(a), len(b)) for a, b in itertools.pairwise(degrees)
        )
        self.last = nn.Linear(hidden, features * levels)
        with torch.no_grad():
            for layer, a, b in zip(self.layers, degrees, degrees[1:], strict=False):
                layer.weight *= b[:, None] >= a
            self.last.weight *= 8 * (order.repeat_interleave(levels)[:, None] > degrees[-1])

    def forward(self, x):
        h = torch.tanh(self.layers[0](x))
        for layer in self.layers[1:]:
            h = h + F.gelu(layer(F.relu(h)))
        return self.last(h).view(len(x), -1, self.levels)


class RunningSum(nn.Module):
    """Every bit from hidden units that read the bits before it, as a running sum."""

    def __init__(self, features=9, hidden=11):
        super().__init__()
        self.read = nn.Parameter(torch.randn(features, hidden))
        self.write = nn.Parameter(2 * torch.randn(features, hidden))
        self.start = nn.Parameter(torch.randn(hidden))
        self.bias = nn.Parameter(torch.randn(features))

    def forward(self, x):
        terms = (x[:, :, None] * self.read)[:, :-1]
        terms = torch.cat([self.start.expand(len(x), 1, -1), terms], 1)
        logit = (torch.sigmoid(terms.cumsum(1)) * self.write).sum(-1) + self.bias
        return torch.stack([torch.zeros_like(logit), logit], -1)


class Triangular(nn.Module):
    """Every bit's logit is linear in the bits before it."""

    def __init__(self, features=9):
        super().__init__()
        self.weight = nn.Parameter(3 * torch.randn(features, features))
        self.bias = nn.Parameter(torch.randn(features))

    def forward(self, x):
        logit = x @ self.weight.tril(-1).T + self.bias
        return torch.stack([-logit, logit], -1)


class Recoloured(nn.Module):
    """A network of colours in another order."""

    def __init__(self, model, order):
        super().__init__()
        self.model, self.order = model, order

    def forward(self, x):
        logits = self.model(torch.cat([x[:, i : i + 1] for i in self.order], 1))
        places = [self.order.index(i) for i in range(len(self.order))]
        return torch.cat([logits[:, :, i : i + 1] for i in places], 2)


@dataclass(frozen=True)
class Net:
    """A network, how it is sampled, and which schedules take it."""

    make: Callable[[], nn.Module]
    sampler: Callable[[nn.Module], Autoregressive]
    takes: tuple[str, ...]


def scale(level):
    return level / (LEVELS - 1) * 2 - 1


def tokens(model) -> Autoregressive:
    x = Input("x", torch.zeros(2, 12, dtype=torch.int64), ("batch", "time"), high=LEVELS - 1)
    return Autoregressive("sample", "forward", x, "time", LEVELS, 2, predicts="next", start=3)


def longer(model) -> Autoregressive:
    x = Input("x", torch.zeros(2, 37, dtype=torch.int64), ("batch", "time"), high=LEVELS - 1)
    return Autoregressive("sample", "forward", x, "time", LEVELS, 2, predicts="next", start=3)


def signal(model) -> Autoregressive:
    x = Input("x", torch.zeros(2, 1, 12), ("batch", None, "time"))
    return Autoregressive("sample", "forward", x, "time", LEVELS, 1, scale)


def vector(model) -> Autoregressive:
    levels = getattr(model, "levels", 2)
    x = Input("x", torch.zeros(2, 9), ("batch", None))
    embed = scale if levels > 2 else torch.Tensor.float
    return Autoregressive("sample", "forward", x, "time", levels, 2, embed)


def long_signal(model) -> Autoregressive:
    x = Input("x", torch.zeros(2, 1, 85), ("batch", None, "time"))
    return Autoregressive("sample", "forward", x, "time", LEVELS, 1, scale)


def image(model) -> Autoregressive:
    x = Input("x", torch.zeros(2, 1, 5, 6), ("batch", None, None, None))
    return Autoregressive("sample", "forward", x, "raster", LEVELS, 1, scale)


def picture(model) -> Autoregressive:
    return next(item for item in model.entries() if isinstance(item, Autoregressive))


def pixelcnn(*takes, **arguments):
    def make():
        model = PixelCNN(**{"levels": 5, "channels": 8, "layers": 2, **arguments})
        with torch.no_grad():
            model.stack[-1].conv.weight *= 8
        return model

    return Net(make, picture, takes)


def coloured(order):
    """Gated PixelCNN of colours, which come in any order."""

    def make():
        torch.manual_seed(1)
        model = PixelCNNOfColours(levels=5, colours=3, height=5, width=6, channels=6, layers=1)
        with torch.no_grad():
            model.head[-1].weight *= 8
        return Recoloured(model, order)

    def sampler(model):
        x = Input("x", torch.zeros(2, 3, 5, 6), ("batch", None, None, None))
        embed = model.model.embed
        return Autoregressive(
            "sample", "forward", x, "raster", 5, 1, embed, channel_order=model.order
        )

    return Net(make, sampler, ("wavefront",))


def pixelrnn(cells, **more):
    def make():
        sizes = {"levels": 5, "hidden": 6, "layers": 2, "height": 5, "width": 6}
        model = PixelRNN(cells=cells, **sizes, **more)
        with torch.no_grad():
            model.rest[-1].weight *= 8
        return model

    return Net(make, picture, ("steps",))


NETS = {
    "wavenet": Net(WaveNet, signal, ("scan",)),
    "dilated wavenet": Net(
        partial(WaveNet, dilations=(2, 8, 1, 41, 3, 13)), long_signal, ("chunks",)
    ),
    "gpt": Net(GPT, tokens, ("scan",)),
    "long gpt": Net(partial(GPT, layers=1, longest=37), longer, ("cache",)),
    "lstm": Net(Recurrent, tokens, ("scan",)),
    "gru": Net(lambda: Recurrent(nn.GRU), tokens, ("scan",)),
    "in-place pixelcnn": Net(InPlacePixelCNN, image, ("rows", "wavefront")),
    "gated pixelcnn": Net(GatedPixelCNN, image, ("rows", "wavefront")),
    "pixelcnn": pixelcnn("rows", "wavefront", height=6, width=6),
    "wide": pixelcnn("wavefront", height=5, width=11, layers=1),
    "tall": pixelcnn("wavefront", height=11, width=6, layers=3, levels=2),
    "no layers": pixelcnn("wavefront", height=7, width=6, layers=0, first_kernel=3),
    "large kernels": pixelcnn("wavefront", height=6, width=9, first_kernel=3, kernel=5),
    "one row": pixelcnn("rows", height=1, width=5),
    "one column": pixelcnn("rows", height=5, width=1),
    "masked mlp": Net(MaskedMLP, vector, ("accumulator",)),
    "deep masked mlp": Net(partial(MaskedMLP, layers=4), vector, ("accumulator",)),
    "masked mlp of bits": Net(partial(MaskedMLP, levels=2), vector, ("accumulator",)),
    "running sum": Net(RunningSum, vector, ("accumulator",)),
    "triangular": Net(Triangular, vector, ("accumulator",)),
    "coloured pixelcnn": coloured((0, 1, 2)),
    "coloured backwards": coloured((2, 1, 0)),
    "pixelrnn": pixelrnn("diagonal"),
    "coloured pixelrnn": pixelrnn("diagonal", colours=3),
    "row pixelrnn": pixelrnn("row"),
}
TAKEN = [(net, name) for net, item in NETS.items() for name in item.takes]
VECTORS = ("masked mlp", "running sum")
EXPORTED = (
    "dilated wavenet",
    *VECTORS,
    "wavenet",
    "gpt",
    "long gpt",
    "lstm",
    "in-place pixelcnn",
    "gated pixelcnn",
    "pixelrnn",
)
BOTH = [case for case in TAKEN if case[0] in EXPORTED or case == ("wide", "wavefront")]


def build(name) -> tuple[nn.Module, Autoregressive]:
    torch.manual_seed(0)
    model = NETS[name].make().eval()
    return model, NETS[name].sampler(model)


@cache
def laid(net, name):
    """Return a network, its sampler and their layout by a schedule."""
    model, sampler = build(net)
    return model, sampler, schedules.load(name)(model, sampler)


def gumbel(sampler, batch, seed=1, length=0):
    sizes = [sampler.input.shape[axis] for axis in sampler.position_axes]
    positions = length or torch.tensor(sizes).prod() * sampler.colours
    draws = torch.Generator().manual_seed(seed)
    uniform = torch.rand(positions, batch, sampler.levels, generator=draws)
    return -(-uniform.clamp(1e-7, 1 - 1e-7).log()).log()


@torch.no_grad()
def plain_loop(model, sampler, noise):
    """The sampler that everyone writes: a whole forward pass per position."""
    shape = list(sampler.input.shape)
    shape[0] = noise.shape[1]
    if sampler.order == "time":
        shape[sampler.position_axes[0]] = noise.shape[0]
    x = torch.zeros(shape, dtype=getattr(torch, sampler.input.dtype))
    levels = torch.zeros(shape, dtype=torch.int64)
    embed = sampler.embed or (lambda level: level)
    flat, drawn = x.reshape(len(x), -1), levels.reshape(len(x), -1)
    late = sampler.predicts == "next"
    if late:
        flat[:, 0] = embed(torch.tensor(sampler.start))
    order, colours = sampler.channel_order or (0,), sampler.colours
    for turn in range(len(noise)):
        pixel, rank = divmod(turn, colours)
        position = order[rank] * (len(noise) // colours) + pixel
        logits = model(x).movedim(sampler.levels_axis, 1).flatten(2)
        level = (logits[:, :, position] + noise[turn]).argmax(1)
        drawn[:, position] = level
        if position + late < len(noise):
            flat[:, position + late] = embed(level).to(x.dtype)
    return levels


def export(module, sampler, scheduled, noise):
    """Return an ONNX Runtime session of the module with a dynamic batch, and length."""
    torch._dynamo.reset()
    dims: dict[int, Any] = {1: Dim("batch", min=1, max=1024)}
    if scheduled.lengths:
        dims[0] = Dim("time", min=scheduled.lengths[0], max=scheduled.lengths[1])
    with torch.no_grad():
        program = torch.export.export(module, (noise,), dynamic_shapes=(dims,), strict=False)
        onnx = torch.onnx.export(
            program, dynamo=True, opset_version=20, input_names=["noise"], verbose=False
        )
    return onnxruntime.InferenceSession(
        onnx.model_proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )


def test_every_schedule_takes_a_network():
    assert {name for _, name in TAKEN} == set(NAMES)


@torch.no_grad()
@pytest.mark.parametrize("batch", [1, 16])
@pytest.mark.parametrize(("net", "name"), TAKEN)
def test_draws_what_the_plain_loop_draws(net, name, batch):
    model, sampler, scheduled = laid(net, name)
    noise = gumbel(sampler, batch)
    drawn = scheduled.generate(noise)
    expected = plain_loop(model, sampler, noise)
    assert drawn.dtype == torch.int64
    assert torch.equal(drawn, expected)
    assert len(expected.unique()) > 1


@torch.no_grad()
@pytest.mark.parametrize(("net", "name"), TAKEN)
def test_a_copy_in_double_precision_draws_too(net, name):
    _, sampler, scheduled = laid(net, name)
    noise = gumbel(sampler, 2).double()
    with double_by_default():
        drawn = copy.deepcopy(scheduled.generate).double()(noise)
    assert drawn.shape == scheduled.generate(noise.float()).shape


@torch.no_grad()
@pytest.mark.parametrize(("net", "name"), BOTH)
def test_the_exported_graph_draws_the_same_at_every_batch_and_length(net, name):
    model, sampler, scheduled = laid(net, name)
    session = export(scheduled.generate, sampler, scheduled, gumbel(sampler, 2))
    least = scheduled.lengths[0] if scheduled.lengths else 0
    lengths = [0, least, least + 4] if least else [0]
    for batch, length in [(1, 0), (3, lengths[-1]), (16, lengths[len(lengths) // 2])]:
        noise = gumbel(sampler, batch, seed=batch, length=length)
        (drawn,) = session.run(None, {"noise": noise.numpy()})
        assert torch.equal(torch.from_numpy(drawn), plain_loop(model, sampler, noise))


@torch.no_grad()
@pytest.mark.parametrize(("net", "name"), BOTH)
def test_the_exported_graph_holds_one_scan_and_nothing_unrolled(net, name):
    _, sampler, scheduled = laid(net, name)
    module = scheduled.generate
    torch._dynamo.reset()
    noise = gumbel(sampler, 2)
    program = torch.export.export(module, (noise,), strict=False)
    targets = [str(node.target) for node in program.graph.nodes]
    assert targets.count("scan") == 1
    assert len(targets) < 40 + 2 * len(program.state_dict)


@torch.no_grad()
@pytest.mark.parametrize(("net", "name"), BOTH)
def test_every_planted_fault_is_noticed(net, name):
    """Each larger weight of the sampler matters: one that is dropped shows in what is drawn."""
    _, sampler, scheduled = laid(net, name)
    noise, module = gumbel(sampler, 64), scheduled.generate
    expected = module(noise)
    weights = [
        value
        for value in module.state_dict().values()
        if value.is_floating_point() and value.ndim >= 2 and value.numel() >= 36 and value.any()
    ]
    assert weights
    for weight in weights:
        kept = weight.clone()
        weight.zero_()
        assert not torch.equal(module(noise), expected)
        weight.copy_(kept)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("order", ["time", "raster"])
def test_refuses_what_it_cannot_schedule(name, order):
    x = torch.zeros(2, 1, 6, 6) if order == "raster" else torch.zeros(2, 1, 6)
    dims = ("batch", None, None, None) if order == "raster" else ("batch", None, "time")
    sampler = Autoregressive("sample", "forward", Input("x", x, dims), order, 5, 1, scale)
    network = nn.Conv2d(1, 5, 3, padding=1) if order == "raster" else nn.Conv1d(1, 5, 3, padding=1)
    with pytest.raises(ExportError) as raised:
        schedules.load(name)(network, sampler)
    assert raised.value.where
    assert raised.value.next_step

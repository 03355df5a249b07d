"""What is derived step by step, and what is refused with the node, the line and the reason."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from toolkit.capture.causal.derive import derive
from toolkit.capture.causal.lane import Refusal
from toolkit.capture.causal.prove import prove
from toolkit.core.entry import Autoregressive, Input
from toolkit.core.errors import ExportError

LEVELS, LENGTH = 5, 10


def sampler(levels_axis=1, **given):
    x = Input("x", torch.zeros(2, 1, LENGTH), ("batch", None, "time"))
    return Autoregressive("sample", "forward", x, "time", LEVELS, levels_axis, **given)


class Shifted(nn.Module):
    """Shift the signal by one, then what is under test, then a head."""

    def __init__(self, inner, width=4):
        super().__init__()
        self.first, self.inner = nn.Conv1d(1, 4, 1), inner
        self.head = nn.Conv1d(width, LEVELS, 1)

    def forward(self, x):
        return self.head(self.inner(self.first(F.pad(x, (1, 0))[:, :, :-1])))


class Cropped(nn.Module):
    """Residuals cropped on the left instead of padded."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv1d(4, 4, 2, dilation=d) for d in (1, 2))

    def forward(self, x):
        h = F.pad(x, (3, 0))
        for layer in self.layers:
            y = torch.tanh(layer(h))
            h = y + h[:, :, -y.size(2) :]
        return h


class PaddedAfter(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv1d(4, 4, 3), nn.Conv1d(4, 4, 3)

    def forward(self, x):
        return self.b(F.pad(F.pad(self.a(x), (2, 0)).sigmoid() + 1, (2, 0)))


class Depthwise(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv1d(4, 4, 4, groups=4, padding=3)

    def forward(self, x):
        return F.silu(self.layer(x)[..., : x.shape[-1]])


class ChannelNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.norm = nn.Conv1d(4, 4, 2), nn.LayerNorm(4)

    def forward(self, x):
        return self.norm(self.layer(F.pad(x, (1, 0))).permute(0, 2, 1)).permute(0, 2, 1)


class RunningMean(nn.Module):
    def forward(self, x):
        return x.relu().cumsum(-1) / torch.arange(1, x.shape[-1] + 1)


class Scores(nn.Module):
    """Attention spelled out, with a mask of the last positions."""

    def __init__(self, window=LENGTH, bias=0.0):
        super().__init__()
        self.window, self.bias = window, bias

    def forward(self, x):
        h = x.transpose(1, 2)
        places = torch.arange(h.shape[1])
        behind = places[:, None] - places
        scores = h @ h.transpose(1, 2) - self.bias * behind
        hidden = (behind < 0) | (behind >= self.window)
        return (scores.masked_fill(hidden, float("-inf")).softmax(-1) @ h).transpose(1, 2)


class Masked(nn.Module):
    """The fused attention with a mask given as a tensor."""

    def __init__(self, window):
        super().__init__()
        self.register_buffer("mask", torch.ones(LENGTH, LENGTH).tril().triu(1 - window).bool())

    def forward(self, x):
        h = x.transpose(1, 2).unsqueeze(1)
        return F.scaled_dot_product_attention(h, h, h, self.mask).squeeze(1).transpose(1, 2)


class TimeFirst(nn.Module):
    """A layer of torch's own transformer, time first, with its own causal mask."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        h = x.permute(2, 0, 1)
        mask = nn.Transformer.generate_square_subsequent_mask(len(h))
        if isinstance(self.inner, nn.MultiheadAttention):
            h = self.inner(h, h, h, attn_mask=mask, need_weights=False)[0]
        else:
            h = self.inner(h, mask=mask, is_causal=True)
        return h.permute(1, 2, 0)


class Flattened(nn.Module):
    """A layer over all positions of all items at once."""

    def __init__(self):
        super().__init__()
        self.layer, self.norm = nn.Linear(4, 4), nn.LayerNorm(4)

    def forward(self, x):
        h = x.transpose(1, 2)
        batch, length, width = h.shape
        flat = torch.tanh(self.norm(self.layer(h.reshape(batch * length, width)))) + 1
        return flat.view(batch, length, width).transpose(1, 2)


def encoder():
    layer = nn.TransformerEncoderLayer(4, 2, 8, norm_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


DERIVED = {
    "multi-head attention": TimeFirst(nn.MultiheadAttention(4, 2)),
    "transformer encoder": TimeFirst(encoder()),
    "positions merged with the batch": Flattened(),
    "plain": nn.Conv1d(4, 4, 1),
    "batch norm": nn.Sequential(
        nn.ConstantPad1d((2, 0), 0.0), nn.Conv1d(4, 4, 3), nn.BatchNorm1d(4)
    ),
    "cropped": Cropped(),
    "padded after": PaddedAfter(),
    "depthwise": Depthwise(),
    "channel norm": ChannelNorm(),
    "running mean": RunningMean(),
    "attention": Scores(),
    "windowed attention": Scores(window=3),
    "attention with biases": Scores(bias=0.3),
    "fused attention": Masked(LENGTH),
    "fused windowed attention": Masked(3),
}


@pytest.mark.parametrize("name", DERIVED)
def test_the_step_is_proved_equal_to_the_whole_forward(name):
    torch.manual_seed(0)
    network = Shifted(DERIVED[name]).eval()
    prove(network, sampler(), derive(network, sampler()))


class OpenAttention(nn.Module):
    def forward(self, x):
        h = x.transpose(1, 2)
        return ((h @ h.transpose(1, 2)).softmax(-1) @ h).transpose(1, 2)


class Bidirectional(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.LSTM(4, 2, bidirectional=True, batch_first=True)

    def forward(self, x):
        return self.layer(x.transpose(1, 2))[0].transpose(1, 2)


REFUSED = {
    "centred convolution": (nn.Conv1d(4, 4, 3, padding=1), "not causal"),
    "instance norm": (nn.InstanceNorm1d(4), "normalises over time"),
    "group norm": (nn.GroupNorm(2, 4), "normalises over time"),
    "reflected": (nn.Sequential(nn.ReflectionPad1d((2, 0)), nn.Conv1d(4, 4, 3)), "reflect"),
    "strided": (nn.Conv1d(4, 4, 2, stride=2), "strided"),
    "open attention": (OpenAttention(), "without a causal mask"),
    "bidirectional": (Bidirectional(), "reads the future"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_network_outside_the_class_is_refused_with_node_line_and_reason(name):
    inner, reason = REFUSED[name]
    with pytest.raises(Refusal, match=reason) as raised:
        derive(Shifted(inner).eval(), sampler())
    assert str(raised.value.node.name) in raised.value.what
    assert raised.value.where


def test_a_wrong_predicts_is_an_error():
    network = Shifted(DERIVED["plain"]).eval()
    declared = sampler(predicts="next")
    with pytest.raises(ExportError, match="predicts='next'"):
        prove(network, declared, derive(network, declared))
    unshifted = nn.Conv1d(1, LEVELS, 1).eval()
    with pytest.raises(ExportError, match="predicts='this'"):
        prove(unshifted, sampler(), derive(unshifted, sampler()))


def test_a_wrong_step_is_an_error():
    torch.manual_seed(0)
    network = Shifted(Cropped()).eval()
    derived = derive(network, sampler())
    weight = max((b for b in derived.step.buffers() if b.ndim > 2), key=torch.Tensor.numel)
    weight[..., 0, 0] += 1e-6
    with pytest.raises(ExportError, match="differs from the whole forward"):
        prove(network, sampler(), derived)

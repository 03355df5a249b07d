"""Causal networks in ordinary PyTorch, at the sizes that samplers are measured at.

Nothing here knows of the toolkit. `features` and `head` are apart where the plain sampler needs
the logits of the last position alone.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEVELS = 256
# Deviations of the weights of a MADE's three layers.
MADE_SCALES = (0.18, 0.06, 0.03)


class MaskedConv2d(nn.Conv2d):
    """A convolution whose weight is zero from the current pixel on (A) or behind it (B)."""

    def __init__(self, kind: str, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__(inputs, outputs, kernel, padding=kernel // 2)
        middle = kernel // 2
        mask = torch.ones(kernel, kernel)
        mask[middle, middle + (kind == "B") :] = 0
        mask[middle + 1 :] = 0
        self.weight.data *= mask


class PixelCNN(nn.Module):
    """Residual masked convolutions; `gated` splits each into a tanh and a sigmoid."""

    def __init__(self, *, gated: bool, channels: int = 64, layers: int = 7) -> None:
        super().__init__()
        self.gated, self.channels = gated, channels
        width = 2 * channels if gated else channels
        self.first = MaskedConv2d("A", 1, channels, 7)
        self.layers = nn.ModuleList(MaskedConv2d("B", channels, width, 3) for _ in range(layers))
        self.hidden = nn.Conv2d(channels, channels, 1)
        self.logits = nn.Conv2d(channels, LEVELS, 1)

    def act(self, z: Tensor) -> Tensor:
        if not self.gated:
            return torch.relu(z)
        value, gate = z.chunk(2, 1)
        return torch.tanh(value) * torch.sigmoid(gate)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.first(x))
        for layer in self.layers:
            h = h + self.act(layer(h))
        return self.logits(torch.relu(self.hidden(h)))


class WaveNet(nn.Module):
    """Twenty dilated gated layers over tokens."""

    def __init__(self, channels: int = 64, layers: int = 20, cycle: int = 10) -> None:
        super().__init__()
        self.channels = channels
        self.dilations = [2 ** (layer % cycle) for layer in range(layers)]
        self.embedding = nn.Embedding(LEVELS, channels)
        self.gates = nn.ModuleList(
            nn.Conv1d(channels, 2 * channels, 2, dilation=dilation) for dilation in self.dilations
        )
        self.mixes = nn.ModuleList(nn.Conv1d(channels, 2 * channels, 1) for _ in self.dilations)
        self.hidden = nn.Conv1d(channels, channels, 1)
        self.logits = nn.Conv1d(channels, LEVELS, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        h = self.embedding(tokens).transpose(1, 2)
        skips = torch.zeros_like(h)
        for dilation, gates, mix in zip(self.dilations, self.gates, self.mixes, strict=True):
            value, gate = gates(F.pad(h, (dilation, 0))).chunk(2, 1)
            residual, skip = mix(torch.tanh(value) * torch.sigmoid(gate)).chunk(2, 1)
            h, skips = h + residual, skips + skip
        return self.logits(torch.relu(self.hidden(torch.relu(skips))))


class Block(nn.Module):
    """Causal self-attention and a perceptron, each behind a norm and beside a residual path."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, time, width = x.shape
        q, k, v = (
            part.view(batch, time, self.heads, -1).transpose(1, 2)
            for part in self.qkv(self.norm1(x)).split(width, 2)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(batch, time, width))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class GPT(nn.Module):
    """A decoder-only transformer."""

    def __init__(
        self, longest: int = 256, width: int = 128, heads: int = 4, layers: int = 4
    ) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(LEVELS, width), nn.Embedding(longest, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, LEVELS)

    def features(self, tokens: Tensor) -> Tensor:
        x = self.token(tokens) + self.position(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.features(tokens))


class LSTM(nn.Module):
    """Two recurrent layers over tokens."""

    def __init__(self, tokens: int = 128, width: int = 256, layers: int = 2) -> None:
        super().__init__()
        self.embedding = nn.Embedding(tokens, width)
        self.cells = nn.LSTM(width, width, layers, batch_first=True)
        self.head = nn.Linear(width, tokens)

    def features(self, tokens: Tensor) -> Tensor:
        return self.cells(self.embedding(tokens))[0]

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.features(tokens))


class NADE(nn.Module):
    """The neural autoregressive estimator of a binary vector, evaluated by one running sum."""

    def __init__(self, features: int, hidden: int = 500) -> None:
        super().__init__()
        self.read = nn.Parameter(0.3 * torch.randn(features, hidden))
        self.write = nn.Parameter(0.3 * torch.randn(features, hidden))
        self.hidden_bias = nn.Parameter(0.3 * torch.randn(hidden))
        self.bias = nn.Parameter(0.3 * torch.randn(features))

    def logit(self, x: Tensor) -> Tensor:
        terms = x[:, :, None] * self.read
        before = torch.cumsum(F.pad(terms[:, :-1], (0, 0, 1, 0)), 1)
        hidden = torch.sigmoid(before + self.hidden_bias)
        return (hidden * self.write).sum(-1) + self.bias

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(self.logit(x)[:, :, None], (1, 0))


class MADE(nn.Module):
    """Shift and log-scale of each feature, given those before it, by masked layers."""

    def __init__(self, features: int, hidden: int = 512) -> None:
        super().__init__()
        self.features = features
        order = torch.arange(1, features + 1)
        degrees = torch.arange(hidden) % (features - 1) + 1
        masks = (
            degrees[:, None] >= order,
            degrees[:, None] >= degrees,
            order.repeat(2)[:, None] > degrees,
        )
        self.layers = nn.ParameterList(
            scale * torch.randn(mask.shape) * mask
            for scale, mask in zip(MADE_SCALES, masks, strict=True)
        )
        self.biases = nn.ParameterList(
            0.1 * torch.randn(size) for size in (hidden, hidden, 2 * features)
        )
        self.degrees = degrees

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.relu(F.linear(x, self.layers[0], self.biases[0]))
        h = torch.relu(F.linear(h, self.layers[1], self.biases[1]))
        shift, log_scale = F.linear(h, self.layers[2], self.biases[2]).chunk(2, 1)
        return shift, log_scale


class MAF(nn.Module):
    """Masked autoregressive flow; the features change their order between transforms."""

    def __init__(self, features: int, depth: int = 5, hidden: int = 512) -> None:
        super().__init__()
        self.features = features
        self.transforms = nn.ModuleList(MADE(features, hidden) for _ in range(depth))

    def inverse(self, z: Tensor) -> Tensor:
        for transform in self.transforms:
            x = torch.zeros_like(z)
            for _ in range(self.features):
                shift, log_scale = transform(x)
                x = z * torch.exp(log_scale) + shift
            z = x.flip(1)
        return z

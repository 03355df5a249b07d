"""What people run without the toolkit: whole forwards per position, and loops with a cache.

A plain sampler (`naive_…`) evaluates the whole network once per position, at the positions that it
is given, on a copy of a finished sample: its cost does not depend on the values, so a part of the
positions tells the cost of all. A sampler with a cache computes everything once per position, with
weights regrouped beforehand; `cached_…` makes one, written by hand for each network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Sampler = Callable[[Tensor], Tensor]
START = 128


def pixel(level: Tensor) -> Tensor:
    """Return the pixel values, -1 to 1, of levels."""
    return level.to(torch.get_default_dtype()) * (2 / 255) - 1


def before(drawn: Tensor, start: int) -> Tensor:
    """Return what a network of the next token reads: the start, then all but the last."""
    return F.pad(drawn, (1, 0), value=start)[:, :-1]


def naive_pixels(
    model: nn.Module,
    noise: Tensor,
    drawn: Tensor,
    positions: Sequence[int],
    embed: Sampler = pixel,
) -> Tensor:
    """Return levels `(positions, batch)`; the whole picture is evaluated at each."""
    width, x = drawn.shape[3], embed(drawn)
    levels = []
    for position in positions:
        row, column = divmod(position, width)
        level = (model(x)[:, :, row, column] + noise[position]).argmax(1)
        x[:, 0, row, column] = embed(level)
        levels.append(level)
    return torch.stack(levels)


def naive_prefix(
    model: nn.Module, noise: Tensor, drawn: Tensor, positions: Sequence[int], start: int = 0
) -> Tensor:
    """Return tokens `(positions, batch)`; at each, what comes before is evaluated."""
    tokens, levels = before(drawn, start), []
    for position in positions:
        logits = model.head(model.features(tokens[:, : position + 1])[:, -1])
        levels.append((logits + noise[position]).argmax(1))
        tokens[:, position + 1 : position + 2] = levels[-1][:, None]
    return torch.stack(levels)


def naive_whole(model: nn.Module, noise: Tensor, drawn: Tensor, positions: Sequence[int]) -> Tensor:
    """Return tokens `(positions, batch)`; all of a fixed length is evaluated at each."""
    tokens, levels = before(drawn, START), []
    for position in positions:
        levels.append((model(tokens)[:, :, position] + noise[position]).argmax(1))
        tokens[:, position + 1 : position + 2] = levels[-1][:, None]
    return torch.stack(levels)


def naive_vector(
    model: nn.Module, noise: Tensor, drawn: Tensor, positions: Sequence[int]
) -> Tensor:
    """Return bits `(positions, batch)`; all logits are evaluated at each."""
    x, levels = drawn.to(noise.dtype), []
    threshold = noise[:, :, 0] - noise[:, :, 1]
    for position in positions:
        bit = model.logit(x)[:, position] > threshold[position]
        x[:, position] = bit.to(x.dtype)
        levels.append(bit.long())
    return torch.stack(levels)


def naive_flow(model: nn.Module, noise: Tensor, drawn: Tensor, positions: Sequence[int]) -> Tensor:  # noqa: ARG001
    """Return vectors `(features, batch)`; every transform is evaluated once per feature."""
    return model.inverse(noise).T


def cached_pixels(model: nn.Module) -> Sampler:
    """Return a sampler that keeps every layer's pixels and multiplies all past taps at once."""
    layers, channels, side = len(model.layers), model.channels, 28
    weight = torch.stack([layer.weight for layer in model.layers])
    above, left = weight[:, :, :, 0], weight[:, :, :, 1, :1]
    past = torch.cat([above, left], 3).permute(0, 3, 2, 1)
    past = past.reshape(layers, 4 * channels, -1).contiguous()
    centre = weight[:, :, :, 1, 1].mT.contiguous()
    bias = torch.stack([layer.bias for layer in model.layers])[:, None]
    first = model.first.weight[:, 0]
    reads = torch.cat([first[:, :3].flatten(1), first[:, 3, :3]], 1).T.contiguous()
    hidden, logits = (
        head.weight[:, :, 0, 0].T.contiguous() for head in (model.hidden, model.logits)
    )

    def sample(noise: Tensor) -> Tensor:
        count, batch = noise.shape[:2]
        height = count // side
        seen = noise.new_zeros(height + 1, side + 2, layers, batch, channels)
        x = noise.new_zeros(height + 3, side + 6, batch)
        drawn = torch.zeros(batch, count, dtype=torch.int64)
        for position in range(count):
            row, column = divmod(position, side)
            above = seen[row, column : column + 3].permute(1, 2, 0, 3)
            taps = torch.cat([above.reshape(layers, batch, -1), seen[row + 1, column]], 2)
            known = torch.baddbmm(bias, taps, past)
            read = torch.cat(
                [
                    x[row : row + 3, column : column + 7].reshape(21, batch),
                    x[row + 3, column : column + 3],
                ]
            ).T
            h = torch.relu(torch.addmm(model.first.bias, read, reads))
            inputs = []
            for layer in range(layers):
                inputs.append(h)
                h = h + model.act(torch.addmm(known[layer], h, centre[layer]))
            seen[row + 1, column + 1] = torch.stack(inputs)
            h = torch.relu(torch.addmm(model.hidden.bias, h, hidden))
            level = (torch.addmm(model.logits.bias, h, logits) + noise[position]).argmax(1)
            drawn[:, position] = level
            x[row + 3, column + 3] = pixel(level)
        return drawn.reshape(batch, 1, height, side)

    return sample


def cached_wavenet(model: nn.Module) -> Sampler:
    """Return a sampler with a ring per layer; all past taps are one batched product."""
    channels, dilations = model.channels, model.dilations
    past = torch.stack([gates.weight[:, :, 0].T for gates in model.gates]).contiguous()
    now = torch.stack([gates.weight[:, :, 1].T for gates in model.gates]).contiguous()
    bias = torch.stack([gates.bias for gates in model.gates])[:, None]
    mixes = [mix.weight[:, :, 0] for mix in model.mixes]
    residual = torch.stack([mix[:channels].T for mix in mixes]).contiguous()
    residual_bias = torch.stack([mix.bias[:channels] for mix in model.mixes])
    skip = torch.cat([mix[channels:].T for mix in mixes]).contiguous()
    skip_bias = torch.stack([mix.bias[channels:] for mix in model.mixes]).sum(0)
    hidden, logits = (head.weight[:, :, 0].T.contiguous() for head in (model.hidden, model.logits))

    def sample(noise: Tensor) -> Tensor:
        batch, drawn = noise.shape[1], []
        level = torch.full((batch,), START)
        rings = [noise.new_zeros(dilation, batch, channels) for dilation in dilations]
        for time, here in enumerate(noise):
            h, gated = F.embedding(level, model.embedding.weight), []
            taps = torch.stack(
                [ring[time % size] for ring, size in zip(rings, dilations, strict=True)]
            )
            known = torch.baddbmm(bias, taps, past)
            for layer, size in enumerate(dilations):
                rings[layer][time % size] = h
                value, gate = torch.addmm(known[layer], h, now[layer]).chunk(2, 1)
                gated.append(torch.tanh(value) * torch.sigmoid(gate))
                h = h + torch.addmm(residual_bias[layer], gated[-1], residual[layer])
            h = torch.relu(torch.addmm(skip_bias, torch.cat(gated, 1), skip))
            h = torch.relu(torch.addmm(model.hidden.bias, h, hidden))
            level = (torch.addmm(model.logits.bias, h, logits) + here).argmax(1)
            drawn.append(level)
        return torch.stack(drawn, 1)

    return sample


def cached_gpt(model: nn.Module) -> Sampler:
    """Return a sampler with keys and values in buffers of the full length."""

    def sample(noise: Tensor) -> Tensor:
        batch, drawn = noise.shape[1], []
        width, heads = model.norm.normalized_shape[0], model.blocks[0].heads
        shape = (len(model.blocks), 2, batch, heads, len(noise), width // heads)
        cache, level = noise.new_zeros(shape), torch.zeros(batch, dtype=torch.int64)
        for time, here in enumerate(noise):
            x = model.token(level) + model.position.weight[time]
            for (keys, values), block in zip(cache, model.blocks, strict=True):
                q, k, v = block.qkv(block.norm1(x)).view(batch, 3, heads, -1).unbind(1)
                keys[:, :, time], values[:, :, time] = k, v
                y = F.scaled_dot_product_attention(
                    q[:, :, None], keys[:, :, : time + 1], values[:, :, : time + 1]
                )
                x = x + block.out(y.reshape(batch, width))
                x = x + block.down(F.gelu(block.up(block.norm2(x))))
            level = (model.head(model.norm(x)) + here).argmax(1)
            drawn.append(level)
        return torch.stack(drawn, 1)

    return sample


def stepped_lstm(model: nn.Module) -> Sampler:
    """Return a sampler that calls `nn.LSTM` with one token at a time."""

    def sample(noise: Tensor) -> Tensor:
        drawn, states = [], None
        level = torch.zeros(noise.shape[1], dtype=torch.int64)
        for here in noise:
            y, states = model.cells(model.embedding(level)[:, None], states)
            level = (model.head(y[:, 0]) + here).argmax(1)
            drawn.append(level)
        return torch.stack(drawn, 1)

    return sample


def cached_lstm(model: nn.Module) -> Sampler:
    """Return a sampler with both cells fused: a table of embedded tokens, one product a layer."""
    cells, width = model.cells, model.cells.hidden_size

    def ordered(name: str) -> Tensor:
        """Return a weight with the three sigmoids side by side, the tanh behind them."""
        i, f, g, o = getattr(cells, name).chunk(4)
        return torch.cat([i, f, o, g])

    bias0, bias1 = (ordered(f"bias_ih_l{n}") + ordered(f"bias_hh_l{n}") for n in (0, 1))
    table = (model.embedding.weight @ ordered("weight_ih_l0").T + bias0).contiguous()
    first = ordered("weight_hh_l0").T.contiguous()
    second = torch.cat([ordered("weight_ih_l1"), ordered("weight_hh_l1")], 1).T.contiguous()
    head = model.head.weight.T.contiguous()

    def cell(gates: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        i, f, o = torch.sigmoid(gates[:, : 3 * width]).chunk(3, 1)
        after = f * before + i * torch.tanh(gates[:, 3 * width :])
        return o * torch.tanh(after), after

    def sample(noise: Tensor) -> Tensor:
        drawn, level = [], torch.zeros(noise.shape[1], dtype=torch.int64)
        h0 = c0 = h1 = c1 = noise.new_zeros(noise.shape[1], width)
        for here in noise:
            h0, c0 = cell(torch.addmm(table[level], h0, first), c0)
            h1, c1 = cell(torch.addmm(bias1, torch.cat([h0, h1], 1), second), c1)
            level = (torch.addmm(model.head.bias, h1, head) + here).argmax(1)
            drawn.append(level)
        return torch.stack(drawn, 1)

    return sample


def cached_nade(model: nn.Module) -> Sampler:
    """Return a sampler that adds a row of weights per bit."""

    def sample(noise: Tensor) -> Tensor:
        threshold = noise[:, :, 0] - noise[:, :, 1] - model.bias[:, None]
        total = model.hidden_bias.repeat(noise.shape[1], 1)
        drawn = torch.zeros(noise.shape[1], noise.shape[0])
        for position, here in enumerate(threshold):
            bit = (torch.sigmoid(total) @ model.write[position] > here).float()
            drawn[:, position] = bit
            total.addr_(bit, model.read[position])
        return drawn.long()

    return sample


def cached_maf(model: nn.Module) -> Sampler:
    """Return an inverse that, as a triangular solve does, adds each final unit's part once."""
    features = model.features
    transforms = [_by_degree(transform) for transform in model.transforms]

    def sample(z: Tensor) -> Tensor:
        for first, second, last, *biases in transforms:
            one, two, out = (bias.repeat(z.shape[0], 1) for bias in biases)
            block, x = second.shape[1], torch.zeros_like(z)
            for i in range(features):
                shift, log_scale = out[:, 2 * i : 2 * i + 1], out[:, 2 * i + 1 : 2 * i + 2]
                new = torch.addcmul(shift, z[:, i : i + 1], torch.exp(log_scale))
                x[:, i : i + 1] = new
                units = slice(i * block, (i + 1) * block)
                one.addmm_(new, first[i])
                two.addmm_(torch.relu(one[:, units]), second[i])
                out.addmm_(torch.relu(two[:, units]), last[i])
            z = x.flip(1)
        return z

    return sample


def _by_degree(transform: nn.Module) -> list[Tensor]:
    """Return weights and biases with the units in equal blocks, one per degree, by degree."""
    features, degrees = transform.features, transform.degrees
    counts = torch.bincount(degrees, minlength=features + 1)
    block = int(counts.max())
    place = torch.empty_like(degrees)
    for degree in range(1, features):
        units = (degrees == degree).nonzero().flatten()
        place[units] = (degree - 1) * block + torch.arange(len(units))
    total, (first, second, last) = features * block, transform.layers
    one, two = first.new_zeros(total, features), first.new_zeros(total, total)
    out = first.new_zeros(2 * features, total)
    one[place], two[place[:, None], place], out[:, place] = first, second, last
    out = out.view(2, features, total).transpose(0, 1).reshape(2 * features, total)
    bias1, bias2 = first.new_zeros(total), first.new_zeros(total)
    bias1[place], bias2[place] = transform.biases[0], transform.biases[1]
    return [
        one.T.reshape(features, 1, total).contiguous(),
        two.T.reshape(features, block, total).contiguous(),
        out.T.reshape(features, block, 2 * features).contiguous(),
        bias1,
        bias2,
        transform.biases[2].view(2, features).T.reshape(-1).contiguous(),
    ]

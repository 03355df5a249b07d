from __future__ import annotations

import pytest
import torch
from torch import nn

from toolkit.core.errors import UsageError
from toolkit.core.folder import RunFolder
from toolkit.core.recipe import load_recipe
from toolkit.models.wavenet import WaveNet
from toolkit.nn.stack import init_state, step
from toolkit.stages import train


def wavenet(**arguments) -> WaveNet:
    torch.manual_seed(0)
    small = {"levels": 5, "length": 40, "channels": 4, "skip_channels": 16, "layers": 3}
    return WaveNet(**{**small, **arguments}).double().eval()


@torch.no_grad()
def reach(model: WaveNet) -> int:
    """Return how many positions before an output still move it."""
    x = torch.randint(5, (1, model.length))
    last = model(x)[:, -1]
    moves = []
    for age in range(1, model.length):
        other = x.clone()
        other[:, -1 - age] = (x[:, -1 - age] + 1) % 5
        moves.append(bool((model(other)[:, -1] != last).any()))
    assert moves == sorted(moves, reverse=True)
    return sum(moves)


@pytest.mark.parametrize("layers", [1, 2, 3, 4, 5])
def test_the_receptive_field_doubles_with_every_layer(layers):
    model = wavenet(layers=layers)
    assert model.receptive_field == 2**layers
    assert reach(model) == 2**layers


def test_further_cycles_add_to_the_receptive_field():
    assert reach(wavenet(layers=3, cycles=2)) == wavenet(layers=3, cycles=2).receptive_field == 15


@torch.no_grad()
def test_no_logit_sees_its_own_sample_or_later_ones():
    model = wavenet()
    x = torch.randint(5, (1, 12))
    for position in range(12):
        other = x.clone()
        other[:, position:] = (x[:, position:] + 1) % 5
        moved = (model(other) != model(x)).any(2)[0]
        assert not moved[: position + 1].any()


@torch.no_grad()
def test_steps_give_the_logits_of_the_forward_pass():
    model = wavenet(cycles=2)
    x = torch.randint(5, (3, 20))
    state, given = init_state(model.net, 3), []
    for sample in x.unbind(1):
        logits, state = step(model.net, sample, state)
        given.append(logits)
    torch.testing.assert_close(torch.stack(given, 1), model(x), rtol=0, atol=1e-12)


@torch.no_grad()
def test_a_parallel_pass_gives_the_samples_back():
    model = wavenet()
    noise = torch.randn(12, 4, 5, dtype=torch.float64)
    drawn = model.sample(noise)
    assert torch.equal((model(drawn) + noise.transpose(0, 1)).argmax(2), drawn)


def test_the_full_size_has_three_cycles_up_to_512():
    model = WaveNet(levels=256, size="full")
    assert model.receptive_field == 3 * 1023 + 1
    found = [part.dilation[0] for part in model.modules() if isinstance(part, nn.Conv1d)]
    dilations = [2**number for number in range(10)]
    assert [dilation for dilation in found if dilation > 1] == 3 * dilations[1:]


@pytest.mark.slow
def test_the_recipe_reaches_its_bits_per_dimension(tmp_path):
    metrics = train.run(load_recipe("wavenet"), RunFolder(tmp_path)).detail["metrics"]
    assert metrics["bits_per_dim"] < 2.75


def test_an_unknown_size_is_refused():
    with pytest.raises(UsageError, match="full"):
        WaveNet(size="ful")

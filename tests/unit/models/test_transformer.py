from __future__ import annotations

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from toolkit.core.errors import UsageError
from toolkit.core.folder import RunFolder
from toolkit.core.recipe import load_recipe
from toolkit.models.transformer import Transformer
from toolkit.nn.stack import init_state, step
from toolkit.stages import train

aten = torch.ops.aten


def transformer(**arguments) -> Transformer:
    torch.manual_seed(0)
    small = {"levels": 5, "length": 12, "longest": 160, "features": 8, "heads": 2, "layers": 2}
    return Transformer(**{**small, **arguments}).eval()


def attention_flops(module, *arguments) -> int:
    counter = FlopCounterMode(display=False)
    with sdpa_kernel(SDPBackend.MATH), counter:
        module(*arguments)
    products = counter.get_flop_counts()["Global"]
    return sum(count for name, count in products.items() if name in (aten.bmm, aten.baddbmm))


@torch.no_grad()
@pytest.mark.parametrize("window", [0, 4])
def test_logits_see_what_comes_before_and_no_further_than_the_window(window):
    model = transformer(window=window, layers=1)
    x = torch.randint(5, (1, 12))
    plain = model(x)
    for position in range(12):
        other = x.clone()
        other[:, position] = (x[:, position] + 1) % 5
        moved = (model(other) != plain).any(2)[0]
        # An output reads inputs one earlier: the text is shifted before the first layer.
        end = position + 1 + window if window else 12
        assert not moved[: position + 1].any()
        assert moved[position + 1 : end].all()
        assert not moved[end:].any()


@torch.no_grad()
def test_attention_of_the_whole_text_costs_its_length_squared():
    model = transformer()
    one, two = (attention_flops(model, torch.randint(5, (1, length))) for length in (32, 64))
    assert two == 4 * one > 0


@torch.no_grad()
def test_attention_of_a_step_costs_the_length_and_of_a_window_no_more_than_that():
    def cost(model: Transformer, time: int) -> int:
        state = init_state(model.net, 1)
        for _ in range(time - 1):
            _, state = step(model.net, torch.zeros(1, dtype=torch.int64), state)
        return attention_flops(step, model.net, torch.zeros(1, dtype=torch.int64), state)

    assert cost(transformer(), 64) == 2 * cost(transformer(), 32) > 0
    assert cost(transformer(window=8), 64) == cost(transformer(window=8), 32) > 0


@torch.no_grad()
@pytest.mark.parametrize("window", [0, 3])
def test_steps_give_the_logits_of_the_forward_pass(window):
    model = transformer(window=window).double()
    x = torch.randint(5, (3, 12))
    state, given = init_state(model.net, 3), []
    for character in x.unbind(1):
        logits, state = step(model.net, character, state)
        given.append(logits)
    torch.testing.assert_close(torch.stack(given, 1), model(x), rtol=0, atol=1e-12)


@torch.no_grad()
def test_a_parallel_pass_gives_the_samples_back():
    model = transformer().double()
    noise = torch.randn(12, 4, 5, dtype=torch.float64)
    drawn = model.sample(noise)
    assert torch.equal((model(drawn) + noise.transpose(0, 1)).argmax(2), drawn)


def test_features_that_heads_cannot_share_are_refused():
    with pytest.raises(UsageError, match="heads"):
        transformer(features=9)


@pytest.mark.slow
def test_the_recipe_reaches_its_bits_per_dimension(tmp_path):
    metrics = train.run(load_recipe("transformer"), RunFolder(tmp_path)).detail["metrics"]
    assert metrics["bits_per_dim"] < 3.15


def test_an_unknown_size_is_refused():
    with pytest.raises(UsageError, match="full"):
        Transformer(size="ful")

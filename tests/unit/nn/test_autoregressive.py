from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.export import Dim

from toolkit.nn.autoregressive import Inverted, MaskedAffine


def transform(*, reverse: bool = False) -> MaskedAffine:
    torch.manual_seed(0)
    made = MaskedAffine(5, hidden=16, layers=2, reverse=reverse)
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.5)
    return made


def passes(module: nn.Module, call: str) -> int:
    """Return how often a call evaluates the masked network."""
    seen: list[int] = []
    network = next(part for part in module.modules() if isinstance(part, MaskedAffine)).network
    handle = network.register_forward_hook(lambda *_: seen.append(1))
    getattr(module, call)(torch.randn(2, 5))
    handle.remove()
    return len(seen)


def test_one_direction_takes_one_pass_and_the_other_one_per_feature():
    assert passes(transform(), "forward") == 1
    assert passes(transform(), "inverse") == 5
    assert passes(Inverted(transform()), "forward") == 5
    assert passes(Inverted(transform()), "inverse") == 1


@pytest.mark.parametrize("reverse", [False, True])
def test_the_inverse_is_right_feature_by_feature(reverse):
    made = transform(reverse=reverse).double()
    x = torch.randn(256, 5, dtype=torch.float64)
    y, _ = made(x)
    for count in range(1, 6):
        made.features = count
        right = (made.inverse(y)[0] - x).abs().amax(0) < 1e-9
        order = range(5)[::-1] if reverse else range(5)
        assert [bool(right[feature]) for feature in order] == [True] * count + [False] * (5 - count)


@torch.no_grad()
@pytest.mark.parametrize("reverse", [False, True])
def test_a_captured_graph_solves_in_one_scan_what_passes_settle_at(reverse):
    module = Inverted(transform(reverse=reverse)).double()
    y = torch.randn(6, 5, dtype=torch.float64)
    program = torch.export.export(module, (y,), dynamic_shapes=({0: Dim("batch")},))
    assert [str(node.target) for node in program.graph.nodes].count("scan") == 1
    for given in (y, torch.randn(3, 5, dtype=torch.float64)):
        for found, expected in zip(program.module()(given), module(given), strict=True):
            torch.testing.assert_close(found, expected)


@torch.no_grad()
def test_a_changed_weight_shows_in_what_is_solved():
    made, y = transform().double(), torch.randn(64, 5, dtype=torch.float64)
    expected = made.inverse(y)[0]
    torch.testing.assert_close(made.solve(y)[0], expected)
    made.network[2].weight[made.network[2].mask > 0] *= 1.001
    assert (made.solve(y)[0] - expected).abs().max() > 1e-6


def test_far_inputs_stay_finite():
    made = transform()
    for call in (made.forward, made.inverse):
        value, log_det = call(torch.full((2, 5), 1e3))
        assert value.isfinite().all()
        assert log_det.isfinite().all()

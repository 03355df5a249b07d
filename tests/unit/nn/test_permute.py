from __future__ import annotations

import torch

from toolkit.nn.permute import InvertibleConv1x1


def test_it_starts_as_a_rotation():
    torch.manual_seed(0)
    weight = InvertibleConv1x1(6).double().weight.detach()
    torch.testing.assert_close(weight @ weight.T, torch.eye(6).double(), rtol=0, atol=1e-6)


def test_every_position_is_multiplied_by_the_weight():
    torch.manual_seed(0)
    layer, x = InvertibleConv1x1(3), torch.randn(2, 3, 4, 5)
    y, log_det = layer(x)
    torch.testing.assert_close(y, torch.einsum("ij,bjhw->bihw", layer.weight, x))
    assert log_det.shape == (2,)


def test_log_det_counts_every_position():
    layer = InvertibleConv1x1(2)
    with torch.no_grad():
        layer.weight.copy_(torch.diag(torch.tensor([2.0, 3.0])))
    _, log_det = layer(torch.zeros(1, 2, 4, 5))
    torch.testing.assert_close(log_det, 20 * torch.tensor([6.0]).log())

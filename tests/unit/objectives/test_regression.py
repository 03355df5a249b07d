from __future__ import annotations

import pytest
import torch

from toolkit.objectives.regression import objective


def test_the_loss_is_summed_over_numbers_and_the_psnr_is_in_decibels():
    batch = {"x": torch.zeros(4, 2), "value": torch.full((4, 3), 0.1)}
    values = objective(lambda x: x.new_zeros(len(x), 3), batch)
    assert values["loss"].item() == pytest.approx(3 * 0.01, rel=1e-5)
    assert values["psnr"].item() == pytest.approx(20, rel=1e-5)

"""A body's run leaves nothing behind: thousands of steps of a large network are run in eager."""

from __future__ import annotations

import gc
import weakref

import torch

from toolkit.capture.causal.body import Body, Operation, Slot


def test_the_values_of_a_run_go_with_it_and_wait_for_no_collector():
    seen = []

    def doubled(x: torch.Tensor) -> torch.Tensor:
        result = 2 * x
        seen.append(weakref.ref(result))
        return result

    operations = [
        Operation("between", doubled, [Slot("x")], {}),
        Operation("y", torch.add, [Slot("between")], {"other": Slot("bias")}),
    ]
    body = Body(operations, {"bias": torch.ones(3)}, [], ["x"], ["y"])
    gc.disable()
    try:
        (y,) = body(1, torch.ones(3))
        assert seen[0]() is None
    finally:
        gc.enable()
    assert y.tolist() == [3.0] * 3

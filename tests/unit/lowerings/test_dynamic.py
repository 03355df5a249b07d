"""What needs a static size says so, and where."""

import pytest
import torch

from toolkit.core.entry import Entry, Input
from toolkit.core.errors import ExportError
from toolkit.lowerings.cumprod import cumprod
from toolkit.stages.export import export


class Value:
    """A traced value as a lowering sees it."""

    dtype = None

    def __init__(self, *shape):
        self.shape = shape


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda _, x: torch.cumprod(x, 0), "cumprod runs along a dynamic axis"),
        (
            lambda _, x: torch.linalg.solve_triangular(x @ x.mT + 4, x, upper=True),
            "linear algebra meets a matrix of dynamic size",
        ),
    ],
    ids=["cumprod", "solve_triangular"],
)
def test_a_dynamic_axis_is_refused_with_what_to_do(call, message, tmp_path):
    x = torch.rand(5, 3, generator=torch.Generator().manual_seed(0))
    entry = Entry("forward", call=call, inputs=[Input("x", x, dims=("batch", None))])
    outcome = export(torch.nn.Identity(), [entry], tmp_path)["forward"].outcome
    assert not outcome.ok
    assert message in outcome.reason


def test_the_refusal_names_the_axis():
    with pytest.raises(ExportError) as raised:
        cumprod(Value("batch", 3), -2, 1)
    assert raised.value.where == "axis 0, length batch"
    assert "fix that axis" in raised.value.next_step

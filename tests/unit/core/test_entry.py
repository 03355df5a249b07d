"""Inputs: shapes, names and domains, and the text form of all three."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from toolkit.core.entry import Autoregressive, Entry, Input
from toolkit.core.errors import UsageError
from toolkit.core.signature import Signature, TensorSpec, folded

BOUNDS = [(0, 1), (-3.0, 0.1), (None, 2), (1.5, None), (0.5, 0.5), (0.1, 0.7), (None, None)]


@pytest.mark.parametrize(
    ("spec", "low", "high"),
    [
        ("x:float32[batch,8]", None, None),
        ("x:float32[batch,8] in [0,1]", 0, 1),
        (" x:float32[batch,8]  in [ -1.5 , inf ]", -1.5, None),
        ("x:float64[batch] in [-inf,1e-3]", None, 1e-3),
        ("t:int64[batch,time] in [0,255]", 0, 255),
    ],
)
def test_reads_the_domain_of_an_input(spec: str, low: float | None, high: float | None) -> None:
    item = Input.parse(spec)
    assert (item.low, item.high) == (low, high)
    assert item.dims[0] == "batch"


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("x:float32[8] in [1,0]", "cannot run from 1 to 0"),
        ("x:int64[8] in [0.5,1]", "cannot run from 0.5"),
        ("x:float32[8] in [nan,1]", "cannot run from nan"),
        ("x:float32[8] in [a,1]", "cannot read the bound 'a'"),
        ("x:float32[8] in [0]", "cannot read the input"),
        ("x:float32[8] in [0,1,2]", "cannot read the input"),
        ("x:float32[8] in", "cannot read the input"),
        ("x:float32[batch,-4]", "'-4' is neither"),
        ("x:float32[batch,4.5]", "'4.5' is neither"),
        ("x:float32[2batch]", "'2batch' is neither"),
    ],
)
def test_refuses_what_is_no_domain_and_no_dimension(spec: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        Input.parse(spec)


@pytest.mark.parametrize(("low", "high"), BOUNDS)
@pytest.mark.parametrize("make", [np.asarray, torch.from_numpy], ids=["array", "tensor"])
def test_folding_keeps_what_is_inside_and_brings_in_the_rest(low, high, make) -> None:
    values = (10 * np.random.default_rng(0).normal(size=4000)).astype(np.float32)
    result = np.asarray(folded(make(values), low, high))
    assert result.dtype == np.float32
    assert low is None or (result >= low).all()
    assert high is None or (result <= high).all()
    kept = (low is None or values >= low) & (high is None or values <= high)
    assert np.allclose(result[kept], values[kept], atol=1e-5)
    if low != high:
        assert np.mean(np.isin(result, np.array([low, high], float).astype(np.float32))) < 0.01


@pytest.mark.parametrize("value", [np.zeros((2, 3)), [1.0], 0.5], ids=["array", "list", "number"])
def test_an_example_that_is_no_tensor_is_refused(value: object) -> None:
    with pytest.raises(UsageError, match="'x' is no tensor") as raised:
        Input("x", value)
    assert "torch tensor" in raised.value.next_step


@pytest.mark.parametrize(("option", "words"), [("predicts", "this or next"), ("order", "raster")])
def test_a_sampler_names_the_words_it_takes(option: str, words: str) -> None:
    x = Input("x", torch.zeros(2, 7), dims=("batch", "time"))
    with pytest.raises(UsageError, match=f"{option} cannot be 'that'") as raised:
        Autoregressive("sample", "forward", x, **{option: "that"})
    assert words in raised.value.next_step


def test_an_input_without_a_batch_beside_one_that_names_it_belongs_to_all_samples() -> None:
    x = Input("x", torch.zeros(3, 4), dims=("batch", None))
    matrix = Input("a", torch.zeros(4, 4))
    edges = Input("e", torch.zeros(2, 9, dtype=torch.int64), dims=(None, "edges"))
    scalar = Input("t", torch.tensor(0.5))
    held = Entry("e", inputs=[matrix, x, edges, scalar]).inputs
    assert [item.shared for item in held] == [True, False, True, True]
    assert [item.batched(8) for item in held] == [(4, 4), (8, 4), (2, 9), ()]
    assert [item.shared for item in Entry("e", inputs=[matrix, scalar]).inputs] == [False, True]


def test_a_signature_takes_rows_of_what_follows_the_batch_and_keeps_the_rest_whole() -> None:
    matrix = TensorSpec("a", "float32", (4, 4), fixed_batch=-1)
    x = TensorSpec("x", "float32", ("batch", 4))
    signature = Signature("e", "", (matrix, x), (TensorSpec("y", "float32", ()),))
    assert Signature.from_dict(signature.as_dict()) == signature
    arrays = {"a": np.eye(4), "x": np.zeros((9, 4))}
    shapes = [spec.rows(arrays[spec.name], slice(2)).shape for spec in signature.inputs]
    assert shapes == [(4, 4), (2, 4)]
    assert signature.samples(arrays) == 9
    assert TensorSpec("x", "float32", (4, 4)).rows(np.eye(4), slice(2)).shape == (2, 4)

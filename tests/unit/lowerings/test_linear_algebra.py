"""What the lowerings of linear algebra refuse, and how few nodes they take."""

import onnx
import pytest
import torch

from toolkit.core.errors import ExportError
from toolkit.lowerings import table
from toolkit.lowerings.lu import lu_factor_ex
from toolkit.lowerings.svdvals import svd


class Value:
    """A traced value as a lowering sees it."""

    def __init__(self, *shape):
        self.shape = shape


def nodes(graph):
    bodies = [item.g for node in graph.node for item in node.attribute if item.HasField("g")]
    return len(graph.node) + sum(map(nodes, bodies))


def exported(call, *inputs):
    class Call(torch.nn.Module):
        def forward(self, *values):
            return call(*values)

    program = torch.onnx.export(
        Call().eval(), inputs, dynamo=True, custom_translation_table=table(), verbose=False
    )
    return program.model_proto


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lu_factor_ex(Value("batch", 3, 4)), "square matrices with pivoting only"),
        (lambda: lu_factor_ex(Value("batch", 3, 3), pivot=False), "with pivoting only"),
        (lambda: lu_factor_ex(Value("batch", "n", "n")), "a matrix of dynamic size"),
        (lambda: svd(Value("batch", 3, 3)), "singular vectors are asked for"),
    ],
    ids=["not square", "no pivoting", "dynamic", "singular vectors"],
)
def test_what_is_not_lowered_is_refused(call, message):
    with pytest.raises(ExportError, match=message) as raised:
        call()
    assert raised.value.next_step


def test_the_number_of_nodes_does_not_grow_with_the_matrix():
    few = nodes(exported(torch.linalg.slogdet, torch.eye(4).repeat(2, 1, 1)).graph)
    many = nodes(exported(torch.linalg.slogdet, torch.eye(64).repeat(2, 1, 1)).graph)
    assert few == many < 150


def test_two_lowerings_and_nested_loops_share_one_valid_graph():
    def both(a):
        return torch.linalg.inv(a), torch.linalg.det(a), torch.linalg.svdvals(a)

    onnx.checker.check_model(exported(both, torch.eye(3).repeat(2, 1, 1)), full_check=True)

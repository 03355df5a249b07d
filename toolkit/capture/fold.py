"""Parameter folding: what depends on parameters alone is evaluated once, in float64."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, InputSpec, TensorArgument
from torch.utils import _pytree as pytree

from toolkit.capture.oracle import DOUBLE
from toolkit.capture.solves import System, known_systems

FREE_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Folding:
    """What folding did.

    Arguments:
        constants: How many constants were stored.
        nodes: How many nodes disappeared.
        kept: Nodes left in the graph because their constant would have grown the model.
    """

    constants: int
    nodes: int
    kept: int


def fold_parameters(program: ExportedProgram) -> Folding:
    """Replace, in place, every computation on parameters by its constant.

    A constant that is larger than the parameters it comes from (an expanded mask, a low-rank
    product) and larger than `FREE_BYTES` is not stored; its inputs are folded instead.

    Arguments:
        program: A functional program (no operator that mutates its arguments).
    """
    graph = program.graph_module.graph
    before = len(graph.nodes)
    values = _evaluate(program)
    systems = known_systems(graph, {node: value for node, (value, _) in values.items()})
    for count, system in enumerate(systems):
        _multiply(program, system, f"inverse_{count}")
    kept = _demote(values)
    frontier = [
        node
        for node, (value, _) in values.items()
        if node.op == "call_function"
        and isinstance(value, Tensor)
        and any(user not in values for user in node.users)
    ]
    for count, node in enumerate(frontier):
        _store(program, node, values[node][0], f"folded_{count}", values)
    graph.eliminate_dead_code()
    _drop_unused(program)
    name_outputs(program)
    program.graph_module.recompile()
    constants = len(frontier) + len(systems)
    return Folding(constants, before - len(graph.nodes) + constants, kept)


Known = dict[fx.Node, tuple[Any, frozenset[fx.Node]]]


def _evaluate(program: ExportedProgram) -> Known:
    """Evaluate every parameter-only node in float64; with each value go its source placeholders."""
    signature = program.graph_signature
    mutated = set(signature.buffers_to_mutate.values())
    lifted = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    state: dict[str, Any] = {**program.state_dict, **program.constants}
    known: Known = {}
    for node in program.graph_module.graph.nodes:
        if node.op == "placeholder" and (name := lifted.get(node.name)) is not None:
            if name not in mutated:
                known[node] = (_up(state[name].detach()), frozenset({node}))
        elif node.op == "call_function" and _foldable(node, known):
            inputs = node.all_input_nodes
            sources = frozenset().union(*(known[item][1] for item in inputs))
            known[node] = (_call(node, known), sources)
    return known


def _foldable(node: fx.Node, known: Known) -> bool:
    if not all(item in known for item in node.all_input_nodes):
        return False
    if node.target is operator.getitem:
        return True
    target = node.target
    if not isinstance(target, torch._ops.OpOverload):  # noqa: SLF001  (no public name)
        return False
    seeded = torch.Tag.nondeterministic_seeded in target.tags
    symbolic = any(
        isinstance(leaf, torch.SymInt | torch.SymFloat | torch.SymBool)
        for leaf in pytree.tree_leaves((node.args, node.kwargs))
    )
    returns_tensors = bool(target._schema.returns)  # noqa: SLF001  (no public name)
    return returns_tensors and not seeded and not symbolic


def _call(node: fx.Node, known: Known) -> Any:
    args, kwargs = pytree.tree_map_only(
        fx.Node, lambda item: known[item][0], (node.args, node.kwargs)
    )
    args, kwargs = pytree.tree_map(_up, (args, kwargs))
    with torch.no_grad():
        return pytree.tree_map(_up, node.target(*args, **kwargs))  # type: ignore[operator]


def _up(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.to(DOUBLE.get(value.dtype, value.dtype))
    if isinstance(value, torch.dtype):
        return DOUBLE.get(value, value)
    return value


def _demote(known: Known) -> int:
    """Forget nodes whose constant would outgrow its sources; return how many."""
    kept = 0
    for node in reversed(list(known)):
        value, sources = known[node]
        if node.op == "placeholder" or all(user in known for user in node.users):
            continue
        if not isinstance(value, Tensor):
            continue
        own = sum(known[source][0].nbytes for source in sources)
        if value.nbytes > max(FREE_BYTES, own):
            del known[node]
            kept += 1
    return kept


def _multiply(program: ExportedProgram, system: System, name: str) -> None:
    """Put the product with the inverse in the place of a solve."""
    graph, fake = program.graph_module.graph, system.right.meta["val"]
    constant = _constant(program, system.inverse, fake, name)
    with graph.inserting_before(system.node):
        factors = (constant, system.right) if system.left else (system.right, constant)
        product = graph.call_function(torch.ops.aten.matmul.default, factors)
    product.meta = {**system.node.meta}
    system.node.replace_all_uses_with(product)


def _store(program: ExportedProgram, node: fx.Node, value: Tensor, name: str, known: Known) -> None:
    constant = _constant(program, value, node.meta["val"], name)
    for user in list(node.users):
        if user not in known:
            user.replace_input_with(node, constant)


def _constant(program: ExportedProgram, value: Tensor, like: Tensor, name: str) -> fx.Node:
    """Add a constant with the element type, and the fake mode, of another node's value."""
    graph = program.graph_module.graph
    with graph.inserting_before(next(iter(graph.nodes))):
        constant: fx.Node = graph.placeholder(f"c_{name}")
    stored = value.to(like.dtype).contiguous().clone()
    constant.meta["val"] = like.new_empty(stored.shape)
    program.constants[name] = stored
    program.graph_signature.input_specs.insert(
        0,
        InputSpec(
            kind=InputKind.CONSTANT_TENSOR, arg=TensorArgument(name=constant.name), target=name
        ),
    )
    return constant


def _drop_unused(program: ExportedProgram) -> None:
    """Remove parameters that no node reads any more."""
    graph, signature = program.graph_module.graph, program.graph_signature
    specs = []
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    for node, spec in zip(placeholders, list(signature.input_specs), strict=True):
        if spec.kind is InputKind.USER_INPUT or node.users:
            specs.append(spec)
            continue
        graph.erase_node(node)
        if spec.target is not None:
            program.state_dict.pop(spec.target, None)
            program.constants.pop(spec.target, None)
    signature.input_specs[:] = specs


def name_outputs(program: ExportedProgram) -> None:
    """Let the signature name the nodes that give the outputs now."""
    (results,) = program.graph_module.graph.output_node().args
    specs = program.graph_signature.output_specs
    for spec, node in zip(specs, results, strict=True):
        if isinstance(node, fx.Node) and hasattr(spec.arg, "name"):
            spec.arg.name = node.name

"""FrEIA: any INN becomes log_prob, inverse and sample over a standard normal; conditions follow."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.adapters import _entries, _flow
from toolkit.core.entry import Entry, Input
from toolkit.core.protocols import Replacement

LOG_TAU = math.log(2 * math.pi)
MARGIN = 1e-3


def log_prob(flow: Any, *tensors: Tensor) -> Tensor:
    """Return the log-density of the data, `(batch,)`, in nats, under a standard normal base.

    Arguments:
        flow: The invertible network.
        tensors: One tensor `(batch, …)` per input, then one per condition.
    """
    z, log_det = _passed(flow, tensors, len(_data_shapes(flow)), reverse=False)
    parts = [(-0.5 * (part**2 + LOG_TAU)).flatten(1).sum(1) for part in z]
    density: Tensor = sum(parts, log_det)
    return density


def inverse(flow: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
    """Return the data, one tensor per input of the network, and that map's log-determinant.

    Arguments:
        flow: The invertible network.
        tensors: One base variable `(batch, …)` per output, then one tensor per condition.
    """
    x, log_det = _passed(flow, tensors, len(_base_shapes(flow)), reverse=True)
    return (*x, log_det)


def sample(flow: Any, *tensors: Tensor) -> Tensor | tuple[Tensor, ...]:
    """Return the samples that standard normal noise becomes, one tensor per input."""
    from FrEIA.modules import IResNetLayer

    # The log-determinant would be computed, and its estimator's noise drawn, for nothing.
    alone = {"_jacobian": lambda _, x, *__, **___: x[0].new_zeros(x[0].shape[0])}
    with _entries.standing_in(IResNetLayer, alone):
        *x, _ = inverse(flow, *tensors)
    return tuple(x) if len(x) > 1 else x[0]


def _passed(
    flow: Any, tensors: Sequence[Tensor], count: int, *, reverse: bool
) -> tuple[tuple[Tensor, ...], Tensor]:
    """Return one direction's outputs and its log-determinant, `(batch,)`."""
    # Some layers write on their input, or ask for its gradient.
    start = [tensor.clone() for tensor in tensors[:count]]
    given = list(tensors[count:])
    # A residual layer's log-determinant differentiates the layer.
    enabled = torch.is_grad_enabled()
    differentiates = any(type(part).__name__ == "IResNetLayer" for part in flow.modules())
    with _entries.kept(flow.modules()), torch.set_grad_enabled(differentiates or enabled):
        result, log_det = flow(start[0] if len(start) == 1 else start, c=given, rev=reverse)
    outputs = (result,) if isinstance(result, Tensor) else tuple(result)
    log_det = start[0].new_zeros(start[0].shape[0]) + log_det
    if differentiates and not enabled:
        outputs, log_det = tuple(part.detach() for part in outputs), log_det.detach()
    return outputs, log_det


def _data_shapes(flow: Any) -> list[tuple[int, ...]]:
    """Return the shapes of the network's inputs, batch apart."""
    return [tuple(shape) for shape in flow.dims_in]


def _base_shapes(flow: Any) -> list[tuple[int, ...]]:
    """Return the shapes of the network's outputs, batch apart."""
    found = flow.global_out_shapes if _is_graph(flow) else flow.shapes[-1:]
    return [tuple(shape) for shape in found]


def _is_graph(flow: object) -> bool:
    from FrEIA.framework import GraphINN

    return isinstance(flow, GraphINN)


class FrEIA:
    """Invertible networks of FrEIA; the base is the library's documented standard normal."""

    library = "FrEIA"

    def detects(self, model: object) -> bool:
        """Return whether the model is a sequence or a graph of FrEIA, or inherits from one."""
        if not _flow.comes_from(model, self.library):
            return False
        from FrEIA.framework import GraphINN, SequenceINN

        return isinstance(model, GraphINN | SequenceINN)

    def entries(self, model: Any) -> Sequence[Entry]:
        """Return `log_prob`, `inverse` and `sample`, a network's conditions as further inputs.

        Without `sample` where a sigmoid bounds what the base's normal draws would be mapped from.

        Raises:
            UsageError: A layer takes its parameters from its first batch and has seen none, or
                a mixture's component comes from elsewhere.
        """
        _entries.refuse_uninitialised(model, _waits_for_data)
        kinds = {type(part).__name__ for part in model.modules()}
        if "GaussianMixtureModel" in kinds:
            raise _flow.unreadable(model, "which component of its Gaussian mixture it uses")
        with _flow.drawing(model):
            conditions = _conditions(model)
            given = [
                _entries.named(name, _flow.draw(model, "normal", *shape), kind="context")
                for name, shape in zip(_names("context", conditions), conditions, strict=True)
            ]
            values = [item.value for item in given]
            noise = [_flow.draw(model, "normal", *shape) for shape in _base_shapes(model)]
            if "InvertibleSigmoid" in kinds:
                x = [_flow.draw(model, "normal", *shape) for shape in _data_shapes(model)]
                z = _passed(model, [*x, *values], len(x), reverse=False)[0]
                return _both_ways(model, x, z, given)
            *x, _ = inverse(model, *noise, *values)
            draws = [
                _entries.named(name, value, kind="noise", law="normal")
                for name, value in zip(_names("noise", noise), noise, strict=True)
            ]
            sampler = _entries.sampler(sample, draws, given, _names("x", x))
            return [*_both_ways(model, x, noise, given), sampler]

    def as_module(self, model: Any) -> nn.Module:
        """Return the model, which is a module."""
        module: nn.Module = model
        return module

    def replacements(self) -> Sequence[Replacement]:
        """Return the Gaussian mixture, whose original loops over the batch."""
        return (
            Replacement(
                targets=("FrEIA.modules.gaussian_mixture:GaussianMixtureModel.forward",),
                function=mixture,
                examples=_mixture_examples,
                tolerance=1e-5,
            ),
        )

    def examples(self) -> Mapping[str, Callable[[], nn.Module]]:
        """Return couplings, graphs with conditions, pictures and orthogonal layers."""
        from FrEIA import framework, modules

        def dense(read: int, given: int) -> nn.Module:
            return nn.Sequential(nn.Linear(read, 8), nn.ReLU(), nn.Linear(8, given))

        def sequence(kind: Any, *shape: int, **arguments: Any) -> Any:
            made = framework.SequenceINN(*shape)
            made.append(kind, **arguments)
            return made

        def conditional() -> nn.Module:
            subnet = {"subnet_constructor": dense}
            made: nn.Module = sequence(
                modules.GLOWCouplingBlock, 4, cond=0, cond_shape=(3,), **subnet
            )
            return made

        def graph() -> nn.Module:
            start = framework.InputNode(4)
            given = framework.ConditionNode(3)
            coupled = framework.Node(
                start, modules.RNVPCouplingBlock, {"subnet_constructor": dense}, conditions=given
            )
            turned = framework.Node(coupled, modules.PermuteRandom, {"seed": 0})
            end = framework.OutputNode(turned)
            made: nn.Module = framework.GraphINN([start, given, coupled, turned, end])
            return made

        def picture() -> nn.Module:
            made = sequence(modules.HaarDownsampling, 1, 4, 4)
            made.append(
                modules.NICECouplingBlock,
                subnet_constructor=lambda read, given: nn.Conv2d(read, given, 3, padding=1),
            )
            made.append(modules.Flatten)
            flow: nn.Module = made
            return flow

        return {
            "coupling": lambda: sequence(modules.AllInOneBlock, 4, subnet_constructor=dense),
            "conditional": conditional,
            "graph": graph,
            "picture": picture,
            "orthogonal": lambda: sequence(modules.OrthogonalTransform, 4),
            "reflections": lambda: sequence(modules.HouseholderPerm, 4, n_reflections=2),
        }


def mixture(
    layer: Any,
    x: Sequence[Tensor],
    c: Sequence[Any],
    rev: bool = False,  # noqa: FBT001, FBT002  (the library's signature)
    jac: bool = True,  # noqa: FBT001, FBT002  (the library's signature)
) -> tuple[list[Tensor], Tensor | None]:
    """Pass a batch through FrEIA's Gaussian mixture without a loop over it.

    Arguments:
        layer: The mixture.
        x: One tensor `(batch, features)`; `(batch, components, features)` without indices.
        c: Weights `(batch, components)`, means `(batch, components, features)`, entries of the
            precisions' upper Cholesky factors `(batch, components, features(features+1)/2)` with
            the diagonal's logarithms first, and component indices `(batch,)`, a seed or `None`.
        rev: From the base to the data.
        jac: Return the log-determinants too.
    """
    weights, means, entries, chosen = c
    width = layer.x_dims
    factors = _upper(entries, layer)
    scales: Tensor = entries[..., :width]
    points = x[0]
    if chosen is not None:
        if not isinstance(chosen, Tensor):
            chosen = layer.pick_mixture_component(weights, seed=chosen)
        chosen = chosen.long()
        means, scales = (_of_component(part, chosen) for part in (means, scales))
        factors = _of_component(factors, chosen)
    elif points.dim() < means.dim() and not rev:
        points = points[:, None]
    log_det = (-1 if rev else 1) * scales.sum(-1) if jac else None
    if rev:
        found = torch.linalg.solve_triangular(factors, points[..., None], upper=True)
        return [found[..., 0] + means], log_det
    return [(factors @ (points - means)[..., None])[..., 0]], log_det


def _of_component(values: Tensor, chosen: Tensor) -> Tensor:
    """Return each sample's own component of `(batch, components, …)`."""
    index = chosen.reshape(-1, *(1,) * (values.dim() - 1))
    return values.take_along_dim(index, 1)[:, 0]


def _upper(entries: Tensor, layer: Any) -> Tensor:
    """Return upper triangular matrices of their entries, the diagonal's logarithms first."""
    width = layer.x_dims
    place = torch.full((width, width), entries.shape[-1], dtype=torch.long)
    place[layer.mask_diagonal] = torch.arange(width)
    place[layer.mask_upper] = torch.arange(width, entries.shape[-1])
    values = torch.cat(
        [entries[..., :width].exp(), entries[..., width:], torch.zeros_like(entries[..., :1])], -1
    )
    chosen = values.index_select(-1, place.flatten().to(entries.device))
    return chosen.reshape(*entries.shape[:-1], width, width)


def _both_ways(
    model: Any, x: Sequence[Tensor], z: Sequence[Tensor], given: Sequence[Input]
) -> list[Entry]:
    data = _names("x", x)
    points = [_entries.named(name, value) for name, value in zip(data, x, strict=True)]
    limits = _base_range(model)
    places = [
        _entries.named(name, value, **limits) for name, value in zip(_names("z", z), z, strict=True)
    ]
    return [
        _entries.density(log_prob, points, given),
        _entries.inverse(inverse, places, given, data),
    ]


def _names(name: str, values: Sequence[Any]) -> list[str]:
    return [name] if len(values) == 1 else [f"{name}_{index}" for index in range(len(values))]


def _conditions(flow: Any) -> list[tuple[int, ...]]:
    """Return the shape of each condition, batch apart.

    Raises:
        UsageError: A sequence's layers read no condition of some index.
    """
    if _is_graph(flow):
        return [tuple(node.output_dims[0]) for node in flow.condition_nodes]
    found = {
        index: tuple(layer.dims_c[0])
        for index, layer in zip(flow.conditions, flow.module_list, strict=True)
        if index is not None
    }
    if sorted(found) != list(range(len(found))):
        raise _flow.unreadable(flow, f"the shape of every condition: it reads {sorted(found)}")
    return [found[index] for index in range(len(found))]


def _base_range(flow: Any) -> Mapping[str, float | None]:
    """Return the bounds of the base variable: a last sigmoid's, which are infinite in data."""
    last = None if _is_graph(flow) else flow.module_list[-1]
    sigmoid = type(last).__name__ == "InvertibleSigmoid"
    return _entries.bounded(MARGIN, 1 - MARGIN) if sigmoid else {}


def _waits_for_data(layer: nn.Module) -> bool:
    """Return whether a layer's parameters are still to be set from its first batch."""
    return bool(getattr(layer, "init_on_next_batch", False))


def _mixture_examples() -> Mapping[str, tuple[tuple[Any, ...], Mapping[str, Any]]]:
    from FrEIA.modules import GaussianMixtureModel

    batch, components, width = 5, 3, 4
    generator = torch.Generator().manual_seed(0)

    # The library's own factors are float32, whatever the type of their entries.
    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    layer = GaussianMixtureModel([(width,)], None)
    weights = normal(batch, components).softmax(-1)
    means = normal(batch, components, width)
    entries = 0.3 * normal(batch, components, width * (width + 1) // 2)
    one, every = [normal(batch, width)], [normal(batch, components, width)]
    index = torch.tensor([0, 2, 1, 1, 0])
    return {
        "components": ((layer, one, [weights, means, entries, index]), {}),
        "components back": ((layer, one, [weights, means, entries, index]), {"rev": True}),
        "seed": ((layer, one, [weights, means, entries, 7]), {}),
        "all": ((layer, one, [weights, means, entries, None]), {}),
        "all back": ((layer, every, [weights, means, entries, None]), {"rev": True}),
    }


adapter = FrEIA()

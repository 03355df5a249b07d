"""pyro: transforms, their compositions and transformed distributions become flow entries."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import (
    ComposeTransform,
    Distribution,
    Independent,
    IndependentTransform,
    MultivariateNormal,
    Normal,
    Transform,
    TransformedDistribution,
    Uniform,
)

from toolkit.adapters import _entries, _flow, _splines
from toolkit.core.entry import Entry, Law
from toolkit.core.protocols import Replacement


class PyroFlow(nn.Module):
    """A transformed distribution, or a list of transforms, as one module.

    pyro keeps both outside of torch's modules. The parameters are the transforms' own, not
    copies.

    Arguments:
        flow: A `TransformedDistribution`, a `ConditionalTransformedDistribution`, or a sequence
            of transforms over a standard normal.
    """

    def __init__(self, flow: Any) -> None:
        super().__init__()
        self.flow = flow
        modules = [part for part in _parts(flow) if isinstance(part, nn.Module)]
        self.parts = nn.ModuleDict({str(index): part for index, part in enumerate(modules)})

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Return the log-density of `x`, `(batch,)`, in nats."""
        return log_prob(self, x, *(() if context is None else (context,)))


def log_prob(flow: Any, x: Tensor, *context: Tensor) -> Tensor:
    """Return the log-density of `x`, `(batch,)`, in nats; a bare transform's base is normal."""
    with _evaluating(flow, x):
        density: Tensor = _distribution(flow, context, x).log_prob(x)
    return density


def inverse(flow: Any, z: Tensor, *context: Tensor) -> tuple[Tensor, Tensor]:
    """Return the data of a base variable and that map's log-determinant, `(batch,)`."""
    with _evaluating(flow, z):
        made = _distribution(flow, context, z)
        width = len(made.base_dist.event_shape)
        log_det = z.new_zeros(z.shape[0])
        for transform in made.transforms:
            x = transform(z)
            change = transform.log_abs_det_jacobian(z, x)
            spare = width - transform.domain.event_dim
            log_det = log_det + (change.sum(tuple(range(-spare, 0))) if spare else change)
            width += transform.codomain.event_dim - transform.domain.event_dim
            z = x
    return z, log_det


def sample(flow: Any, noise: Tensor, *context: Tensor) -> Tensor:
    """Return the samples that standard noise of the base's law becomes, of the data's shape."""
    with _entries.typed(noise):
        base = _distribution(flow, context, noise).base_dist
    return inverse(flow, _placed(base, noise), *context)[0]


def _distribution(flow: Any, context: Sequence[Tensor], like: Tensor) -> Any:
    """Return the transformed distribution of a flow, in the event shape of `(batch, …)`."""
    flow = _unwrapped(flow)
    if isinstance(flow, TransformedDistribution):
        return flow
    if hasattr(flow, "base_dist"):
        return flow.condition(*context)
    transforms = [
        part.condition(*context) if _is_conditional(part) else part for part in _sequence(flow)
    ]
    shape = like.shape[1:]
    base = Independent(Normal(like.new_zeros(shape), like.new_ones(shape)), len(shape))
    return TransformedDistribution(base, transforms, validate_args=False)


def _unwrapped(flow: Any) -> Any:
    return flow.flow if isinstance(flow, PyroFlow) else flow


def _sequence(flow: Any) -> list[Any]:
    """Return the transforms of a flow without a distribution, from the base to the data."""
    plain = type(flow) in (list, tuple, nn.ModuleList)
    return list(flow) if plain else [flow]


def _is_conditional(part: object) -> bool:
    from pyro.distributions import ConditionalTransform

    return isinstance(part, ConditionalTransform)


def _parts(flow: Any) -> Iterator[Any]:
    """Yield every transform of a flow, wrappers and what they wrap, and every module in them."""
    flow = _unwrapped(flow)
    if hasattr(flow, "base_dist"):
        flow = flow.transforms
    waiting = _sequence(flow)
    while waiting:
        part = waiting.pop(0)
        yield part
        if isinstance(part, ComposeTransform):
            waiting += part.parts
        elif type(part).__name__ == "_InverseTransform":
            waiting.append(part.inv)
        elif isinstance(part, IndependentTransform):
            waiting.append(part.base_transform)
        elif _is_conditional(part):
            wrapped = ("transforms", "transform", "_transform")
            inner = [vars(part).get(name) or getattr(part, name, None) for name in wrapped]
            waiting += inner[0] or [item for item in inner[1:] if item is not None]


@contextlib.contextmanager
def _evaluating(flow: Any, like: Tensor) -> Iterator[None]:
    """Clear the transforms' caches of their last call, and put them back afterwards."""
    parts = {id(part): part for part in _parts(flow)}
    for part in list(parts.values()):
        if isinstance(part, nn.Module):
            parts.update((id(inner), inner) for inner in part.modules())
    with _entries.kept(parts.values()), _entries.typed(like):
        for part in parts.values():
            if "_cached_x_y" in vars(part):
                part._cached_x_y = None, None  # noqa: SLF001  (the library has no public name)
        yield


def _placed(base: Distribution, noise: Tensor) -> Tensor:
    """Return the base's draw for standard noise: moved and scaled."""
    law: Any = base.base_dist if isinstance(base, Independent) else base
    if isinstance(law, MultivariateNormal):
        placed: Tensor = law.loc + (law.scale_tril @ noise[..., None])[..., 0]
    elif isinstance(law, Uniform):
        placed = law.low + (law.high - law.low) * noise
    else:
        placed = law.loc + law.scale * noise
    return placed


def _law(base: Distribution) -> Law | None:
    """Return the law of a base whose draws are moved and scaled noise; else nothing."""
    inner = base.base_dist if isinstance(base, Independent) else base
    if isinstance(inner, Normal | MultivariateNormal):
        return "normal"
    return "uniform" if isinstance(inner, Uniform) else None


class Pyro:
    """Flows of pyro; conditional ones have the context as their second input."""

    library = "pyro"

    def detects(self, model: object) -> bool:
        """Return whether the model is made of pyro's transforms.

        Distributions and lists are no modules: `PyroFlow` makes one of them.
        """
        if isinstance(model, PyroFlow):
            return True
        if type(model) in (list, tuple, nn.ModuleList):
            parts: Any = model
            return len(parts) > 0 and all(map(self._is_part, parts))
        return self._is_part(model)

    def _is_part(self, model: object) -> bool:
        if not _flow.comes_from(model, self.library):
            return False
        from pyro.distributions import ConditionalTransform, ConditionalTransformedDistribution

        kinds = (
            Transform,
            TransformedDistribution,
            ConditionalTransform,
            ConditionalTransformedDistribution,
        )
        return isinstance(model, kinds)

    def entries(self, model: Any) -> Sequence[Entry]:
        """Return `log_prob` and `inverse` where the transforms can, and `sample` with the latter.

        Raises:
            UsageError: The flow does not tell its features or those of its context.
        """
        module = model if isinstance(model, nn.Module) else PyroFlow(model)
        with _flow.drawing(module):
            width = context_size(module)
            context = [_flow.draw(module, "normal", width)] if width else []
            given = [_entries.named("context", value, kind="context") for value in context]
            base = _base(module, context)
            law = _law(base)
            noise = _flow.draw(module, law or "normal", *base.event_shape)
            z = _placed(base, noise) if law else base.sample((_flow.EXAMPLES,)).to(noise)
            made = _tried(inverse, module, z, *context)
            x = z if made is None else made[0]
            entries = list[Entry]()
            if _tried(log_prob, module, x, *context) is not None:
                entries.append(_entries.density(log_prob, [_entries.named("x", x)], given))
            if made is not None:
                place = _entries.named("z", z, **_bounds(base))
                entries.append(_entries.inverse(inverse, [place], given, ["x"]))
            if made is not None and law:
                draw = _entries.named("noise", noise, kind="noise", law=law)
                entries.append(_entries.sampler(sample, [draw], given, ["x"]))
        return entries

    def as_module(self, model: Any) -> nn.Module:
        """Return a transform as it is, and a distribution or a list of transforms in a module."""
        return model if isinstance(model, nn.Module) else PyroFlow(model)

    def replacements(self) -> Sequence[Replacement]:
        """Return the masked autoregressive inverse, whose steps differ in the original; splines."""
        return (
            Replacement(
                targets=(
                    "pyro.distributions.transforms.affine_autoregressive"
                    ":AffineAutoregressive._inverse",
                ),
                function=autoregressive_inverse,
                examples=_autoregressive_examples,
                tolerance=1e-5,
            ),
            *_splines.of_pyro(),
        )

    def examples(self) -> Mapping[str, Callable[[], nn.Module]]:
        """Return transforms of both kinds of network, conditional ones, and a distribution."""
        from pyro import distributions
        from pyro.distributions import transforms

        def distribution() -> nn.Module:
            base = distributions.Normal(torch.ones(4), 2 * torch.ones(4)).to_event(1)
            layers = [transforms.spline_coupling(4, hidden_dims=[8]), transforms.permute(4)]
            return PyroFlow(distributions.TransformedDistribution(base, layers))

        return {
            "autoregressive": lambda: transforms.affine_autoregressive(4, [8]),
            "coupling": lambda: transforms.affine_coupling(4, [8]),
            "conditional": lambda: transforms.conditional_spline(4, 3, [8], count_bins=4),
            "linear": lambda: transforms.matrix_exponential(4),
            "distribution": distribution,
        }


def autoregressive_inverse(transform: Any, y: Tensor) -> Tensor:
    """Return the `x` whose transform is `y`, `(batch, …, features)`, in equal steps.

    Every step inverts all features at once; after as many steps as there are features each has
    seen the final ones before it. The library inverts one feature a step, in a permuted order.
    """
    x = torch.zeros_like(y)
    limits = transform.log_scale_min_clip, transform.log_scale_max_clip
    for _ in range(y.shape[-1]):
        mean, log_scale = transform.arn(x)
        # Clamped as in the library, whose own clamp differs in its gradient only.
        log_scale = log_scale.clamp(*limits)
        x = (y - mean) * torch.exp(-log_scale)
    transform._cached_log_scale = log_scale  # noqa: SLF001  (no public name)
    return x


def context_size(flow: Any) -> int:
    """Return how many features of context the transforms read; 0 for none.

    Raises:
        UsageError: A conditional transform's network does not tell.
    """
    found = [_context_of(flow, part) for part in _parts(flow) if _is_conditional(part)]
    if not found and hasattr(_unwrapped(flow), "condition"):
        raise _flow.unreadable(flow, "the shape of its context")
    return max(found, default=0)


def _context_of(flow: Any, part: Any) -> int:
    network = getattr(part, "nn", None)
    if network is None:
        return 0
    # A network without data as its input reads the context there.
    width = getattr(network, "context_dim", None) or getattr(network, "input_dim", None)
    if not width:
        raise _flow.unreadable(flow, "the shape of its context")
    return int(width)


def _base(flow: nn.Module, context: Sequence[Tensor]) -> Any:
    """Return the distribution of the base variable.

    Raises:
        UsageError: Bare transforms do not tell their features.
    """
    inner = _unwrapped(flow)
    if hasattr(inner, "base_dist"):
        return _distribution(flow, context, _flow.one_parameter(flow)).base_dist
    features = max((_features_of(part) for part in _parts(flow)), default=0)
    if not features:
        raise _flow.unreadable(
            flow, "the shape of its data; toolkit.adapters.pyro.PyroFlow takes a distribution"
        )
    like = _flow.one_parameter(flow).new_zeros(1, features)
    return _distribution([], (), like).base_dist


def _features_of(part: Any) -> int:
    """Return how many features a transform of vectors has; 0 where it does not tell."""
    network: Any = getattr(part, "arn", None) or getattr(part, "nn", None)
    if hasattr(part, "split_dim"):
        if hasattr(part, "upper_spline"):
            return int(part.split_dim + part.upper_spline.input_dim)
        flat = getattr(part, "dim", -1) == -1 and getattr(part, "kwargs", {}).get("dim", -1) == -1
        return int(part.split_dim + network.param_dims[0]) if flat else 0
    if isinstance(width := getattr(part, "input_dim", None), int):
        return width
    if type(part).__name__ in ("ConditionalPlanar", "ConditionalRadial"):
        return int(max(network.param_dims))
    if type(part).__name__ == "Permute" and part.dim == -1:
        return len(part.permutation)
    if type(part).__name__ == "MatrixExponential":
        return len(part.weights)
    return int(getattr(network, "input_dim", 0) if hasattr(network, "permutation") else 0)


def _bounds(base: Distribution) -> Mapping[str, float | None]:
    """Return the bounds of a uniform base's variable; none for all numbers."""
    law: Any = base.base_dist if isinstance(base, Independent) else base
    if isinstance(law, Uniform):
        return _entries.bounded(float(law.low.max()), float(law.high.min()))
    return {}


def _tried(call: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a direction gives; `None` where a transform has only the other one."""
    try:
        return call(*arguments)
    except (KeyError, NotImplementedError):
        return None


def _autoregressive_examples() -> Mapping[str, tuple[tuple[Any, ...], Mapping[str, Any]]]:
    from pyro.distributions import transforms

    # The library starts from float32 zeros, whatever the type of its argument.
    def case(*shape: int, **limits: float) -> tuple[tuple[Any, Tensor], Mapping[str, Any]]:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            made = transforms.affine_autoregressive(shape[-1], [8], **limits)
            return (made.requires_grad_(requires_grad=False), torch.randn(*shape)), {}

    return {
        "vectors": case(7, 5),
        "two batch axes": case(2, 4, 3),
        "clipped": case(6, 4, log_scale_min_clip=-0.05, log_scale_max_clip=0.05),
    }


adapter = Pyro()

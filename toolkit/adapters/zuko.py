"""zuko: any Flow becomes log_prob, inverse and sample, any mixture log_prob and sample."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, MultivariateNormal, Transform

from toolkit.adapters import _flow, _splines
from toolkit.adapters._ode import EqualSteps
from toolkit.core.entry import Entry, Law
from toolkit.core.protocols import Replacement
from toolkit.nn.iterate import iterate


def log_prob(flow: Any, x: Tensor, context: Tensor | None = None) -> Tensor:
    """Return the log-density of `x`, `(batch,)`, in nats; a trace is exact, never estimated."""
    with _exact_traces(flow):
        density: Tensor = flow(context).log_prob(x)
    return density


def inverse(flow: Any, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the data that points of the base become, and log|det ∂x/∂z|, `(batch,)`."""
    with _exact_traces(flow):
        built = flow(context)
        x, log_det = built.transform.inv.call_and_ladj(z)
    return x, log_det.flatten(1).sum(1) if log_det.dim() > 1 else log_det


def sample(flow: Any, noise: Tensor, context: Tensor | None = None) -> Tensor:
    """Return the samples that standard noise of the base's law becomes, of the data's shape."""
    built = flow(context)
    samples: Tensor = built.transform.inv(_placed(built.base, noise))
    return samples


def sample_mixture(
    flow: Any, noise: Tensor, choice: Tensor, context: Tensor | None = None
) -> Tensor:
    """Return the samples of a mixture, or of a flow whose base is one.

    Arguments:
        flow: The mixture or flow.
        noise: Standard normal noise, `(batch, features)`.
        choice: Uniform noise that chooses the component, `(batch, 1)`.
        context: Context, `(batch, features)`.
    """
    built = flow(context)
    if not hasattr(built, "transform"):
        return _chosen(built, noise, choice)
    samples: Tensor = built.transform.inv(_chosen(built.base, noise, choice))
    return samples


def _chosen(mixture: Any, noise: Tensor, choice: Tensor) -> Tensor:
    """Return the draw of the component whose share of [0, 1) holds the choice."""
    shares = mixture.logits.softmax(-1).cumsum(-1)
    index = (choice >= shares[..., :-1]).sum(-1, keepdim=True)
    parts = mixture.base
    if isinstance(parts, MultivariateNormal):
        moved = (parts.scale_tril @ noise[..., None, :, None]).squeeze(-1)
        drawn = parts.loc + moved
    else:
        drawn = parts.base_dist.loc + parts.base_dist.scale * noise[..., None, :]
    chosen = index == torch.arange(shares.shape[-1], device=index.device)
    return torch.where(chosen[..., None], drawn, 0).sum(-2)


def _exact_traces(flow: nn.Module) -> AbstractContextManager[None]:
    """Take the trace that a continuous flow would estimate with random probes."""
    return _flow.switched(flow, "exact", to=True)


def _placed(base: Any, noise: Tensor) -> Tensor:
    """Return the base's draw for standard noise: moved and scaled."""
    law, uniform = base.base_dist, _law(base) == "uniform"
    placed: Tensor = (
        law.low + (law.high - law.low) * noise if uniform else law.loc + law.scale * noise
    )
    return placed


def _law(base: Distribution) -> Law | None:
    """Return the law of a base whose draws are moved and scaled noise; else nothing."""
    if not isinstance(base, Independent):
        return None
    if isinstance(base.base_dist, torch.distributions.Normal):
        return "normal"
    return "uniform" if isinstance(base.base_dist, torch.distributions.Uniform) else None


class Zuko:
    """Flows of zuko, conditional ones with the context as their second input."""

    library = "zuko"

    def detects(self, model: object) -> bool:
        """Return whether the model is a zuko flow or mixture, or inherits from one."""
        if not _flow.comes_from(model, self.library):
            return False
        from zuko.lazy import Flow
        from zuko.mixtures import GMM

        return isinstance(model, Flow | GMM)

    def entries(self, model: Any) -> Sequence[Entry]:
        """Return `log_prob`; of a flow `inverse`; and `sample` where the base is noise in place.

        Raises:
            UsageError: The flow does not tell the features of its context.
        """
        with _flow.drawing(model):
            width = context_size(model)
            context = _flow.draw(model, "normal", width) if width else None
            own = _distribution(model, context)
            count = () if width else (_flow.EXAMPLES,)
            x = own.sample(count)
            if not hasattr(own, "transform"):
                return [_flow.density(log_prob, x, context), *_samplers(model, own, x, context)]
            z = own.base.sample(count)
            return [
                _flow.density(log_prob, x, context, _domain(own.transform, x)),
                _flow.inverter(inverse, z, context, _support(own.base)),
                *_samplers(model, own.base, z, context),
            ]

    def as_module(self, model: Any) -> nn.Module:
        """Return the model, which is a module."""
        module: nn.Module = model
        return module

    def replacements(self) -> Sequence[Replacement]:
        """Return the solver in equal steps, quadrature nodes that are not cached, and splines."""
        from zuko.utils import odeint

        solver = EqualSteps(odeint)
        return (
            Replacement(
                targets=("zuko.utils:odeint", "zuko.transforms:odeint"),
                function=solver.solve,
                examples=_equations,
                measure=solver.measure,
                tolerance=1e-4,
            ),
            Replacement(
                targets=("zuko.utils:GaussLegendre.nodes",),
                function=_nodes,
                examples=lambda: {
                    str(count): ((count,), {"dtype": torch.float64}) for count in (1, 5, 32)
                },
            ),
            Replacement(
                targets=("zuko.transforms:AutoregressiveTransform._inverse",),
                function=_passes,
                examples=_autoregressive,
            ),
            Replacement(
                targets=("zuko.utils:bisection", "zuko.transforms:bisection"),
                function=_bisection,
                examples=_bisections,
            ),
            *_splines.of_zuko(),
        )

    def examples(self) -> Mapping[str, Callable[[], nn.Module]]:
        """Return one flow of each kind of layer, with and without context."""
        from zuko import flows

        small = {"hidden_features": (8,), "transforms": 2}
        return {
            "coupling": lambda: flows.NICE(4, **small),
            "conditional coupling": lambda: flows.NICE(4, 3, **small),
            "autoregressive": lambda: flows.MAF(4, **small),
            "conditional autoregressive": lambda: flows.MAF(4, 3, **small),
            "coupled spline": lambda: flows.NSF(4, bins=3, passes=2, **small),
            "conditional circular": lambda: flows.NCSF(2, 3, bins=3, passes=2, **small),
            "polynomial": lambda: flows.SOSPF(2, degree=2, polynomials=2, **small),
            "Bernstein": lambda: flows.BPF(2, degree=5, **small),
            "gaussianization": lambda: flows.GF(2, components=2, transforms=2),
            "conditional gaussianization": lambda: flows.GF(2, 3, components=2, **small),
            "conditional neural": lambda: flows.NAF(2, 3, **small),
            "unconstrained neural": lambda: flows.UNAF(2, **small),
            "conditional continuous": lambda: flows.CNF(2, 3, hidden_features=(8,)),
            "mixture": lambda: flows.GMM(2),
            "conditional mixture": lambda: flows.GMM(
                2, 3, covariance_type="diagonal", hidden_features=(8,)
            ),
        }


def context_size(flow: nn.Module) -> int:
    """Return how many features of context the layers read beside the data; 0 for none."""
    return max((_context_of(layer) for layer in flow.modules()), default=0)


def _context_of(layer: Any) -> int:
    from zuko.flows.autoregressive import MaskedAutoregressiveTransform
    from zuko.flows.continuous import FFJTransform
    from zuko.flows.coupling import GeneralCouplingTransform
    from zuko.flows.gaussianization import ElementWiseTransform
    from zuko.mixtures import GMM

    if isinstance(layer, MaskedAutoregressiveTransform):
        features = _flow.last_width(layer.hyper) // int(layer.total)
        return _flow.first_width(layer.hyper) - features
    if isinstance(layer, GeneralCouplingTransform):
        return _flow.first_width(layer.hyper) - int(layer.mask.count_nonzero())
    if isinstance(layer, FFJTransform):
        own = _flow.last_width(layer.ode) + 2 * len(layer.freqs)
        return _flow.first_width(layer.ode) - own
    if isinstance(layer, ElementWiseTransform | GMM) and hasattr(layer, "hyper"):
        return _flow.first_width(layer.hyper)
    return 0


def _distribution(model: Any, context: Tensor | None) -> Any:
    """Return the distribution for a context that layers of the library tell the size of.

    Raises:
        UsageError: A part of the user's own reads the context.
    """
    try:
        return model(context)
    except (TypeError, AttributeError, RuntimeError) as error:
        raise _flow.unreadable(model, f"how many features its context has ({error})") from error


def _samplers(model: Any, base: Any, z: Tensor, context: Tensor | None) -> Sequence[Entry]:
    """Return the entry `sample` of a base, none where its draws are not noise in place."""
    from zuko.distributions import Mixture

    if law := _law(base):
        noise = _flow.draw(model, law, *z.shape[1:])
        return [_flow.sampler(sample, noise, law, context)]
    parts = base.base if isinstance(base, Mixture) else None
    if isinstance(parts, MultivariateNormal) or (parts and _law(parts) == "normal"):
        noise = _flow.draw(model, "normal", *z.shape[1:])
        choice = _flow.draw(model, "uniform", 1)
        return [_flow.sampler(sample_mixture, noise, "normal", context, choice)]
    return []


def _support(base: Distribution) -> _flow.Bounds:
    """Return the ends of the interval of a base's draws; a mixture does not say."""
    try:
        return _ends(base.support)
    except NotImplementedError:
        return _flow.UNBOUNDED


def _domain(transform: Transform, x: Tensor) -> _flow.Bounds:
    """Return the ends of the interval that the first layer is defined on."""
    from zuko import transforms

    layers = getattr(transform, "transforms", [transform])
    moved = transforms.PermutationTransform | transforms.IdentityTransform
    first = next((layer for layer in layers if not isinstance(layer, moved)), transform)
    if isinstance(first, transforms.AutoregressiveTransform):
        first = first.meta(x)
    elif isinstance(first, transforms.CouplingTransform):
        first = first.meta(first.split(x)[0])
    return _ends(first.domain)


def _ends(constraint: Any) -> _flow.Bounds:
    """Return the ends of an interval of the real numbers, `None` where it has none."""
    while hasattr(constraint, "base_constraint"):
        constraint = constraint.base_constraint
    low, high = (getattr(constraint, f"{end}_bound", None) for end in ("lower", "upper"))
    return (
        None if low is None else float(torch.as_tensor(low).min()),
        None if high is None else float(torch.as_tensor(high).max()),
    )


def _nodes(count: int, **place: Any) -> tuple[Tensor, Tensor]:
    """Return nodes and weights of Gauss and Legendre's quadrature on [0, 1], each `(count,)`.

    zuko's own are kept between calls, with whatever mode their first caller was in.
    """
    import numpy as np

    nodes, weights = np.polynomial.legendre.leggauss(count)
    place.setdefault("dtype", torch.get_default_dtype())
    return torch.as_tensor((nodes + 1) / 2, **place), torch.as_tensor(weights / 2, **place)


def _passes(transform: Any, y: Tensor) -> Tensor:
    """Return what an autoregressive transform maps to `y`, one more feature right in every pass."""

    def step(x: Tensor) -> tuple[Tensor]:
        return (transform.meta(x).inv(y),)

    (x,) = iterate(step, transform.passes, torch.zeros_like(y))
    return x


def _bisection(
    f: Callable[[Tensor], Tensor],
    y: Tensor,
    a: float | Tensor,
    b: float | Tensor,
    n: int = 16,
    phi: Iterable[Tensor] = (),  # noqa: ARG001  (the library's gradients need it)
) -> Tensor:
    """Return the x between two bounds at which f(x) = y, halving the interval n times."""

    def step(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        middle = (low + high) / 2
        below = f(middle) < y
        return torch.where(below, middle, low), torch.where(below, high, middle)

    low, high = (torch.as_tensor(bound).to(y).expand_as(y) for bound in (a, b))
    low, high = iterate(step, n, low, high)
    return (low + high) / 2


def _autoregressive() -> Mapping[str, tuple[tuple[Any, ...], Mapping[str, Any]]]:
    """Return a transform of three features, whose law reads the sum of the features before."""
    from zuko.transforms import AutoregressiveTransform, MonotonicAffineTransform

    def meta(x: Tensor) -> Transform:
        before = x.cumsum(-1) - x
        made: Transform = MonotonicAffineTransform(before, before.sin())
        return made

    y = torch.tensor([[0.3, -1.2, 0.5], [2.0, 0.1, 0.0]], dtype=torch.float64)
    transforms = {count: AutoregressiveTransform(meta, count) for count in (2, 3)}
    return {f"{count} passes": ((made, y), {}) for count, made in transforms.items()}


def _bisections() -> Mapping[str, tuple[tuple[Any, ...], Mapping[str, Any]]]:
    """Return bounds as numbers, the greater one first, and as tensors."""
    y = torch.tensor([[0.3, -1.2], [2.0, 0.1]], dtype=torch.float64)
    return {
        "numbers": ((torch.sinh, y, -10.0, 10.0), {"n": 30}),
        "falling": ((torch.cos, y.tanh(), 3.0, 0.0), {}),
        "tensors": ((torch.sinh, y, y - 8, y + 8, 20), {}),
    }


def _equations() -> Mapping[str, tuple[tuple[Any, ...], Mapping[str, Any]]]:
    """Return a rotation, the same backwards, and a state of two tensors."""
    x = torch.tensor([[0.3, -1.2], [2.0, 0.1]], dtype=torch.float64)
    turn = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)

    def rotate(t: Tensor, state: Tensor) -> Tensor:
        return state @ turn * (1 + t)

    def both(t: Tensor, state: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
        return rotate(t, state), state.sin().sum(-1) + 0 * total

    return {
        "one tensor": ((rotate, x, 0.0, 1.0), {}),
        "backwards": ((rotate, x, 1.0, 0.0), {}),
        "two tensors": ((both, (x, x[..., 0]), 0.0, 1.0), {"atol": 1e-7}),
    }


adapter = Zuko()

"""zuko: any Flow becomes log_prob, and sample where no layer's inverse iterates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Transform

from toolkit.adapters import _flow
from toolkit.core.entry import Entry, Law
from toolkit.core.protocols import Replacement

SINGLE_PASSES = 2


def log_prob(flow: Any, x: Tensor, context: Tensor | None = None) -> Tensor:
    """Return the log-density of `x`, `(batch,)`, in nats."""
    density: Tensor = flow(context).log_prob(x)
    return density


def sample(flow: Any, noise: Tensor, context: Tensor | None = None) -> Tensor:
    """Return the samples that standard noise of the base's law becomes, of the data's shape."""
    samples: Tensor = flow.transform(context).inv(_placed(flow.base(context), noise))
    return samples


def _placed(base: Any, noise: Tensor) -> Tensor:
    """Return the base's draw for standard noise: moved and scaled."""
    law, uniform = base.base_dist, _law(base) == "uniform"
    placed: Tensor = (
        law.low + (law.high - law.low) * noise if uniform else law.loc + law.scale * noise
    )
    return placed


def _law(base: Distribution) -> Law | None:
    """Return the law of a base whose draws are moved and scaled noise; else nothing."""
    inner = base.base_dist if isinstance(base, Independent) else base
    if isinstance(inner, torch.distributions.Normal):
        return "normal"
    return "uniform" if isinstance(inner, torch.distributions.Uniform) else None


class Zuko:
    """Flows of zuko, conditional ones with the context as their second input."""

    library = "zuko"

    def detects(self, model: object) -> bool:
        """Return whether the model is a zuko flow, or inherits from one."""
        if not _flow.comes_from(model, self.library):
            return False
        from zuko.lazy import Flow

        return isinstance(model, Flow)

    def entries(self, model: Any) -> Sequence[Entry]:
        """Return `log_prob`, and `sample` where it is one pass through the layers.

        Raises:
            UsageError: The base depends on the context, so that its features are unknown.
        """
        from zuko.lazy import UnconditionalDistribution

        if not isinstance(model.base, UnconditionalDistribution):
            raise _flow.unreadable(model, "how many features it has: its base is conditional")
        with _flow.drawing(model):
            base, width = model.base(), context_size(model)
            context = _flow.draw(model, "normal", width) if width else None
            law = _law(base)
            own = model(context)
            x = own.sample(() if width else (_flow.EXAMPLES,))
            entries = [_flow.density(log_prob, x, context)]
            if law and isinstance(base, Independent) and not _iterates(model):
                noise = _flow.draw(model, law, *base.event_shape)
                entries.append(_flow.sampler(sample, noise, law, context))
        return entries

    def replacements(self) -> Sequence[Replacement]:
        """Return none."""
        return ()

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
            "conditional gaussianization": lambda: flows.GF(2, 3, components=2, **small),
            "conditional neural": lambda: flows.NAF(2, 3, **small),
            "conditional continuous": lambda: flows.CNF(2, 3, hidden_features=(8,)),
        }


def context_size(flow: nn.Module) -> int:
    """Return how many features of context the layers read beside the data; 0 for none."""
    return max((_context_of(layer) for layer in flow.modules()), default=0)


def _context_of(layer: Any) -> int:
    from zuko.flows.autoregressive import MaskedAutoregressiveTransform
    from zuko.flows.continuous import FFJTransform
    from zuko.flows.coupling import GeneralCouplingTransform
    from zuko.flows.gaussianization import ElementWiseTransform

    if isinstance(layer, MaskedAutoregressiveTransform):
        features = _flow.last_width(layer.hyper) // int(layer.total)
        return _flow.first_width(layer.hyper) - features
    if isinstance(layer, GeneralCouplingTransform):
        return _flow.first_width(layer.hyper) - int(layer.mask.count_nonzero())
    if isinstance(layer, FFJTransform):
        own = _flow.last_width(layer.ode) + 2 * len(layer.freqs)
        return _flow.first_width(layer.ode) - own
    if isinstance(layer, ElementWiseTransform) and hasattr(layer, "hyper"):
        return _flow.first_width(layer.hyper)
    return 0


def _iterates(flow: Any) -> bool:
    """Return whether a layer's inverse runs feature by feature, by bisection or by steps."""
    from zuko.lazy import UnconditionalTransform

    like = _flow.one_parameter(flow)
    for layer in flow.modules():
        if getattr(layer, "passes", 0) > SINGLE_PASSES or hasattr(layer, "ode"):
            return True
        if isinstance(layer, UnconditionalTransform):
            made = layer()
        elif hasattr(layer, "univariate"):
            made = layer.univariate(*map(like.new_zeros, layer.shapes))
        else:
            continue
        if _searches(made):
            return True
    return False


def _searches(transform: Transform) -> bool:
    """Return whether a transform, or a part of it, is inverted numerically."""
    from zuko.transforms import FreeFormJacobianTransform, MonotonicTransform

    if isinstance(transform, MonotonicTransform | FreeFormJacobianTransform):
        return True
    parts = [*getattr(transform, "transforms", ()), getattr(transform, "base", None)]
    return any(_searches(part) for part in parts if part is not None)


adapter = Zuko()

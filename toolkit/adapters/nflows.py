"""nflows: any Flow becomes log_prob, and where its layers have inverses, inverse and sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.adapters import _flow, _passes, _splines
from toolkit.core.entry import Entry
from toolkit.core.protocols import Replacement


def log_prob(flow: Any, x: Tensor, context: Tensor | None = None) -> Tensor:
    """Return the log-density of `x`, `(batch,)`, in nats."""
    with _uncached(flow):
        density: Tensor = flow.log_prob(x, context)
    return density


def inverse(flow: Any, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the data that points of the base become, and log|det ∂x/∂z|, `(batch,)`."""
    with _uncached(flow):
        x, log_det = flow._transform.inverse(z, _embedded(flow, context))  # noqa: SLF001  (no public name)
    return x, log_det


def sample(flow: Any, noise: Tensor, context: Tensor | None = None) -> Tensor:
    """Return the samples that standard normal noise becomes, of the data's shape."""
    embedded = _embedded(flow, context)
    placed = _placed(flow._distribution, noise, embedded)  # noqa: SLF001  (no public name)
    with _uncached(flow):
        samples: Tensor = flow._transform.inverse(placed, embedded)[0]  # noqa: SLF001  (no public name)
    return samples


def _uncached(flow: nn.Module) -> AbstractContextManager[None]:
    """Keep linear layers from their caches: of an earlier type, or of a recording's tensors."""
    return _flow.switched(flow, "using_cache", to=False)


def _placed(base: Any, noise: Tensor, context: Tensor | None) -> Tensor:
    """Return the base's draw for standard normal noise: moved and scaled."""
    from nflows.distributions.normal import ConditionalDiagonalNormal, DiagonalNormal

    if isinstance(base, ConditionalDiagonalNormal):
        mean, log_scale = base._compute_params(context)  # noqa: SLF001  (no public name)
    elif isinstance(base, DiagonalNormal):
        shape = (1, *noise.shape[1:])
        mean, log_scale = base.mean_.reshape(shape), base.log_std_.reshape(shape)
    else:
        return noise
    placed: Tensor = mean + torch.exp(log_scale) * noise
    return placed


class NFlows:
    """Flows of nflows, conditional ones with the context as their second input."""

    library = "nflows"

    def detects(self, model: object) -> bool:
        """Return whether the model is an nflows flow, or inherits from one."""
        if not _flow.comes_from(model, self.library):
            return False
        from nflows.flows.base import Flow

        return isinstance(model, Flow)

    def entries(self, model: Any) -> Sequence[Entry]:
        """Return `log_prob`; `inverse` where there is one; `sample` of a base that places noise.

        Raises:
            UsageError: The flow does not tell its features or those of its context.
        """
        base = model._distribution  # noqa: SLF001  (no public name)
        below, above = _ends(model._transform)  # noqa: SLF001  (no public name)
        with _flow.drawing(model):
            width = context_size(model)
            context = _flow.draw(model, "normal", width) if width else None
            noise = _flow.draw(model, "normal", *_shape(model))
            z = _inside(_placed(base, noise, _embedded(model, context)), above)
            x = _inverted(model, z, context)
            if x is None:
                return [_flow.density(log_prob, _inside(z, below), context, below)]
            entries = [
                _flow.density(log_prob, x, context, below),
                _flow.inverter(inverse, z, context, above),
            ]
            if above == _flow.UNBOUNDED and _is_placed_noise(base):
                entries.append(_flow.sampler(sample, noise, "normal", context))
        return entries

    def as_module(self, model: Any) -> nn.Module:
        """Return the model, which is a module."""
        module: nn.Module = model
        return module

    def replacements(self) -> Sequence[Replacement]:
        """Return the autoregressive inverse, and the splines, whose originals index by masks."""

        def autoregressive() -> Any:
            from nflows.transforms import MaskedAffineAutoregressiveTransform

            return MaskedAffineAutoregressiveTransform(4, 8)

        target = "nflows.transforms.autoregressive:AutoregressiveTransform.inverse"
        return (_passes.of(target, autoregressive), *_splines.of_nflows())

    def examples(self) -> Mapping[str, Callable[[], nn.Module]]:
        """Return couplings, autoregressive and linear layers, and each way to read a context."""
        from nflows import distributions, flows, transforms
        from nflows.nn.nets import ResidualNet

        def conditional(*, embedding: nn.Module | None = None, base: nn.Module) -> nn.Module:
            coupling = transforms.AffineCouplingTransform(
                torch.tensor([1, 0, 1, 0]),
                lambda read, given: ResidualNet(read, given, 8, context_features=3),
            )
            flow: nn.Module = flows.Flow(coupling, base, embedding)
            return flow

        def linear() -> nn.Module:
            layers = [
                transforms.ActNorm(4),
                transforms.LULinear(4),
                transforms.ReversePermutation(4),
            ]
            flow: nn.Module = flows.Flow(
                transforms.CompositeTransform(layers), distributions.DiagonalNormal([4])
            )
            return flow

        def image() -> nn.Module:
            layers = [transforms.SqueezeTransform(), transforms.OneByOneConvolution(8)]
            flow: nn.Module = flows.Flow(
                transforms.CompositeTransform(layers), distributions.StandardNormal([8, 2, 2])
            )
            return flow

        def spline() -> nn.Module:
            inner = transforms.MaskedPiecewiseCubicAutoregressiveTransform(3, 4, 8)
            layers = [
                transforms.Logit(),
                transforms.CompositeCDFTransform(transforms.Sigmoid(), inner),
            ]
            flow: nn.Module = flows.Flow(
                transforms.CompositeTransform(layers), distributions.StandardNormal([4])
            )
            return flow

        normal = distributions.StandardNormal
        given = distributions.ConditionalDiagonalNormal
        return {
            "coupling": lambda: flows.SimpleRealNVP(4, 8, 2, 1),
            "conditional coupling": lambda: conditional(base=normal([4])),
            "embedded context": lambda: conditional(embedding=nn.Linear(5, 3), base=normal([4])),
            "conditional base": lambda: conditional(base=given([4], nn.Linear(3, 8))),
            "autoregressive": lambda: flows.MaskedAutoregressiveFlow(4, 8, 2, 1),
            "bounded spline": spline,
            "no inverse": lambda: flows.Flow(transforms.NaiveLinear(4), normal([4])),
            "mixture base": lambda: flows.Flow(
                transforms.LULinear(4, using_cache=True),
                distributions.MADEMoG(4, 8, None, num_mixture_components=2),
            ),
            "linear": linear,
            "image": image,
        }


def _embedded(model: Any, context: Tensor | None) -> Tensor | None:
    embedded: Tensor | None = model._embedding_net(context)  # noqa: SLF001  (no public name)
    return embedded


def _shape(model: Any) -> Sequence[int]:
    """Return the shape of one point of the base.

    Raises:
        UsageError: The base does not tell it.
    """
    base = model._distribution  # noqa: SLF001  (no public name)
    if (features := getattr(getattr(base, "_made", None), "features", None)) is not None:
        return (features,)
    if (shape := getattr(base, "_shape", None)) is None:
        raise _flow.unreadable(model, "how many features it has")
    return tuple(shape)


def _is_placed_noise(base: Any) -> bool:
    from nflows.distributions import normal

    kinds = normal.StandardNormal | normal.ConditionalDiagonalNormal | normal.DiagonalNormal
    return isinstance(base, kinds)


def _inverted(model: Any, z: Tensor, context: Tensor | None) -> Tensor | None:
    """Return the flow's samples, `None` where a layer has no inverse or cannot compute it."""
    from nflows.transforms.base import InputOutsideDomain, InverseNotAvailable

    try:
        return inverse(model, z, context)[0]
    # NaiveLinear inverts by an operator that torch has removed, which is a RuntimeError.
    except (InverseNotAvailable, InputOutsideDomain, RuntimeError):
        return None


def _inside(values: Tensor, bounds: _flow.Bounds) -> Tensor:
    """Return values squashed into the bounds."""
    low, high = bounds
    if low is None or high is None:
        return values
    return low + (high - low) * torch.sigmoid(values)


def _ends(transform: Any) -> tuple[_flow.Bounds, _flow.Bounds]:
    """Return the ends of the intervals that a transform is defined on and that it maps to."""
    from nflows import transforms
    from nflows.transforms.nonlinearities import CauchyCDF

    if isinstance(transform, transforms.InverseTransform):
        below, above = _ends(transform._transform)  # noqa: SLF001  (no public name)
        return above, below
    if isinstance(transform, transforms.CompositeTransform):
        parts = [_ends(part) for part in transform._transforms if not _moves(part)]  # noqa: SLF001
        return (parts[0][0], parts[-1][1]) if parts else (_flow.UNBOUNDED, _flow.UNBOUNDED)
    if isinstance(transform, transforms.Sigmoid | CauchyCDF):
        return _flow.UNBOUNDED, (0.0, 1.0)
    if isinstance(transform, transforms.Tanh):
        return _flow.UNBOUNDED, (-1.0, 1.0)
    if "Piecewise" in type(transform).__name__ and getattr(transform, "tails", None) is None:
        return (0.0, 1.0), (0.0, 1.0)
    return _flow.UNBOUNDED, _flow.UNBOUNDED


def _moves(transform: Any) -> bool:
    """Return whether a transform changes no value, only where it stands."""
    from nflows import transforms

    kinds = transforms.Permutation | transforms.SqueezeTransform | transforms.IdentityTransform
    return isinstance(transform, kinds)


def context_size(flow: Any) -> int:
    """Return how many features of context the flow reads; 0 for none.

    Raises:
        UsageError: The context is embedded, or read by convolutions: its shape is not stored.
    """
    embedding = flow._embedding_net  # noqa: SLF001  (no public name)
    if not isinstance(embedding, nn.Identity):
        if not (width := _flow.first_width(embedding)):
            raise _flow.unreadable(flow, "the shape of its context")
        return width
    return max(_context_of(flow, part) for part in flow.modules())


def _context_of(flow: nn.Module, part: Any) -> int:
    from nflows.distributions.normal import ConditionalDiagonalNormal

    if getattr(part, "context_channels", None):
        raise _flow.unreadable(flow, "the height and width of its context")
    if isinstance(layer := getattr(part, "context_layer", None), nn.Linear):
        return layer.in_features
    if isinstance(part, ConditionalDiagonalNormal):
        encoder = part._context_encoder  # noqa: SLF001  (no public name)
        own = 2 * part._shape.numel()  # noqa: SLF001  (no public name)
        return _flow.first_width(encoder) if isinstance(encoder, nn.Module) else own
    return int(getattr(part, "context_features", None) or 0)


adapter = NFlows()

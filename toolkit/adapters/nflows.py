"""nflows: any Flow becomes log_prob, and sample where no layer's inverse iterates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.adapters import _flow
from toolkit.core.entry import Entry
from toolkit.core.protocols import Replacement


def log_prob(flow: Any, x: Tensor, context: Tensor | None = None) -> Tensor:
    """Return the log-density of `x`, `(batch,)`, in nats."""
    density: Tensor = flow.log_prob(x, context)
    return density


def sample(flow: Any, noise: Tensor, context: Tensor | None = None) -> Tensor:
    """Return the samples that standard normal noise becomes, of the data's shape."""
    embedded = flow._embedding_net(context)  # noqa: SLF001  (the library has no public name)
    placed = _placed(flow._distribution, noise, embedded)  # noqa: SLF001  (no public name)
    samples: Tensor = flow._transform.inverse(placed, embedded)[0]  # noqa: SLF001  (no public name)
    return samples


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
        """Return `log_prob`, and `sample` where it is one pass through the layers.

        Raises:
            UsageError: The flow does not tell its features or those of its context.
        """
        from nflows.transforms.autoregressive import AutoregressiveTransform

        shape = getattr(model._distribution, "_shape", None)  # noqa: SLF001  (no public name)
        if shape is None:
            raise _flow.unreadable(model, "how many features it has")
        with _flow.drawing(model):
            width = context_size(model)
            context = _flow.draw(model, "normal", width) if width else None
            noise = _flow.draw(model, "normal", *shape)
            x, invertible = _data(model, noise, context)
            entries = [_flow.density(log_prob, x, context)]
            serial = any(isinstance(part, AutoregressiveTransform) for part in model.modules())
            if invertible and not serial:
                entries.append(_flow.sampler(sample, noise, "normal", context))
        return entries

    def replacements(self) -> Sequence[Replacement]:
        """Return none."""
        return ()

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

        normal = distributions.StandardNormal
        given = distributions.ConditionalDiagonalNormal
        return {
            "coupling": lambda: flows.SimpleRealNVP(4, 8, 2, 1),
            "conditional coupling": lambda: conditional(base=normal([4])),
            "embedded context": lambda: conditional(embedding=nn.Linear(5, 3), base=normal([4])),
            "conditional base": lambda: conditional(base=given([4], nn.Linear(3, 8))),
            "autoregressive": lambda: flows.MaskedAutoregressiveFlow(4, 8, 2, 1),
            "linear": linear,
            "image": image,
        }


def _data(model: Any, noise: Tensor, context: Tensor | None) -> tuple[Tensor, bool]:
    """Return samples of the flow itself, or noise where it cannot be inverted; and which."""
    from nflows.transforms.base import InputOutsideDomain, InverseNotAvailable

    try:
        return sample(model, noise, context), True
    except (InverseNotAvailable, InputOutsideDomain):
        return noise, False


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

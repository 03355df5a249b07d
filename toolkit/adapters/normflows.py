"""normflows: any flow becomes log_prob, inverse and sample; classes and levels are inputs."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor, nn

from toolkit.adapters import _entries, _flow, _passes, _splines
from toolkit.core.entry import Entry, Input, Law
from toolkit.core.errors import ExportError
from toolkit.core.protocols import Replacement
from toolkit.nn.iterate import iterate

SERIES_TERMS = 20
SPARE_STEPS = 2
MOST_STEPS = 1000


def log_prob(flow: Any, x: Tensor, *given: Tensor) -> Tensor:
    """Return the log-density of `x`, `(batch,)`, in nats.

    A residual layer's power series has its expected coefficients instead of random ones.
    """
    with _evaluating(flow):
        # Some layers write on their input.
        density: Tensor = flow.log_prob(x.clone(), *_arguments(flow, given))
    return density


def inverse(flow: Any, *tensors: Tensor) -> tuple[Tensor, Tensor]:
    """Return the data of base variables, one per level, and that map's log-determinant."""
    with _evaluating(flow):
        return _pushed(flow, tensors)


def sample(flow: Any, *tensors: Tensor) -> Tensor:
    """Return the samples that noise of the bases' laws becomes, of the data's shape."""
    from normflows.flows.residual import iResBlock

    bases = _bases(flow)
    laws = [_laws(base) for base in bases]
    given = tensors[sum(map(len, laws)) :]
    noise = iter(tensors)
    z = [
        _placed(base, [next(noise) for _ in law], given)
        for base, law in zip(bases, laws, strict=True)
    ]
    # The log-determinant would be computed, and its estimator's noise drawn, for nothing.
    alone = {"_logdetgrad": lambda block, x: (block.nnet(x), x.new_zeros(x.shape[0], 1))}
    with _evaluating(flow), _entries.standing_in(iResBlock, alone):
        return _pushed(flow, [*z, *given])[0]


def _pushed(flow: Any, tensors: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    levels = _levels(flow)
    # Some layers write on their input.
    z, given = [tensor.clone() for tensor in tensors[:levels]], tensors[levels:]
    conditional = _is_conditional(flow)
    x, log_det = z[0], z[0].new_zeros(z[0].shape[0])
    for level, layers in enumerate(_layers(flow)):
        if level:
            x, change = flow.merges[level - 1]([x, z[level]])
            log_det = log_det + change
        for layer in layers:
            x, change = layer(x, context=given[0]) if conditional else layer(x)
            log_det = log_det + change
    if getattr(flow, "transform", None) is not None:
        x, change = flow.transform(x)
        log_det = log_det + change
    return x, log_det


def _is_conditional(flow: object) -> bool:
    from normflows import ConditionalNormalizingFlow

    return isinstance(flow, ConditionalNormalizingFlow)


def _is_multiscale(flow: object) -> bool:
    from normflows import MultiscaleFlow

    return isinstance(flow, MultiscaleFlow)


def _bases(flow: Any) -> list[Any]:
    return list(flow.q0) if _is_multiscale(flow) else [flow.q0]


def _levels(flow: Any) -> int:
    return len(_bases(flow))


def _layers(flow: Any) -> list[Any]:
    return list(flow.flows) if _is_multiscale(flow) else [flow.flows]


def _arguments(flow: Any, given: Sequence[Tensor]) -> Sequence[Tensor | None]:
    """Return what `log_prob` takes beside the data: a multiscale flow's class has no default."""
    return given or ((None,) if _is_multiscale(flow) else ())


def _laws(base: Any) -> tuple[Law, ...]:
    """Return the laws of the noise that a base moves and scales; none where it does not."""
    from normflows.distributions import base as bases

    if isinstance(base, bases.UniformGaussian):
        return ("uniform", "normal")
    if isinstance(base, bases.Uniform):
        return ("uniform",)
    placed = (
        bases.DiagGaussian,
        bases.ConditionalDiagGaussian,
        bases.ClassCondDiagGaussian,
        bases.GlowBase,
        bases.AffineGaussian,
        bases.GaussianPCA,
    )
    return ("normal",) if isinstance(base, placed) else ()


def _widths(base: Any) -> list[tuple[int, ...]]:
    """Return the shape of each of the base's noises, batch apart."""
    from normflows.distributions import base as bases

    if isinstance(base, bases.UniformGaussian):
        return [(len(base.ind),), (len(base.ind_),)]
    if isinstance(base, bases.GaussianPCA):
        return [(base.latent_dim,)]
    return [tuple(base.shape)]


def _placed(base: Any, noise: Sequence[Tensor], given: Sequence[Tensor]) -> Tensor:
    """Return the base's draw, `(batch, …)`, for noise of its laws."""
    from normflows.distributions import base as bases

    if isinstance(base, bases.Uniform):
        return _tensor(base.low + (base.high - base.low) * noise[0])
    if isinstance(base, bases.UniformGaussian):
        drawn = torch.cat([noise[0] - 0.5, noise[1]], -1)[..., base.inv_perm]
        return _tensor(base.scale * drawn)
    if isinstance(base, bases.GaussianPCA):
        return _tensor(noise[0] @ base.W + base.loc)
    warm = noise[0] * (getattr(base, "temperature", None) or 1.0)
    if isinstance(base, bases.AffineGaussian):
        classes = (_one_hot(given[0], base),) if base.class_cond else ()
        return _tensor(base.transform(warm, *classes)[0])
    mean, log_scale = _moments(base, given)
    return _tensor(mean + torch.exp(log_scale) * warm)


def _moments(base: Any, given: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return mean and log-scale of a Gaussian base with diagonal covariance."""
    from normflows.distributions import base as bases

    if isinstance(base, bases.ConditionalDiagGaussian):
        mean, log_scale = base.context_encoder(given[0]).chunk(2, -1)
        return mean, log_scale
    if isinstance(base, bases.ClassCondDiagGaussian):
        return base.loc.movedim(-1, 0)[given[0]], base.log_scale.movedim(-1, 0)[given[0]]
    mean, log_scale = base.loc, base.log_scale
    if isinstance(base, bases.GlowBase):
        mean = mean * torch.exp(base.loc_logs * base.logscale_factor)
        log_scale = log_scale * torch.exp(base.log_scale_logs * base.logscale_factor)
        if base.class_cond:
            ones = (1,) * (base.n_dim - 1)
            mean = mean + base.loc_cc[given[0]].reshape(-1, base.shape[0], *ones)
            log_scale = log_scale + base.log_scale_cc[given[0]].reshape(-1, base.shape[0], *ones)
    return mean, log_scale


def _one_hot(label: Tensor, base: Any) -> Tensor:
    return nn.functional.one_hot(label, base.num_classes).to(base.transform.s)


def _tensor(value: Any) -> Tensor:
    placed: Tensor = value
    return placed


def _tail_probability(_p: float, _k: int, _offset: int) -> float:
    return 1.0


def _terms(_p: float, count: int) -> Any:
    return np.full(count, SERIES_TERMS)


@contextlib.contextmanager
def _evaluating(flow: nn.Module) -> Iterator[None]:
    """Make residual layers plain functions of their input.

    Their log-determinant series gets its expected coefficients, all one: the library draws the
    number of terms, at least 20, and divides each later term by the probability that it is
    reached (arXiv:1906.02735); here the series ends after 20 + 20 terms. And the norm that a
    Lipschitz layer notes in a buffer at every call is noted in a copy.
    """
    from normflows.flows import residual

    chosen: Mapping[str, Callable[..., Any]] = {
        "geometric_sample": _terms,
        "poisson_sample": _terms,
        "geometric_1mcdf": _tail_probability,
        "poisson_1mcdf": _tail_probability,
    }
    notes = [(layer, layer.scale) for layer in flow.modules() if _is_lipschitz(layer)]
    with _entries.standing_in(residual, chosen):
        try:
            for layer, norm in notes:
                layer.scale = norm.clone()
            yield
        finally:
            for layer, norm in notes:
                layer.scale = norm


def _is_lipschitz(layer: nn.Module) -> TypeGuard[Any]:
    return type(layer).__module__ == "normflows.nets.lipschitz" and "scale" in dict(
        layer.named_buffers(recurse=False)
    )


class _FixedPoint:
    """Invert a residual block by as many steps as eager needed, frozen where eager stops.

    The library iterates until the whole batch has converged; here every step is computed and
    those after convergence keep what was found, so that the values are eager's.
    """

    def __init__(self) -> None:
        self.steps = 0

    def solve(self, block: Any, y: Tensor, atol: float, rtol: float) -> Tensor:
        """Return the `x` with `x + net(x) = y`, `(batch, …)`, in the steps that were measured.

        Raises:
            ExportError: Nothing was measured.
        """
        if not self.steps:
            raise ExportError(
                "the number of steps of a residual block's inverse is not chosen",
                where=type(block).__module__,
                next_step="call the model once with this inversion's measure before the capture",
            )
        x: Tensor = y - block.nnet(y)
        previous = y
        limit = atol + y.abs() * rtol

        def step(x: Tensor, previous: Tensor) -> tuple[Tensor, Tensor]:
            done = ((x - previous) ** 2 / limit < 1).all()
            return torch.where(done, x, y - block.nnet(x)), torch.where(done, previous, x)

        x, _ = iterate(step, self.steps, x, previous)
        return x

    def measure(self, block: Any, y: Tensor, atol: float, rtol: float) -> Tensor:
        """Return the library's answer; keep the most steps that any block needed, and spare ones.

        Raises:
            ExportError: The block does not converge in the library's limit of steps.
        """
        x: Tensor = y - block.nnet(y)
        previous, count = y, 1
        limit = atol + y.abs() * rtol
        while not ((x - previous) ** 2 / limit < 1).all():
            if count > MOST_STEPS:
                raise ExportError(
                    f"a residual block's inverse does not converge in {MOST_STEPS} steps",
                    where=type(block).__module__,
                    next_step="give its network a Lipschitz constant below one",
                )
            x, previous, count = y - block.nnet(x), x, count + 1
        self.steps = max(self.steps, SPARE_STEPS * count)
        return x


class NormFlows:
    """Flows of normflows; the context or the integer class is the second input."""

    library = "normflows"

    def detects(self, model: object) -> bool:
        """Return whether the model is a normflows flow with a density, or inherits from one."""
        if not _flow.comes_from(model, self.library):
            return False
        from normflows import ClassCondFlow, MultiscaleFlow, NormalizingFlow

        return isinstance(model, NormalizingFlow | ClassCondFlow | MultiscaleFlow)

    def entries(self, model: Any) -> Sequence[Entry]:
        """Return `log_prob` and `inverse` where the layers can, and `sample` where the bases can.

        Raises:
            UsageError: A layer takes its parameters from its first batch and has seen none, or
                the flow does not tell its features or those of its context.
        """
        _entries.refuse_uninitialised(model, _waits_for_data)
        with _flow.drawing(model):
            given = self._given(model)
            values = [item.value for item in given]
            z = [_draw(model, base, values) for base in _bases(model)]
            x, entries = z[0], list[Entry]()
            if (made := _tried(inverse, model, *z, *values)) is not None:
                x = made[0]
                entries.append(_entries.inverse(inverse, _places(model, z), given, ["x"]))
            if _tried(log_prob, model, x, *values) is not None:
                entries.insert(
                    0, _entries.density(log_prob, [_entries.named("x", x, **_range(model))], given)
                )
            if made is not None and all(map(_laws, _bases(model))):
                entries.append(_entries.sampler(sample, _noise(model), given, ["x"]))
        return entries

    def as_module(self, model: Any) -> nn.Module:
        """Return the model, which is a module."""
        module: nn.Module = model
        return module

    def replacements(self) -> Sequence[Replacement]:
        """Return the residual block's inversion, the autoregressive inverse and the splines."""

        def affine() -> Any:
            from normflows.flows.affine.autoregressive import MaskedAffineAutoregressive

            return MaskedAffineAutoregressive(4, 8)

        point = _FixedPoint()

        # The library looks them up on the class, which binds functions only.
        def solve(block: Any, y: Tensor, atol: float = 1e-5, rtol: float = 1e-5) -> Tensor:
            return point.solve(block, y, atol, rtol)

        def measure(block: Any, y: Tensor, atol: float = 1e-5, rtol: float = 1e-5) -> Tensor:
            return point.measure(block, y, atol, rtol)

        return (
            Replacement(
                targets=("normflows.flows.residual:iResBlock._inverse_fixed_point",),
                function=solve,
                examples=_fixed_point_examples,
                measure=measure,
            ),
            _passes.of("normflows.flows.affine.autoregressive:Autoregressive.inverse", affine),
            *_splines.of_normflows(),
        )

    def examples(self) -> Mapping[str, Callable[[], nn.Module]]:
        """Return couplings, autoregressive, residual, image and conditional flows."""
        import normflows as nf

        def flow(*layers: nn.Module) -> nn.Module:
            made: nn.Module = nf.NormalizingFlow(
                nf.distributions.base.DiagGaussian(4), list(layers)
            )
            return made

        def conditional() -> nn.Module:
            layers = [nf.flows.MaskedAffineAutoregressive(4, 8, context_features=3)]
            encoder = nn.Linear(3, 8)
            base = nf.distributions.base.ConditionalDiagGaussian(4, encoder)
            made: nn.Module = nf.ConditionalNormalizingFlow(base, layers)
            return made

        def residual() -> nn.Module:
            net = nf.nets.LipschitzMLP([4, 8, 4], lipschitz_const=0.5)
            return flow(nf.flows.Residual(net, exact_trace=True, reduce_memory=False))

        def glow() -> nn.Module:
            blocks = [nf.flows.GlowBlock(8, 4), nf.flows.Squeeze()]
            blocks[0].flows[-1].data_dep_init_done.fill_(1.0)
            bases = [nf.distributions.base.GlowBase((8, 2, 2))]
            made: nn.Module = nf.MultiscaleFlow(bases, [blocks], [], class_cond=False)
            return made

        return {
            "coupling": lambda: flow(nf.flows.AffineCouplingBlock(nf.nets.MLP([2, 8, 4]))),
            "coupled spline": lambda: flow(
                nf.flows.CoupledRationalQuadraticSpline(4, 1, 8), nf.flows.LULinearPermute(4)
            ),
            "autoregressive": lambda: flow(nf.flows.MaskedAffineAutoregressive(4, 8)),
            "conditional": conditional,
            "residual": residual,
            "glow": glow,
        }

    def _given(self, model: Any) -> list[Input]:
        """Return the input that the flow is conditioned on: a context or a class; or none."""
        classes = _classes(model)
        if classes:
            label = torch.arange(_flow.EXAMPLES) % classes
            return [_entries.named("label", label, kind="context", low=0, high=classes - 1)]
        if not _is_conditional(model):
            return []
        width = context_size(model)
        return [_entries.named("context", _flow.draw(model, "normal", width), kind="context")]


def context_size(flow: Any) -> int:
    """Return how many features of context a conditional flow reads.

    Raises:
        UsageError: It cannot be read from the base's encoder or the layers' networks.
    """
    from normflows.distributions.base import ConditionalDiagGaussian

    if isinstance(flow.q0, ConditionalDiagGaussian) and isinstance(
        flow.q0.context_encoder, nn.Module
    ):
        width = _flow.first_width(flow.q0.context_encoder)
        if width:
            return width
    for part in flow.modules():
        if isinstance(layer := getattr(part, "context_layer", None), nn.Linear):
            return layer.in_features
        if width := int(getattr(part, "context_features", None) or 0):
            return width
    raise _flow.unreadable(flow, "the shape of its context")


def _classes(flow: Any) -> int:
    """Return the number of classes that the bases depend on; 0 for none."""
    return max(int(getattr(base, "num_classes", None) or 0) for base in _bases(flow))


def _waits_for_data(layer: nn.Module) -> bool:
    """Return whether a layer's parameters are still to be set from its first batch."""
    done = getattr(layer, "data_dep_init_done", None)
    if done is None and type(layer).__module__.startswith("normflows.nets.lipschitz"):
        done = getattr(layer, "initialized", None)
    return isinstance(done, Tensor) and not bool(done)


def _draw(flow: nn.Module, base: Any, given: Sequence[Tensor]) -> Tensor:
    """Return draws of a base, `(batch, …)`, in the type and place of the flow."""
    if laws := _laws(base):
        widths = _widths(base)
        noise = [_flow.draw(flow, law, *width) for law, width in zip(laws, widths, strict=True)]
        return _placed(base, noise, given)
    drawn: Tensor = base.sample(_flow.EXAMPLES)
    return drawn.to(_flow.one_parameter(flow))


def _noise(flow: Any) -> list[Input]:
    """Return one noise per level, or per law of a base of two laws."""
    found = [
        (law, width)
        for base in _bases(flow)
        for law, width in zip(_laws(base), _widths(base), strict=True)
    ]
    names = ["noise"] if len(found) == 1 else [f"noise_{index}" for index in range(len(found))]
    return [
        _entries.named(name, _flow.draw(flow, law, *width), kind="noise", law=law)
        for name, (law, width) in zip(names, found, strict=True)
    ]


def _places(flow: Any, z: Sequence[Tensor]) -> list[Input]:
    """Return one base variable per level."""
    names = ["z"] if len(z) == 1 else [f"z_{index}" for index in range(len(z))]
    return [
        _entries.named(name, value, **_base_range(flow, base))
        for name, value, base in zip(names, z, _bases(flow), strict=True)
    ]


def _base_range(flow: Any, base: Any) -> Mapping[str, Any]:
    """Return the bounds of a base variable, those of the layers' angles for angles."""
    from normflows.distributions.base import Uniform, UniformGaussian

    if isinstance(base, Uniform):
        return _entries.bounded(float(base.low), float(base.high))
    if isinstance(base, UniformGaussian):
        return _range(flow)
    return {}


def _range(flow: Any) -> Mapping[str, Any]:
    """Return the bounds of the data that the layers are defined on; none for all numbers."""
    from normflows.transforms import Logit

    if isinstance(getattr(flow, "transform", None), Logit):
        return {"low": 0.0, "high": 1.0}
    bound = math.inf
    for part in flow.modules():
        tails = getattr(part, "tails", "linear")
        if tails is None:
            return {"low": 0.0, "high": 1.0}
        if isinstance(tails, list | tuple):
            bounds = torch.as_tensor(part.tail_bound, dtype=torch.float64)
            bound = min(bound, float(bounds.min()))
    return {} if math.isinf(bound) else _entries.bounded(-bound, bound)


def _tried(call: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a direction gives; `None` where a layer has only the other one."""
    try:
        return call(*arguments)
    except (NotImplementedError, AttributeError):
        return None


def _fixed_point_examples() -> Mapping[str, tuple[tuple[Any, ...], Mapping[str, Any]]]:
    import normflows as nf

    def block(width: int, strength: float) -> Any:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            net = nf.nets.LipschitzMLP([width, 8, width], lipschitz_const=strength)
        return nf.flows.Residual(net).iresblock.double().eval()

    def points(count: int, width: int, scale: float) -> Tensor:
        generator = torch.Generator().manual_seed(count)
        return scale * torch.randn(count, width, generator=generator, dtype=torch.float64)

    return {
        "two features": ((block(2, 0.5), points(5, 2, 1.0)), {}),
        "slow, far out": ((block(4, 0.97), points(7, 4, 10.0)), {}),
        "tight": ((block(4, 0.9), points(3, 4, 1.0)), {"atol": 1e-12, "rtol": 0.0}),
    }


adapter = NormFlows()

"""What a schedule needs to know of a model: a chain of causal layers over a grey picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeGuard

from torch import Tensor, nn

from toolkit.core.errors import ExportError
from toolkit.nn.masked import CausalLayer

HERE = (0, 0)
NEXT_STEP = "export `logits` and sample with the model's own `sample`"


class CausalStack(Protocol):
    """A model that can be scheduled: its forward pass is the chain of its layers, in order."""

    levels: int
    height: int
    width: int

    def layers(self) -> Sequence[CausalLayer]:
        """Return the chain: picture `(batch, 1, height, width)` to logits of each pixel."""

    def embed(self, level: Tensor) -> Tensor:
        """Return the pixel values that categories are fed back as."""


def causal_stack(model: nn.Module) -> CausalStack:
    """Return the model as a causal stack.

    Raises:
        ExportError: It is none, or a layer reads a pixel before it is drawn.
    """
    if not _is_stack(model):
        raise ExportError(
            f"{type(model).__name__} does not describe itself as a chain of masked convolutions",
            where="its layers(), embed(), levels, height and width",
            next_step=NEXT_STEP,
        )
    layers = list(model.layers())
    for number, layer in enumerate(layers):
        _check_taps(layer, where=f"layer {number} of {len(layers)}")
    _check_ends(model, layers)
    return model


def _is_stack(model: object) -> TypeGuard[CausalStack]:
    names = ("layers", "embed", "levels", "height", "width")
    if not all(hasattr(model, name) for name in names):
        return False
    layers = model.layers()  # type: ignore[attr-defined]  # the line above asked for it
    return bool(layers) and all(isinstance(layer, CausalLayer) for layer in layers)


def _check_taps(layer: CausalLayer, *, where: str) -> None:
    late = [tap for tap in layer.conv.taps() if tap > HERE]
    if late:
        raise ExportError(
            f"a convolution reads {len(late)} pixels that come later, the first at {late[0]}",
            where=where,
            next_step="mask the kernel from the current pixel on",
        )


def _check_ends(model: CausalStack, layers: Sequence[CausalLayer]) -> None:
    first, last = layers[0], layers[-1]
    if first.conv.in_channels != 1 or last.conv.out_channels != model.levels:
        raise ExportError(
            f"the chain goes from {first.conv.in_channels} channels to {last.conv.out_channels}, "
            f"and a sampler of grey pictures needs 1 and {model.levels}",
            where="the first and the last layer",
            next_step=NEXT_STEP,
        )
    if first.residual or HERE in first.conv.taps():
        raise ExportError(
            "the first layer reads the pixel whose law it should give",
            where="layer 0",
            next_step="give the first layer a mask of kind A and no residual",
        )

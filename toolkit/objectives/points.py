"""Mean distance of predicted points from the true ones."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn


def objective(model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the mean distance as `loss`, and the root of its mean square as `rms`.

    Both are in the unit of the points: metres of a body, pixels of a picture.

    Arguments:
        model: Maps `x`, and what `given` names in the batch, to points of the true ones' shape,
            or to a tuple that begins with them.
        batch: `x`, what the model is given besides, and `points`, `(batch, ..., coordinates)`.
    """
    result = model(batch["x"], *(batch[name] for name in getattr(model, "given", ())))
    points = result[0] if isinstance(result, tuple) else result
    squared = (points - batch["points"]).square().sum(-1)
    return {"loss": squared.clamp(min=1e-12).sqrt().mean(), "rms": squared.mean().sqrt()}

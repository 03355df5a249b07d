"""The entries that every flow has."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from toolkit.core.entry import Entry, Input, Law

EXAMPLES = 4


def flow_entries(
    data_shape: Sequence[int],
    noise_shape: Sequence[int],
    *,
    law: Law = "normal",
    interval: tuple[float | None, float | None] = (None, None),
) -> list[Entry]:
    """Return `log_prob`, `inverse` and `sample`.

    Arguments:
        data_shape: Shape of the data, batch apart.
        noise_shape: Shape of the noise, batch apart.
        law: The noise's distribution: `normal` or `uniform`.
        interval: The data's smallest and largest valid values.
    """
    generator = torch.Generator().manual_seed(0)
    draw = torch.rand if law == "uniform" else torch.randn
    x = torch.rand(EXAMPLES, *data_shape, generator=generator)
    z = draw(EXAMPLES, *noise_shape, generator=generator)
    low, high = interval
    data_dims = ("batch", *([None] * len(data_shape)))
    noise_dims = ("batch", *([None] * len(noise_shape)))
    return [
        Entry(
            "log_prob",
            call="log_prob",
            inputs=[Input("x", x, dims=data_dims, low=low, high=high)],
            outputs=["log_prob"],
            units={"log_prob": "nats"},
        ),
        Entry(
            "inverse",
            call="inverse",
            inputs=[Input("z", z, dims=noise_dims, kind="noise", law=law)],
            outputs=["x", "log_det"],
            units={"log_det": "nats"},
        ),
        Entry(
            "sample",
            call="sample",
            inputs=[Input("noise", z, dims=noise_dims, kind="noise", law=law)],
            outputs=["x"],
        ),
    ]

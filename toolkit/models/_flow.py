"""The entries that every flow has."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from toolkit.core.entry import Entry, Input

EXAMPLES = 4


def flow_entries(data_shape: Sequence[int], noise_shape: Sequence[int]) -> list[Entry]:
    """Return `log_prob`, `inverse` and `sample` for data and noise of these shapes, batch apart."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(EXAMPLES, *data_shape, generator=generator)
    z = torch.randn(EXAMPLES, *noise_shape, generator=generator)
    data_dims = ("batch", *([None] * len(data_shape)))
    noise_dims = ("batch", *([None] * len(noise_shape)))
    return [
        Entry(
            "log_prob",
            call="log_prob",
            inputs=[Input("x", x, dims=data_dims)],
            outputs=["log_prob"],
            units={"log_prob": "nats"},
        ),
        Entry(
            "inverse",
            call="inverse",
            inputs=[Input("z", z, dims=noise_dims, kind="noise", law="normal")],
            outputs=["x", "log_det"],
            units={"log_det": "nats"},
        ),
        Entry(
            "sample",
            call="sample",
            inputs=[Input("noise", z, dims=noise_dims, kind="noise", law="normal")],
            outputs=["x"],
        ),
    ]

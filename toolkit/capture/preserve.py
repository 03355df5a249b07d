"""Leave the user's model and process as they were, also after an error."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn


@contextlib.contextmanager
def preserved(model: nn.Module) -> Iterator[nn.Module]:
    """Yield the model in evaluation mode; put back flags, parameters, buffers and random state.

    Arguments:
        model: Any module; its training flags may differ between submodules.
    """
    training = {module: module.training for module in model.modules()}
    tensors = {
        tensor: (tensor.data, tensor.detach().clone())
        for tensor in (*model.parameters(), *model.buffers())
    }
    gradients = {p: (p.requires_grad, p.grad) for p in model.parameters()}
    with torch.random.fork_rng(devices=_devices(model)):
        try:
            yield model.eval()
        finally:
            for module, flag in training.items():
                module.training = flag
            for parameter, (required, gradient) in gradients.items():
                parameter.requires_grad_(required)
                parameter.grad = gradient
            for tensor, (storage, saved) in tensors.items():
                # A tracer may have left a fake tensor here: the storage itself is put back first.
                tensor.data = storage
                if not torch.equal(storage, saved):
                    storage.copy_(saved)


def _devices(model: nn.Module) -> list[torch.device]:
    return sorted({p.device for p in model.parameters() if p.device.type == "cuda"}, key=str)

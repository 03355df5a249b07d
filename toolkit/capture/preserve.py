"""Leave the user's model and process as they were, also after an error."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


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
            yield evaluating(model)
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


def evaluating(model: nn.Module) -> nn.Module:
    """Set evaluation mode and return the model."""
    try:
        model.eval()
    except NotImplementedError:
        # An exported program refuses: it has no training mode to leave.
        for module in model.modules():
            module.training = False
    return model


class _CopiesHistory(TorchFunctionMode):
    """Let `copy.deepcopy` take a tensor with a history, such as old weight norm's, as numbers."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        del types
        if func is Tensor.__deepcopy__ and not args[0].is_leaf:
            tensor, copies = args
            return copies.setdefault(id(tensor), tensor.detach().clone())
        return func(*args, **(kwargs or {}))


def copied(model: nn.Module, copies: dict[int, Any] | None = None) -> nn.Module:
    """Return a copy of a model, where torch only copies tensors without a history.

    Arguments:
        model: Any module.
        copies: Filled with every copied object, by the original's `id`.
    """
    with _CopiesHistory():
        return copy.deepcopy(model, copies)


def _devices(model: nn.Module) -> list[torch.device]:
    return sorted({p.device for p in model.parameters() if p.device.type == "cuda"}, key=str)

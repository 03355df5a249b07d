"""Sizes of what convolutions and pools give out."""

from __future__ import annotations

from toolkit.core.errors import UsageError


def output_size(
    size: int, kernel: int, *, stride: int = 1, padding: int = 0, dilation: int = 1
) -> int:
    """Return `⌊(n + 2p − d(k − 1) − 1) / s⌋ + 1`, in pixels.

    Arguments:
        size: Pixels of the input along one axis, `n`.
        kernel: Taps of the kernel, `k`.
        stride: Pixels between neighbouring outputs, `s`.
        padding: Pixels added on each side, `p`.
        dilation: Pixels between neighbouring taps, `d`.

    Raises:
        UsageError: The kernel does not fit into the padded input.
    """
    room = size + 2 * padding - dilation * (kernel - 1) - 1
    if room < 0:
        raise UsageError(
            f"a kernel of {kernel} taps, {dilation} apart, does not fit into {size} pixels",
            where=f"padding {padding}",
            next_step="take larger pictures, a smaller kernel or more padding",
        )
    return room // stride + 1

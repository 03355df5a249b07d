"""Plucked strings, synthesised: mu-law levels of short pieces of decaying notes at 8 kHz."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toolkit.core.errors import UsageError
from toolkit.core.protocols import Data

if TYPE_CHECKING:
    from torch import Tensor

RATE = 8000
PITCHES = (110.0, 880.0)
HARMONICS = 6


def dataset(
    *,
    length: int = 128,
    levels: int = 32,
    samples: int = 2048,
    test: int = 256,
    seed: int = 0,
) -> Data:
    """Draw notes as `x` of shape `(samples, length)`, int64 mu-law levels; no recording is used.

    A note has a random pitch from 110 to 880 Hz, six harmonics with random phases that decay the
    faster the higher they are, and a little white noise.

    Arguments:
        length: Samples of a piece, at 8,000 a second.
        levels: Number of mu-law levels; 256 is the 8-bit standard.
        samples: Number of training pieces.
        test: Number of held-out pieces.
        seed: Seed of the draw.

    Raises:
        UsageError: An argument is out of range.
    """
    if min(length, samples, test) < 1 or levels < 2:
        raise UsageError(
            f"audio(length={length}, levels={levels}, samples={samples}, test={test}) "
            "is out of range",
            where="[data] of the recipe",
            next_step="length, samples and test are at least 1, levels at least 2",
        )
    level = mu_law(_notes(samples + test, length, seed), levels)
    return Data({"x": level[:samples]}, {"x": level[samples:]}, levels=levels)


def mu_law(wave: Tensor, levels: int) -> Tensor:
    """Return the level, int64 in 0 … levels - 1, of amplitudes from -1 to 1.

    References:
        ITU-T G.711, with `mu = levels - 1`.
    """
    import torch

    mu = levels - 1
    squeezed = wave.sign() * torch.log1p(mu * wave.abs()) / torch.log1p(torch.tensor(float(mu)))
    return ((squeezed + 1) / 2 * mu).round().long()


def amplitude(level: Tensor, levels: int) -> Tensor:
    """Return the amplitude from -1 to 1 of mu-law levels: the inverse, up to their rounding."""
    mu = levels - 1
    squeezed = 2 * level / mu - 1
    return squeezed.sign() * ((1 + mu) ** squeezed.abs() - 1) / mu


def _notes(count: int, length: int, seed: int) -> Tensor:
    """Return amplitudes from -1 to 1, `(count, length)`."""
    import torch

    draws = torch.Generator().manual_seed(seed)
    low, high = PITCHES
    pitch = low * (high / low) ** torch.rand(count, 1, 1, generator=draws)
    phase = 2 * torch.pi * torch.rand(count, HARMONICS, 1, generator=draws)
    harmonic = torch.arange(1.0, HARMONICS + 1).reshape(1, -1, 1)
    time = torch.arange(length) / RATE
    tones = torch.sin(2 * torch.pi * harmonic * pitch * time + phase) / harmonic
    note = (tones * torch.exp(-10 * harmonic * time)).sum(1)
    note = note + 0.005 * torch.randn(note.shape, generator=draws)
    return 0.9 * note / note.abs().amax(1, keepdim=True)

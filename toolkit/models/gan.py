"""Generative adversarial network: DCGAN, with instance noise as an option."""

from __future__ import annotations

from collections.abc import Sequence

from toolkit.core.errors import UsageError
from toolkit.models._adversarial import AdversarialModel, Dimensions
from toolkit.models._latent import dimensions

SIZES = {
    "small": Dimensions(shape=(1, 8, 8), latent=32, widths=(64, 32), kernel=4),
    "full": Dimensions(shape=(3, 64, 64), latent=100, widths=(1024, 512, 256, 128), kernel=5),
}


class GAN(AdversarialModel):
    """Generate pictures from normal noise, and tell them from real ones.

    Arguments:
        size: `small` for digits of 8x8, `full` for the paper's colour pictures of 64x64.
        shape: Channels, height and width of a picture; empty takes those of `size`.
        latent: Features of the noise; 0 takes those of `size`.
        widths: The generator's channels before each doubling of the picture; empty takes those
            of `size`.
        batch_norm: Whether the discriminator normalises its batches.
        instance_noise: Deviation of the noise on the discriminator's input in training, where the
            pixels lie in [0, 1].

    Raises:
        UsageError: There is no such size, or a number is out of range.

    References:
        Unsupervised Representation Learning with Deep Convolutional Generative Adversarial
        Networks, arXiv 1511.06434. Instance noise: Amortised MAP Inference for Image
        Super-resolution, arXiv 1610.04490.
    """

    def __init__(
        self,
        *,
        size: str = "small",
        shape: tuple[int, ...] = (),
        latent: int = 0,
        widths: Sequence[int] = (),
        batch_norm: bool = True,
        instance_noise: float = 0.0,
    ) -> None:
        if instance_noise < 0:
            raise UsageError(
                f"instance_noise = {instance_noise} is negative",
                where="gan",
                next_step="give a deviation, 0 or more",
            )
        dims = dimensions(
            SIZES, size, where="gan", shape=tuple(shape), latent=latent, widths=tuple(widths)
        )
        super().__init__(dims, batch_norm=batch_norm, where="gan")
        self.instance_noise = instance_noise


model = GAN

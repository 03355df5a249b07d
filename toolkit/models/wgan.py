"""Wasserstein GAN: a critic without batch normalisation, and a penalty on its gradient."""

from __future__ import annotations

from collections.abc import Sequence

from toolkit.core.errors import UsageError
from toolkit.models._adversarial import AdversarialModel, Dimensions
from toolkit.models._latent import dimensions

SIZES = {
    "small": Dimensions(shape=(1, 8, 8), latent=32, widths=(64, 32), kernel=4),
    "full": Dimensions(shape=(3, 64, 64), latent=128, widths=(512, 256, 128, 64), kernel=5),
}


class WassersteinGAN(AdversarialModel):
    """Generate pictures from normal noise; a critic measures how far they are from real ones.

    Arguments:
        size: `small` for digits of 8x8, `full` for the paper's DCGAN at 64x64, in colour.
        shape: Channels, height and width of a picture; empty takes those of `size`.
        latent: Features of the noise; 0 takes those of `size`.
        widths: The generator's channels before each doubling of the picture; empty takes those
            of `size`.
        penalty: Weight of the penalty on the critic's gradient.

    Raises:
        UsageError: There is no such size, or a number is out of range.

    References:
        Wasserstein GAN, arXiv 1701.07875. Improved Training of Wasserstein GANs, arXiv 1704.00028.
    """

    def __init__(
        self,
        *,
        size: str = "small",
        shape: tuple[int, ...] = (),
        latent: int = 0,
        widths: Sequence[int] = (),
        penalty: float = 10.0,
    ) -> None:
        if penalty < 0:
            raise UsageError(
                f"penalty = {penalty} is negative",
                where="wgan",
                next_step="give a weight, 0 or more; the paper's is 10",
            )
        dims = dimensions(
            SIZES, size, where="wgan", shape=tuple(shape), latent=latent, widths=tuple(widths)
        )
        super().__init__(dims, batch_norm=False, where="wgan")
        self.penalty = penalty


model = WassersteinGAN

"""Shallow autoencoders (see train/autoencoder.py) on scikit-learn's 8x8 digits, which need no download."""

import sys
from dataclasses import dataclass, replace

import numpy as np

from mirage_jax.parts import Parts
from mirage_jax.study import Output, main
from train import autoencoder
from train.autoencoder import Flat
from train.data import digits

NAME = "digits_autoencoder"
DATA = ()  # the digits come with scikit-learn


@dataclass(frozen=True)
class Config(autoencoder.Config):
    """Autoencoders of several widths, each trained from several seeds."""

    def pixels(self) -> int:
        """8 x 8."""
        return 64


_more = (3, 6, 12, 20, 28, 36, 40, 44, 56)
PRESETS = {
    "quick": Config(),
    "full": replace(Config(), seeds=20, steps=20_000, widths=tuple(sorted(Config().widths + _more))),
}


def run(config: Config, kept: Parts | None = None) -> Output:
    """Train every width from every seed on 1,297 digits; score each member, and PCA, on the other 500."""
    return autoencoder.run(NAME, "digits", "digits bundled with scikit-learn", config, pixels(), kept)


def pixels() -> Flat:
    """The digits with ink from 0 to 1, in sixteenths."""
    data = digits()
    blank, full = data.train_images.min(), data.train_images.max()  # standardised they are 0 and 16
    sixteenths = (np.rint(16 * (x - blank) / (full - blank)) for x in (data.train_images, data.test_images))
    return Flat(*((x / 16).reshape(len(x), -1).astype(np.float32) for x in sixteenths))


if __name__ == "__main__":
    main(sys.modules[__name__])

"""The LeNet family (see train/lenet.py) on MNIST: at 14x14 in minutes, at 28x28 with LeNet-5's own kernels."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mirage_jax.errors import InputError
from mirage_jax.parts import Parts
from mirage_jax.study import Output, main
from train import digits_cnn, lenet
from train.data import Images, Source, load, named, task
from train.lenet import Squares

NAME = "mnist_cnn"
INSTEAD = f"`python -m train.{digits_cnn.NAME}` needs no download"  # said where MNIST is absent
SIDE = 28


@dataclass(frozen=True)
class Config(lenet.Config):
    """LeNets of several widths, each trained from several seeds."""

    widths: tuple[float, ...] = (1 / 84, 1 / 42, 1 / 24, 1 / 12, 1 / 6, 1 / 3, 2 / 3, 1.0)
    """Multipliers of LeNet-5's layer widths 6, 16, 120, 84."""
    steps: int = 936
    """Optimiser steps of every run, whatever its width."""
    learning_rate: float = 0.005
    """Peak learning rate of AdamW."""
    data: Source = "published"
    """published: MNIST, its SHA-256 checked. any: whatever the files hold. procedural: strokes made by rule, no files."""
    side: Literal[14, 28] = 14
    """Pixels a side; 14 are means of 2x2."""
    items: int | None = 10_000
    """Images to train on, the first of the file; None for all."""

    def __post_init__(self) -> None:
        """Refuse a family that cannot be trained."""
        super().__post_init__()
        if self.items is not None and self.items < 1:
            raise ValueError(f"expected items >= 1, got {self.items}")


PRESETS = {
    "quick": Config(),
    # wide nets at 28x28 cost more padded than compiled apart
    "full": replace(Config(), side=28, items=None, steps=3750, widths=lenet.Config().widths, together=1),
}


def needs(config: Config) -> tuple[str, ...]:
    """The data sets that a config reads."""
    return () if config.data == "procedural" else ("mnist",)


def run(config: Config, kept: Parts | None = None, mnist: Path | None = None) -> Output:
    """Train every width from every seed; score each member on all test images."""
    images: Any = load("mnist", mnist, config.data, config.seed)
    data = squares(images, config.side, config.items)
    used = f"trained on {len(data.train_images):,} at {config.side}x{config.side}"
    return lenet.run(NAME, task("mnist", config.data), f"{named('mnist', mnist, images)}; {used}", config, data, kept)


def squares(images: Images, side: int, items: int | None) -> Squares:
    """The first training images and all test images, (x - mean) / sd with both of the former, and means of 2x2 at 14."""
    if items is not None and items > len(images.train_images):
        raise InputError(f"--items: expected at most the {len(images.train_images)} training images, got {items}")
    k = SIDE // side
    train, test = (_sums(x, k) for x in (images.train_images[:items], images.test_images))
    # sums of whole numbers are exact, so the arrays are the same bytes on every machine
    mean = train.sum(dtype=np.int64) / train.size
    sd = np.sqrt(np.square(train, dtype=np.int64).sum() / train.size - mean**2)
    if not sd > 0:
        raise InputError("expected training images that are not all one grey")
    train, test = (((x - mean) / sd).astype(np.float32) for x in (train, test))
    return Squares(train, images.train_labels[:items], test, images.test_labels)


def _sums(images: np.ndarray, k: int) -> np.ndarray:
    """Sums of k x k pixels; standardised they are what means would be."""
    n, height, width = images.shape
    return images.reshape(n, height // k, k, width // k, k).sum((2, 4), dtype=np.int32)


if __name__ == "__main__":
    main(sys.modules[__name__])

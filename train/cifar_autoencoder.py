"""Shallow autoencoders (see train/autoencoder.py) on CIFAR: grey at 16x16 in seconds, in colour at 32x32 on a GPU."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, UInt8

from mirage_jax.parts import Parts
from mirage_jax.study import Output, main
from train import autoencoder, digits_autoencoder
from train.autoencoder import Flat
from train.data import Source, load, named, task

NAME = "cifar_autoencoder"
INSTEAD = f"`python -m train.{digits_autoencoder.NAME}` needs no download"  # said where CIFAR is absent
LUMA = (0.299, 0.587, 0.114)  # of red, green, blue in grey: ITU-R BT.601
MEAN, SD = 0.5, 0.2  # of every image
PIXELS = {"grey16": 16 * 16, "rgb32": 32 * 32 * 3}


@dataclass(frozen=True)
class Config(autoencoder.Config):
    """Autoencoders of several widths, each trained from several seeds."""

    seeds: int = 3
    """Training runs per width; with more, the earlier ones stay what they were, to float rounding."""
    widths: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 192)
    """Hidden units h, below the number of pixels."""
    steps: int = 1560
    """Optimiser steps of every run, whatever its width."""
    batch: int = 128
    """Images per step."""
    together: int = 32
    """Widths up to this one share a program, padded with zeros to the widest of them; wider ones are trained alone."""
    dataset: Literal["cifar10", "cifar100"] = "cifar10"
    """All its training images train; all its test images score."""
    data: Source = "published"
    """published or any: whatever the files hold. procedural: textures made by rule, no files."""
    form: Literal["grey16", "rgb32"] = "grey16"
    """grey16: brightness, means of 2x2. rgb32: colours as they are. Either way each image has mean .5 and sd .2."""

    def pixels(self) -> int:
        """Numbers in an image."""
        return PIXELS[self.form]


PRESETS = {
    "quick": Config(),
    "full": replace(
        Config(), dataset="cifar100", form="rgb32", widths=tuple(2**i for i in range(12)), steps=40_000,
        learning_rate=0.002,
    ),
}  # fmt: skip


def needs(config: Config) -> tuple[str, ...]:
    """The data sets that a config reads."""
    return () if config.data == "procedural" else (config.dataset,)


def run(config: Config, kept: Parts | None = None, **folder: Path) -> Output:
    """Train every width from every seed on the training images; score each member, and PCA, on the test images."""
    place = folder.get(config.dataset)
    images: Any = load(config.dataset, place, config.data, config.seed)
    flat = Flat(*(pixels(x, config.form) for x in (images.train_images, images.test_images)))
    told = named(config.dataset, place, images)
    return autoencoder.run(NAME, task(config.dataset, config.data), told, config, flat, kept, form=config.form)


def pixels(images: UInt8[np.ndarray, "image 32 32 3"], form: str) -> Float[np.ndarray, "image D"]:
    """Images as rows, each shifted and scaled to mean MEAN and sd SD over its numbers; one that is all alike is MEAN.

    Grey is .299 red + .587 green + .114 blue. What is scaled up may leave [0, 1].
    """
    x = images / 255.0
    if form == "grey16":
        x = (x @ np.array(LUMA)).reshape(-1, 16, 2, 16, 2).mean((2, 4))
    x = x.reshape(len(x), -1)
    x = x - x.mean(1, keepdims=True)
    sd = x.std(1, keepdims=True)
    return (MEAN + SD * x / np.where(sd > 1e-9, sd, 1)).astype(np.float32)


if __name__ == "__main__":
    main(sys.modules[__name__])

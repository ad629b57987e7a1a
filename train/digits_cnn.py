"""The LeNet family (see train/lenet.py) on scikit-learn's 8x8 digits, which need no download."""

import sys
from dataclasses import dataclass, replace

from mirage_jax.parts import Parts
from mirage_jax.study import Output, main
from train import lenet
from train.data import digits

NAME = "digits_cnn"
DATA = ()  # the digits come with scikit-learn


@dataclass(frozen=True)
class Config(lenet.Config):
    """LeNets of several widths, each trained from several seeds."""


_more = (1 / 60, 1 / 30, 1 / 20, 1 / 10, 1 / 5, 2 / 3, 1.5, 2.0)
PRESETS = {"quick": Config(), "full": replace(Config(), seeds=10, widths=tuple(sorted(Config().widths + _more)))}


def run(config: Config, kept: Parts | None = None) -> Output:
    """Train every width from every seed on 1,297 digits; score each member on the other 500."""
    return lenet.run(NAME, "digits", "digits bundled with scikit-learn, 1297+500 images", config, digits(), kept)


if __name__ == "__main__":
    main(sys.modules[__name__])

"""Definitions of the trained networks, as Flax NNX modules. They hold no optimiser and no training state."""

from typing import NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

CLASSES = 10
GAIN = 1.4  # of the initial weights: sd = GAIN / sqrt(fan_in); tanh shrinks what it passes on

# uniform and not normal: jax keeps uniform draws the same from version to version
_weights = nnx.initializers.variance_scaling(GAIN**2, "fan_in", "uniform")


class Widths(NamedTuple):
    """Channels of the two convolutions, units of the two hidden layers."""

    c1: int
    c2: int
    f1: int
    f2: int


def lenet_widths(multiplier: float) -> Widths:
    """LeNet-5's 6, 16, 120, 84 times the multiplier, rounded to even at halves, each at least 1."""
    return Widths(*(max(1, round(multiplier * width)) for width in (6, 16, 120, 84)))


def patches(x: Float[Array, "*batch h w c"], k: int) -> Float[Array, "*batch h w {k}*{k}*c"]:
    """The k x k neighbourhood of every pixel (k odd, zeros beyond the edge), ordered (row, column, channel)."""
    h, w = x.shape[-3:-1]
    edge = [(0, 0)] * (x.ndim - 3) + [(k // 2, k // 2)] * 2 + [(0, 0)]
    padded = jnp.pad(x, edge)
    shifted = [padded[..., i : i + h, j : j + w, :] for i in range(k) for j in range(k)]
    return jnp.concatenate(shifted, axis=-1)


def average_pool(x: Float[Array, "*batch h w c"]) -> Float[Array, "*batch h/2 w/2 c"]:
    """Mean of every 2 x 2 block; h and w are even."""
    *batch, h, w, c = x.shape
    return x.reshape(*batch, h // 2, 2, w // 2, 2, c).mean((-4, -2))


class Conv(nnx.Module):
    """Same-size convolution as patches times a [k*k*c_in, c_out] matrix: on CPUs far faster than lax.conv in a scan."""

    def __init__(self, c_in: int, c_out: int, k: int = 3, *, rngs: nnx.Rngs):
        self.k = k
        self.linear = nnx.Linear(k * k * c_in, c_out, kernel_init=_weights, rngs=rngs)

    def __call__(self, x: Float[Array, "*batch h w c_in"]) -> Float[Array, "*batch h w c_out"]:
        """Convolve."""
        return self.linear(patches(x, self.k))


class LeNet(nnx.Module):
    """Conv 3x3, pool, conv 3x3, pool, two hidden layers, ten logits; tanh throughout.

    tanh is LeNet's own; a ReLU dies at one or two units, and dead units would fake a transition at the small end.
    """

    def __init__(self, widths: Widths, side: int = 8, *, rngs: nnx.Rngs):
        flat = (side // 4) ** 2 * widths.c2
        self.conv1 = Conv(1, widths.c1, rngs=rngs)
        self.conv2 = Conv(widths.c1, widths.c2, rngs=rngs)
        self.hidden1 = nnx.Linear(flat, widths.f1, kernel_init=_weights, rngs=rngs)
        self.hidden2 = nnx.Linear(widths.f1, widths.f2, kernel_init=_weights, rngs=rngs)
        self.logits = nnx.Linear(widths.f2, CLASSES, kernel_init=_weights, rngs=rngs)

    def __call__(self, images: Float[Array, "*batch side side"]) -> Float[Array, "*batch 10"]:
        """Logits of the ten digits."""
        x = average_pool(jnp.tanh(self.conv1(images[..., None])))
        x = average_pool(jnp.tanh(self.conv2(x)))
        x = x.reshape(*x.shape[:-3], -1)
        x = jnp.tanh(self.hidden2(jnp.tanh(self.hidden1(x))))
        return self.logits(x)

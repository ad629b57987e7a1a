"""Definitions of the trained networks, as Flax NNX modules. They hold no optimiser and no training state.

All initial weights are uniform and not normal: jax keeps uniform draws the same from version to version. Activations are 0 at
0, so that a network padded with zeros (`train.fit.stack`) stays what it is.
"""

import math
import re
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Key

CLASSES = 10
GAIN = 1.4  # of LeNet's initial weights: sd = GAIN / sqrt(fan_in); tanh shrinks what it passes on
HEAD = 8  # units of an attention head
SPREAD = 0.5  # sd of initial embeddings
EPSILON = 1e-6  # beside a mean square

BLOCK = 7  # columns of a convolution made by one matrix product, at most: more waste, fewer are slow

Edge = Literal["SAME", "VALID"]


class Draws:
    """Uniform numbers on [-1, 1) for all weights of a net from one draw: compiled in a third of the time of `nnx.Rngs`."""

    def __init__(self, key: Key[Array, ""], size: int):
        self.numbers, self.at = jax.random.uniform(key, (size,), minval=-1.0), 0

    def params(self) -> "Draws":
        """What an initializer draws from."""
        return self

    def take(self, shape: tuple[int, ...]) -> Array:
        """The next numbers, as an array."""
        begin, self.at = self.at, self.at + math.prod(shape)
        return self.numbers[begin : self.at].reshape(shape)


def scaled(gain: float) -> nnx.Initializer:
    """Uniform weights with sd gain / sqrt(fan_in); the fan-in is all axes but the last."""
    return lambda key, shape, dtype=jnp.float32: _uniform(key, shape, gain * math.prod(shape[:-1]) ** -0.5)


def spread(sd: float) -> nnx.Initializer:
    """Uniform weights with this sd."""
    return lambda key, shape, dtype=jnp.float32: _uniform(key, shape, sd)


def _uniform(key: Any, shape: Any, sd: float) -> Array:
    drawn = key.take(shape) if isinstance(key, Draws) else jax.random.uniform(key, shape, minval=-1.0)
    return 3**0.5 * sd * drawn


def columns(images: Float[Array, "*batch h w"]) -> Float[Array, "w 1 h items"]:
    """Maps of one channel, laid out as the convolutions here read them: items last, so that all steps run along them."""
    return images.reshape(-1, *images.shape[-2:]).transpose(2, 1, 0)[:, None]


def average_pool(x: Float[Array, "w c h items"]) -> Float[Array, "w/2 c h/2 items"]:
    """Mean of every 2 x 2 block; h and w are even."""
    w, c, h, items = x.shape
    return x.reshape(w // 2, 2, c, h // 2, 2, items).mean((1, 4))


def banded(
    x: Float[Array, "w c_in h items"], kernel: Float[Array, "k k c_in c_out"]
) -> Float[Array, "w' c_out h' items"]:
    """Convolution within the edges, some columns at a time: what they see, once per kernel row, times one matrix.

    The matrix holds the kernel once per column, shifted, and zeros: up to three times the arithmetic of patches, yet faster,
    since nothing but whole columns of rows and items is ever copied.
    """
    k, _, c_in, c_out = kernel.shape
    w, _, h, items = x.shape
    rows, cols = h - k + 1, w - k + 1
    many = max(q for q in range(1, BLOCK + 1) if cols % q == 0)
    # band[q, p, j]: of the columns it sees, the q-th of the block meets the p-th at column j of the kernel
    band = np.arange(many)[:, None, None] + np.arange(k) == np.arange(many + k - 1)[:, None]
    matrix = jnp.einsum("qpj,ijco->qoipc", band.astype(kernel.dtype), kernel).reshape(many * c_out, -1)

    def block(left: int) -> Array:
        seen = x[left : left + many + k - 1]
        return matrix @ jnp.concatenate([seen[:, :, i : i + rows] for i in range(k)]).reshape(-1, rows * items)

    return jnp.concatenate([block(left) for left in range(0, cols, many)]).reshape(cols, c_out, rows, items)


class Conv(nnx.Module):
    """Convolution with a [k, k, c_in, c_out] kernel, k odd; SAME sees zeros beyond the edge, VALID stays within.

    On CPUs as products with banded matrices, which inside a scan is far faster than lax.conv; elsewhere lax.conv.
    """

    def __init__(self, c_in: int, c_out: int, k: int, edge: Edge, *, gain: float = 1.0, rngs: nnx.Rngs):
        self.edge = edge
        self.kernel = nnx.Param(scaled(gain)(rngs.params(), (k, k, c_in, c_out)))
        self.bias = nnx.Param(jnp.zeros(c_out))

    def __call__(self, x: Float[Array, "w c_in h items"]) -> Float[Array, "w' c_out h' items"]:
        """Convolve."""
        kernel = self.kernel[...]
        beyond = kernel.shape[0] // 2 * (self.edge == "SAME")
        if jax.default_backend() == "cpu":
            x = jnp.pad(x, ((beyond, beyond), (0, 0), (beyond, beyond), (0, 0)))
            y = banded(x, kernel)
        else:
            order, edges = ("WCHN", "HWIO", "WCHN"), [(beyond, beyond)] * 2
            y = jax.lax.conv_general_dilated(x, kernel, (1, 1), edges, dimension_numbers=order)
        return y + self.bias[...][:, None, None]


class Widths(NamedTuple):
    """Channels of the two convolutions, units of the two hidden layers."""

    c1: int
    c2: int
    f1: int
    f2: int


def lenet_widths(multiplier: float) -> Widths:
    """LeNet-5's 6, 16, 120, 84 times the multiplier, rounded to even at halves, each at least 1."""
    return Widths(*(max(1, round(multiplier * width)) for width in (6, 16, 120, 84)))


class LeNet(nnx.Module):
    """Conv, pool, conv, pool, two hidden layers, ten logits; tanh throughout.

    Kernels are 3 x 3 with edges kept up to 8 pixels a side, 3 x 3 without edges up to 14, and LeNet-5's own at 28: 5 x 5, the
    first with edges. tanh is LeNet's own; a ReLU dies at one or two units, and dead units would fake a transition at the
    small end.
    """

    def __init__(self, widths: Widths, side: int, *, rngs: nnx.Rngs):
        k = 5 if side > 14 else 3
        edges: tuple[Edge, Edge] = (
            ("SAME", "SAME") if side <= 8 else ("VALID", "VALID") if side <= 14 else ("SAME", "VALID")
        )
        left = side
        for edge in edges:
            left = (left - (k - 1) * (edge == "VALID")) // 2
        weights = scaled(GAIN)
        self.conv1 = Conv(1, widths.c1, k, edges[0], gain=GAIN, rngs=rngs)
        self.conv2 = Conv(widths.c1, widths.c2, k, edges[1], gain=GAIN, rngs=rngs)
        flat = (left, left, widths.c2)
        self.hidden1 = nnx.LinearGeneral(flat, widths.f1, axis=(-3, -2, -1), kernel_init=weights, rngs=rngs)
        self.hidden2 = nnx.Linear(widths.f1, widths.f2, kernel_init=weights, rngs=rngs)
        self.logits = nnx.Linear(widths.f2, CLASSES, kernel_init=weights, rngs=rngs)

    def __call__(self, images: Float[Array, "*batch side side"]) -> Float[Array, "*batch 10"]:
        """Logits of the ten digits."""
        x = average_pool(jnp.tanh(self.conv1(columns(images))))
        x = average_pool(jnp.tanh(self.conv2(x)))
        x = x.transpose(3, 2, 0, 1).reshape(*images.shape[:-2], x.shape[2], x.shape[0], x.shape[1])
        x = jnp.tanh(self.hidden2(jnp.tanh(self.hidden1(x))))
        return self.logits(x)


class Autoencoder(nnx.Module):
    """One hidden layer of h units with GELU between D inputs and D outputs; the output is linear.

    With a linear output the reconstructions lie in an affine space of h dimensions, where PCA of rank h is the best there is.
    """

    def __init__(self, pixels: int, h: int, *, gain: float = 1.0, rngs: nnx.Rngs):
        self.encode = nnx.Linear(pixels, h, kernel_init=scaled(1.0), rngs=rngs)
        self.decode = nnx.Linear(h, pixels, kernel_init=scaled(gain), rngs=rngs)

    def __call__(self, x: Float[Array, "*batch D"]) -> Float[Array, "*batch D"]:
        """Reconstruct."""
        return self.decode(jax.nn.gelu(self.encode(x)))


class Size(NamedTuple):
    """A transformer's scale."""

    layers: int
    d: int

    def __str__(self) -> str:
        return f"{self.layers}x{self.d}"

    @classmethod
    def read(cls, text: str) -> "Size":
        """The size that `2x32` names."""
        found = re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,4})", text, re.ASCII)
        if not found:
            raise ValueError(f"expected a size as LAYERSxWIDTH, such as 1x16, got {text!r}")
        return cls(int(found[1]), int(found[2]))


class Attention(nnx.Module):
    """Causal self-attention; heads of 8 units where d is a multiple of 8, else one head."""

    def __init__(self, size: Size, *, rngs: nnx.Rngs):
        self.heads = size.d // HEAD if size.d % HEAD == 0 else 1
        small = scaled((2 * size.layers) ** -0.5)  # what enters the residual stream
        self.qkv = nnx.Linear(size.d, 3 * size.d, kernel_init=scaled(1.0), rngs=rngs)
        self.out = nnx.Linear(size.d, size.d, kernel_init=small, rngs=rngs)

    def __call__(self, x: Float[Array, "*batch time d"], last: int | None = None) -> Float[Array, "*batch last d"]:
        """Attend to this and earlier places, from the last few places or from all."""
        last = last or x.shape[-2]
        qkv = self.qkv(x)
        q, k, v = jnp.moveaxis(qkv.reshape(*qkv.shape[:-1], 3, self.heads, -1), -3, 0)
        scores = jnp.einsum("...qhe,...khe->...hqk", q[..., -last:, :, :], k) * q.shape[-1] ** -0.5
        seen = jnp.tril(jnp.ones((x.shape[-2],) * 2, bool))[-last:]
        weights = jax.nn.softmax(jnp.where(seen, scores, -jnp.inf), axis=-1)
        return self.out(jnp.einsum("...hqk,...khe->...qhe", weights, v).reshape(*x.shape[:-2], last, -1))


class Block(nnx.Module):
    """Attention, then two dense layers with GELU between, each on the normed stream and added to it."""

    def __init__(self, size: Size, *, rngs: nnx.Rngs):
        small = scaled((2 * size.layers) ** -0.5)
        self.norm1 = nnx.RMSNorm(size.d, epsilon=EPSILON, rngs=rngs)
        self.attention = Attention(size, rngs=rngs)
        self.norm2 = nnx.RMSNorm(size.d, epsilon=EPSILON, rngs=rngs)
        self.up = nnx.Linear(size.d, 4 * size.d, kernel_init=scaled(1.0), rngs=rngs)
        self.down = nnx.Linear(4 * size.d, size.d, kernel_init=small, rngs=rngs)

    def __call__(self, x: Float[Array, "*batch time d"], last: int | None = None) -> Float[Array, "*batch last d"]:
        """Update the stream, at the last few places or at all; only these are kept."""
        last = last or x.shape[-2]
        x = x[..., -last:, :] + self.attention(self.norm1(x), last)
        return x + self.down(jax.nn.gelu(self.up(self.norm2(x))))


class Decoder(nnx.Module):
    """A causal transformer from embedded tokens to logits: learned places, blocks, a last norm, an untied output."""

    def __init__(self, size: Size, time: int, outputs: int, *, rngs: nnx.Rngs):
        self.places = nnx.Embed(time, size.d, embedding_init=spread(SPREAD), rngs=rngs)
        self.blocks = nnx.List([Block(size, rngs=rngs) for _ in range(size.layers)])
        self.norm = nnx.RMSNorm(size.d, epsilon=EPSILON, rngs=rngs)
        self.logits = nnx.Linear(size.d, outputs, kernel_init=scaled(1.0), rngs=rngs)

    def __call__(
        self, x: Float[Array, "*batch time d"], last: int | None = None
    ) -> Float[Array, "*batch last outputs"]:
        """Logits of what follows each of the last few places, or all; the last block does no other place."""
        x = x + self.places(jnp.arange(x.shape[-2]))
        for i, block in enumerate(self.blocks):
            x = block(x, last if i == len(self.blocks) - 1 else None)
        return self.logits(self.norm(x))

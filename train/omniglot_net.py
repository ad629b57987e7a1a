"""The network that reads sequences of images and labels, how sequences are drawn, and what is asked of a trained network."""

from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float, Int, Key, PyTree

from train import fit
from train.models import SPREAD, Decoder, Size, scaled, spread

SEQUENCES = 500  # at once, when a network is asked
LEFT = 4  # pixels a side that three halvings leave of 28


class Picks(NamedTuple):
    """Which images stand in sequences."""

    classes: Int[Array, "*batch length"]
    drawings: Int[Array, "*batch length"]  # of the class


class Draw(NamedTuple):
    """Draw a minibatch of sequences; equal draws are compiled once."""

    classes: int
    drawings: int  # of each class
    length: int
    batch: int
    unique: bool  # whether no class comes twice in a sequence

    def __call__(self, key: Key[Array, ""]) -> Picks:
        """Classes and drawings [batch, length]."""
        return jax.vmap(self.sequence)(jax.random.split(key, self.batch))

    def sequence(self, key: Key[Array, ""]) -> Picks:
        """One sequence: every ordered choice of classes is equally likely, and every drawing of each."""
        key_class, key_drawing = jax.random.split(key)
        drawings = jax.random.randint(key_drawing, (self.length,), 0, self.drawings)
        left = self.classes - self.unique * jnp.arange(self.length)
        ranks = jax.random.randint(key_class, (self.length,), 0, left)
        return Picks(different(ranks) if self.unique else ranks, drawings)


def different(ranks: Int[Array, " length"]) -> Int[Array, " length"]:
    """Different classes from ranks among those that are left: each taken at or below a rank moves it up by one.

    One to one between ranks [0, C), [0, C - 1), ... and ordered choices of different classes.
    """
    taken = ranks[:1]
    for rank in ranks[1:]:
        for label in jnp.sort(taken):
            rank += rank >= label
        taken = jnp.append(taken, rank)
    return taken


class Halving(nnx.Module):
    """A 3 x 3 convolution at every second pixel, from the first on; it sees zeros beyond the edge."""

    def __init__(self, c_in: int, c_out: int, *, rngs: nnx.Rngs):
        self.kernel = nnx.Param(scaled(1.0)(rngs.params(), (3, 3, c_in, c_out)))
        self.bias = nnx.Param(jnp.zeros(c_out))

    def __call__(self, x: Float[Array, "*batch h w c_in"]) -> Float[Array, "*batch ceil(h/2) ceil(w/2) c_out"]:
        """Convolve, on CPUs as patches times a matrix."""
        kernel, h, w = self.kernel[...], x.shape[-3], x.shape[-2]
        if jax.default_backend() != "cpu":
            flat = x.reshape(-1, *x.shape[-3:])
            out = jax.lax.conv_general_dilated(
                flat, kernel, (2, 2), [(1, 1), (1, 1)], dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            return out.reshape(*x.shape[:-3], *out.shape[1:]) + self.bias[...]
        framed = jnp.pad(x, [(0, 0)] * (x.ndim - 3) + [(1, 1), (1, 1), (0, 0)])
        seen = [framed[..., i : i + h : 2, j : j + w : 2, :] for i in range(3) for j in range(3)]
        return jnp.concatenate(seen, axis=-1) @ kernel.reshape(-1, kernel.shape[-1]) + self.bias[...]


class Embedder(nnx.Module):
    """Three halving convolutions of d/4, d/2 and d channels, each with GELU, then a dense layer to d."""

    def __init__(self, d: int, *, rngs: nnx.Rngs):
        channels = (1, *(max(1, round(d * share)) for share in (1 / 4, 1 / 2, 1)))
        self.convolutions = nnx.List([Halving(*pair, rngs=rngs) for pair in pairwise(channels)])
        self.dense = nnx.Linear(LEFT * LEFT * d, d, kernel_init=scaled(1.0), rngs=rngs)

    def __call__(self, images: Float[Array, "*batch 28 28"]) -> Float[Array, "*batch d"]:
        """Embed each image by itself."""
        x = images[..., None]
        for convolution in self.convolutions:
            x = jax.nn.gelu(convolution(x))
        return self.dense(x.reshape(*images.shape[:-2], -1))


class Reader(nnx.Module):
    """A causal transformer over image, label, image, label, ..., image: at each image it says the label that follows."""

    def __init__(self, size: Size, length: int, classes: int, *, rngs: nnx.Rngs):
        self.embedder = Embedder(size.d, rngs=rngs)
        self.labels = nnx.Embed(classes, size.d, embedding_init=spread(SPREAD), rngs=rngs)
        self.decoder = Decoder(size, 2 * length - 1, classes, rngs=rngs)

    def __call__(
        self, images: Float[Array, "*batch length 28 28"], labels: Int[Array, "*batch length"]
    ) -> Float[Array, "*batch length classes"]:
        """Logits of each image's label, from the images up to it and the labels before it."""
        return self.read(self.embedder(images), labels)

    def read(
        self, embedded: Float[Array, "*batch length d"], labels: Int[Array, "*batch length"]
    ) -> Float[Array, "*batch length classes"]:
        """The same from embedded images."""
        *batch, length, d = embedded.shape
        tokens = jnp.stack([embedded, self.labels(labels)], axis=-2).reshape(*batch, 2 * length, d)
        return self.decoder(tokens[..., :-1, :])[..., ::2, :]


class Network(NamedTuple):
    """A reader of some size; equal ones are compiled once."""

    size: Size
    length: int
    classes: int

    def __call__(self, rngs: Any) -> Reader:
        """Make it."""
        return Reader(*self, rngs=rngs)


@lru_cache
def objective(network: Network) -> fit.Loss:
    """Mean cross-entropy over a minibatch's images, as a function of parameters, images [class, drawing, 28, 28] and picks."""
    graph = fit.graph(network)

    def loss(params: PyTree, data: PyTree, picks: PyTree) -> Float[Array, ""]:
        logits = nnx.merge(graph, params)(data[tuple(picks)], picks.classes).astype(jnp.float32)
        return optax.softmax_cross_entropy_with_integer_labels(logits, picks.classes).mean()

    return loss


class Answers(NamedTuple):
    """What each member said at each image of the test sequences."""

    predicted: Int[Array, "member sequence length"]  # the likeliest label
    log_prob: Float[Array, "member sequence length"]  # of the right label, nats


def answers(network: Network, params: PyTree, images: Float[Array, "class drawing 28 28"], picks: Picks) -> Answers:
    """Ask all members for the labels of the same sequences."""
    return _program(jax.default_backend())(network, params, images, picks)


@lru_cache
def _program(backend: str) -> Callable[..., Answers]:
    return jax.jit(_answers, static_argnums=0, compiler_options=fit.quick_compile(backend, 0))


def _answers(network: Network, params: PyTree, images: Array, picks: Picks) -> Answers:
    graph = fit.graph(network)

    def member(params: PyTree) -> Answers:
        reader = nnx.merge(graph, params)
        embedded = reader.embedder(images)  # each image once, though it stands in many sequences

        def some(picks: Picks) -> Answers:
            log_prob = jax.nn.log_softmax(reader.read(embedded[tuple(picks)], picks.classes))
            right = jnp.take_along_axis(log_prob, picks.classes[..., None], -1)[..., 0]
            return Answers(log_prob.argmax(-1), right)

        return jax.lax.map(some, picks, batch_size=SEQUENCES)

    return jax.lax.map(member, params)

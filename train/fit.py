"""The one training program: a pure function of keys, in plain JAX and optax, for all members of a family at once.

A member is one network trained from one key. Members are the leading axis of every array here: `vmap` trains them in one
program, over all devices. Steps run in blocks, each block one `lax.scan`; between blocks there is progress, and a checkpoint
from which training goes on, on the same machine to the same bits.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Key, PyTree

from mirage_jax.parts import Parts
from mirage_jax.progress import echo, track
from train import checkpoint
from train.models import Draws

WARM_UP = 0.05  # share of the steps in which the learning rate climbs to its peak
FLOOR = 0.02  # of the peak, where the cosine ends
BLOCK = 100  # steps at most in one program
SAVE = 30.0  # seconds after which the end of a block is a checkpoint

Dtype = Literal["float32", "bfloat16"]
Loss = Callable[[PyTree, PyTree, PyTree], Array]  # params, data, picks of one minibatch -> mean loss
Network = Callable[[Any], nnx.Module]  # of `nnx.Rngs` or `Draws`
Draw = Callable[[Array], PyTree]  # key of one step -> picks of one minibatch, arrays [batch, ...]


@dataclass(frozen=True)
class Recipe:
    """How a member is trained. Hashable, so that it can be a static argument."""

    steps: int
    learning_rate: float  # at its peak
    weight_decay: float = 0.0
    b2: float = 0.999
    clip: float = 1.0  # global norm of the gradient; inf for none
    dtype: Dtype = "float32"  # of the network's arithmetic; weights and their moments are float32

    def __post_init__(self):
        if self.steps < 1 or not 0 < self.learning_rate < math.inf:
            raise ValueError(
                f"training needs steps >= 1 and a learning rate above 0, got {self.steps}, {self.learning_rate}"
            )

    def block(self) -> int:
        """Steps of a block: the largest divisor of all steps that is at most BLOCK, so that one program does them all."""
        return max(size for size in range(1, BLOCK + 1) if self.steps % size == 0)


class State(NamedTuple):
    """Where training stands; what a checkpoint holds."""

    params: PyTree  # [member, ...]
    moments: PyTree  # the optimiser's
    losses: Float[Array, "member block"]  # mean training loss of each block that is done, NaN of those to come


class Fitted(NamedTuple):
    """Members after the last step."""

    params: PyTree  # [member, ...]
    losses: Float[np.ndarray, "member block"]  # mean training loss of each block of steps
    looks: list[PyTree]  # what `look` saw at each mark

    def finite(self) -> Bool[np.ndarray, " member"]:
        """Members whose training never diverged: loss and weights are numbers throughout."""
        whole = [np.isfinite(np.asarray(x)).reshape(len(x), -1).all(1) for x in jax.tree.leaves(self.params)]
        return np.isfinite(self.losses).all(1) & np.all(whole, axis=0)


def fit(
    loss: Loss,
    params: PyTree,
    draw: Draw,
    keys: Key[Array, " member"],
    data: PyTree,
    recipe: Recipe,
    *,
    marks: Sequence[int] = (),
    look: Callable[[PyTree], PyTree] | None = None,
    kept: Parts | None = None,
    label: str = "training",
) -> Fitted:
    """Minimise a mean loss over minibatches; no early stop, no look at anything but `data`.

    Args:
        loss: of one member on one minibatch. `loss` and `draw` are static: the same object is compiled once.
        params: where training starts, with a leading member axis; float32.
        draw: the picks of one step from `fold_in(key of the member, step)`: adding members or steps changes no earlier one.
        keys: one a member.
        data: what all members share, arrays with one leading axis of items. An argument, since XLA would fold a constant.
        recipe: static.
        marks: steps, multiples of `recipe.block()`, at which `look(params)` is called (0 is before the first).
        look: called with all members' parameters at each mark; gives arrays.
        kept: where checkpoints go, and from where training goes on if it was broken off.
        label: the name in progress and messages, and of the checkpoint.
    """
    size = recipe.block()
    if any(mark % size or not 0 <= mark <= recipe.steps for mark in marks) or len(set(marks)) < len(marks):
        raise ValueError(f"marks must be different multiples of {size} from 0 to {recipe.steps}, got {list(marks)}")
    state = State(params, _opened(recipe, params), jnp.full((len(keys), recipe.steps // size), jnp.nan))
    begin, looks = 0, []
    if kept and (found := checkpoint.find(kept, label)):
        seen = [look(params)] * sum(mark <= found.step for mark in marks) if look else []  # for its form alone
        like, form = jax.tree.flatten((state, seen))
        begin, (state, looks) = found.step, form.unflatten(checkpoint.restore(found, like))
    elif look and 0 in marks:
        looks = [look(params)]
    split = Split(len(keys), jax.devices())
    keys, state, data = split.members(keys), split.members(state), split.everywhere(data)
    saved, compiled = time.monotonic(), _program(jax.default_backend())
    blocks, news = range(begin // size, recipe.steps // size), [""]
    for block in track(blocks, label, say=lambda: news[-1]):
        picks = split.picks(_picks(draw, size, keys, block * size))
        state = compiled(loss, recipe, state, picks, data, block)
        if look and (block + 1) * size in marks:
            looks.append(look(state.params))
        news.append(f", loss {float(jnp.nanmean(state.losses[:, block])):.3g}")
        if kept and (block == blocks[-1] or time.monotonic() - saved > SAVE):
            checkpoint.save(kept, label, (block + 1) * size, jax.tree.leaves((state, looks)))
            saved = time.monotonic()
    fitted = Fitted(state.params, np.asarray(state.losses), looks)
    _name_diverged(fitted, label, size)
    return fitted


def optimiser(recipe: Recipe) -> optax.GradientTransformation:
    """AdamW on clipped gradients; the learning rate climbs linearly, then falls along a cosine to its floor."""
    rate = optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=recipe.learning_rate,
        warmup_steps=round(WARM_UP * recipe.steps),
        decay_steps=recipe.steps,
        end_value=FLOOR * recipe.learning_rate,
    )
    adamw = optax.adamw(rate, b2=recipe.b2, weight_decay=recipe.weight_decay)
    clip = optax.clip_by_global_norm(recipe.clip) if recipe.clip < math.inf else optax.identity()
    # on one flat vector: a program with one update instead of one per parameter compiles in half the time
    return optax.flatten(optax.chain(clip, adamw))


def minibatch(items: int, batch: int) -> Draw:
    """Draw `batch` of `items` with replacement: int32 [batch]."""
    return _Minibatch(items, batch)


class _Minibatch(NamedTuple):
    """A value, and not a closure: equal draws are compiled once."""

    items: int
    batch: int

    def __call__(self, key: Array) -> Array:
        return jax.random.randint(key, (self.batch,), 0, self.items)


def members(key: Key[Array, ""], count: int) -> Key[Array, " member"]:
    """Keys of the members: the i-th is `fold_in(key, i)`, however many there are."""
    return jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(count))


@lru_cache
def graph(network: Network) -> Any:
    """What `nnx.merge` needs beside the parameters."""
    return nnx.split(nnx.eval_shape(lambda: network(nnx.Rngs(0))))[0]


def initial(network: Network, keys: Key[Array, " member"]) -> PyTree:
    """Initial parameters for every key, with a leading member axis."""
    return _drawn(network, jax.default_backend())(keys)


@lru_cache
def _drawn(network: Network, backend: str) -> Callable[..., PyTree]:
    count = size(network)
    draw = jax.vmap(lambda key: nnx.state(network(Draws(key, count))))
    return jax.jit(draw, compiler_options=quick_compile(backend, 0))


@lru_cache
def size(network: Network) -> int:
    """Parameters of a network."""
    state = nnx.eval_shape(lambda: nnx.state(network(nnx.Rngs(0))))
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(state))


def stack(families: Sequence[PyTree]) -> PyTree:
    """Members of several widths as one family, each array padded with zeros to the largest width.

    A unit whose weights in and out are zero, with an activation that is 0 at 0, gives nothing and has gradient zero: it stays
    as it is under AdamW, and the padded member computes what it would alone, up to the order of sums.
    """

    def padded(*leaves: Array) -> Array:
        shape = np.max([leaf.shape[1:] for leaf in leaves], axis=0).astype(int)
        whole = np.zeros((sum(map(len, leaves)), *shape), leaves[0].dtype)
        places = np.split(whole, np.cumsum([len(leaf) for leaf in leaves])[:-1])
        for leaf, place in zip(leaves, places, strict=True):
            place[tuple(slice(n) for n in leaf.shape)] = leaf
        return jnp.asarray(whole)

    return jax.tree.map(padded, *families)


class Split:
    """How members, and the items of a minibatch, are divided over devices.

    As many devices as divide the number of members take whole members; where several devices are left for each, they share
    its minibatch.
    """

    def __init__(self, members: int, devices: Sequence[Any]):
        own = math.gcd(members, len(devices))
        self.mesh = Mesh(np.reshape(devices, (own, len(devices) // own)), ("member", "item"))

    def members(self, tree: PyTree) -> PyTree:
        """Place arrays with a leading member axis."""
        return jax.device_put(tree, NamedSharding(self.mesh, P("member")))

    def everywhere(self, tree: PyTree) -> PyTree:
        """Place arrays on every device."""
        return jax.device_put(tree, NamedSharding(self.mesh, P()))

    def picks(self, tree: PyTree) -> PyTree:
        """Place picks [member, step, batch, ...]."""
        share = self.mesh.shape["item"]

        def place(x: Array) -> Array:
            shared = "item" if x.shape[2] % share == 0 else None
            return jax.device_put(x, NamedSharding(self.mesh, P("member", None, shared)))

        return jax.tree.map(place, tree) if self.mesh.size > 1 else tree


@partial(jax.jit, static_argnames=("draw", "count"))
def _picks(draw: Draw, count: int, keys: Array, begin: int) -> PyTree:
    """Picks [member, step, ...] of a block. Apart from the training program, so that all sizes of a family share it."""
    steps = begin + jnp.arange(count)
    return jax.vmap(lambda key: jax.vmap(lambda step: draw(jax.random.fold_in(key, step)))(steps))(keys)


@partial(jax.jit, static_argnums=0)
def _opened(recipe: Recipe, params: PyTree) -> PyTree:
    return jax.vmap(optimiser(recipe).init)(params)


@lru_cache
def _program(backend: str) -> Callable[..., State]:
    """One block of steps of all members, compiled for a backend."""
    return jax.jit(_block, static_argnames=("loss", "recipe"), compiler_options=quick_compile(backend, 1))


def quick_compile(backend: str, level: int) -> dict[str, Any] | None:
    """On CPUs level 1 takes half of the default's compile time; small networks run as fast, 28x28 ones a quarter slower."""
    return {"xla_backend_optimization_level": level} if backend == "cpu" else None


def _block(loss: Loss, recipe: Recipe, state: State, picks: PyTree, data: PyTree, block: Array) -> State:
    update = optimiser(recipe)

    def narrow(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda x: x.astype(recipe.dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)

    narrowed = narrow(data)

    def member(params: PyTree, moments: PyTree, picks: PyTree) -> tuple[PyTree, PyTree, Array]:
        def step(carry: tuple[PyTree, PyTree], picks: PyTree) -> tuple[tuple[PyTree, PyTree], Array]:
            params, moments = carry
            value, grads = jax.value_and_grad(lambda p: loss(narrow(p), narrowed, picks).astype(jnp.float32))(params)
            changes, moments = update.update(grads, moments, params)
            return (optax.apply_updates(params, changes), moments), value

        (params, moments), values = jax.lax.scan(step, (params, moments), picks)
        return params, moments, values.mean()

    params, moments, values = jax.vmap(member)(state.params, state.moments, picks)
    return State(params, moments, state.losses.at[:, block].set(values))


def _name_diverged(fitted: Fitted, label: str, size: int) -> None:
    """Say which members have no finite loss, and by when."""
    for member in np.flatnonzero(~fitted.finite()):
        bad = np.flatnonzero(~np.isfinite(fitted.losses[member]))
        when = f" by step {(bad[0] + 1) * size}" if bad.size else ""
        echo(f"{label}: member {member} diverged{when}: it has no score", err=True)

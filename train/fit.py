"""Training as a pure function of a key, in plain JAX and optax: `vmap` over keys trains many seeds in one program."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import optax
from jaxtyping import Array, Float, Key, PyTree

WARM_UP = 0.05  # share of the steps in which the learning rate climbs to its peak
FLOOR = 0.02  # of the peak, where the cosine ends


@dataclass(frozen=True)
class Recipe:
    """How a member is trained. Hashable, so that it can be a static argument."""

    steps: int
    batch: int
    learning_rate: float  # at its peak
    weight_decay: float = 0.0
    b2: float = 0.999
    clip: float = 1.0  # global norm of the gradient

    def __post_init__(self):
        if self.steps < 1 or self.batch < 1:
            raise ValueError(f"training needs steps >= 1 and batch >= 1, got {self.steps} and {self.batch}")


class Fitted(NamedTuple):
    """Parameters after the last step, and their mean loss over all training items: not finite if training diverged."""

    params: PyTree
    loss: Float[Array, ""]


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
    # on one flat vector: a program with one update instead of one per parameter compiles in half the time
    return optax.flatten(optax.chain(optax.clip_by_global_norm(recipe.clip), adamw))


def fit(
    key: Key[Array, ""],
    loss: Callable[[Any, Any], Float[Array, ""]],
    params: PyTree,
    data: PyTree,
    recipe: Recipe,
) -> Fitted:
    """Minimise a mean loss over minibatches drawn with replacement; no early stop, no look at anything but `data`.

    Args:
        key: draws the minibatches, all [steps, batch] indices before the first step: the scan itself draws nothing.
        loss: (params, items) -> mean loss of those items.
        params: where training starts.
        data: arrays [items, ...] with one leading axis. An argument, since XLA would fold a closed-over constant.
        recipe: static.
    """
    items = jax.tree.leaves(data)[0].shape[0]
    update = optimiser(recipe)

    def step(carry: tuple[PyTree, PyTree], picks: Array) -> tuple[tuple[PyTree, PyTree], None]:
        params, state = carry
        grads = jax.grad(loss)(params, jax.tree.map(lambda x: x[picks], data))
        changes, state = update.update(grads, state, params)
        return (optax.apply_updates(params, changes), state), None

    picks = jax.random.randint(key, (recipe.steps, recipe.batch), 0, items)
    (params, _), _ = jax.lax.scan(step, (params, update.init(params)), picks)
    return Fitted(params, loss(params, data))

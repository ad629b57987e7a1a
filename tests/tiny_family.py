"""The smallest family: autoencoders of four numbers, with checkpoints, looks on the way, and all of their bits in its results.

`python tiny_family.py [flags of a study]` saves after every block and has blocks of 10 steps.
"""

import hashlib
import json
import sys
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from flax import nnx

from mirage_jax.parts import Parts
from mirage_jax.study import Output, main
from train import fit
from train.models import Autoencoder

NAME = "tiny_family"
DATA = ()
ITEMS = np.cos(np.arange(160, dtype=np.float32)).reshape(40, 4)  # 40 items of 4 numbers, in no order


@dataclass(frozen=True)
class Config:
    seed: int = 0
    seeds: int = 3
    h: int = 2
    steps: int = 60
    batch: int = 8
    rate: float = 0.01


PRESETS = {"quick": Config(), "full": Config()}


class Network(NamedTuple):
    h: int

    def __call__(self, rngs: Any) -> Autoencoder:
        return Autoencoder(4, self.h, rngs=rngs)


@lru_cache
def objective(network: Network) -> fit.Loss:
    """Mean squared error of a minibatch."""
    graph = fit.graph(network)

    def loss(params: Any, data: Any, picks: Any) -> jax.Array:
        x = data[picks]
        return jnp.square(nnx.merge(graph, params)(x) - x).sum(-1).mean()

    return loss


@jax.jit
def look(params: Any) -> jax.Array:
    """Sum of the squared weights of each member."""
    return sum(jnp.square(x).reshape(len(x), -1).sum(1) for x in jax.tree.leaves(params))


def train(config: Config, kept: Parts | None = None, **options: Any) -> fit.Fitted:
    keys = fit.members(jax.random.key(config.seed), config.seeds)
    network, recipe = Network(config.h), fit.Recipe(config.steps, config.rate, **options)
    marks = [step for step in (0, 20, 40, 60) if step <= config.steps and step % recipe.block() == 0]
    draw = fit.minibatch(len(ITEMS), config.batch)
    params = fit.initial(network, keys)
    return fit.fit(
        objective(network), params, draw, keys, ITEMS, recipe, marks=marks, look=look, kept=kept, label=f"h-{config.h}"
    )


def digest(tree: Any) -> str:
    """Hash of every bit of arrays."""
    return hashlib.sha256(b"".join(np.asarray(x).tobytes() for x in jax.tree.leaves(tree))).hexdigest()


def run(config: Config, kept: Parts | None = None) -> Output:
    fitted = train(config, kept)
    told = {
        "source": "trained",
        "model": "tiny",
        "task": "numbers",
        "metric": "mse",
        "scale_kind": "params",
        "scale": 1,
    }
    rows = [told | {"seed": seed, "score": float(loss), "n": 1} for seed, loss in enumerate(fitted.losses[:, -1])]
    bits = pd.DataFrame(
        {"params": [digest(fitted.params)], "losses": digest(fitted.losses), "looks": digest(fitted.looks)}
    )
    weights = [np.asarray(x).reshape(len(x), -1).tolist() for x in jax.tree.leaves(fitted.params)]
    return Output(rows, {"bits": bits}, {"weights.json": json.dumps(weights)})


if __name__ == "__main__":
    fit.BLOCK, fit.SAVE = 10, 0.0
    main(sys.modules["__main__"])

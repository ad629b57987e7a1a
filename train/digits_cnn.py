"""LeNets of growing width on 8x8 digits: an ability that seems to emerge because K images must all be right.

A net is tested on 500 held-out images. Its accuracy p rises smoothly with size; the chance that K images, drawn at
random, are all right is p^K: flat, then steep. The Brier score of the same outputs is the continuous companion.

References:
    Schaeffer, Miranda, Koyejo (2023), appendix B.1, there on MNIST.
"""

import math
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
from flax import nnx
from jaxtyping import Array, Bool, Float, Key, PyTree

from mirage_jax import table
from mirage_jax.estimators import bootstrap_clusters, cell, clopper_pearson
from mirage_jax.metrics import attempts
from mirage_jax.metrics.facts import evaluate
from mirage_jax.outcomes import Attempts, Choices
from mirage_jax.progress import track
from mirage_jax.study import Output, main
from train.data import Digits, digest, digits
from train.fit import Recipe, fit
from train.models import CLASSES, LeNet, Widths, lenet_widths

NAME = "digits_cnn"
DATA = ()  # the digits come with scikit-learn
SUBSETS = (1, 2, 3, 4, 5)  # K
BOOTSTRAP = 2**32 - 1  # stream of the bootstrap; members are the streams 0, 1, 2, ...


@dataclass(frozen=True)
class Config:
    """LeNets of several widths, each trained from several seeds."""

    seed: int = 0
    """Of all random draws."""
    seeds: int = 5
    """Training runs per width; with more, the earlier ones stay what they were, to float rounding."""
    widths: tuple[float, ...] = (1 / 84, 1 / 42, 1 / 24, 1 / 16, 1 / 12, 1 / 8, 1 / 6, 1 / 4, 1 / 3, 1 / 2, 1.0)
    """Multipliers of LeNet-5's layer widths 6, 16, 120, 84."""
    steps: int = 600
    """Optimiser steps of every run, whatever its width."""
    batch: int = 64
    """Images per step."""
    learning_rate: float = 0.01
    """Peak learning rate of AdamW."""

    def __post_init__(self) -> None:
        """Refuse a family that cannot be trained."""
        nets = [lenet_widths(multiplier) for multiplier in self.widths]
        if self.seeds < 1 or not nets or min(self.widths) <= 0 or len(set(nets)) < len(nets):
            raise ValueError(f"expected seeds >= 1 and widths > 0 that give different nets: {self.seeds}, {nets}")
        if self.steps < 1 or self.batch < 1 or not 0 < self.learning_rate < math.inf:
            raise ValueError(f"expected steps >= 1, batch >= 1 and a positive learning rate: {self}")


_more = (1 / 60, 1 / 30, 1 / 20, 1 / 10, 1 / 5, 2 / 3, 1.5, 2.0)
PRESETS = {"quick": Config(), "full": replace(Config(), seeds=10, widths=tuple(sorted(Config().widths + _more)))}


class Trained(NamedTuple):
    """All members of one width, on the test images."""

    log_prob: Float[np.ndarray, "seed item 10"]
    finite: Bool[np.ndarray, " seed"]  # False where training diverged


def run(config: Config) -> Output:
    """Train every width from every seed and score each member; one row a member and metric."""
    nets = [lenet_widths(multiplier) for multiplier in config.widths]
    recipe = Recipe(config.steps, config.batch, config.learning_rate)
    data, key = digits(), jax.random.key(config.seed)
    how = {"config": table.config_hash(NAME, asdict(config))[:8], "data": digest(data)[:8]}
    keys = jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(config.seeds))
    rows, correct, groups, curve = [], [], [], {}
    for net in track(nets, NAME):
        trained, about = train(keys, data, net, recipe), describe(net)
        right = trained.log_prob.argmax(-1) == data.test_labels
        rows += [about | row for row in member_rows(trained, right, data, how)]
        for seed, (items, ok) in enumerate(zip(right, trained.finite, strict=True)):
            n, c = (items.size, int(items.sum())) if ok else (0, None)
            member = {"model": about["model"], "params": about["scale"], "seed": seed}
            correct.append(member | {"n": n, "correct": c})
            groups += [member | group for group in disjoint_groups(items)] if ok else []
        curve[(about["model"], about["scale"])] = right[trained.finite].T
    counts = pd.DataFrame(correct).astype({"correct": "Int64"})
    means = mean_curve(jax.random.fold_in(key, BOOTSTRAP), curve)
    return Output(rows, {"correct": counts, "groups": pd.DataFrame(groups), "curve": means})


def describe(net: Widths) -> dict[str, Any]:
    """The columns that tell a net from others."""
    params = jax.eval_shape(lambda key: nnx.state(LeNet(net, rngs=nnx.Rngs(key))), jax.random.key(0))
    scale = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    model = "lenet-" + "-".join(str(width) for width in net)
    return {"source": "trained", "family": "lenet_digits", "model": model, "scale_kind": "params", "scale": scale}


def train(keys: Key[Array, " seed"], data: Digits, net: Widths, recipe: Recipe) -> Trained:
    """Train one member per key, all in one program, and ask each for the test images' digits."""
    log_prob, loss = (np.asarray(x) for x in _members(keys, data, net, recipe))
    return Trained(log_prob, np.isfinite(loss) & np.isfinite(log_prob).all((1, 2)))


# level 1 of the compiler takes half of the default's time, and the program runs as fast
@partial(jax.jit, static_argnames=("net", "recipe"), compiler_options={"xla_backend_optimization_level": 1})
@partial(jax.vmap, in_axes=(0, None, None, None))
def _members(
    key: Key[Array, ""], data: Digits, net: Widths, recipe: Recipe
) -> tuple[Float[Array, "item 10"], Float[Array, ""]]:
    """One member: log-probabilities of the test images, and the last training loss."""
    key_init, key_batches = jax.random.split(key)
    graph, params = nnx.split(LeNet(net, rngs=nnx.Rngs(key_init)))

    def loss(params: PyTree, items: tuple[Array, Array]) -> Float[Array, ""]:
        images, labels = items
        logits = nnx.merge(graph, params)(images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    fitted = fit(key_batches, loss, params, (data.train_images, data.train_labels), recipe)
    return jax.nn.log_softmax(nnx.merge(graph, fitted.params)(jnp.asarray(data.test_images))), fitted.loss


def member_rows(
    trained: Trained, right: Bool[np.ndarray, "seed item"], data: Digits, how: dict[str, str]
) -> Iterator[dict[str, Any]]:
    """A row per member and metric. A diverged member has no score and n = 0, so that nothing averages it in."""
    for seed, ok in enumerate(trained.finite):
        for K in SUBSETS:
            score = subset_score(right[seed], K) if ok else {"n": 0}
            yield {"seed": seed} | score | _told("subset_accuracy", 0.1**K, how, K=K)
        score = brier_score(trained.log_prob[seed], data) if ok else {"n": 0}
        yield {"seed": seed} | score | _told("brier_sum", 1 - 1 / CLASSES, how)


def _told(metric: str, chance: float, how: dict[str, str], **options: int) -> dict[str, Any]:
    """What is known of a cell before it is scored; chance is that of a uniform guess over the ten digits."""
    told = {"task": "digits", "metric": metric, "chance": chance, "missing": 0, "unparsed": 0}
    signature = table.signature(metric, **how, **options)
    return told | {"setting": table.setting(split="held_out", **options), "signature": signature}


def subset_score(right: Bool[np.ndarray, " item"], K: int) -> dict[str, Any]:
    """Subset accuracy of one member, its interval and n."""
    n, c = right.size, int(right.sum())
    score = evaluate(Attempts(jnp.asarray([n]), jnp.asarray([c])), "subset_accuracy", K=K)["subset_accuracy"].item()
    # With independent images the expectation is p^K, which grows with p: the K-th powers of an exact interval's ends
    # cover it exactly as often as the ends cover p. Where c < K the score is 0, below the lower end: widen to it.
    low, high = (float(end) ** K for end in clopper_pearson(c, n))
    se = math.sqrt(score * (1 - score) / n) if K == 1 else None
    return {"score": score, "low": min(low, score), "high": max(high, score), "se": se, "n": n}


def disjoint_groups(right: Bool[np.ndarray, " item"]) -> list[dict[str, Any]]:
    """How many of n/K disjoint groups of K test images are all right: a count that does not presuppose p^K."""
    found = []
    for K in SUBSETS[1:]:
        groups = right[: right.size // K * K].reshape(-1, K).all(1)
        found.append({"K": K, "groups": groups.size, "right": int(groups.sum()), "accuracy": float(right.mean())})
    return found


def brier_score(log_prob: Float[np.ndarray, "item 10"], data: Digits) -> dict[str, Any]:
    """Mean Brier score of one member, its interval and n."""
    real = jnp.ones(log_prob.shape, bool)
    outcome = Choices(jnp.asarray(log_prob), real, jax.nn.one_hot(data.test_labels, CLASSES))
    return cell(evaluate(outcome, "brier_sum")["brier_sum"], "brier_sum")


def mean_curve(key: Key[Array, ""], right: dict[tuple[str, int], Bool[np.ndarray, "item seed"]]) -> pd.DataFrame:
    """Mean subset accuracy over each net's members that did not diverge, for every K, with its 95% interval."""
    ends = _intervals(key, right)
    points = []
    for (model, params), items in right.items():
        told = {"model": model, "params": params, "items": items.shape[0], "seeds": items.shape[1]}
        means = np.asarray(_mean_subset(items)) if items.size else [math.nan] * len(SUBSETS)
        low, high = ends.get((model, params), np.full((2, len(SUBSETS)), np.nan))
        for K, *point in zip(SUBSETS, means, low, high, strict=True):
            points.append(told | {"K": K} | dict(zip(("mean", "low", "high"), map(float, point), strict=True)))
    return pd.DataFrame(points, columns=["model", "params", "K", "mean", "low", "high", "items", "seeds"])


def _intervals(key: Key[Array, ""], right: dict[Any, Bool[np.ndarray, "item seed"]]) -> dict[Any, np.ndarray]:
    """Lower and upper ends [2, K] of each net's curve, from images and seeds resampled alike for all nets.

    One seed, or images that all went alike, say nothing of the spread: no ends, rather than an interval of width zero.
    """
    told = {name: items for name, items in right.items() if items.shape[1] > 1 and items.any() and not items.all()}
    ends = {}
    for shape in sorted({items.shape for items in told.values()}):  # one program for all nets with as many live members
        group = [name for name, items in told.items() if items.shape == shape]
        found = bootstrap_clusters(key, np.stack([told[name] for name in group], axis=-1), _mean_subset)
        ends |= dict(zip(group, np.stack(found, axis=1), strict=True))
    return ends


@jax.jit
def _mean_subset(right: Bool[Array, "item seed *net"]) -> Float[Array, "*net K"]:
    """Mean over seeds of C(c, K) / C(n, K), for every K."""
    c = right.sum(0)
    n = jnp.full_like(c, right.shape[0])
    return jnp.stack([attempts.subset_accuracy(n, c, K).mean(0) for K in SUBSETS], axis=-1)


if __name__ == "__main__":
    main(sys.modules[__name__])

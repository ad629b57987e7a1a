"""Shallow autoencoders of growing width: an ability that seems to emerge because a threshold scores the reconstruction.

One hidden layer of h units with GELU, a linear output, trained on the mean squared error. That error falls smoothly with h.
Reconstruction_c, the share of test images whose squared error is below c, can be flat and then steep: at each h it is the
distribution of the errors there, F_h(c), so it rises where that distribution passes c, and as fast as the distribution moves
against its own spread. PCA of rank h, which no such network can beat on the training images, shows what is owed to neither
training nor nonlinearity.

References:
    Schaeffer, Miranda, Koyejo (2023), section 5, equation 2 and figure 7. It prints no widths and no thresholds: all here
    are ours.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from flax import nnx
from jaxtyping import Array, Float, Key, PyTree

from mirage_jax import table
from mirage_jax.estimators import cell
from mirage_jax.inducing import induce, transition_width
from mirage_jax.metrics.facts import evaluate
from mirage_jax.outcomes import Errors
from mirage_jax.parts import Parts
from mirage_jax.progress import track
from mirage_jax.study import Output
from train import fit
from train.data import digest
from train.models import Autoencoder

ITEMS = 500  # images at once
SPREAD = 0.25  # of the pixels, about: inputs are divided by it
SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)  # of the largest networks' errors: the thresholds c at these quantiles are tried
TOLD = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)  # quantiles of the errors that are kept
RESAMPLES = 2000

Scored = Float[np.ndarray, "h seed test"]  # NaN where training diverged
Scores = dict[tuple[str, float | None], Scored]  # by metric and c


@dataclass(frozen=True)
class Config:
    """Autoencoders of several widths, each trained from several seeds."""

    seed: int = 0
    """Of all random draws."""
    seeds: int = 5
    """Training runs per width; with more, the earlier ones stay what they were, to float rounding."""
    widths: tuple[int, ...] = (1, 2, 4, 8, 16, 24, 32, 48)
    """Hidden units h, below the number of pixels."""
    steps: int = 2000
    """Optimiser steps of every run, whatever its width."""
    batch: int = 64
    """Images per step."""
    learning_rate: float = 0.003
    """Peak learning rate of Adam."""
    dtype: fit.Dtype = "float32"
    """Of the networks' arithmetic (a CPU may keep more digits); weights and what the optimiser keeps are float32."""
    together: int = 48
    """Widths up to this one share a program, padded with zeros to the widest of them; wider ones are trained alone."""

    def __post_init__(self) -> None:
        """Refuse a family that cannot be trained."""
        widths = sorted(set(self.widths))
        if len(widths) < 3 or len(widths) < len(self.widths) or not 1 <= widths[0] <= widths[-1] < self.pixels():
            raise ValueError(
                f"expected at least 3 different widths from 1 to {self.pixels() - 1}, below the {self.pixels()} pixels "
                f"(PCA of all is exact), got {self.widths}"
            )
        if self.seeds < 1 or self.batch < 1 or self.together < 0:
            raise ValueError(f"expected seeds, batch >= 1 and together >= 0: {self}")
        self.recipe()

    def recipe(self) -> fit.Recipe:
        """How every member is trained."""
        return fit.Recipe(self.steps, self.learning_rate, b2=0.99, clip=math.inf, dtype=self.dtype)

    def pixels(self) -> int:
        """Numbers in an image."""
        raise NotImplementedError


class Flat(NamedTuple):
    """Images as rows of numbers, black 0 and white 1 before any shift and scale."""

    train: Float[np.ndarray, "train D"]
    test: Float[np.ndarray, "test D"]


class Network(NamedTuple):
    """An autoencoder of some width; equal ones are compiled once."""

    pixels: int
    h: int

    def __call__(self, rngs: Any) -> Autoencoder:
        """Make it; its outputs vary as much as the images do."""
        return Autoencoder(self.pixels, self.h, gain=SPREAD, rngs=rngs)


class Family(NamedTuple):
    """What a family did at each width: squared errors ||x - x'||^2, summed over pixels; from black to white is 1."""

    name: str
    source: str
    params: list[int]  # at each width
    squared: Float[np.ndarray, "h seed test"]  # float32, as they are scored; NaN where training diverged
    train: Float[np.ndarray, "h seed"]  # mean over the training images


def run(study: str, task: str, named: str, config: Config, images: Flat, kept: Parts | None, **setting: str) -> Output:
    """Train every width from every seed, and score each member, and PCA of each width's rank, on the test images.

    One row a member, metric and c. `named` says which images, `setting` how they were made.
    """
    h = sorted(config.widths)
    networks = train(jax.random.key(config.seed), h, config, images, f"autoencoder_{task}", kept)
    families = (networks, pca(images, h, f"pca_{task}"))
    c = thresholds(h, networks.squared)
    how = {"config": table.config_hash(study, asdict(config))[:8], "data": digest(images)[:8]}
    scored = list(zip(families, score(families, list(c)), strict=True))
    rows = [row for family, scores in scored for row in member_rows(h, task, setting, how, family, scores)]
    members = pd.concat([told_errors(h, family) for family in families], ignore_index=True)
    counted = pd.concat([identity(h, family, scores) for family, scores in scored], ignore_index=True)
    drawn = resamples(config.seed, len(images.test), config.seeds)
    frames = [curves(h, family, scores, c, *drawn) for family, scores in scored]
    curve, transitions = (pd.concat(parts, ignore_index=True) for parts in zip(*frames, strict=True))
    searched = [search(h, of, len(images.test)) for _, of in curve.groupby("family")] if c else []
    results = {
        "members": members, "identity": counted, "curve": curve.assign(data=named),
        "transitions": transitions.assign(data=named), "induced": pd.DataFrame(searched),
    }  # fmt: skip
    return Output(rows, {name: result for name, result in results.items() if len(result)})


def train(
    key: Key[Array, ""], h: Sequence[int], config: Config, images: Flat, name: str, kept: Parts | None = None
) -> Family:
    """Train one member per width and seed, widths up to `together` in one program."""
    recipe = config.recipe()
    init, batches = jax.vmap(jax.random.split, out_axes=1)(fit.members(key, config.seeds))
    # Centred images are the same as an output bias that starts at the mean image, and as inputs x - mean.
    mean = images.train.mean(0, dtype=np.float64)
    centred = [(part - mean).astype(np.float32) for part in images]
    wide = [(width,) for width in h if width > config.together]
    batched = [narrow] if (narrow := tuple(width for width in h if width <= config.together)) else []
    squared = []
    for some in track([*batched, *wide], name, [len(some) * max(some) for some in (*batched, *wide)]):
        networks = [Network(config.pixels(), width) for width in some]
        fitted = fit.fit(
            objective(networks[-1]),
            fit.stack([fit.initial(network, init) for network in networks]),
            fit.minibatch(len(centred[0]), config.batch),
            jnp.tile(batches, len(some)),
            centred[0],
            recipe,
            kept=kept,
            label="-to-".join(map(str, dict.fromkeys((some[0], some[-1])))),
        )
        errors = np.array(_squared(networks[-1], fitted.params, np.concatenate(centred)))
        errors[~(fitted.finite() & np.isfinite(errors).all(1))] = np.nan
        squared.append(errors.reshape(len(some), config.seeds, -1))
    on_train, on_test = np.split(np.concatenate(squared), [len(images.train)], axis=-1)
    params = [fit.size(Network(config.pixels(), width)) for width in h]
    return Family(name, "trained", params, on_test, on_train.mean(-1, dtype=np.float64))


@lru_cache
def objective(network: Network) -> fit.Loss:
    """Mean squared error over pixels and images, as a function of the parameters, the training set and the picks."""
    graph = fit.graph(network)

    def loss(params: PyTree, data: PyTree, picks: PyTree) -> Float[Array, ""]:
        x = data[picks]
        return jnp.square(nnx.merge(graph, params)(x / SPREAD) - x).mean()

    return loss


@partial(jax.jit, static_argnums=0)
def _squared(network: Network, params: PyTree, images: Array) -> Float[Array, "member item"]:
    graph = fit.graph(network)

    def member(params: PyTree) -> Array:
        net = nnx.merge(graph, params)
        return jax.lax.map(lambda x: jnp.square(net(x / SPREAD) - x).sum(-1), images, batch_size=ITEMS)

    return jax.lax.map(member, params)


def pca(images: Flat, h: Sequence[int], name: str) -> Family:
    """Reconstruction from the mean and the first h principal components of the training images, in float64.

        ||x - x'||^2 = sum_(j > h) (v_j . (x - mean))^2,    v_j the eigenvectors of the covariance, largest first

    Of all reconstructions in an affine space of h dimensions it has the least squared error on the training images; those
    of a network with h hidden units and a linear output lie in one. Its parameters are the mean and h components.

    References:
        Eckart, Young (1936), "The approximation of one matrix by another of lower rank".
    """
    mean = images.train.mean(0, dtype=np.float64)
    centred = images.train - mean
    _, vectors = np.linalg.eigh(centred.T @ centred)  # smallest first
    left = [mean.size - rank - 1 for rank in h]  # the last component that rank h leaves out
    on_train, on_test = (np.cumsum(np.square((x - mean) @ vectors), axis=1)[:, left].T[:, None] for x in images)
    params = [mean.size * (rank + 1) for rank in h]
    return Family(name, "closed_form", params, on_test.astype(np.float32), on_train.mean(-1))


def thresholds(h: Sequence[int], squared: Float[np.ndarray, "h seed test"]) -> dict[float, str]:
    """The c that are tried, to three digits, and where they come from: all from the errors of the networks themselves.

    Quantiles of the largest width's errors, and so values of its Reconstruction_c; and each other width's median.
    """
    live = [(width, errors[~np.isnan(errors)]) for width, errors in zip(h, squared, strict=True)]
    live = [(width, errors) for width, errors in live if errors.size]
    found = [(np.quantile(live[-1][1], share), f"q{share * 100:.0f} of h={live[-1][0]}") for share in SHARES if live]
    found += [(np.median(errors), f"q50 of h={width}") for width, errors in live[:-1]]
    return {float(f"{c:.3g}"): where for c, where in sorted(found, reverse=True)}


def score(families: Sequence[Family], c: Sequence[float]) -> list[Scores]:
    """Scores of every test image under each metric and c, of each family."""
    items = families[0].squared.shape[-1]
    every = np.concatenate([family.squared.reshape(-1, items) for family in families])
    live = ~np.isnan(every).any(1)
    ends = np.cumsum([family.squared.size // items for family in families])[:-1]
    found: list[Scores] = [{} for _ in families]
    for metric, options in [("squared_error", {}), *(("reconstruction", {"c": one}) for one in c)]:
        scores = np.full(every.shape, np.nan, np.float32)
        scores[live] = evaluate(Errors(every[live]), metric, **options)[metric]
        for of, family, part in zip(found, families, np.split(scores, ends), strict=True):
            of[metric, options.get("c")] = part.reshape(family.squared.shape)
    return found


def member_rows(
    h: Sequence[int],
    task: str,
    setting: Mapping[str, str],
    how: Mapping[str, str],
    family: Family,
    scores: Scores,
) -> Iterator[dict[str, Any]]:
    """A row per member, metric and c. A diverged member has no score and n = 0, so that nothing averages it in."""
    kind = family.name.partition("_")[0]
    for (metric, c), values in scores.items():
        options = {} if c is None else {"c": c}
        told = {
            "source": family.source, "family": family.name, "scale_kind": "params", "task": task,
            "metric": metric, "setting": table.setting(split="held_out", **setting, **options), "missing": 0, "unparsed": 0,
            "signature": table.signature(metric, **how, **options),
        }  # fmt: skip
        for at, width in enumerate(h):
            for seed, items in enumerate(values[at]):
                stats = {"n": 0} if np.isnan(items).any() else cell(items, metric)
                member = {"seed": seed} if family.source == "trained" else {}
                yield told | member | {"model": f"{kind}-{width}", "scale": family.params[at]} | stats


def told_errors(h: Sequence[int], family: Family) -> pd.DataFrame:
    """Errors of each member, and of all seeds of a width together (seed null): means and quantiles over test images."""
    rows = []
    for at, (width, params) in enumerate(zip(h, family.params, strict=True)):
        each = enumerate(family.squared[at]) if family.source == "trained" else ()
        for seed, errors in [*each, (None, family.squared[at])]:
            errors = errors[~np.isnan(errors)].astype(np.float64)
            on_train = family.train[at] if seed is None else family.train[at, seed]
            row = {"family": family.name, "h": width, "params": params, "seed": seed, "n": errors.size}
            row["squared_error"] = errors.mean() if errors.size else math.nan
            row["train_squared_error"] = np.nanmean(on_train) if errors.size else math.nan
            told = np.quantile(errors, TOLD) if errors.size else [math.nan] * len(TOLD)
            rows.append(row | {f"q{share * 100:02.0f}": value for share, value in zip(TOLD, told, strict=True)})
    return pd.DataFrame(rows).astype({"seed": "Int64"})


def identity(h: Sequence[int], family: Family, scores: Scores) -> pd.DataFrame:
    """Reconstruction_c(h) = F_h(c), counted twice: images scored 1, and errors that stand before c once sorted."""
    rows = []
    for at, width in enumerate(h):
        for seed, errors in enumerate(np.sort(family.squared[at])):
            for (_, c), values in scores.items():
                if c is not None and not np.isnan(errors).any():
                    below = np.searchsorted(errors, np.float32(c), "left")  # c as it is compared: in float32
                    row = {"family": family.name, "h": width, "seed": seed, "c": c, "n": errors.size}
                    rows.append(row | {"scored": int(values[at, seed].sum()), "below": int(below)})
    return pd.DataFrame(rows)


def resamples(seed: int, items: int, seeds: int) -> tuple[np.ndarray, np.ndarray]:
    """How often each test image and each seed is drawn in each resample: [resample, item], [resample, seed].

    As `bootstrap_clusters` draws them, but as counts, so that all curves' means are one matrix product.
    """
    draw = np.random.Generator(np.random.Philox(seed))
    counts = (draw.multinomial(n, np.full(n, 1 / n), RESAMPLES) for n in (items, seeds))
    each, runs = (count.astype(np.float32) for count in counts)
    return each, runs


def means(x: Float[np.ndarray, "*of seed item"], items: np.ndarray, seeds: np.ndarray) -> Float[np.ndarray, "*of draw"]:
    """Means over images and seeds, each counted as often as it was drawn; a seed that diverged (NaN) is left out."""
    live = ~np.isnan(x[..., 0])
    totals = np.nan_to_num(x) @ items.T  # [*of, seed, draw]; of 0 and 1 they are whole numbers
    weights = live[..., None] * seeds.T
    with np.errstate(invalid="ignore"):  # no seed is left: NaN
        return (totals * weights).sum(-2) / (weights.sum(-2) * items.sum(1))


def curves(
    h: Sequence[int], family: Family, scores: Scores, c: Mapping[float, str], items: np.ndarray, seeds: np.ndarray
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Mean curves over the seeds that did not diverge, and the decades of h that their change takes; 95% intervals of both.

    `decades` is from 10% to 90% of the way from the first mean to the last, `ratio` that of the squared error over it.
    Images and seeds are resampled alike for all widths and both families, with c as it is; of one seed it is images alone.
    """
    x = np.stack(list(scores.values()))  # [metric, h, seed, item]
    if family.source == "closed_form":
        seeds = np.ones((len(items), 1), np.float32)
    once = (np.ones((1, n)) for n in x.shape[:1:-1])
    mean = np.concatenate([means(x, *once), means(x, items, seeds)], axis=-1).astype(np.float64)  # [metric, h, draw]
    with np.errstate(divide="ignore", invalid="ignore"):  # of a curve that does not change: NaN
        decades = np.asarray(transition_width(np.log10(h), np.moveaxis(mean, -1, 0))).T  # [metric, draw]
    level, wide, ratio = (_with_ends(of) for of in (mean, decades, decades[0] / decades))
    live = (~np.isnan(family.squared).any(-1)).sum(1)
    points, transitions = [], []
    for k, (metric, one) in enumerate(scores):
        about = {"family": family.name, "metric": metric, "c": one}
        for at, width in enumerate(h):
            point = {"h": width, "params": family.params[at], "items": x.shape[-1], "seeds": live[at]}
            points.append(about | point | dict(zip(("mean", "low", "high"), level[:, k, at], strict=True)))
        of = dict(zip(("decades", "decades_low", "decades_high"), wide[:, k], strict=True))
        of |= dict(zip(("ratio", "ratio_low", "ratio_high"), ratio[:, k], strict=True))
        ends = {"from": c[one] if one is not None else "", "first": mean[k, 0, 0], "last": mean[k, -1, 0]}
        transitions.append(about | ends | of | explained(h, family, mean[k, :, 0], one))
    return pd.DataFrame(points), pd.DataFrame(transitions)


def _with_ends(of: Float[np.ndarray, "*of draw"]) -> Float[np.ndarray, "end ..."]:
    """The first, which is what was found, and the ends of the 95% interval, from the others."""
    ends = np.quantile(of[..., 1:], (0.025, 0.975), axis=-1, method="inverted_cdf")
    return np.stack([of[..., 0], *ends])


def explained(h: Sequence[int], family: Family, rates: np.ndarray, c: float | None) -> dict[str, float]:
    """Where a curve of Reconstruction_c is at one half, and the decades of h from .1 to .9, seen and explained.

        explained = log10(q90 / q10) / -(d log10 q50 / d log10 h)    where q50 = c,    q the quantiles of the errors at h

    which is the spread of the error at one h over its drift with h. NaN where the curve does not get there.
    """
    told = ("location", "seen", "spread", "drift", "explained")
    if c is None or np.isnan(rates).any():
        return dict.fromkeys(told, math.nan)
    x, rising = np.log10(h), np.maximum.accumulate(rates)
    ends = np.interp((0.1, 0.5, 0.9), rising, x, left=math.nan, right=math.nan)
    flat = family.squared.reshape(len(h), -1)
    q10, q50, q90 = np.log10(np.nanquantile(flat, (0.1, 0.5, 0.9), axis=1))
    spread, drift = (np.interp(ends[1], x, y) for y in (q90 - q10, -np.gradient(q50, x)))
    values = (10 ** ends[1], ends[2] - ends[0], spread, drift, spread / drift)
    return dict(zip(told, map(float, values), strict=True))


def search(h: Sequence[int], curve: pd.DataFrame, items: int) -> dict[str, Any]:
    """The sharpest and the smoothest curve of a family among the c tried, and how many were tried."""
    rates = curve[curve["metric"] == "reconstruction"].pivot(index="c", columns="h", values="mean")
    found = induce(dict(zip(rates.index, rates.to_numpy(), strict=True)), h, n=items)
    told = found.table.set_index("choice")
    row = {"family": curve["family"].iloc[0], "tried": found.tried, "with_width": found.with_width}
    for name, c in (("sharpest", found.sharpest), ("smoothest", found.smoothest)):
        of = dict.fromkeys(("width", "inside"), math.nan) if c is None else told.loc[c]
        row |= {name: c, f"{name}_decades": of["width"], f"{name}_inside": of["inside"]}
    return row | {"by_chance": found.by_chance, "told": str(found)}

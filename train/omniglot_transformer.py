"""Small transformers on sequences of Omniglot images and labels: whole sequences seem to be learnt at a certain size.

A convolutional embedder and a decoder-only transformer read image, label, image, label, ...; at each image the network says
the label that follows. Accuracy per image rises with size; the share of sequences whose first L images are all right stays
at 0 for longer, the more so the larger L. Training images are varied by small affine maps: with 15 drawings of a character
a large network would learn them by heart.

References:
    Schaeffer, Miranda, Koyejo (2023), section 5 and figure 8, after Chan et al. (2022), "Data Distributional Properties Drive
    Emergent In-Context Learning in Transformers". The paper prints no sizes, no recipe and no split: all here are ours.
"""

import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Bool, Float, Int, Key

from mirage_jax import table
from mirage_jax.metrics.facts import METRICS, evaluate
from mirage_jax.outcomes import Tokens
from mirage_jax.parts import Parts
from mirage_jax.progress import track
from mirage_jax.study import Output, main
from train import fit, omniglot_scores
from train.data import Source, digest, load, named, task
from train.models import Size
from train.omniglot_images import DRAWN, TRAIN, Sheets, sheets
from train.omniglot_net import Draw, Network, Picks, answers, objective
from train.omniglot_scores import Shared, variance

NAME = "omniglot_transformer"
LENGTH = 5  # images of a sequence
SCORED = ("token_accuracy", "exact_match", "nll")
TEST = 2**32 - 1  # stream of the test sequences; members are the streams 0, 1, 2, ...
IMAGES = 1  # stream of what is drawn on the host: characters, split, variants


@dataclass(frozen=True)
class Config:
    """Transformers of several sizes on one set of characters, each trained from several seeds."""

    seed: int = 0
    """Of all random draws."""
    seeds: int = 3
    """Training runs per size; with more, the earlier ones stay what they were, to float rounding."""
    sizes: tuple[str, ...] = ("1x2", "1x3", "1x4", "1x6", "1x8", "1x12", "1x16")
    """Layers x width of each network; heads have 8 units where the width is a multiple of 8, else there is one head."""
    classes: int | None = 50
    """Characters drawn from the background set; None: all that are there."""
    variants: int = 15
    """Random affine variants of each training drawing, made once, beside the drawing; 0: the 15 drawings a character alone,
    which large networks learn by heart."""
    unique: bool = True
    """Whether no character comes twice in a sequence. --no-unique is the in-context mode: a label that stands in the sequence
    can be copied to the next image of its character, so accuracy per image is no longer recognition alone (label leakage)."""
    steps: int = 800
    """Optimiser steps of every run, whatever its size."""
    batch: int = 16
    """Sequences per step, of 5 images each."""
    learning_rate: float = 0.005
    """Peak learning rate of AdamW."""
    weight_decay: float = 0.01
    """Of AdamW."""
    dtype: fit.Dtype = "float32"
    """Of the networks' arithmetic (a CPU may keep more digits); weights and what the optimiser keeps are float32."""
    sequences: int = 1000
    """Test sequences, drawn once from the 5 held-out drawings of each character and put to every network."""
    data: Source = "published"
    """published: the pinned files. any: also files that were changed. procedural: strokes made by rule, no files."""

    def __post_init__(self) -> None:
        """Refuse a family that cannot be trained or tested."""
        found = [Size.read(text) for text in self.sizes]
        if self.seeds < 1 or not found or len(set(found)) < len(found):
            raise ValueError(f"expected seeds >= 1 and different sizes, got {self.seeds}, {list(self.sizes)}")
        if self.classes is not None and self.classes < LENGTH:
            raise ValueError(
                f"expected at least {LENGTH} classes, as many as a sequence has images, got {self.classes}"
            )
        if self.batch < 1 or self.variants < 0 or self.sequences < 2:
            raise ValueError(
                f"expected batch >= 1, variants >= 0, sequences >= 2: {self.batch}, {self.variants}, {self.sequences}"
            )
        self.recipe()

    def recipe(self) -> fit.Recipe:
        """How every member is trained."""
        return fit.Recipe(self.steps, self.learning_rate, self.weight_decay, b2=0.99, dtype=self.dtype)


_sizes = ("1x4", "1x8", "1x16", "1x32", "1x64", "1x128", "2x16", "2x32", "2x64", "2x128", "4x32", "4x64", "4x128")
_full = {"seeds": 5, "classes": None, "variants": 8, "steps": 20_000, "batch": 64, "learning_rate": 0.002}
PRESETS = {"quick": Config(), "full": replace(Config(), sizes=_sizes, sequences=4000, **_full)}


class Asked(NamedTuple):
    """What all members of one size said of the test sequences."""

    predicted: Int[np.ndarray, "seed sequence 5"]
    log_prob: Float[np.ndarray, "seed sequence 5"]  # of the right label
    finite: Bool[np.ndarray, " seed"]  # False where training diverged


class Questions(NamedTuple):
    """The test sequences, and which of them share drawings in their first 1, 2, ... images."""

    classes: Int[np.ndarray, "sequence 5"]
    shared: list[Shared]


def needs(config: Config) -> tuple[str, ...]:
    """Data sets to read."""
    return () if config.data == "procedural" else ("omniglot",)


def run(config: Config, kept: Parts | None = None, omniglot: Path | None = None) -> Output:
    """Train every size from every seed and score each member on held-out drawings; one row a member, metric and length."""
    drawings: Any = load("omniglot", omniglot, config.data, config.seed)
    sheet = sheets(drawings, config.classes, LENGTH, config.variants, np.random.default_rng([config.seed, IMAGES]))
    key = jax.random.key(config.seed)
    keys = fit.members(key, config.seeds)
    classes, held_out = len(sheet.classes), DRAWN - TRAIN
    draw = Draw(classes, held_out, LENGTH, config.sequences, config.unique)
    picks = jax.jit(lambda key: draw(key))(jax.random.fold_in(key, TEST))
    tests = tested(picks, held_out)
    own = task("omniglot", config.data)
    how = {"config": table.config_hash(NAME, asdict(config))[:8], "data": digest(drawings)[:8]}
    setting = table.setting(classes=classes, split="held_out", unique=config.unique)
    about = {"source": "trained", "family": f"transformer_{own}", "scale_kind": "params", "task": own}
    rows, curve, ratios = [], [], []
    sizes = sorted(map(Size.read, config.sizes), key=lambda size: fit.size(Network(size, LENGTH, classes)))
    images = jnp.asarray(sheet.train)
    for size in track(sizes, NAME):
        network = Network(size, LENGTH, classes)
        asked = train(keys, network, images, sheet, picks, config, kept)
        values = scores(asked, tests)
        of = {"model": f"transformer-{size}", "scale": fit.size(network)}
        told = about | of | {"setting": setting, "missing": 0, "unparsed": 0}
        rows += [told | row for row in member_rows(values, asked.finite, tests, classes, how)]
        net = {"model": of["model"], "params": of["scale"]}
        curve += [net | point for point in mean_points(values, tests)]
        ratios += [net | ratio for ratio in independence(asked, tests, config.unique)]
    data = f"{named('omniglot', omniglot, drawings)}; {classes} of them used"
    means = pd.DataFrame(curve).astype({"mean": float, "low": float, "high": float}).assign(data=data)
    return Output(rows, {"curve": means, "independence": pd.DataFrame(ratios).astype({"seed": "Int64"})})


def tested(picks: Picks, drawings: int) -> Questions:
    """What there is to know of the test sequences: their classes, and which share one of so many drawings of a class."""
    classes = np.asarray(picks.classes)
    images = classes * drawings + np.asarray(picks.drawings)
    return Questions(classes, [omniglot_scores.shared(images[:, :length]) for length in range(1, LENGTH + 1)])


def train(
    keys: Key[Array, " seed"],
    network: Network,
    images: Float[Array, "class variant 28 28"],
    sheet: Sheets,
    picks: Picks,
    config: Config,
    kept: Parts | None = None,
) -> Asked:
    """Train one member per key and put the test sequences to each."""
    init, batches = jax.vmap(jax.random.split, out_axes=1)(keys)
    fitted = fit.fit(
        objective(network),
        fit.initial(network, init),
        Draw(network.classes, images.shape[1], LENGTH, config.batch, config.unique),
        batches,
        images,
        config.recipe(),
        kept=kept,
        label=str(network.size),
    )
    predicted, log_prob = map(np.asarray, answers(network, fitted.params, jnp.asarray(sheet.test), picks))
    return Asked(predicted, log_prob, fitted.finite() & np.isfinite(log_prob).all((1, 2)))


def scores(asked: Asked, tests: Questions) -> dict[str, Float[np.ndarray, "length member sequence"]]:
    """Each metric on the first 1, 2, ... 5 images of each sequence, of the members that did not diverge."""
    members = int(asked.finite.sum())
    if not members:
        return {}
    shape = (LENGTH, members, *tests.classes.shape)
    lengths = np.broadcast_to(np.arange(1, LENGTH + 1)[:, None, None], shape[:-1])
    outcome = Tokens(
        np.broadcast_to(tests.classes, shape),
        lengths,
        np.broadcast_to(asked.predicted[asked.finite], shape),
        lengths,
        np.broadcast_to(asked.log_prob[asked.finite], shape),
    )
    return {name: np.asarray(score, dtype=float) for name, score in evaluate(outcome, SCORED).items()}


def member_rows(
    values: Mapping[str, Float[np.ndarray, "length member sequence"]],
    finite: Bool[np.ndarray, " seed"],
    tests: Questions,
    classes: int,
    how: Mapping[str, str],
) -> Iterator[dict[str, Any]]:
    """A row per member, metric and length. A diverged member has no score and n = 0, so that nothing averages it in."""
    place = np.cumsum(finite) - 1
    for seed, ok in enumerate(finite):
        for metric in SCORED:
            told = {"seed": seed, "metric": metric, "signature": table.signature(metric, **how)}
            found = points(metric, values[metric][:, place[seed]], tests) if ok else [{"n": 0}] * LENGTH
            for length, score in enumerate(found, 1):
                # of guessing each image's label uniformly among all classes
                chance = {"token_accuracy": 1 / classes, "exact_match": classes**-length}
                yield told | score | {"length": length, "chance": chance.get(metric, length * math.log(classes))}


def mean_points(
    values: Mapping[str, Float[np.ndarray, "length member sequence"]], tests: Questions
) -> Iterator[dict[str, Any]]:
    """Mean over the members that did not diverge of each metric and length, with its 95% interval over drawings and seeds.

    From one member no interval: it says nothing of the spread over seeds.
    """
    for metric in SCORED:
        of = values[metric] if values else np.empty((LENGTH, 0, 1))
        found = points(metric, of, tests) if of.shape[1] > 1 else [{"score": x.mean() if x.size else None} for x in of]
        for length, (score, shared) in enumerate(zip(found, tests.shared, strict=True), 1):
            ends = {name: score.get(name) for name in ("low", "high")}
            told = {"metric": metric, "length": length, "mean": score["score"]} | ends
            yield told | {"seeds": of.shape[1], "sequences": len(tests.classes), "drawings": shared.drawings}


def points(metric: str, values: Float[np.ndarray, "length *seed sequence"], tests: Questions) -> list[dict[str, Any]]:
    """Mean, interval over drawings (and seeds, where there are several), standard error and n for each length."""
    found, highest = [], math.inf
    for of, shared in zip(values, tests.shared, strict=True):
        score, n = float(of.mean()), of.shape[-1]
        several = of.ndim > 1
        spread, df = omniglot_scores.over_seeds(of, shared) if several else (float(variance(of, shared)), shared.df)
        if metric == "nll":
            low, high = omniglot_scores.mean(score, spread, df, METRICS[metric].bounds[0])
        else:
            least = shared.apart if metric == "exact_match" else shared.drawings
            low, high = omniglot_scores.proportion(score, spread, df, least)
        if metric == "exact_match":  # longer sequences are not right more often
            high = highest = min(float(high), highest)
        ends = (float(end) if math.isfinite(end) else None for end in (low, high))
        found.append(
            {"score": score, "se": math.sqrt(spread) or None, "n": n} | dict(zip(("low", "high"), ends, strict=True))
        )
    return found


def independence(asked: Asked, tests: Questions, unique: bool) -> Iterator[dict[str, Any]]:
    """Independence ratios of each member and, seed null, of all together, for L = 2..5, and what drawing classes implies."""
    right = asked.predicted == tests.classes
    groups = [(seed, right[seed : seed + 1]) for seed in np.flatnonzero(asked.finite)]
    for seed, of in [*groups, (None, right[asked.finite])] if groups else ():
        for length in range(2, LENGTH + 1):
            found = omniglot_scores.independence(of[..., :length], tests.shared[length - 1])
            implied = omniglot_scores.without_return(of, tests.classes, length) if unique else 1.0
            whole = int(of[..., :length].all(-1).sum())
            told = {"seed": None if seed is None else int(seed), "length": length, "n": of[..., 0].size, "right": whole}
            yield told | dict(zip(("ratio", "low", "high"), found, strict=True)) | {"implied": implied}


if __name__ == "__main__":
    main(sys.modules[__name__])

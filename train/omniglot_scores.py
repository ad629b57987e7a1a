"""What sequences that share images say: intervals over images, and whether errors within a sequence are independent.

A thousand test sequences are made of a few hundred held-out drawings, so the sequences are not independent items: a hard
drawing is wrong wherever it stands. The unit is the drawing. Resampling drawings, each sequence weighted by the product of
its drawings' counts, would multiply the part of the variance that is the sequences' own by 2^L; what counts each pair once is
the variance of a mean whose terms are dependent where they share a drawing,

    V = I / (I - 1) / S^2 sum_{s, t share a drawing} e_s e_t,    e_s = score of sequence s minus the mean,

over S sequences and I drawings: for L = 1 the usual cluster-robust variance. Simulated with drawings that are right or wrong
for good, its 95% intervals covered 95 to 96%; those of as many independent sequences, 39 to 74%. Drawings are taken as
independent given the network, though one person drew all characters of an alphabet.

References:
    Aronow, Samii, Assenova (2015), "Cluster-Robust Variance Estimation for Dyadic Data"; Korn, Graubard (1998), "Confidence
    Intervals for Proportions with Small Expected Number of Positive Counts Estimated from Survey Data".
"""

import math
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse, stats

from mirage_jax.estimators import Interval, clopper_pearson

FEW = 5  # sequences all right, or not: from fewer no independence ratio


class Shared(NamedTuple):
    """Which test sequences stand on the same drawings."""

    pairs: Any  # sparse, 1 at [s, t] where sequences s and t share a drawing
    drawings: int  # that stand in any of them
    apart: int  # sequences, of which no two share one

    @property
    def df(self) -> float:
        """Degrees of freedom of a variance over drawings."""
        return float(self.drawings - 1)


def shared(drawings: Int[np.ndarray, "sequence L"]) -> Shared:
    """Which sequences of these drawings (any numbers that tell them apart) share one."""
    seen, places = np.unique(drawings, return_inverse=True)
    places, sequences = places.reshape(drawings.shape), len(drawings)
    row = np.repeat(np.arange(sequences), drawings.shape[1])
    holds: Any = sparse.csr_array((np.ones(row.size), (row, places.ravel())), shape=(sequences, len(seen)))
    taken: set[int] = set()
    apart = 0
    for sequence in list(places):
        if taken.isdisjoint(sequence.tolist()):
            taken.update(sequence.tolist())
            apart += 1
    return Shared(((holds @ holds.T) > 0).astype(float), len(seen), apart)


def variance(values: Float[np.ndarray, "*batch sequence"], shared: Shared) -> Float[np.ndarray, "*batch"]:
    """Variance of the mean over sequences, V above, at least that of independent sequences; 0 where all are equal."""
    sequences = values.shape[-1]
    e = values - values.mean(-1, keepdims=True)
    e[np.ptp(values, axis=-1) == 0] = 0  # whose mean may be rounded
    flat = e.reshape(-1, sequences)
    together = (shared.pairs @ flat.T).T * flat
    found = together.sum(-1).reshape(e.shape[:-1]) / sequences**2 * shared.drawings / (shared.drawings - 1)
    return np.maximum(found, np.square(e).sum(-1) / (sequences * (sequences - 1)))


def over_seeds(values: Float[np.ndarray, "seed sequence"], shared: Shared) -> tuple[float, float]:
    """Variance of the mean over drawings and seeds, the sum of both, and its degrees of freedom (Satterthwaite's).

    What differs by drawing and seed at once is counted in both, so the sum is too large rather than too small.
    """
    seeds = len(values)
    of_drawings = float(variance(values.mean(0), shared))
    of_seeds = float(values.mean(1).var(ddof=1)) / seeds
    both = of_drawings + of_seeds
    if both == 0:
        return 0.0, shared.df
    return both, both**2 / (of_drawings**2 / shared.df + of_seeds**2 / (seeds - 1))


def proportion(score: float, variance: float, df: float, least: int) -> Interval:
    """Clopper-Pearson for as many independent answers as would have this variance (Korn and Graubard's effective n).

    Args:
        score: share of answers that are right.
        variance: of it.
        df: degrees of freedom of the variance.
        least: answers that share no drawing: where all or none are right, these alone are known to be independent.
    """
    if variance > 0:
        shrink = (stats.norm.isf(0.025) / stats.t.isf(0.025, df)) ** 2
        n = max(score * (1 - score) / variance * shrink, 1.0)
    else:
        n = least
    return clopper_pearson(score * n, n)


def mean(score: float, variance: float, df: float, low: float = -math.inf) -> Interval:
    """Student t interval of a mean, cut at its lower bound; NaN where no spread was seen."""
    half = stats.t.isf(0.025, df) * math.sqrt(variance) if variance > 0 else math.nan
    return Interval(np.fmax(score - half, low) if half == half else np.asarray(half), np.asarray(score + half))


def independence(right: Bool[np.ndarray, "seed sequence L"], shared: Shared) -> tuple[float, float, float]:
    """Independence ratio of some networks together, and the ends of its 95% interval over drawings, the networks being given.

        IR_L = sum_seeds Acc_L / sum_seeds prod_l p_l

    with Acc_L the share of sequences that are all right and p_l that of images right at place l. The interval is a delta
    interval of log IR_L; what a hard drawing does to numerator and denominator alike drops out of it. NaN from fewer than FEW
    sequences that are all right, or that are not.
    """
    x = right.astype(float)
    whole = x.all(-1).astype(float)
    if not FEW <= whole.sum() <= whole.size - FEW:
        return math.nan, math.nan, math.nan
    p = x.mean(1, keepdims=True)  # [seed, 1, place]
    others = np.stack([np.delete(p, place, axis=-1).prod(-1) for place in range(x.shape[-1])], axis=-1)
    product, joint = p.prod(-1).mean(), whole.mean()
    # what each sequence adds to the logarithm of the ratio, to first order
    part = whole.mean(0) / joint - ((x - p) * others).sum(-1).mean(0) / product
    half = float(stats.t.isf(0.025, shared.df) * math.sqrt(variance(part, shared)))
    ratio = float(joint / product)
    return ratio, ratio * math.exp(-half), ratio * math.exp(half)


def without_return(
    right: Bool[np.ndarray, "seed sequence place"], classes: Int[np.ndarray, "sequence place"], L: int
) -> float:
    """The ratio that drawing L different classes implies by itself, if errors are independent given the class.

        mean_seeds e_L(a_1, ..., a_C) / binom(C, L)  over  mean_seeds (mean_c a_c)^L

    with a_c a network's accuracy on class c and e_L the elementary symmetric polynomial: below 1 where classes differ, since a
    hard class does not come twice.
    """
    labels, place = np.unique(classes, return_inverse=True)
    times = np.bincount(place.ravel())
    a = np.stack([np.bincount(place.ravel(), of.ravel().astype(float)) for of in right]) / times  # [seed, class]
    # e_l of the first c classes over binom(c, l), so that no number grows
    chosen = np.zeros((len(right), L + 1))
    chosen[:, 0] = 1
    for c in range(1, len(labels) + 1):
        share = np.minimum(np.arange(1, L + 1) / c, 1)  # of the choices of l among c, those that hold the last
        chosen[:, 1:] = (1 - share) * chosen[:, 1:] + share * chosen[:, :-1] * a[:, c - 1 : c]
    with np.errstate(invalid="ignore"):
        return float(chosen[:, L].mean() / (a.mean(1) ** L).mean())

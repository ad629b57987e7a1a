"""Claims of emergence induced in LeNets (section 5 and appendix B of the paper)."""

import numpy as np
import pandas as pd

from scripts.claims.record import Claim, Found, Status

ALPHA = 0.05  # chance that the power law is rejected anywhere in a family where it holds


def _induced(means: pd.DataFrame) -> Found:
    curve = means.pivot(index="params", columns="K", values="mean").sort_index()
    unable = int(((curve[1] > 0.2) & (curve[5] < 0.05)).sum())
    widest = means[means["params"] == curve.index[-1]].set_index("K")
    ends = {K: "{mean:.3f} [{low:.3f}, {high:.3f}]".format_map(widest.loc[K]) for K in (1, 5)}
    note = f"The widest network reaches {ends[1]} and, at K = 5, {ends[5]}. Images: {means['data'].iloc[0]}."
    status: Status = "holds" if unable >= 2 and curve[5].iloc[-1] > 0.5 else "mixed" if unable else "fails"
    return Found(status, float(unable), n=len(curve), note=note)


def _power(groups: pd.DataFrame) -> Found:
    lift = groups["right"] / groups["groups"] - groups["accuracy"] ** groups["K"]
    rejected = holm(groups["p_value"].to_numpy()) < ALPHA
    status: Status = "fails" if rejected.mean() > 0.5 else "mixed" if rejected.any() else "holds"
    note = (
        f"The smallest p-value is {groups['p_value'].min():.2g}. Shares less the power lie from {lift.min():.3f} to "
        f"{lift.max():.3f}."
    )
    if rejected.any():
        note += (
            f" Where rejected {int((lift[rejected] > 0).sum())} are above 0, {int((lift[rejected] < 0).sum())} below."
        )
    return Found(status, float(rejected.sum()), n=len(groups), note=note)


def holm(p: np.ndarray) -> np.ndarray:
    """P-values adjusted for all of them together (Holm 1979): rejecting those below alpha errs anywhere with at most alpha.

    The i-th smallest of n becomes the largest of (n - j + 1) p_j over j <= i, at most 1; the tests may depend on each other.
    """
    order = np.argsort(p)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order]), 1.0)
    return adjusted


INDUCED = (
    "Number of widths with accuracy above .2 (twice chance) whose chance of 5 of 5 is below .05; holds from two widths on "
    "if the widest network is above .5. Thresholds ours."
)
POWER = (
    "Number of (network, seed, K = 2..5) cells in which the count of disjoint groups of K neighbouring images that are all "
    "right is rejected: exact two-sided test given how many of all images are right, which needs no estimate of accuracy, "
    f"then Holm over all cells at {ALPHA}; holds if none is rejected, fails if more than half are."
)
# data, and what neighbouring test images have in common
FAMILIES = {
    "digits": (
        "digits bundled with scikit-learn",
        "These images stand in random order, so here it checks the counting.",
    ),
    "mnist": (
        "MNIST",
        "These images stand in the order of the file, whose first half is by other writers, and easier, than the second: "
        "for images drawn at random the law holds by counting, for neighbours it need not.",
    ),
}
CLAIMS = tuple(
    claim
    for family, (data, order) in FAMILIES.items()
    for claim in (
        Claim(
            f"{family}_induced",
            "A harsher metric induces seeming emergence: classifiers that improve image by image look unable until a certain "
            "size when all of K images must be right.",
            "appendix B.1, figure 10", INDUCED, (f"{family}_cnn_curve",), _induced, data, f"{family}_cnn",
        ),
        Claim(
            f"{family}_power",
            "For independent test images, K-of-K accuracy is the K-th power of accuracy.",
            "appendix B.1", f"{POWER} {order}", (f"{family}_cnn_groups",), _power, data, f"{family}_cnn",
        ),
    )
)  # fmt: skip

"""Claims of induced emergence in vision (section 5 and appendix B of the paper)."""

import pandas as pd

from mirage_jax.estimators import clopper_pearson
from scripts.claims.record import Claim, Found, Status

DATA = "digits bundled with scikit-learn"


def _digits_induced(means: pd.DataFrame) -> Found:
    curve = means.pivot(index="params", columns="K", values="mean").sort_index()
    unable = int(((curve[1] > 0.2) & (curve[5] < 0.05)).sum())
    note = f"The widest network reaches {curve[5].iloc[-1]:.2f} at K = 5."
    status: Status = "holds" if unable >= 2 and curve[5].iloc[-1] > 0.5 else "mixed" if unable else "fails"
    return Found(status, float(unable), n=len(curve), note=note)


def _digits_power(groups: pd.DataFrame) -> Found:
    low, high = clopper_pearson(groups["right"], groups["groups"])
    law = groups["accuracy"] ** groups["K"]
    inside = float(((low <= law) & (law <= high)).mean())
    return Found("holds" if inside >= 0.95 else "mixed", inside, n=len(groups))


CLAIMS = (
    Claim(
        "autoencoders",
        "Shallow autoencoders seem to learn to reconstruct at a certain size, if a hard threshold scores them.",
        "section 5, figure 7",
        "Needs the autoencoder family, which this version does not train.",
    ),
    Claim(
        "omniglot",
        "Small transformers seem to learn to classify whole sequences of Omniglot images at a certain size.",
        "section 5, figure 8",
        "Needs the transformer family, which this version does not train.",
    ),
    Claim(
        "digits_induced",
        "A harsher metric induces seeming emergence: classifiers that improve image by image look unable until a certain "
        "size when all of K images must be right.",
        "appendix B.1, figure 10",
        "Number of widths with accuracy above .2 (twice chance) whose chance of 5 of 5 is below .05; holds from two widths on "
        "if the widest network is above .5.",
        ("digits_cnn_curve",), _digits_induced, DATA, "digits_cnn",
    ),
    Claim(
        "digits_power",
        "For independent test images, K-of-K accuracy is the K-th power of accuracy.",
        "appendix B.1",
        "Share of (network, K = 2..5) cells in which the accuracy to the K-th power lies in the 95% interval of the "
        "share of disjoint groups of K images that are all right; holds from .95 on.",
        ("digits_cnn_groups",), _digits_power, DATA, "digits_cnn",
    ),
)  # fmt: skip

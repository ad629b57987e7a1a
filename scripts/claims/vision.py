"""Claims of induced emergence in vision (section 5 and appendix B of the paper)."""

import pandas as pd

from scripts.claims.record import Claim, Found, Status, share

DATA = "digits bundled with scikit-learn"


def _digits_induced(means: pd.DataFrame) -> Found:
    curve = means.pivot(index="params", columns="K", values="mean").sort_index()
    unable = int(((curve[1] > 0.2) & (curve[5] < 0.05)).sum())
    note = f"The widest network reaches {curve[5].iloc[-1]:.2f} at K = 5."
    status: Status = "holds" if unable >= 2 and curve[5].iloc[-1] > 0.5 else "mixed" if unable else "fails"
    return Found(status, float(unable), n=len(curve), note=note)


def _digits_power(means: pd.DataFrame) -> Found:
    first = means[means["K"] == 1].set_index("params")["mean"]
    rows = means[(means["K"] > 1) & means["low"].notna()]
    law = rows["params"].map(first) ** rows["K"]
    found = share(int(((rows["low"] <= law) & (law <= rows["high"])).sum()), len(rows), "holds")
    return found if (found.high or 0) >= 0.95 else found._replace(status="mixed")


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
        "Share of (width, K) cells whose 95% interval over images and seeds holds the mean accuracy to the K-th power; holds "
        "unless significantly below .95.",
        ("digits_cnn_curve",), _digits_power, DATA, "digits_cnn",
    ),
)  # fmt: skip

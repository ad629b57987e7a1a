"""Emergence induced in small image classifiers (figure 10 of the paper, on the bundled digits)."""

import pandas as pd
from matplotlib.figure import Figure

from mirage_jax.plotting import GREY, curve, log_axis, panels, text

TABLES = ("digits_cnn", "digits_cnn_curve")
DATA = "digits bundled with scikit-learn"
TITLE = "Induced emergence: LeNets of growing width on digits"
READ = (
    "A: the chance that K test images are all right, unbiased, which is accuracy to the K-th power up to rounding; small "
    "points: the seeds, line: their mean, bars: 95% bootstrap over images and seeds, somewhat narrow with so few seeds. "
    "B: the Brier score of the same networks. The paper prints no widths and no thresholds: these are ours."
)
CAPTION = (
    "Small LeNets trained on scikit-learn's 8x8 digits, 500 held-out images, 5 seeds a width (10 in the full preset). "
    f"{READ}"
)


def draw(lenets: pd.DataFrame, means: pd.DataFrame) -> Figure:
    """Left: subset accuracy for K = 1..5. Right: Brier score."""
    figure, (a, b) = panels(1, 2, height=3.2)
    subset = lenets[lenets["metric"] == "subset_accuracy"]
    for kind, K in enumerate(sorted(means["K"].unique())):
        seeds = subset[subset["setting"].str.split(";").str[0] == f"K={K}"].sort_values(["scale", "seed"])
        curve(
            a, seeds["scale"], seeds["score"],
            label=f"K = {K}, one seed", kind=kind, line=False, named=False, markersize=2.4, alpha=0.5,
        )  # fmt: skip
        rows = means[means["K"] == K].sort_values("params")
        curve(a, rows["params"], rows["mean"], rows["low"], rows["high"], label=f"K = {K}", kind=kind)
    brier = lenets[lenets["metric"] == "brier_sum"].sort_values(["scale", "seed"])
    curve(b, brier["scale"], brier["score"], label="one seed", kind=0, line=False)
    mean = brier.groupby("scale")["score"].mean()
    curve(b, mean.index, mean, label="mean over seeds", kind=1, marker=False)
    a.set(xlabel="parameters", ylabel="K of K images right", title="A subset accuracy")
    b.set(xlabel="parameters", ylabel="Brier score (sum over classes)", title="B the same networks")
    log_axis(a)
    log_axis(b)
    a.legend(loc="lower right")
    b.legend(loc="upper right")
    figure.supxlabel(text("; ".join(sorted(set(means["data"]))), 90), fontsize=7.5, color=GREY)
    return figure

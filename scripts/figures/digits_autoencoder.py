"""Emergence induced in shallow autoencoders by a threshold (figure 7 of the paper, on the bundled digits)."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mirage_jax.plotting import GREY, curve, level, log_axis, panels, text

DASHES = (0, (4, 2))
TABLES = tuple(f"digits_autoencoder{part}" for part in ("", "_curve", "_transitions", "_members"))
DATA = "digits bundled with scikit-learn"
TITLE = "Induced emergence: autoencoders of growing width on digits"
PANELS = (
    "A: squared error on the test images, summed over pixels; bars: 95% bootstrap over images and seeds, each seed a point; "
    "PCA of equal rank is a closed form, its bars are over images. B: share of test images with a squared error below c, "
    "the same outputs; bars and points as in A, dashed PCA. C: why: 10%, 50% and 90% quantiles of the images' errors, all "
    "seeds. Reconstruction_c at h is that distribution at c, so it is .1, .5 and .9 where the line of c, in B's colour, "
    "meets the three. D: the decades of h that 10% to 90% of the change takes, for every c that was tried (a curve that "
    "starts above 0 or ends below 1 has less of a change to make); 'spread over drift' is log10(q90/q10) over the slope of "
    "log10 q50, read off C. Every c was chosen on these errors: quantiles of the largest width's, and each other width's "
    "median. The sharpest is therefore a chosen one, and no width below .8 of a step between sizes can be seen. "
)
CAPTION = (
    "Autoencoders with one hidden layer of h GELU units and a linear output on scikit-learn's 8x8 digits, 1,297 to train, "
    f"500 held out, 5 seeds a width (20 in the full preset). {PANELS}Thresholds and widths are ours: the paper prints none."
)


def draw(scores: pd.DataFrame, means: pd.DataFrame, transitions: pd.DataFrame, members: pd.DataFrame) -> Figure:
    """Squared error, Reconstruction_c, the distribution behind it, and how wide the change is for every c."""
    figure, (a, b, c, d) = panels(2, 2, height=2.9)
    trained, closed = sorted(means["family"].unique())  # autoencoder_..., pca_...
    h = means[means["family"] == trained].groupby("params")["h"].first()
    seeds = scores[scores["family"] == trained].assign(h=lambda rows: rows["scale"].map(h))
    errors = means[means["metric"] == "squared_error"]
    dots = seeds[seeds["metric"] == "squared_error"]
    curve(a, dots["h"], dots["score"], label="one seed", kind=4, line=False, markersize=2.2, named=False)
    for kind, (family, name) in enumerate(((trained, "autoencoders"), (closed, "PCA"))):
        of = errors[errors["family"] == family]
        curve(a, of["h"], of["mean"], of["low"], of["high"], label=name, kind=kind)
    shown = _chosen(transitions[transitions["family"] == trained])
    for kind, threshold in enumerate(shown):
        of = means[means["c"] == threshold]
        one, other = (of[of["family"] == family] for family in (trained, closed))
        name = f"c = {threshold:g}"
        dots = seeds[seeds["setting"].str.contains(f"c={threshold};", regex=False)]
        curve(b, dots["h"], dots["score"], label=f"{name}, one seed", kind=kind, line=False, markersize=2, named=False)
        curve(b, one["h"], one["mean"], one["low"], one["high"], label=name, kind=kind, linestyle="-")
        plain: dict[str, Any] = {"marker": False, "named": False, "linestyle": DASHES}
        curve(b, other["h"], other["mean"], label=f"{name}, PCA", kind=kind, **plain)
    b.plot([], [], color=GREY, linestyle=DASHES, label="PCA")
    _distribution(c, members[members["seed"].isna()], (trained, closed), shown)
    log_axis(d)
    for kind, (family, name) in enumerate(((trained, "autoencoders"), (closed, "PCA"))):
        of = transitions[(transitions["family"] == family) & transitions["c"].notna()].sort_values("c")
        face = "none" if kind else None  # hollow, since they lie on each other
        bars = of["decades_low"], of["decades_high"]
        curve(d, of["c"], of["decades"], *bars, label=name, kind=kind, line=False, markerfacecolor=face)
        if family == trained:
            curve(d, of["c"], of["explained"], label="spread over drift", kind=2, marker=False)
    own = transitions[(transitions["family"] == trained) & transitions["c"].isna()]["decades"].iloc[0]
    level(d, own, "squared error itself")
    for ax in (a, b, c):
        log_axis(ax, "x", h.sort_values().astype(float).tolist()[::2])
        ax.set(xlabel="hidden units h, or rank")
    a.set(ylabel="squared error, sum over pixels", title="A one metric")
    b.set(ylabel="share below c", title="B another, of the same outputs", ylim=(-0.03, 1.03))
    c.set(ylabel="squared error of an image", title="C the errors behind B")
    d.set(xlabel="threshold c", ylabel="decades of h", title="D width of the change, every c")
    for ax in (a, d):
        ax.set_ylim(bottom=0)
    for ax in (a, b, c, d):
        ax.legend(fontsize=7)
    figure.supxlabel(text(means["data"].iloc[0], 120), fontsize=7)
    return figure


def _chosen(transitions: pd.DataFrame) -> list[float]:
    """The c below which 90% of the largest width's errors lie, and every second smaller width's median."""
    tried = transitions[transitions["c"].notna()].set_index("from")["c"]
    medians = [c for name, c in tried.items() if str(name).startswith("q50")]
    return sorted({*tried[tried.index.str.startswith("q90")], *sorted(medians)[2::2]})[:4]


def _distribution(ax: Axes, errors: pd.DataFrame, families: tuple[str, str], shown: list[float]) -> None:
    """Quantiles of the errors against h, the lines of c in the colours of their curves, and the median of PCA's errors."""
    one, other = (errors[errors["family"] == family] for family in families)
    for kind, share in enumerate((90, 50, 10)):
        curve(ax, one["h"], one[f"q{share}"], label=f"{share}% are below", kind=kind, color=GREY)
    curve(ax, other["h"], other["q50"], label="PCA, 50%", marker=False, color=GREY, linestyle=(0, (1, 1)), linewidth=1)
    thin: dict[str, Any] = {"marker": False, "linewidth": 0.9, "linestyle": "-", "named": False}
    for kind, c in enumerate(shown):
        curve(ax, one["h"], one["h"] * 0.0 + c, label=f"c = {c:g}", kind=kind, **thin)
    log_axis(ax, "y")

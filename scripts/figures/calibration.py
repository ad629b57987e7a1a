"""How often the verdict is right, silent or wrong where the truth is known."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mirage_jax.estimators import clopper_pearson
from mirage_jax.plotting import curve, level, panels
from sims.truths import DESIGNED, GREY, UNSEEN

TABLES = ("calibration_confusion", "calibration_rates", "calibration_seeds")
DATA = "simulated"
TITLE = "The verdict on families whose truth is known"
CAPTION = (
    "Simulated families, exact match beside token accuracy of the same answers, 1000 items a score, scatter between models "
    "estimated by the rule. A, B: share of curves that get their own label, none (INSUFFICIENT_*), or another; A truths the "
    "rule was made on, B truths that came afterwards, both at the largest number of scales. A hinge has no label of its own "
    "(SMOOTH, SHARED_PLATEAU or none are right), and curves whose label the definition leaves open are left out. C: of truly "
    "METRIC_INDUCED or SMOOTH curves, the share decided and the share wrong, by number of scales. D: share of families of "
    "seeds called SEED_BIMODAL by the gap between two modes (gap 0: one mode, sd .15). Intervals are 95% Clopper-Pearson."
)
ROLES = ("own label", "no decision", "another label")
HINGE = ("SMOOTH", "SHARED_PLATEAU", "NO_CHANGE")


def draw(confusion: pd.DataFrame, rates: pd.DataFrame, seeds: pd.DataFrame) -> Figure:
    """Panels A to D."""
    figure, (a, b, c, d) = panels(2, 2, height=3.0)
    plain = confusion[(confusion["design"] == "plain") & (confusion["scatter"] == 0) & (confusion["items"] == 1000)]
    largest = plain[plain["scales"] == plain["scales"].max()]
    for ax, names in ((a, DESIGNED), (b, UNSEEN)):
        _shares(ax, largest, names)
    scales = int(largest["scales"].max())
    a.set(title=f"A truths of the design, {scales} scales", ylabel="share of curves", ylim=(-0.03, 1.05))
    b.set(title=f"B truths not seen before, {scales} scales", ylabel="share of curves", ylim=(-0.03, 1.05))
    a.legend(loc="center left")
    rows = rates[(rates["design"] == "plain") & (rates["scatter"] == 0) & (rates["items"] == 1000)]
    for kind, (rate, which) in enumerate((r, w) for r in ("decided", "wrong") for w in ("designed", "unseen")):
        of = rows[(rows["rate"] == rate) & (rows["truths"] == which)].sort_values("scales")
        label = f"{rate}, {'unseen truths' if which == 'unseen' else 'truths of the design'}"
        curve(c, of["scales"], of["share"], of["low"], of["high"], label=label, kind=kind)
    level(c, 0.05, "5%")
    c.set(title="C metric-induced and smooth curves", xlabel="scales", ylabel="share of curves", ylim=(-0.03, 1.05))
    c.legend(loc="center right")
    for kind, (count, of) in enumerate(seeds.groupby("seeds", sort=True)):
        curve(d, of["gap"], of["share"], of["low"], of["high"], label=f"{count} seeds", kind=kind)
    d.set(
        title="D seeds in two modes", xlabel="gap between the modes", ylabel="share called bimodal", ylim=(-0.03, 1.05)
    )
    d.legend(loc="center right")
    return figure


def _shares(ax: Axes, rows: pd.DataFrame, names: Sequence[str]) -> None:
    """Right, silent and wrong shares of each truth, side by side."""
    known = rows[rows["true"] != GREY]
    silent = known["given"].str.startswith("INSUFFICIENT")
    right = (known["given"] == known["true"]) | ((known["true"] == "HINGE") & known["given"].isin(HINGE))
    parts = (right, silent & ~right, ~right & ~silent)
    for kind, (role, hit) in enumerate(zip(ROLES, parts, strict=True)):
        k = np.array([int(known.loc[hit & (known["truth"] == name), "curves"].sum()) for name in names])
        n = np.array([int(known.loc[known["truth"] == name, "curves"].sum()) for name in names])
        low, high = clopper_pearson(k, n)
        at = np.arange(len(names)) + 0.2 * (kind - 1)
        curve(ax, at, k / n, low, high, label=role, kind=kind, line=False)
    ax.set_xticks(range(len(names)), names, rotation=60, ha="right")
    ax.grid(axis="x", visible=False)

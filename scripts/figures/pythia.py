"""Sizes against checkpoints: the same tests along two kinds of scale."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mirage_jax.plotting import curve, log_axis, panels
from mirage_jax.table import select
from scripts.studies.pythia import EARLY

TABLES = ("pythia",)
DATA = "Pythia, OPT and BLOOM evaluations, derived from EleutherAI/pythia"
TITLE = "Sizes against checkpoints: Pythia, OPT and BLOOM"
CAPTION = (
    "Upper row: last word of 5,153 LAMBADA passages, zero-shot. A: share of right words by size, at the end of training. B, "
    "C: share and negative log-probability of the right word by training step (Pythia; step 0 has no place on this axis): "
    "the probability moves from step 128 on, at which no word is right. Lower row: few-shot arithmetic, 5,000 items a "
    "task, Pythia deduped under its first size names. D, E: addition and multiplication by size at the end of training: "
    "addition falls from 2.7B to 6.7B before it rises, whatever the number of shots. F: addition with 16 shots "
    "by training step. Bars: 95% Clopper-Pearson, 1.96 standard errors in C. Checkpoints of one run are not "
    "independent models."
)
SIZES = ("70m", "410m", "1.4b", "12b")
EARLY_SHOWN = ("350m", "1.3b", "2.7b", "6.7b", "13b")
SHOTS = (0, 2, 16)


def draw(pythia: pd.DataFrame) -> Figure:
    """Panels A to F."""
    figure, axes = panels(2, 3, height=2.9)
    a, b, c, d, e, f = axes
    words = pythia[pythia["task"] == "lambada_openai"].sort_values("scale")
    exact = words[words["metric"] == "exact_match"]
    sizes = select(exact[exact["scale_kind"] == "params"], shots=0)
    for kind, family in enumerate(sizes["family"].unique()):
        _shares(a, sizes[sizes["family"] == family], family, kind)
    own = words[words["family"] == "Pythia"]
    for kind, size in enumerate(SIZES):
        run = select(own, shots=0, size=size)
        _shares(b, run[run["metric"] == "exact_match"], size.upper(), kind)
        at = run[run["metric"] == "nll"]
        ends = (at["score"] + 1.96 * sign * at["se"] for sign in (-1, 1))
        curve(c, at["scale"], at["score"], *ends, label=size.upper(), kind=kind)
    early = pythia[pythia["family"] == EARLY].sort_values("scale")
    for ax, task in ((d, "addition"), (e, "multiplication")):
        at = early[(early["task"] == f"arithmetic {task}") & (early["scale_kind"] == "params")]
        for kind, shots in enumerate(SHOTS):
            _shares(ax, select(at, shots=shots), f"{shots} shots", kind + 4)
    at = early[(early["task"] == "arithmetic addition") & (early["scale_kind"] == "step")]
    for kind, size in enumerate(EARLY_SHOWN):
        _shares(f, select(at, shots=16, size=size), size.upper(), kind)
    for ax in (a, d, e):
        log_axis(ax, ticks=(1e8, 1e9, 1e10, 1e11))
        ax.set_xlabel("parameters")
    for ax in (b, c, f):
        log_axis(ax, ticks=(2e4, 5e4, 1e5) if ax is f else None)
        ax.set_xlabel("training step")
    for ax, ylabel, title in (
        (a, "right words", "A words, by size"),
        (b, "right words", "B words, by step"),
        (c, "nats, lower is better", "C their log-probability"),
        (d, "exact match", "D addition, by size"),
        (e, "exact match", "E multiplication, by size"),
        (f, "exact match", "F addition, by step"),
    ):
        ax.set(ylabel=ylabel, title=title)
        if ax is not e:
            ax.legend(loc="lower right" if ax is a else "best")
    a.set_ylim(0)
    return figure


def _shares(ax: Axes, rows: pd.DataFrame, label: str, kind: int) -> None:
    curve(ax, rows["scale"], rows["score"], rows["low"], rows["high"], label=label, kind=kind)

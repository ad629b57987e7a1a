"""One task of six families under exact match and under BLEU: what the change of metric does to the emergence score."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mirage_jax.plotting import curve, log_axis, panels

TABLES = ("obs_scaling", "obs_scaling_scores")
DATA = "ObsScaling, scores of public base models"
TITLE = "Transliteration into the phonetic alphabet by six families, under exact match and BLEU"
CAPTION = (
    "1,003 items, two-shot, against training compute. A: exact match, 0 for most of the smaller models; Llama, ten times as "
    "high, is left out. B: the source's corpus BLEU of the same answers, which sees the smaller models move. C: emergence "
    "scores as printed in the paper, and that of a straight line over as many models. Exact match divides by zero where most "
    "models score 0 (the four points at the top are infinite), and is 0 for Pythia, of which no answer is right. Under BLEU no "
    "score is infinite, and five of six are above a straight line's: the change of metric lowers the score and does not "
    "smooth every curve. Bars: 95% Clopper-Pearson; the source gives no error of BLEU, so none is drawn."
)
UNIT = 1e21  # FLOPs
TASK = "ipa_transliterate"
FAMILIES = ("OPT", "Pythia", "GPT-Neo/J", "BLOOM", "StarCoder", "Llama")


def draw(obs_scaling: pd.DataFrame, scores: pd.DataFrame) -> Figure:
    """Panels A to C."""
    figure, (a, b, c) = panels(1, 3, height=3.1)
    rows = obs_scaling[(obs_scaling["task"] == TASK) & obs_scaling["scale"].notna()]
    families = [family for family in FAMILIES if family in set(rows["family"])]
    for kind, family in enumerate(families):
        own = rows[rows["family"] == family].sort_values("scale")
        exact, bleu = (own[own["metric"] == metric] for metric in ("exact_match", "bleu_4"))
        if family != "Llama":  # ten times as high as the others
            curve(
                a,
                exact["scale"] / UNIT,
                exact["score"],
                exact["low"],
                exact["high"],
                label=family,
                kind=kind,
                named=False,
            )
        curve(b, bleu["scale"] / UNIT, bleu["score"], label=family, kind=kind)
    own = scores[(scores["task"] == TASK) & scores["family"].isin(families)]
    value = own.pivot(index="family", columns="metric", values="emergence_inf")
    straight = own.groupby("family")["scales"].max() - 1
    edge = 1.25 * value.where(np.isfinite(value)).max().max()
    for kind, family in enumerate(families):
        y = [min(value.at[family, metric], edge) for metric in ("exact_match", "bleu_4")]
        curve(c, [0, 1, 2], [*y, float(straight[family])], label=family, kind=kind, named=False)
    for ax in (a, b):
        log_axis(ax, ticks=(0.1, 1, 10, 100))
        ax.set_xlabel("training compute, 1e21 FLOPs")
    log_axis(b, "y")
    a.set(ylabel="exact match", title="A exact match, five families")
    b.set(ylabel="BLEU / 100", title="B BLEU")
    c.set_xticks([0, 1, 2], ["exact\nmatch", "BLEU", "straight\nline"])
    c.set(ylabel="emergence score", title="C emergence score", xlim=(-0.3, 2.3))
    figure.legend(*b.get_legend_handles_labels(), loc="outside lower center", ncols=6)
    return figure
